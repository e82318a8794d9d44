"""HTNet: joint, part and body level blocks that lift 17 key points to 3D.

Cai, Liu, Ding, Li, Wu, Ban: *HTNet: Human Topology Aware Network for 3D Human Pose Estimation*, ICASSP 2023.
The names of the parameters are those of the published weights, so that files move in both directions; this is
why some of them ("lgc", "Hiremixer", "Temporal_norm") do not follow the names of the classes.

Shapes: B batch, F frames (each lifted on its own), J = 17 joints, C channels, d = C / 3 channels of a stream.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.skeleton import LEFT_ARM, LEFT_LEG, NUM_JOINTS, RIGHT_ARM, RIGHT_LEG
from model.graph import ModulatedGraphConv
from model.layers import Attention, DropPath, JoinedConv, Mlp
from model.linear import in_float32, is_traced

LIMBS = (RIGHT_LEG, LEFT_LEG, LEFT_ARM, RIGHT_ARM)
GCN_HIDDEN = 384
HEADS = 8
CACHED = 256
"""Poses at a time on a processor, whose cache holds the features of so many."""


class LJC(nn.Module):
    """Joint level: local joint-level connection, two graph convolutions (HTNet, section 2.2)."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm_gcn1 = nn.LayerNorm(channels)
        self.gcn1 = ModulatedGraphConv(channels, GCN_HIDDEN)
        self.gcn2 = ModulatedGraphConv(GCN_HIDDEN, channels)
        self.norm_gcn2 = nn.LayerNorm(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, d) to (B, J, d)."""
        y = self.gcn2(F.gelu(self.gcn1(self.norm_gcn1(x))))
        return x + self.drop_path(self.norm_gcn2(y))


def _overwritten(targets: tuple[tuple[int, ...], ...]) -> Tensor:
    """(J,) where each joint is read from in [joints, tokens]: token p replaces the joints targets[p]."""
    source = torch.arange(NUM_JOINTS)
    for token, joints in enumerate(targets):
        source[list(joints)] = NUM_JOINTS + token
    return source


class IPC(nn.Module):
    """Part level: intra-part constraint (HTNet, section 2.3).

    The limb branch joins the three joints of a limb into a token and writes it over the limb's outer two; the
    end branch joins the outer two and writes over the outermost. A joint not written keeps its normalised
    value.
    """

    limb_joints: Tensor
    limb_source: Tensor
    end_joints: Tensor
    end_source: Tensor

    def __init__(self, channels: int, hidden: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm_conv1 = nn.LayerNorm(channels)
        self.conv1 = JoinedConv(channels, kernel=3)
        self.norm_conv1_mlp = nn.LayerNorm(channels)
        self.mlp_down_1 = Mlp(channels, hidden, dropout)
        self.norm_conv2 = nn.LayerNorm(channels)
        self.conv2 = JoinedConv(channels, kernel=2)
        self.norm_conv2_mlp = nn.LayerNorm(channels)
        self.mlp_down_2 = Mlp(channels, hidden, dropout)
        self.drop_path = DropPath(drop_path)
        # Each token goes back to its own limb. Some descriptions of the published code have the tokens of the
        # two arms exchanged; its output and the scores of its weights (tests/data) say that they are not.
        for name, index in {
            "limb_joints": torch.tensor(LIMBS).flatten(),  # (12,)
            "limb_source": _overwritten(tuple(limb[1:] for limb in LIMBS)),
            "end_joints": torch.tensor([limb[1:] for limb in LIMBS]).flatten(),  # (8,)
            "end_source": _overwritten(tuple(limb[2:] for limb in LIMBS)),
        }.items():
            self.register_buffer(name, index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, d) to (B, J, d)."""
        limbs = self.norm_conv1(x)
        tokens = self.conv1(limbs.index_select(1, self.limb_joints))  # (B, 4, d)
        tokens = self._refine(tokens, self.norm_conv1_mlp, self.mlp_down_1)
        limbs = torch.cat([limbs, tokens], dim=1).index_select(1, self.limb_source)  # (B, J, d)

        ends = self.norm_conv2(x)
        tokens = self.conv2(ends.index_select(1, self.end_joints))  # (B, 4, d)
        tokens = self._refine(tokens, self.norm_conv2_mlp, self.mlp_down_2)
        ends = torch.cat([ends, tokens], dim=1).index_select(1, self.end_source)  # (B, J, d)
        return limbs + ends + x

    def _refine(self, tokens: Tensor, norm: nn.LayerNorm, mlp: Mlp) -> Tensor:
        tokens = self.drop_path(F.gelu(tokens))
        return tokens + self.drop_path(mlp(norm(tokens)))


class GBI(nn.Module):
    """Body level: global body-level interaction, self-attention over all joints (HTNet, section 2.4)."""

    def __init__(self, channels: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm_attn = nn.LayerNorm(channels)
        self.attn = Attention(channels, HEADS, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, d) to (B, J, d)."""
        return x + self.drop_path(self.attn(self.norm_attn(x)))


class Block(nn.Module):
    """The three levels on a third of the channels each, one feeding the next, then an MLP on all of them."""

    def __init__(self, channels: int, hidden: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        stream = channels // 3
        self.lgc = LJC(stream, drop_path)
        self.ipc = IPC(stream, hidden, dropout, drop_path)
        self.gbi = GBI(stream, dropout, drop_path)
        self.norm_mlp = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, hidden, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        joint, part, body = x.chunk(3, dim=2)  # 3 x (B, J, d)
        joint = self.lgc(joint)
        part = self.ipc(joint + part)
        body = self.gbi(part + body)
        y = torch.cat([joint, part, body], dim=2)  # (B, J, C)
        return y + self.drop_path(self.mlp(self.norm_mlp(y)))


class Mixer(nn.Module):
    """The blocks, one after another, and the last normalisation."""

    def __init__(self, layers: int, channels: int, hidden: int, dropout: float, drop_path: Tensor) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(channels, hidden, dropout, rate) for rate in drop_path.tolist()[:layers]
        )
        self.Temporal_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.Temporal_norm(x)


class HTNet(nn.Module):
    """Lifts 2D key points of the 17 Human3.6M joints to 3D.

    Args:
        layers: Number of blocks.
        channel: Channels of a joint, a multiple of 24 (three streams, eight heads each).
        d_hid: Hidden channels of the MLPs.
        dropout: Dropout of the MLPs and after the attention.
        drop_path: Stochastic depth of the first and of the last block, evenly spaced between.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        *,
        layers: int = 3,
        channel: int = 240,
        d_hid: int = 1024,
        dropout: float = 0.1,
        drop_path: tuple[float, float] = (0.1, 0.3),
    ) -> None:
        super().__init__()
        if channel < 24 or channel % 24:
            raise ValueError(f"channel must be a multiple of 24, got {channel}")
        if layers < 1 or d_hid < 1:
            raise ValueError(f"layers and d_hid must be at least 1, got layers={layers}, d_hid={d_hid}")
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, channel))
        self.patch_embed = nn.Linear(2, channel)
        self.Hiremixer = Mixer(layers, channel, d_hid, dropout, torch.linspace(*drop_path, layers))
        self.fcn = nn.Linear(channel, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Lifts key points, each frame on its own.

        Args:
            keypoints: (B, F, 17, 2) normalised image coordinates (see ``common.camera.normalize_pixels``).

        Returns:
            (B, F, 17, 3) joint positions in camera space, metres. They are meant relative to the root; the
            root itself is close to 0 and set to 0 by whoever scores or shows the pose.

        Raises:
            ValueError: The input has another shape.
        """
        if keypoints.ndim != 4 or keypoints.shape[2:] != (NUM_JOINTS, 2):
            expected, found = f"(B, F, {NUM_JOINTS}, 2)", tuple(keypoints.shape)
            raise ValueError(f"keypoints must have shape {expected}, got {found}")
        B, frames = keypoints.shape[:2]
        x = keypoints.flatten(0, 1)  # (B * F, J, 2)
        in_pieces = x.device.type == "cpu" and not torch.is_grad_enabled()
        if in_pieces and not is_traced() and len(x) > CACHED:
            x = torch.cat([self._lift(piece) for piece in x.split(CACHED)])  # (B * F, J, 3)
        else:
            x = self._lift(x)  # (B * F, J, 3)
        return x.unflatten(0, (B, frames))  # (B, F, J, 3)

    def _lift(self, keypoints: Tensor) -> Tensor:
        # What is measured goes in and comes out in full: bfloat16 would round to pixels and millimetres.
        with in_float32(keypoints.device.type):
            x = self.patch_embed(keypoints) + self.pos_embed  # (B, J, C)
        x = self.Hiremixer(x)
        with in_float32(keypoints.device.type):
            return self.fcn(x.to(self.fcn.weight.dtype))  # (B, J, 3)

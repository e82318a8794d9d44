"""HTNet: joint, part and body level blocks that lift 17 keypoints to 3D.

Cai, Liu, Ding, Li, Wu, Ban: *HTNet: Human Topology Aware Network for 3D Human Pose Estimation*, ICASSP 2023.
Parameters have the names of the published weights, so that files move in both directions; this is why some of
them ("lgc", "Hiremixer", "Temporal_norm") differ from the names of the classes.

Shapes: B batch, F frames (each lifted on its own), J joints, C channels, d = C / 3 channels of a stream.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.skeleton import BONES, LEFT_ARM, LEFT_LEG, NUM_JOINTS, RIGHT_ARM, RIGHT_LEG

LIMBS = (RIGHT_LEG, LEFT_LEG, LEFT_ARM, RIGHT_ARM)
ENDS = tuple(limb[1:] for limb in LIMBS)
GCN_HIDDEN = 384
HEADS = 8


def in_float32(device_type: str) -> AbstractContextManager[object]:
    """Switches autocast off in its block; where it is off already, exported programs show no trace of it."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def adjacency() -> Tensor:
    """(17, 17) adjacency of the skeleton: rows of neighbours that sum to 1, and a diagonal of 1."""
    neighbours = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for joint, parent in BONES:
        neighbours[joint, parent] = neighbours[parent, joint] = 1
    return (neighbours / neighbours.sum(dim=1, keepdim=True)).fill_diagonal_(1)


class ModulatedGraphConv(nn.Module):
    """Graph convolution from (B, J, in) to (B, J, out) with a learned change of the graph.

    Each joint modulates two shared weights by channel, one for itself and one for its neighbours (Zou and
    Tang, *Modulated Graph Convolutional Network for 3D Human Pose Estimation*, ICCV 2021, section 3).
    """

    adj: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(2, in_channels, out_channels))
        self.M = nn.Parameter(torch.empty(NUM_JOINTS, out_channels))
        self.adj2 = nn.Parameter(torch.full((NUM_JOINTS, NUM_JOINTS), 1e-6))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("adj", adjacency(), persistent=False)
        nn.init.xavier_uniform_(self.W, gain=1.414)
        nn.init.xavier_uniform_(self.M, gain=1.414)
        nn.init.uniform_(self.bias, -(out_channels**-0.5), out_channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        own, others = self.graph()
        itself, neighbours = x @ self.W[0], x @ self.W[1]  # 2 x (B, J, out)
        neighbours = others @ (neighbours * self.M.to(neighbours.dtype))
        # float32 also under autocast: in bfloat16 this sum cost 0.2 mm of P1
        return torch.addcmul(self.bias, itself, own) + neighbours

    def graph(self) -> tuple[Tensor, Tensor]:
        """Weights of each joint itself, (J, out), and of its neighbours, (J, J)."""
        graph = self.adj + self.adj2
        graph = (graph + graph.T) / 2  # (J, J)
        own = graph.diagonal()  # (J,)
        return own.unsqueeze(1) * self.M, graph - own.diag()


class DropPath(nn.Module):
    """Zeroes whole samples of a residual branch with probability ``rate``, and scales the others up.

    Stochastic depth: Huang et al., *Deep Networks with Stochastic Depth*, ECCV 2016.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)  # (B, 1, ...)
        return x * mask.div_(1 - self.rate)


class Mlp(nn.Module):
    """Linear, GELU, dropout, linear, dropout on the last dimension."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Attention(nn.Module):
    """Multi-head self-attention over joints (Vaswani et al., *Attention Is All You Need*, NeurIPS 2017)."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, channels * 3)
        self.proj = nn.Linear(channels, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, J, C = x.shape
        qkv = self.qkv(x)  # (B, J, 3 * C)
        if x.device.type == "cpu":  # where attention over 17 joints takes twice as long in bfloat16
            qkv = qkv.to(x.dtype)
        query, key, value = qkv.view(B, J, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        with in_float32("cpu"):
            mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, J, C / heads)
        return self.drop(self.proj(mixed.transpose(1, 2).reshape(B, J, C)))


class LJC(nn.Module):
    """Joint level: local joint-level connection, two graph convolutions (HTNet, section 2.2)."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm_gcn1 = nn.LayerNorm(channels)
        self.gcn1 = ModulatedGraphConv(channels, GCN_HIDDEN)
        self.gcn2 = ModulatedGraphConv(GCN_HIDDEN, channels)
        self.norm_gcn2 = nn.LayerNorm(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, J, d) -> (B, J, d)
        y = self.gcn2(F.gelu(self.gcn1(self.norm_gcn1(x))))
        return x + self.drop_path(self.norm_gcn2(y))


class PartConv(nn.Conv1d):
    """Joins the K joints of each of P parts to a token: a convolution without overlap, so one product."""

    joints: Tensor
    source: Tensor

    def __init__(self, channels: int, parts: Sequence[Sequence[int]]) -> None:
        super().__init__(channels, channels, kernel_size=len(parts[0]))
        source = torch.arange(NUM_JOINTS)  # row of [joints, tokens] that gives each joint its new value
        for token, (_, *outer) in enumerate(parts):
            source[outer] = NUM_JOINTS + token
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("joints", torch.tensor(parts).flatten(), persistent=False)  # (P * K,)

    def forward(self, x: Tensor) -> Tensor:  # (B, J, d) -> (B, P, d)
        weight = self.weight.transpose(1, 2).flatten(1)  # (d, d, K) -> (d, K * d)
        parts = x.index_select(1, self.joints).reshape(x.shape[0], -1, weight.shape[1])  # (B, P, K * d)
        return F.linear(parts, weight, self.bias)


class IPC(nn.Module):
    """Part level: intra-part constraint (HTNet, section 2.3).

    The limb branch joins a limb's three joints to a token that overwrites the outer two; the end branch joins
    the outer two and overwrites the outermost. Other joints keep their normalised value. Some descriptions of
    the published code swap the arms' tokens; the scores of its weights (tests/data) show the opposite.
    """

    def __init__(self, channels: int, hidden: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm_conv1 = nn.LayerNorm(channels)
        self.conv1 = PartConv(channels, LIMBS)
        self.norm_conv1_mlp = nn.LayerNorm(channels)
        self.mlp_down_1 = Mlp(channels, hidden, dropout)
        self.norm_conv2 = nn.LayerNorm(channels)
        self.conv2 = PartConv(channels, ENDS)
        self.norm_conv2_mlp = nn.LayerNorm(channels)
        self.mlp_down_2 = Mlp(channels, hidden, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, J, d) -> (B, J, d)
        limbs = self._branch(self.norm_conv1(x), self.conv1, self.norm_conv1_mlp, self.mlp_down_1)
        ends = self._branch(self.norm_conv2(x), self.conv2, self.norm_conv2_mlp, self.mlp_down_2)
        return limbs + ends + x

    def _branch(self, x: Tensor, conv: PartConv, norm: nn.LayerNorm, mlp: Mlp) -> Tensor:
        tokens = self.drop_path(F.gelu(conv(x)))  # (B, P, d)
        tokens = tokens + self.drop_path(mlp(norm(tokens)))
        return torch.cat([x, tokens], dim=1).index_select(1, conv.source)  # (B, J + P, d) -> (B, J, d)


class GBI(nn.Module):
    """Body level: global body-level interaction, self-attention over all joints (HTNet, section 2.4)."""

    def __init__(self, channels: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm_attn = nn.LayerNorm(channels)
        self.attn = Attention(channels, HEADS, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, J, d) -> (B, J, d)
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

    def forward(self, x: Tensor) -> Tensor:  # (B, J, C) -> (B, J, C)
        a, b, c = x.chunk(3, dim=2)  # 3 x (B, J, d)
        joint = self.lgc(a)
        part = self.ipc(joint + b)
        body = self.gbi(part + c)
        y = torch.cat([joint, part, body], dim=2)  # (B, J, C)
        return y + self.drop_path(self.mlp(self.norm_mlp(y)))


class HTNet(nn.Module):
    """Lifts 2D keypoints of the 17 Human3.6M joints to 3D.

    Args:
        layers: Number of blocks.
        channel: Channels of a joint, a multiple of 24 (three streams, eight heads each).
        d_hid: Hidden channels of the MLPs.
        dropout: Dropout of the MLPs and after the attention.
        drop_path: Stochastic depth of the first and of the last block, evenly spaced between.
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
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, channel))
        self.patch_embed = nn.Linear(2, channel)
        rates = torch.linspace(*drop_path, layers).tolist()
        blocks = nn.Sequential(*(Block(channel, d_hid, dropout, rate) for rate in rates))
        norm = nn.LayerNorm(channel, eps=1e-6)
        self.Hiremixer = nn.Sequential(OrderedDict(blocks=blocks, Temporal_norm=norm))
        self.fcn = nn.Linear(channel, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Lifts keypoints, each frame on its own.

        Args:
            keypoints: (B, F, 17, 2) normalised image coordinates (see ``common.camera.normalize_pixels``).

        Returns:
            (B, F, 17, 3) joint positions in camera space, metres, relative to the root. The root itself comes
            out close to 0; whoever scores or shows the pose sets it to 0.
        """
        if keypoints.ndim != 4 or keypoints.shape[2:] != (NUM_JOINTS, 2):
            raise ValueError(f"keypoints: expected (B, F, {NUM_JOINTS}, 2), found {tuple(keypoints.shape)}")
        B, frames = keypoints.shape[:2]
        x = keypoints.flatten(0, 1)  # (B * F, J, 2)
        with in_float32(x.device.type):  # bfloat16 would round coordinates to pixels and millimetres
            x = self.patch_embed(x) + self.pos_embed  # (B * F, J, C)
        x = self.Hiremixer(x)
        with in_float32(x.device.type):
            x = self.fcn(x.to(self.fcn.weight.dtype))  # (B * F, J, 3)
        return x.unflatten(0, (B, frames))  # (B, F, J, 3)

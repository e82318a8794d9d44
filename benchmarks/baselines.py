"""Lifters that HTNet is compared with: those of other papers, at their published sizes, and its ablations.

All map keypoints (B, F, 17, 2) in normalised image coordinates, each frame on its own, to joints
(B, F, 17, 3) in camera space, metres, relative to the root. They are trained with HTNet's loss, learning
rate and schedule.

Shapes: B batch (here B * F poses), J = 17 joints, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from common.skeleton import LEFT_ARM, NUM_JOINTS, RIGHT_ARM
from model.htnet import Attention, Block, DropPath, HTNet, Mlp, ModulatedGraphConv


class ResidualMlp(nn.Module):
    """Martinez et al., *A simple yet effective baseline for 3d human pose estimation*, ICCV 2017, section 3.

    All joints at once through linear layers of 1024 with batch normalisation, ReLU and dropout; two residual
    blocks of two layers; 4.3 million parameters. Unlike in the paper, input and output are not standardised,
    and the norm of the weights is not limited.
    """

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()

        def layer(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.5)
            )

        self.first = layer(NUM_JOINTS * 2)
        self.blocks = nn.ModuleList(nn.Sequential(layer(hidden), layer(hidden)) for _ in range(2))
        self.last = nn.Linear(hidden, NUM_JOINTS * 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # He et al., ICCV 2015, as the paper says
                nn.init.kaiming_normal_(module.weight)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.first(keypoints.flatten(0, 1).flatten(1))  # (B, F, J, 2) -> (B * F, J * 2) -> (B * F, C)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x).unflatten(1, (NUM_JOINTS, 3)).unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)


class GraphLayer(nn.Module):
    """A modulated graph convolution with batch normalisation over poses and joints, ReLU and dropout."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ModulatedGraphConv(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.tail = nn.Sequential(nn.ReLU(), nn.Dropout(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, in) to (B, J, out)."""
        y = self.conv(x)  # (B, J, out)
        return self.tail(self.norm(y.flatten(0, 1)).unflatten(0, x.shape[:2]))  # (B * J, out) -> (B, J, out)


class NonLocal(nn.Module):
    """Wang et al., *Non-local Neural Networks*, CVPR 2018: attention over the joints on half the channels.

    The embedded Gaussian form; its last normalisation starts at 0, so that the block starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query, self.key, self.value = (nn.Linear(channels, inner) for _ in range(3))
        self.out = nn.Linear(inner, channels)
        self.norm = nn.BatchNorm1d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        similarity = self.query(x) @ self.key(x).transpose(1, 2)  # (B, J, C / 2) @ (B, C / 2, J) -> (B, J, J)
        y = self.out(similarity.softmax(dim=2) @ self.value(x))  # (B, J, C)
        return x + self.norm(y.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B * J, C) -> (B, J, C)


class ModulatedGCN(nn.Module):
    """Zou and Tang, *Modulated Graph Convolutional Network for 3D Human Pose Estimation*, ICCV 2021.

    A graph layer into 384 channels, four residual blocks of two graph layers, a non-local block, a graph
    convolution to 3; 2.73 million parameters. The 0.29 million that are quoted for it are 128 channels
    without the non-local block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = GraphLayer(2, 384)
        blocks = (nn.Sequential(GraphLayer(384, 384), GraphLayer(384, 384)) for _ in range(4))
        self.blocks = nn.ModuleList(blocks)
        self.non_local = NonLocal(384)
        self.last = ModulatedGraphConv(384, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.first(keypoints.flatten(0, 1))  # (B, F, J, 2) -> (B * F, J, 2) -> (B * F, J, C)
        for block in self.blocks:
            x = x + block(x)
        return self.last(self.non_local(x)).unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)


class EncoderLayer(nn.Module):
    """Attention over the joints, then an MLP, each with normalisation before it and a residual connection."""

    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.norm_attn, self.norm_mlp = nn.LayerNorm(256), nn.LayerNorm(256)
        self.attn = Attention(256, 8, 0.1)
        self.mlp = Mlp(256, 1024, 0.1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        x = x + self.drop_path(self.attn(self.norm_attn(x)))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))


class JointTransformer(nn.Module):
    """A transformer with a token per joint (Vaswani et al., NeurIPS 2017), without the skeleton's topology.

    It has HTNet's size (3.17 million parameters), embedding, dropout and stochastic depth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, 256))
        self.patch_embed = nn.Linear(2, 256)
        rates = torch.linspace(0.1, 0.3, 4).tolist()
        self.encoder = nn.Sequential(*map(EncoderLayer, rates), nn.LayerNorm(256))
        self.last = nn.Linear(256, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.patch_embed(keypoints.flatten(0, 1)) + self.pos_embed  # (B * F, J, 2) -> (B * F, J, C)
        return self.last(self.encoder(x)).unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)


class ParallelBlock(nn.Module):
    """A block of HTNet whose three streams are refined in parallel: none feeds the next."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        block = self.block
        joint, part, body = x.chunk(3, dim=2)  # 3 x (B, J, C / 3)
        y = torch.cat([block.lgc(joint), block.ipc(part), block.gbi(body)], dim=2)  # (B, J, C)
        return y + block.drop_path(block.mlp(block.norm_mlp(y)))


def ablated(change: str) -> nn.Module:
    """HTNet without one of its ideas; the rest starts with the same weights from the same seed.

    Args:
        change: "lgc", "ipc" or "gbi": the level passes on its input; "parallel": see ``ParallelBlock``;
            "crossed_arms": the part level writes each arm's token over the outer joints of the other arm.
    """
    model = HTNet()
    blocks: Any = model.Hiremixer.blocks
    for number, block in enumerate(blocks):
        if change == "parallel":
            blocks[number] = ParallelBlock(block)
        elif change == "crossed_arms":
            source = block.ipc.conv1.source  # (J,) row that gives each joint its new value
            own, others = list(LEFT_ARM[1:] + RIGHT_ARM[1:]), list(RIGHT_ARM[1:] + LEFT_ARM[1:])
            source[own] = source[others]
        else:
            setattr(block, change, nn.Identity())
    return model

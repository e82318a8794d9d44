"""Lifters that HTNet is measured against, written afresh from their papers, each at its published size.

All of them take what HTNet takes and give what it gives: key points (B, F, 17, 2) in normalised image
coordinates, each frame on its own, to joints (B, F, 17, 3) in camera space, metres, meant relative to the
root. They are trained by this project's loop on its batches; what a paper does otherwise, its class says.

Shapes: B batch (here B * F poses), J = 17 joints, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.skeleton import NUM_JOINTS
from model.graph import ModulatedGraphConv
from model.layers import Attention, DropPath, Mlp


class ResidualMlp(nn.Module):
    """Martinez et al., *A simple yet effective baseline for 3d human pose estimation*, ICCV 2017, section 3.

    All joints at once through fully connected layers of 1024 with batch normalisation, ReLU and dropout of
    0.5; two residual blocks of two layers. 4.3 million parameters, as in the paper ("4 to 5 million").

    Not taken over: the paper standardises input and output by the training set's mean and deviation, where
    this project has normalised image coordinates and metres for all lifters; and it holds the norm of each
    layer's weights at most at 1, which is a step of its training loop and not of its network.
    """

    def __init__(self, hidden: int = 1024, blocks: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = _dense(NUM_JOINTS * 2, hidden, dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(_dense(hidden, hidden, dropout), _dense(hidden, hidden, dropout))
            for _ in range(blocks)
        )
        self.last = nn.Linear(hidden, NUM_JOINTS * 3)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # He et al., ICCV 2015, as the paper says
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.first(keypoints.flatten(0, 1).flatten(1))  # (B, F, J, 2) -> (B * F, J * 2) -> (B * F, C)
        for block in self.blocks:
            x = x + block(x)
        pose = self.last(x).unflatten(1, (NUM_JOINTS, 3))  # (B * F, J, 3)
        return pose.unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)


def _dense(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout))


class GraphLayer(nn.Module):
    """A modulated graph convolution with batch normalisation, ReLU and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.conv = ModulatedGraphConv(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.tail = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, in) to (B, J, out)."""
        y = self.conv(x)  # (B, J, out)
        # One mean and deviation for a channel, over all poses and joints.
        y = self.norm(y.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B * J, out) -> (B, J, out)
        return self.tail(y)


class NonLocal(nn.Module):
    """Each joint takes from all others by the likeness of their features, on half the channels.

    Wang et al., *Non-local Neural Networks*, CVPR 2018: the embedded Gaussian form, the last normalisation
    started at 0, so that the block begins as the identity.
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
        likeness = self.query(x) @ self.key(x).transpose(1, 2)  # (B, J, C / 2) @ (B, C / 2, J) -> (B, J, J)
        y = self.out(likeness.softmax(dim=2) @ self.value(x))  # (B, J, C)
        return x + self.norm(y.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B * J, C) -> (B, J, C)


class ModulatedGCN(nn.Module):
    """Zou and Tang, *Modulated Graph Convolutional Network for 3D Human Pose Estimation*, ICCV 2021.

    A graph layer into 384 channels, four residual blocks of two graph layers, a non-local block, a graph
    convolution to 3; modulated weights and a learned change of the graph in each (``model.graph``).

    2.73 million parameters. The 0.29 million that are quoted for it are the network at 128 channels without
    the non-local block, which comes to 289,408 here.

    Not taken over: the paper's own loss, learning rate and schedule; all lifters have this project's.
    """

    def __init__(self, channels: int = 384, blocks: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = GraphLayer(2, channels, dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(GraphLayer(channels, channels, dropout), GraphLayer(channels, channels, dropout))
            for _ in range(blocks)
        )
        self.non_local = NonLocal(channels)
        self.last = ModulatedGraphConv(channels, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.first(keypoints.flatten(0, 1))  # (B, F, J, 2) -> (B * F, J, 2) -> (B * F, J, C)
        for block in self.blocks:
            x = x + block(x)
        return self.last(self.non_local(x)).unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)


class EncoderLayer(nn.Module):
    """Attention over the joints, then an MLP on each, both normalised before and added to what came in."""

    def __init__(self, channels: int, hidden: int, heads: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm_attn, self.norm_mlp = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = Attention(channels, heads, dropout)
        self.mlp = Mlp(channels, hidden, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        x = x + self.drop_path(self.attn(self.norm_attn(x)))
        return x + self.drop_path(self.mlp(self.norm_mlp(x)))


class JointTransformer(nn.Module):
    """A transformer with a token for each joint (Vaswani et al., NeurIPS 2017) and no word of the skeleton.

    It has HTNet's size (3.17 million parameters beside 3.05), its embedding of the joints, its dropout and
    its stochastic depth, so that what differs is the topology alone.
    """

    def __init__(
        self,
        *,
        layers: int = 4,
        channels: int = 256,
        hidden: int = 1024,
        heads: int = 8,
        dropout: float = 0.1,
        drop_path: tuple[float, float] = (0.1, 0.3),
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, channels))
        self.patch_embed = nn.Linear(2, channels)
        self.encoder = nn.Sequential(
            *(
                EncoderLayer(channels, hidden, heads, dropout, rate)
                for rate in torch.linspace(*drop_path, layers).tolist()
            ),
            nn.LayerNorm(channels),
        )
        self.last = nn.Linear(channels, 3)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, F, J, 2) to (B, F, J, 3)."""
        x = self.patch_embed(keypoints.flatten(0, 1)) + self.pos_embed  # (B * F, J, 2) -> (B * F, J, C)
        return self.last(self.encoder(x)).unflatten(0, keypoints.shape[:2])  # (B, F, J, 3)

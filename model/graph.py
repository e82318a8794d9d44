"""The skeleton as a graph, and the modulated graph convolution on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.skeleton import BONES, NUM_JOINTS
from model.linear import linear


def adjacency() -> Tensor:
    """(17, 17) adjacency of the skeleton: rows of neighbours that sum to 1, and a diagonal of 1."""
    neighbours = torch.zeros(NUM_JOINTS, NUM_JOINTS)
    for joint, parent in BONES:
        neighbours[joint, parent] = neighbours[parent, joint] = 1
    return (neighbours / neighbours.sum(dim=1, keepdim=True)).fill_diagonal_(1)


class ModulatedGraphConv(nn.Module):
    """Graph convolution with a weight modulation for each joint and a learned change of the graph.

    Each joint has its own channel-wise modulation of two shared weights, one for the joint itself and one for
    its neighbours (Zou and Tang, *Modulated Graph Convolutional Network for 3D Human Pose Estimation*,
    ICCV 2021, section 3).
    """

    adj: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(2, in_channels, out_channels))
        self.M = nn.Parameter(torch.empty(NUM_JOINTS, out_channels))
        self.adj2 = nn.Parameter(torch.full((NUM_JOINTS, NUM_JOINTS), 1e-6))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.register_buffer("adj", adjacency(), persistent=False)
        self.folded: list[Tensor] | None = None
        nn.init.xavier_uniform_(self.W, gain=1.414)
        nn.init.xavier_uniform_(self.M, gain=1.414)
        nn.init.uniform_(self.bias, -(out_channels**-0.5), out_channels**-0.5)

    def fold(self, dtype: torch.dtype | None) -> None:
        """Forms the graph once for all: see ``model.folding``."""
        self.folded = [part.detach() for part in self._graph()]
        self.W.data = self.W.data.to(dtype or self.W.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Maps joint features (B, J, in) to (B, J, out)."""
        own, others = self._graph() if self.folded is None else self.folded
        itself, neighbours = (linear(x, weight.t()) for weight in self.W)  # 2 x (B, J, out)
        neighbours = neighbours * self.M.to(neighbours.dtype)
        # The sum stays in float32, whatever the products are in: in bfloat16 it cost 0.2 mm of P1.
        return torch.addcmul(self.bias, itself, own) + torch.matmul(others, neighbours)

    def _graph(self) -> tuple[Tensor, Tensor]:
        """What each joint gets of itself, (J, out), and of its neighbours, (J, J)."""
        graph = self.adj + self.adj2
        graph = (graph + graph.T) / 2  # (J, J)
        own = graph.diagonal()  # (J,)
        return own.unsqueeze(1) * self.M, graph - own.diag()

"""HTNet with one of its ideas taken out: the paper's ablations, each a change of the network in ``model``.

Each of the three levels has the form x + f(x). A level that is left out leaves x: the joint level the stream
as it came in, the part and the body level the sum of their stream and the one before. The rest of the network
is as it was, and begins with the same weights from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from common.skeleton import LEFT_ARM, RIGHT_ARM
from model.htnet import Block, HTNet

LEVELS = ("lgc", "ipc", "gbi")
"""The joint, part and body level (LJC, IPC, GBI) by their names in a block."""


def without(level: str) -> HTNet:
    """HTNet without one of LEVELS."""
    model = HTNet()
    for block in _blocks(model):
        setattr(block, level, nn.Identity())
    return model


def _blocks(model: HTNet) -> list[Block]:
    return [block for block in model.Hiremixer.blocks if isinstance(block, Block)]


class ParallelBlock(nn.Module):
    """A block whose three streams are refined side by side: none is fed to the next."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        block = self.block
        joint, part, body = x.chunk(3, dim=2)  # 3 x (B, J, C / 3)
        y = torch.cat([block.lgc(joint), block.ipc(part), block.gbi(body)], dim=2)  # (B, J, C)
        return y + block.drop_path(block.mlp(block.norm_mlp(y)))


def parallel() -> HTNet:
    """HTNet with parallel instead of progressive streams."""
    model = HTNet()
    model.Hiremixer.blocks = nn.ModuleList(ParallelBlock(block) for block in _blocks(model))
    return model


def crossed_arms() -> HTNet:
    """HTNet whose part level writes the token of each arm over the outer joints of the other one."""
    model = HTNet()
    for block in _blocks(model):
        source = block.ipc.limb_source  # (J,) where each joint is read from
        ours, theirs = list(LEFT_ARM[1:] + RIGHT_ARM[1:]), list(RIGHT_ARM[1:] + LEFT_ARM[1:])
        source[ours] = source[theirs]
    return model


ABLATIONS: dict[str, tuple[str, Callable[[], HTNet]]] = {
    "no_ljc": ("HTNet without LJC (joint level)", partial(without, "lgc")),
    "no_ipc": ("HTNet without IPC (part level)", partial(without, "ipc")),
    "no_gbi": ("HTNet without GBI (body level)", partial(without, "gbi")),
    "parallel": ("HTNet, parallel streams", parallel),
    "crossed_arms": ("HTNet, arms crossed in IPC", crossed_arms),
}
"""What each ablation is, and how to build it."""

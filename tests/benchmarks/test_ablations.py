"""Each ablation takes out what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.ablations import ABLATIONS, LEVELS, ParallelBlock
from common.skeleton import LEFT_ARM, RIGHT_ARM
from model import HTNet
from model.htnet import Block

CHANNELS, STREAM = 240, 80


def built(make: Callable[[], HTNet]) -> HTNet:
    torch.manual_seed(4)
    return make().eval()


def ablated(name: str) -> HTNet:
    return built(ABLATIONS[name][1])


def moved(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, where: tuple) -> torch.Tensor:
    """Which outputs feel a change of x at a place: true and false, of the output's shape."""
    changed = x.clone()
    changed[where] += torch.randn_like(changed[where])
    return (function(x) - function(changed)).abs() > 1e-6


@torch.no_grad()
def test_what_is_taken_out_put_back_gives_htnet_exactly() -> None:
    whole, keypoints = built(HTNet), torch.randn(8, 1, 17, 2)
    for name in ABLATIONS:
        model = ablated(name)
        assert not torch.allclose(model(keypoints), whole(keypoints), atol=1e-4), name
        for number, (block, original) in enumerate(
            zip(model.Hiremixer.blocks, whole.Hiremixer.blocks, strict=True)
        ):
            if isinstance(block, ParallelBlock):
                model.Hiremixer.blocks[number] = block.block
                continue
            for level in LEVELS:
                if isinstance(getattr(block, level), torch.nn.Identity):
                    setattr(block, level, getattr(original, level))
            block.ipc.limb_source.copy_(original.ipc.limb_source)
        assert torch.equal(model(keypoints), whole(keypoints)), name


def before_mlp(block: Block | ParallelBlock, x: torch.Tensor) -> torch.Tensor:
    """(B, J, C) of a block with its MLP silenced."""
    own = block.block if isinstance(block, ParallelBlock) else block
    torch.nn.init.zeros_(own.mlp.fc2.weight)
    torch.nn.init.zeros_(own.mlp.fc2.bias)
    return block(x)


@torch.no_grad()
@pytest.mark.parametrize(("name", "level"), [("no_ljc", 0), ("no_ipc", 1), ("no_gbi", 2)])
def test_a_level_that_is_left_out_passes_on_what_it_was_fed(name: str, level: int) -> None:
    x = torch.randn(2, 17, CHANNELS)
    for block in ablated(name).Hiremixer.blocks:
        streams, came_in = before_mlp(block, x).chunk(3, dim=2), x.chunk(3, dim=2)
        expected = came_in[level] + (streams[level - 1] if level else 0)
        torch.testing.assert_close(streams[level], expected)
        for other in {0, 1, 2} - {level}:
            before = streams[other - 1] if other else 0
            assert not torch.allclose(streams[other], came_in[other] + before, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("make", "fed"), [(HTNet, True), (ABLATIONS["parallel"][1], False)])
def test_progressive_streams_feed_the_next_and_parallel_ones_do_not(make, fed: bool) -> None:
    x = torch.randn(1, 17, CHANNELS)
    for block in built(make).Hiremixer.blocks:
        for source in range(3):
            here = (..., slice(source * STREAM, (source + 1) * STREAM))
            felt = moved(lambda x, block=block: before_mlp(block, x), x, here)
            felt = felt.unflatten(2, (3, STREAM)).any(dim=3).any(dim=1)[0]
            expected = [stream == source or (fed and stream > source) for stream in range(3)]
            assert felt.tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("ours", [LEFT_ARM, RIGHT_ARM])
def test_crossed_arms_write_over_the_other_arm(ours: tuple[int, ...]) -> None:
    theirs = RIGHT_ARM if ours == LEFT_ARM else LEFT_ARM
    x = torch.randn(1, 17, STREAM)
    for model, target in ((built(HTNet), ours), (ablated("crossed_arms"), theirs)):
        for block in model.Hiremixer.blocks:
            # The shoulder is in the limb branch's token alone, and is not written over.
            felt = moved(block.ipc, x, (0, ours[0])).any(dim=2)[0].nonzero().flatten()
            assert set(felt.tolist()) == {ours[0], *target[1:]}
            leg = moved(block.ipc, x, (0, 1)).any(dim=2)[0].nonzero().flatten()
            assert leg.tolist() == [1, 2, 3]

"""The baselines are the networks that their papers describe: sizes, layers, what may see what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.baselines import EncoderLayer, JointTransformer, ModulatedGCN, NonLocal, ResidualMlp
from model import HTNet
from model.graph import adjacency

NETWORKS = [ResidualMlp, ModulatedGCN, JointTransformer]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(params=NETWORKS, ids=lambda network: network.__name__)
def lifter(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    lifter = request.param().eval()
    for module in lifter.modules():
        if isinstance(module, NonLocal):  # shut at the start: open it
            nn.init.ones_(module.norm.weight)
    return lifter


@torch.no_grad()
def test_each_frame_is_lifted_on_its_own(lifter: nn.Module) -> None:
    keypoints = torch.randn(2, 3, 17, 2)
    together = lifter(keypoints)
    assert together.shape == (2, 3, 17, 3)
    torch.testing.assert_close(together[1, 2], lifter(keypoints[1:, 2:])[0, 0])


def test_all_weights_learn(lifter: nn.Module) -> None:
    lifter.train()
    lifter(torch.randn(4, 1, 17, 2)).square().sum().backward()
    for name, parameter in lifter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_sizes_are_the_published_ones() -> None:
    assert parameters(ResidualMlp()) == 4_296_755  # "4 to 5 million"
    assert parameters(ModulatedGCN()) == 2_731_840
    small = ModulatedGCN(channels=128)
    assert parameters(small) - parameters(small.non_local) == 289_408  # "0.29 M"
    assert parameters(JointTransformer()) == pytest.approx(parameters(HTNet()), rel=0.05)


def test_the_residual_mlp_is_two_blocks_of_two_wide_layers() -> None:
    lifter = ResidualMlp()
    shapes = [tuple(layer.weight.shape) for layer in lifter.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(1024, 34), *[(1024, 1024)] * 4, (51, 1024)]
    assert {layer.p for layer in lifter.modules() if isinstance(layer, nn.Dropout)} == {0.5}
    for block in lifter.blocks:  # silent blocks leave what comes in
        nn.init.zeros_(block[1][1].weight)
    lifter.eval()
    keypoints = torch.randn(5, 1, 17, 2)
    direct = lifter.last(lifter.first(keypoints.reshape(5, 34))).view(5, 1, 17, 3)
    torch.testing.assert_close(lifter(keypoints), direct)


@torch.no_grad()
def test_a_graph_layer_joins_neighbours_alone_and_the_non_local_block_joins_all() -> None:
    torch.manual_seed(0)
    lifter = ModulatedGCN(channels=16).eval()
    lifter.first.conv.adj2.zero_()
    x = torch.randn(1, 17, 2)
    changed = x.clone()
    changed[0, 16] += 1  # the right wrist
    moved = (lifter.first(x) - lifter.first(changed)).abs().amax(dim=(0, 2)) > 1e-7
    assert set(moved.nonzero().flatten().tolist()) <= set(adjacency()[16].nonzero().flatten().tolist())
    assert moved[16]

    block = NonLocal(16).eval()
    x = torch.randn(1, 17, 16)
    assert torch.equal(block(x), x)  # the identity at the start
    nn.init.ones_(block.norm.weight)
    changed = x.clone()
    changed[0, 16] += 1
    assert ((block(x) - block(changed)).abs().amax(dim=(0, 2)) > 1e-6).all()


@torch.no_grad()
def test_a_transformer_whose_layers_are_silent_passes_the_embedding_on() -> None:
    lifter, keypoints = JointTransformer().eval(), torch.randn(2, 1, 17, 2)
    layers = [layer for layer in lifter.encoder if isinstance(layer, EncoderLayer)]
    assert len(layers) == 4
    for layer in layers:
        for silenced in (layer.attn.proj, layer.mlp.fc2):
            nn.init.zeros_(silenced.weight)
            nn.init.zeros_(silenced.bias)
    torch.testing.assert_close(
        lifter(keypoints), lifter.last(lifter.encoder[-1](lifter.patch_embed(keypoints)))
    )


@torch.no_grad()
def test_the_transformer_knows_nothing_of_the_skeleton_but_its_embedding() -> None:
    torch.manual_seed(0)
    lifter = JointTransformer().eval()
    keypoints, order = torch.randn(2, 1, 17, 2), torch.randperm(17)
    torch.testing.assert_close(lifter(keypoints[:, :, order]), lifter(keypoints)[:, :, order])
    nn.init.normal_(lifter.pos_embed)
    assert not torch.allclose(lifter(keypoints[:, :, order]), lifter(keypoints)[:, :, order])

"""The network against values of the published code, and the properties of its layers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill

from common.skeleton import BONES
from model.accelerate import accelerate
from model.htnet import DropPath, HTNet, ModulatedGraphConv, PartConv, adjacency

DATA = Path(__file__).parents[1] / "data"
INITIAL = (0.3643461, -0.3121015, 0.0484057, 0.100459, 0.1704743, 0.0273024)
"""Some initial weights of HTNet(layers=1, channel=24, d_hid=16) with seed 1."""


def reference(name: str):
    return json.loads((DATA / f"{name}.json").read_text())


def draw(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.5)


@pytest.fixture(scope="module")
def filled() -> HTNet:
    return fill(HTNet(), reference("htnet_forward")["fill_seed"]).eval()


def test_state_dict_has_published_names_and_shapes():
    shapes = {name: list(value.shape) for name, value in HTNet().state_dict().items()}
    assert shapes == reference("htnet_state_dict")
    assert sum(parameter.numel() for parameter in HTNet().parameters()) == 3_048_489


@pytest.mark.parametrize("change", [copy.deepcopy, lambda network: accelerate(copy.deepcopy(network))])
def test_forward_and_gradients_match_published_values(filled, change):
    values, network = reference("htnet_forward"), change(filled)
    output = network(draw(values["input_seed"], (4, 1, 17, 2)))
    np.testing.assert_allclose(output.detach(), np.array(values["output"]), atol=1e-5, rtol=0)
    loss = (output - draw(values["target_seed"], (4, 1, 17, 3))).norm(dim=-1).mean()
    assert loss.item() == pytest.approx(values["loss"], abs=1e-5)
    loss.backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    assert norms == pytest.approx(values["grad_norm"], rel=1e-4)


def test_adjacency_matches_published_values_and_joins_bones():
    np.testing.assert_allclose(adjacency(), reference("adjacency"), atol=1e-5)
    joined = {(i, j) for i, j in adjacency().nonzero().tolist() if i > j}
    assert joined == set(BONES)


def test_initialisation_is_reproducible():
    torch.manual_seed(1)
    network = HTNet(layers=1, channel=24, d_hid=16)
    assert torch.count_nonzero(network.pos_embed) == 0
    first, last = network.patch_embed.weight[0], network.fcn.bias
    found = [*first.tolist(), *last.tolist(), network.Hiremixer.blocks[0].lgc.gcn1.W[0, 0, 0].item()]
    assert found == pytest.approx(INITIAL, abs=1e-6)
    layer = ModulatedGraphConv(80, 384)
    assert torch.all(layer.adj2 == 1e-6)
    assert layer.bias.abs().max() <= 384**-0.5
    assert layer.M.abs().max().item() == pytest.approx(1.414 * (6 / (17 + 384)) ** 0.5, rel=0.02)


def test_frames_are_lifted_independently(filled):
    keypoints = draw(3, (2, 5, 17, 2))
    together = filled(keypoints)
    assert together.shape == (2, 5, 17, 3)
    torch.testing.assert_close(together[1, 4], filled(keypoints[1:, 4:])[0, 0])


def test_other_shapes_and_sizes_are_refused(filled):
    for shape in ((17, 2), (1, 17, 2), (1, 1, 16, 2), (1, 1, 17, 3)):
        with pytest.raises(ValueError, match=r"\(B, F, 17, 2\)"):
            filled(torch.zeros(shape))
    with pytest.raises(ValueError, match="multiple of 24"):
        HTNet(channel=100)


def test_drop_path_rates_rise_evenly():
    blocks = HTNet(layers=5, channel=24, d_hid=8, drop_path=(0.1, 0.3)).Hiremixer.blocks
    rates = [{m.rate for m in block.modules() if isinstance(m, DropPath)} for block in blocks]
    assert [pytest.approx(rate) for rate in (0.1, 0.15, 0.2, 0.25, 0.3)] == [min(rate) for rate in rates]
    assert all(len(rate) == 1 for rate in rates)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.3)
    per_sample = layer(torch.ones(20_000, 3, 2)).flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert per_sample[:, 0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (per_sample[:, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
    x = draw(1, (4, 17, 8))
    assert layer.eval()(x) is x


def test_part_conv_is_the_convolution():
    joined = PartConv(24, ((1, 2, 3), (11, 12, 13)))
    conv = torch.nn.Conv1d(24, 24, 3, stride=3)
    conv.load_state_dict(joined.state_dict())
    x = draw(2, (5, 17, 24))
    expected = conv(x[:, [1, 2, 3, 11, 12, 13]].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(joined(x), expected)


def test_limb_tokens_stay_with_their_limb(filled):
    """A change of the left elbow reaches the left arm's outer joints and no other limb."""
    ipc, x = filled.Hiremixer.blocks[0].ipc, draw(1, (1, 17, 80))
    changed = x.clone()
    changed[0, 12] += draw(2, (80,))
    moved = (ipc(x) - ipc(changed)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [12, 13]


def test_graph_convolution_matches_its_formula():
    layer = fill(ModulatedGraphConv(4, 6), 7)
    x = draw(1, (3, 17, 4)).double()
    W, M, adj2, bias = (p.detach().double() for p in (layer.W, layer.M, layer.adj2, layer.bias))
    A = adjacency().double() + adj2
    A = (A + A.T) / 2
    expected = torch.zeros(3, 17, 6, dtype=torch.double)
    for i in range(17):
        for j in range(17):
            expected[:, i] += A[i, j] * M[j] * (x[:, j] @ W[0 if i == j else 1])
    torch.testing.assert_close(layer.double()(x), expected + bias, rtol=1e-6, atol=1e-9)


def test_autocast_keeps_coordinates_in_float32(filled):
    keypoints, seen = draw(6, (16, 1, 17, 2)), []
    hook = filled.Hiremixer.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            exact = filled(keypoints)
            with torch.autocast("cpu", torch.bfloat16):
                found = filled(keypoints)
    finally:
        hook.remove()
    assert torch.equal(seen[0], seen[1])
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().mean() < 0.005 * exact.abs().mean()

"""The network against the figures of the published code, and what its layers promise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill

from common.skeleton import BONES, MIRROR
from model import HTNet, htnet
from model.folding import folded
from model.graph import ModulatedGraphConv, adjacency
from model.layers import DropPath, JoinedConv, drop_path

DATA = Path(__file__).parent.parent / "data"


def reference(name: str) -> dict:
    return json.loads((DATA / f"{name}.json").read_text())


def draw(seed: int, shape: tuple[int, ...], scale: float = 0.5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * scale)


@pytest.fixture(scope="module")
def filled() -> HTNet:
    return fill(HTNet(), reference("htnet_forward")["fill_seed"]).eval()


def test_names_and_shapes_are_the_published_ones() -> None:
    shapes = {name: list(value.shape) for name, value in HTNet().state_dict().items()}
    assert shapes == reference("htnet_state_dict")


def test_forward_and_gradients_match_the_published_code(filled: HTNet) -> None:
    figures = reference("htnet_forward")
    output = filled(draw(figures["input_seed"], (4, 1, 17, 2)))
    np.testing.assert_allclose(output.detach(), np.array(figures["output"]), atol=1e-5, rtol=0)

    target = draw(figures["target_seed"], (4, 1, 17, 3))
    loss = (output - target).norm(dim=-1).mean()
    assert loss.item() == pytest.approx(figures["loss"], abs=1e-5)
    filled.zero_grad()
    loss.backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in filled.named_parameters()}
    assert norms == pytest.approx(figures["grad_norm"], rel=1e-4)


def test_parameter_count_is_the_published_one() -> None:
    assert sum(parameter.numel() for parameter in HTNet().parameters()) == 3_048_489


def test_adjacency_matches_the_published_one() -> None:
    np.testing.assert_allclose(adjacency(), reference("adjacency"), atol=1e-6)


def test_adjacency_joins_bones_and_nothing_else() -> None:
    joined = {(i, j) for i, j in adjacency().nonzero().tolist() if i > j}
    assert joined == set(BONES)
    assert set(MIRROR.tolist()) == set(range(17))


def test_frames_are_lifted_each_on_its_own(filled: HTNet) -> None:
    keypoints = draw(3, (2, 5, 17, 2))
    together = filled(keypoints)
    assert together.shape == (2, 5, 17, 3)
    torch.testing.assert_close(together[1, 4], filled(keypoints[1:, 4:])[0, 0])


@pytest.mark.parametrize("shape", [(17, 2), (1, 17, 2), (1, 1, 16, 2), (1, 1, 17, 3)])
def test_other_input_shapes_are_refused_by_name(filled: HTNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, F, 17, 2\), got \(" + str(shape)[1:-1]):
        filled(torch.zeros(shape))


@pytest.mark.parametrize("options", [{"channel": 100}, {"channel": 0}, {"layers": 0}, {"d_hid": 0}])
def test_impossible_sizes_are_refused_by_name(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        HTNet(**options)


@pytest.mark.parametrize(("layers", "channel", "d_hid"), [(1, 24, 8), (2, 48, 64)])
def test_other_sizes_run(layers: int, channel: int, d_hid: int) -> None:
    model = HTNet(layers=layers, channel=channel, d_hid=d_hid).eval()
    assert model(draw(1, (2, 1, 17, 2))).shape == (2, 1, 17, 3)


def test_drop_path_rates_rise_evenly() -> None:
    blocks = HTNet(layers=5).Hiremixer.blocks
    rates = [{m.rate for m in block.modules() if isinstance(m, DropPath)} for block in blocks]
    assert [pytest.approx(rate) for rate in (0.1, 0.15, 0.2, 0.25, 0.3)] == [min(rate) for rate in rates]
    assert all(len(rate) == 1 for rate in rates)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(20_000, 3, 2), 0.3, training=True)
    per_sample = dropped.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert per_sample[:, 0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (per_sample[:, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_drop_path_leaves_evaluation_alone() -> None:
    x = draw(1, (4, 17, 8))
    assert drop_path(x, 0.5, training=False) is x
    assert drop_path(x, 0.0, training=True) is x
    with pytest.raises(ValueError, match=r"1\.0"):
        DropPath(1.0)


def test_training_mode_is_random_and_evaluation_is_not(filled: HTNet) -> None:
    keypoints = draw(1, (8, 1, 17, 2))
    assert torch.equal(filled(keypoints), filled(keypoints))
    filled.train()
    try:
        assert not torch.equal(filled(keypoints), filled(keypoints))
    finally:
        filled.eval()


@pytest.mark.parametrize("kernel", [2, 3])
def test_joined_conv_is_the_convolution(kernel: int) -> None:
    joined = JoinedConv(24, kernel)
    conv = torch.nn.Conv1d(24, 24, kernel, stride=kernel)
    conv.load_state_dict(joined.state_dict())
    tokens = torch.randn(5, 4 * kernel, 24)
    expected = conv(tokens.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(joined(tokens), expected)
    joined.fold(None)
    torch.testing.assert_close(joined(tokens), expected)


def test_a_folded_network_gives_the_same_poses_and_leaves_its_own_alone() -> None:
    network = HTNet(layers=2, channel=48, d_hid=64).train()
    names = list(network.state_dict())
    ready = folded(network)
    assert network.training and not ready.training
    assert not any(value.requires_grad for value in ready.parameters())
    keypoints = torch.randn(6, 1, 17, 2)
    torch.testing.assert_close(ready(keypoints), network.eval()(keypoints), rtol=0, atol=1e-6)
    assert list(network.state_dict()) == list(ready.state_dict()) == names
    before = ready(keypoints)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1)
    assert torch.equal(ready(keypoints), before)


def test_many_poses_are_lifted_in_pieces(monkeypatch) -> None:
    """On a processor, without gradients: to the same poses, in the same order."""
    network = HTNet(layers=1, channel=24, d_hid=16).eval()
    keypoints = torch.randn(7, 2, 17, 2)
    with torch.no_grad():
        whole = network(keypoints)
        sizes = []
        lift = network._lift
        monkeypatch.setattr(network, "_lift", lambda x: sizes.append(len(x)) or lift(x))
        monkeypatch.setattr(htnet, "CACHED", 4)
        torch.testing.assert_close(network(keypoints), whole, rtol=0, atol=1e-6)
    assert sizes == [4, 4, 4, 2]
    network(keypoints)
    assert sizes[4:] == [14], "gradients need the whole"


def test_bfloat16_stays_close(filled: HTNet) -> None:
    """Products lose digits, the residual stream does not: some thousandths of the poses' size are left."""
    keypoints = draw(3, (64, 1, 17, 2))
    with torch.inference_mode():
        exact = filled(keypoints)
        with torch.autocast("cpu", torch.bfloat16):
            found = filled(keypoints)
            ready = folded(filled, torch.bfloat16)(keypoints)
    for poses in (found, ready):
        assert poses.dtype == torch.float32
        assert 0 < (poses - exact).abs().mean() < 0.005 * exact.abs().mean()
    assert all(value.dtype == torch.float32 for value in filled.parameters())


def test_graph_convolution_agrees_with_its_formula() -> None:
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


def test_start_values_follow_the_paper_of_the_modulated_graph_convolution() -> None:
    torch.manual_seed(0)
    layer = ModulatedGraphConv(80, 384)
    assert torch.all(layer.adj2 == 1e-6)
    assert layer.bias.abs().max() <= 384**-0.5
    assert layer.M.abs().max().item() == pytest.approx(1.414 * (6 / (17 + 384)) ** 0.5, rel=0.02)
    assert torch.count_nonzero(HTNet().pos_embed) == 0


def test_the_arms_of_the_limb_branch_are_not_crossed(filled: HTNet) -> None:
    """The left arm's token goes to the left arm: the right arm does not feel a change of the left elbow."""
    ipc = filled.Hiremixer.blocks[0].ipc
    x = draw(1, (1, 17, 80))
    changed = x.clone()
    changed[0, 12] += draw(2, (80,))
    moved = (ipc(x) - ipc(changed)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [12, 13]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_in_another_precision(dtype: torch.dtype) -> None:
    network = HTNet(layers=1, channel=24, d_hid=16).eval()
    keypoints = draw(5, (3, 1, 17, 2))
    found = network.to(dtype)(keypoints.to(dtype))
    assert found.dtype == dtype
    expected = network.float()(keypoints)
    assert (found.float() - expected).abs().max() < (0.05 if dtype == torch.bfloat16 else 1e-5)


def test_what_is_measured_is_not_rounded(filled: HTNet) -> None:
    """In bfloat16 key points would go in as pixels and joints come out in steps of millimetres."""
    keypoints, seen = draw(6, (4, 1, 17, 2)), []
    hook = filled.Hiremixer.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            filled(keypoints)
            with torch.autocast("cpu", torch.bfloat16):
                assert filled(keypoints).dtype == torch.float32
    finally:
        hook.remove()
    assert torch.equal(seen[0], seen[1])


def test_a_folded_network_takes_no_weights(filled: HTNet) -> None:
    with pytest.raises(RuntimeError, match="takes no weights"):
        folded(filled).load_state_dict(filled.state_dict())
    ready = folded(filled, torch.bfloat16)
    assert ready.Hiremixer.blocks[0].lgc.gcn1.W.dtype == torch.bfloat16
    assert ready.patch_embed.weight.dtype == ready.fcn.weight.dtype == torch.float32

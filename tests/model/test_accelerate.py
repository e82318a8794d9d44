"""Accelerated and fused networks compute what the plain network does."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from fill import fill

from model import HTNet
from model.accelerate import accelerate, fuse

SIZES = {"layers": 2, "channel": 48, "d_hid": 64}


def plain(**options) -> HTNet:
    return fill(HTNet(**SIZES, **options), 1)


def step(network, keypoints):
    """Poses, and gradients by name, of one step without random numbers."""
    network.zero_grad()
    poses = network(keypoints)
    poses.square().sum().backward()
    return poses.detach(), {name: value.grad for name, value in network.named_parameters()}


@pytest.mark.parametrize("smallest", [0, 10**12])
def test_accelerate_keeps_poses_gradients_and_names(monkeypatch, smallest):
    """With products by oneDNN, where the processor has it, and without."""
    monkeypatch.setattr("model.accelerate.MIN_PRODUCT", smallest)
    torch.manual_seed(0)
    network = plain(dropout=0, drop_path=(0, 0))
    fast, keypoints = copy.deepcopy(network), torch.randn(7, 1, 17, 2)
    weight = fast.fcn.weight
    assert accelerate(accelerate(fast)) is fast and isinstance(fast, HTNet) and fast.fcn.weight is weight
    assert list(fast.state_dict()) == list(network.state_dict())
    (poses, gradients), (expected, wanted) = step(fast, keypoints), step(network, keypoints)
    torch.testing.assert_close(poses, expected, rtol=0, atol=1e-6)
    for name, value in wanted.items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-4, atol=1e-5)


def test_fuse_gives_the_same_poses_and_leaves_the_network_alone():
    network = plain().train()
    fused = fuse(network)
    assert network.training and not fused.training
    assert not any(value.requires_grad for value in fused.parameters())
    keypoints = torch.randn(6, 1, 17, 2)
    before = fused(keypoints)
    torch.testing.assert_close(before, network.eval()(keypoints), rtol=0, atol=1e-6)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1)
    assert torch.equal(fused(keypoints), before)


@pytest.mark.parametrize("frames", [1, 2])
def test_pieces_keep_poses_and_order(monkeypatch, frames):
    monkeypatch.setattr("model.accelerate.PIECE", 4)
    network, keypoints = plain().eval(), torch.randn(7, frames, 17, 2)
    with torch.no_grad():
        torch.testing.assert_close(fuse(network)(keypoints), network(keypoints), rtol=0, atol=1e-6)


def test_bfloat16_stays_close():
    """Products lose digits, the residual stream does not: some thousandths of the poses' size are left."""
    network, keypoints = plain().eval(), torch.randn(64, 1, 17, 2)
    fused = fuse(network, torch.bfloat16)
    with torch.inference_mode():
        exact = network(keypoints)
        with torch.autocast("cpu", torch.bfloat16):
            found = fused(keypoints)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().mean() < 0.005 * exact.abs().mean()
    assert fused.Hiremixer.blocks[0].lgc.gcn1.W.dtype == torch.bfloat16
    assert fused.fcn.weight.dtype == torch.float32


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(rate, dtype):
    torch.manual_seed(0)
    x = torch.full((1000, 1001), 3.0, dtype=dtype, requires_grad=True)
    layer = accelerate(torch.nn.Dropout(rate))
    y = layer(x)
    assert sorted(set(y.unique().tolist())) == pytest.approx([0, 3 / (1 - rate)], rel=0.01)
    deviation = math.sqrt(rate * (1 - rate) / x.numel())
    assert abs((y == 0).float().mean().item() - rate) < 5 * deviation + 2**-17
    y.sum().backward()
    assert torch.equal(x.grad == 0, y == 0)
    assert layer.eval()(x) is x


def test_dropout_drops_values_independently():
    torch.manual_seed(0)
    dropped = (accelerate(torch.nn.Dropout(0.25))(torch.ones(2000, 512)) == 0).float()
    for shift in (1, 2, 3, 4, 512):
        ahead = dropped.flatten()
        both = (ahead[:-shift] * ahead[shift:]).mean().item()
        assert both == pytest.approx(0.25**2, abs=5 * math.sqrt(0.0625 / ahead.numel()))

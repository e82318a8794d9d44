"""Dropout and drop path: what is kept, and how much of it."""

import math

import pytest
import torch

from model.layers import Dropout, drop_path, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_zeroed_or_scaled(rate, dtype):
    x = torch.full((1000, 1001), 3.0, dtype=dtype)
    y = dropout(x, rate, True)
    assert y.dtype == dtype and y.shape == x.shape
    assert sorted(set(y.unique().tolist())) == pytest.approx([0, 3 / (1 - rate)], rel=0.01)
    deviation = math.sqrt(rate * (1 - rate) / x.numel())
    assert abs((y == 0).float().mean().item() - rate) < 5 * deviation + 2**-17
    assert y.float().mean().item() == pytest.approx(3, abs=0.02 if rate < 0.9 else 0.06)


def test_each_value_on_its_own():
    """Neighbours, columns and rows are dropped independently: products of two have the product's rate."""
    dropped = (dropout(torch.ones(2000, 512), 0.25, True) == 0).float()
    for shift in (1, 2, 3, 4, 512):
        ahead = dropped.flatten()
        both = (ahead[:-shift] * ahead[shift:]).mean().item()
        assert both == pytest.approx(0.25**2, abs=5 * math.sqrt(0.0625 / ahead.numel()))
    assert dropped.mean(0).std().item() == pytest.approx(math.sqrt(0.25 * 0.75 / 2000), rel=0.2)


def test_the_gradient_goes_where_the_values_went():
    x = torch.ones(100, 100, requires_grad=True)
    y = dropout(x, 0.3, True)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_seeded_and_fresh():
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x, 0.5, True), dropout(x, 0.5, True)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, 0.5, True)) and not torch.equal(first, second)


@pytest.mark.parametrize("layer", [Dropout(0.4).eval(), Dropout(0.0)])
def test_no_dropout(layer):
    x = torch.randn(5, 3)
    assert layer(x) is x


def test_a_rate_close_to_one_stays_finite():
    assert dropout(torch.ones(100_000), 0.999999, True).isfinite().all()


def test_drop_path_drops_whole_samples():
    y = drop_path(torch.ones(4000, 3, 2), 0.25, True)
    assert set(y.flatten(1).std(dim=1).tolist()) == {0.0}
    assert (y[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.035)
    assert y.max().item() == pytest.approx(4 / 3)

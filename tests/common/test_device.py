"""The device that a name selects, on machines with and without accelerators, and low precision."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from common.console import UserError
from common.device import check_precision, choose_device, in_precision


@pytest.fixture
def machine(monkeypatch):
    """Makes PyTorch see accelerators: ``machine(cuda=2, mps=True)``."""

    def build(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


def test_auto_takes_the_fastest_device_and_what_is_missing_is_refused(machine):
    for parts, expected in (({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1, "mps": True}, "cuda:0")):
        machine(**parts)
        assert choose_device("auto") == torch.device(expected) and choose_device("cpu").type == "cpu"
    machine()
    for name in ("cuda", "mps"):
        with pytest.raises(UserError, match=rf"--device {name}: .*cpu"):
            choose_device(name)


def test_gpu_is_an_index_and_processes_take_one_each(machine, monkeypatch):
    machine(cuda=3)
    assert choose_device("auto", 2) == torch.device("cuda:2")
    with pytest.raises(UserError, match="--gpu 3"):
        choose_device("cuda", 3)
    monkeypatch.setattr("common.distributed.local", lambda: (1, 2))
    assert choose_device("auto") == torch.device("cuda:1")
    with pytest.raises(UserError, match="--gpu 2"):
        choose_device("cuda", 2)


def test_precision_that_a_device_lacks_is_refused(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    check_precision("bf16", cpu)
    check_precision("fp16", cuda)
    with pytest.raises(UserError, match="--amp fp16"):
        check_precision("fp16", cpu)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(UserError, match="--amp bf16"):
        check_precision("bf16", cuda)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_low_precision_computes_products_and_returns_float32(amp):
    torch.manual_seed(0)
    network, x, cpu = nn.Linear(64, 64), torch.randn(8, 64), torch.device("cpu")
    assert in_precision(network, "off", cpu) is network
    exact, low = network(x), in_precision(network, amp, cpu)(x)
    assert low.dtype == torch.float32
    assert 1e-5 < float((low - exact).abs().max().detach()) < 3e-2
    assert network.weight.dtype == torch.float32

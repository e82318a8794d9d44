"""The device that a name stands for, on machines with and without accelerators."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from common.device import check_precision, choose, in_precision
from common.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Makes PyTorch see the given accelerators: ``machine(cuda=2, mps=True)``."""

    def build(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


@pytest.mark.parametrize(
    ("parts", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1}, "cuda:0"), ({"cuda": 1, "mps": True}, "cuda:0")],
)
def test_auto_takes_the_fastest_that_is_there(machine, parts, expected):
    machine(**parts)
    assert choose("auto") == torch.device(expected)


def test_every_name_can_be_had_where_the_machine_has_it(machine):
    machine(cuda=1, mps=True)
    assert [choose(name).type for name in ("auto", "cpu", "cuda", "mps")] == ["cuda", "cpu", "cuda", "mps"]


def test_the_cpu_can_be_had_beside_an_accelerator(machine):
    machine(cuda=1)
    assert choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_what_is_not_there_is_refused_with_what_is(machine, name):
    machine()
    with pytest.raises(UserError, match=rf"--device {name}: .*it has cpu$") as caught:
        choose(name)
    assert caught.value.exit_code == 2


def test_gpu_is_an_index_of_the_devices(machine):
    machine(cuda=2)
    assert choose("cuda", 1) == choose("auto", 1) == torch.device("cuda:1")
    with pytest.raises(UserError, match="--gpu 2: there are 2 CUDA devices"):
        choose("cuda", 2)


def several(monkeypatch, *, local: int, of: int) -> None:
    """Makes this process one of several on a machine."""
    values = {"RANK": 4 + local, "WORLD_SIZE": 4 + of, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": of}
    for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


def test_each_process_of_a_machine_has_a_gpu_of_its_own(machine, monkeypatch):
    machine(cuda=3)
    several(monkeypatch, local=1, of=2)
    assert choose("auto") == torch.device("cuda:1")
    assert choose("cuda", 1) == torch.device("cuda:2")
    for local in range(2):  # all say so, not the last one alone
        several(monkeypatch, local=local, of=2)
        with pytest.raises(
            UserError, match="--gpu 2 for each of 2 processes from there on: there are 3 CUDA"
        ):
            choose("cuda", 2)


def test_a_precision_that_a_device_does_not_compute_in_is_refused(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    with pytest.raises(UserError, match="--amp fp16: it is for CUDA, not for cpu; take --amp bf16"):
        check_precision("fp16", cpu)
    check_precision("fp16", cuda)
    check_precision("bf16", cpu)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    check_precision("bf16", cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(UserError, match=r"--amp bf16: .* take --amp fp16"):
        check_precision("bf16", cuda)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_products_are_in_low_precision_and_what_comes_out_is_float32(amp):
    torch.manual_seed(0)
    network, x = nn.Linear(64, 64), torch.randn(8, 64)
    assert in_precision(network, "off", torch.device("cpu")) is network
    exact, low = network(x), in_precision(network, amp, torch.device("cpu"))(x)
    assert low.dtype == torch.float32
    error = float((low - exact).abs().max().detach())
    assert 1e-5 < error < 3e-2
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())

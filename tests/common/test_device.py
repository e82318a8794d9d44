"""The device that a name stands for, on machines with and without accelerators."""

from __future__ import annotations

import pytest
import torch

from common.device import choose
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

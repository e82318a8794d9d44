"""Weights on disk: which file a name means, what is read and refused, and that writing is atomic."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from common import checkpoint
from common.checkpoint import find_weights, load_htnet, load_weights, network_sizes, read_state
from common.console import UserError
from model import HTNet

SMALL: dict[str, Any] = {"layers": 2, "channel": 24, "d_hid": 16}


class Hostile:
    """A pickle that would run a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch HACKED",)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return HTNet(**SMALL).state_dict()


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model_pos", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod."])
def test_weights_are_read_whatever_wraps_them(
    tmp_path: Path, state: Any, key: str | None, prefix: str
) -> None:
    wrapped: Any = {f"{prefix}{name}": value for name, value in state.items()}
    if key:
        wrapped = {key: wrapped, "epoch": 7, "lr": 0.1, "optimizer": {"state": {}}}
    torch.save(wrapped, tmp_path / "a.pth")
    network = load_htnet(tmp_path / "a.pth")  # its size comes from the weights
    assert network_sizes(state) == SMALL
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])


def test_invalid_weights_are_refused(tmp_path: Path, state: Any) -> None:
    for change in (
        lambda value: value * float("nan"),
        lambda value: value.to(torch.int32),
        lambda value: value.to(torch.complex64),
        lambda value: value[:, :-1],
    ):
        torch.save(state | {"fcn.weight": change(state["fcn.weight"])}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"fcn\.weight"):
            load_htnet(tmp_path / "a.pth")
    torch.save({"other": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="another network"):
        load_htnet(tmp_path / "a.pth")
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="weights"):
        load_htnet(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="could run code"):
        read_state(Path("a.pth"))
    assert not Path("HACKED").exists()


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain:
        with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
    with pytest.raises(UserError, match="damaged"):
        read_state(tmp_path / "a.pth")


def test_weights_larger_than_their_file_are_refused(tmp_path: Path, state: Any) -> None:
    torch.save(state | {"pos_embed": torch.zeros(1).expand(1, 17, 10**12)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no larger than the file"):
        load_htnet(tmp_path / "a.pth")
    assert network_sizes(state | {"pos_embed": torch.zeros(1).expand(1, 17, 10**9)}) == {}


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:900] + b"x" + b[901:]]
)
def test_damaged_files_are_reported(tmp_path: Path, state: Any, damage: Any) -> None:
    torch.save(state, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(damage((tmp_path / "a.pth").read_bytes()))
    with pytest.raises(UserError, match=r"a\.pth"):
        read_state(tmp_path / "a.pth")


def test_names_stand_for_one_file(tmp_path: Path, state: Any) -> None:
    run = tmp_path / "ckpt" / "run"
    run.mkdir(parents=True)
    for name in ("model_1_100.pth", "refine_1_90.pth", "last.pth"):
        checkpoint.save(run / name, state)
    for name in ("run", str(run), str(run / "model_1_100.pth")):
        assert find_weights(name, tmp_path / "ckpt") == run / "model_1_100.pth"
    assert find_weights("run", tmp_path / "ckpt", "refine") == run / "refine_1_90.pth"
    checkpoint.save(run / "model_2_80.pth", state)
    with pytest.raises(UserError, match="model_1_100"):
        find_weights("run", tmp_path / "ckpt")
    with pytest.raises(UserError, match=r"there is run.*authors"):
        find_weights("cpn", tmp_path / "ckpt")
    (run / "model_1_100.pth").unlink()
    (run / "model_2_80.pth").unlink()
    with pytest.raises(UserError, match=r"there is last\.pth, refine_1_90\.pth; .* add /last\.pth"):
        find_weights("run", tmp_path / "ckpt")


def test_part_of_a_run_state_is_loaded(tmp_path: Path) -> None:
    head, weight = torch.nn.Linear(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    parts = {"model": {"a": weight}, "refine": {"weight": weight, "bias": torch.zeros(2)}, "optimizer": {}}
    torch.save(parts, tmp_path / "last.pth")
    load_weights(head, tmp_path / "last.pth", "refine")
    assert torch.equal(head.weight, weight)
    with pytest.raises(UserError, match="another network: weight"):
        load_weights(head, tmp_path / "last.pth")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace", "torch.save", "pathlib.Path.write_bytes"])
def test_a_kill_while_saving_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def kill(*_: Any) -> None:
        raise Killed

    checkpoint.save(tmp_path / "last.pth", {"a": torch.ones(3)})
    monkeypatch.setattr(moment, kill)
    with pytest.raises(Killed):
        checkpoint.save(tmp_path / "last.pth", {"a": torch.zeros(3)})
    assert torch.equal(read_state(tmp_path / "last.pth")["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_the_same_values_give_the_same_bytes(tmp_path: Path, state: Any) -> None:
    for name in ("a.pth", "b.pth"):
        checkpoint.save(tmp_path / name, state)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_damaged_options_are_none(tmp_path: Path) -> None:
    assert checkpoint.read_options(tmp_path) is None
    for text in ("{", "[]", '{"options": null}'):
        (tmp_path / "options.json").write_text(text)
        assert checkpoint.read_options(tmp_path) is None

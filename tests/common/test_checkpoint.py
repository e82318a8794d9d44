"""Weights on disk: which file a name means, what is refused, and that a file is whole at any moment."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from common import checkpoint
from common.errors import CheckpointError
from model import HTNet

SIZE: dict[str, Any] = {"layers": 2, "channel": 24, "d_hid": 32}


@pytest.fixture
def ckpt(tmp_path, monkeypatch) -> Path:
    """An empty folder of runs, seen from a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    return Path("ckpt")


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def net() -> HTNet:
    return HTNet(**SIZE)


def weights(tmp_path: Path, change=lambda state: state, **size: Any) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(change(dict(HTNet(**(SIZE | size)).state_dict())), path)
    return path


# Finding


def test_a_name_under_ckpt_a_folder_and_a_file_mean_the_same(ckpt):
    best = ckpt / "cpn" / "model_3_5012.pth"
    put(best, ckpt / "cpn" / "last.pth", ckpt / "cpn" / "options.json")
    for previous in (
        "cpn",
        "cpn/",
        "ckpt/cpn",
        str(best.parent.resolve()),
        str(best),
        "cpn/model_3_5012.pth",
    ):
        assert checkpoint.find_weights(previous, ckpt).resolve() == best.resolve()


def test_last_can_be_named_as_a_file(ckpt):
    put(ckpt / "cpn" / "last.pth", ckpt / "cpn" / "model_1_1.pth")
    assert checkpoint.find_weights("ckpt/cpn/last.pth", ckpt).name == "last.pth"


def test_a_run_is_found_although_a_folder_without_weights_has_its_name(ckpt):
    put(ckpt / "demo" / "model_1_1.pth", Path("demo") / "vis.py")
    assert checkpoint.find_weights("demo", ckpt) == ckpt / "demo" / "model_1_1.pth"


def test_nothing_of_the_name_lists_where_it_was_looked_and_what_is_there(ckpt):
    put(ckpt / "cpn" / "model_1_1.pth", ckpt / "README.md")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.find_weights("nope", ckpt)
    message = str(caught.value)
    assert "no file or folder at nope and ckpt/nope" in message.replace(os.sep, "/")
    assert message.endswith("ckpt holds cpn")
    assert caught.value.exit_code == 2


def test_nothing_of_the_name_without_any_ckpt(tmp_path):
    with pytest.raises(CheckpointError, match="no file or folder at"):
        checkpoint.find_weights("nope", tmp_path / "absent")


def test_several_candidates_are_all_listed(ckpt):
    put(ckpt / "cpn" / "model_1_1.pth", ckpt / "cpn" / "model_2_1.pth")
    with pytest.raises(CheckpointError, match="2 files of weights") as caught:
        checkpoint.find_weights("cpn", ckpt)
    for name in ("model_1_1.pth", "model_2_1.pth"):
        assert str(ckpt / "cpn" / name) in str(caught.value)


def test_a_folder_without_weights_tells_its_contents(ckpt):
    put(ckpt / "cpn" / "options.json", ckpt / "cpn" / "train.log")
    with pytest.raises(CheckpointError, match=r"no weights \(\*.pth\).*found options.json, train.log$"):
        checkpoint.find_weights("cpn", ckpt)
    (ckpt / "empty").mkdir()
    with pytest.raises(CheckpointError, match="found nothing"):
        checkpoint.find_weights("empty", ckpt)


def test_a_run_in_its_first_epoch_points_to_its_last_state(ckpt):
    put(ckpt / "cpn" / "last.pth")
    with pytest.raises(CheckpointError, match=r"name .*last\.pth itself"):
        checkpoint.find_weights("cpn", ckpt)


def test_the_weights_of_lifter_and_head_are_told_apart(ckpt):
    put(ckpt / "a" / "model_1_1.pth", ckpt / "a" / "refine_1_1.pth", ckpt / "a" / "last.pth")
    assert checkpoint.find_weights("a", ckpt) == ckpt / "a" / "model_1_1.pth"
    assert checkpoint.find_weights("a", ckpt, head=True) == ckpt / "a" / "refine_1_1.pth"
    put(ckpt / "b" / "model_1_1.pth", ckpt / "b" / "last.pth")
    with pytest.raises(CheckpointError, match=r"no weights of a refine head \(refine_\*\.pth\) in .*pth$"):
        checkpoint.find_weights("b", ckpt, head=True)


def test_what_a_killed_process_left_behind_is_no_candidate(ckpt, monkeypatch):
    put(ckpt / "cpn" / "model_1_1.pth")
    monkeypatch.setattr(Path, "unlink", lambda self, **_: None)  # as after SIGKILL
    monkeypatch.setattr(os, "replace", _killed)
    with pytest.raises(Killed):
        checkpoint.save(ckpt / "cpn" / "model_2_2.pth", {})
    assert len(list((ckpt / "cpn").iterdir())) == 2
    assert checkpoint.find_weights("cpn", ckpt).name == "model_1_1.pth"


# Reading


class Runs:
    """Its pickle makes a folder when it is loaded by pickle.load."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_run(tmp_path, protocol):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Runs(trace), protocol))
    with pytest.raises(CheckpointError, match=r"weights\.pth \(\d+ bytes\): expected tensors"):
        checkpoint.read(path)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_of_torch_is_refused_by_name_and_not_recommended(tmp_path, zipped):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    torch.save({"model": Runs(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"it asks for \w+\.mkdir, which could run code$") as caught:
        checkpoint.read(path)
    assert "weights_only" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"]
)
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=rf"\({len(content)} bytes\).*damaged, or a file of another kind"
    ):
        checkpoint.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_damage_leads_to_another_error(tmp_path, zipped):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(3), "b": {"c": [1, 2.0, "d"]}}, path, _use_new_zipfile_serialization=zipped)
    whole, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randint(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            checkpoint.read(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


# Loading


def test_weights_arrive_exactly(tmp_path):
    path, model = weights(tmp_path), net()
    checkpoint.load_weights(model, path)
    saved = torch.load(path, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_of_a_whole_training_state_the_part_that_is_asked_for_is_taken(tmp_path):
    path, head = tmp_path / "last.pth", torch.nn.Linear(2, 2)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.save({"model": {}, "refine": {"weight": weight, "bias": torch.zeros(2)}, "optimizer": {}}, path)
    checkpoint.load_weights(head, path, "refine")
    assert torch.equal(head.weight, weight)
    with pytest.raises(CheckpointError, match="weight: missing"):
        checkpoint.load_weights(head, path)


def test_the_prefix_of_data_parallel_is_dropped(tmp_path):
    path, model = weights(tmp_path), net()
    plain = torch.load(path, weights_only=True)
    torch.save({f"module.{name}": value for name, value in plain.items()}, path)
    checkpoint.load_weights(model, path)
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


def test_a_whole_training_state_is_taken_for_its_weights(tmp_path):
    path, model = weights(tmp_path, lambda state: {"model": state, "optimizer": {}, "progress": {}}), net()
    saved = torch.load(path, weights_only=True)["model"]
    checkpoint.load_weights(model, path)
    assert torch.equal(model.fcn.weight, saved["fcn.weight"])


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without("fcn.bias"), "fcn.bias: missing"),
        (lambda state: state | {"extra": torch.zeros(1)}, "extra: not a parameter of this network"),
        (lambda state: state | {"fcn.bias": torch.zeros(4)}, r"fcn.bias: expected \(3,\), found \(4,\)"),
        (lambda state: state | {"fcn.bias": torch.tensor(0.0)}, r"fcn.bias: expected \(3,\), found \(\)"),
        (lambda state: state | {"fcn.bias": "text"}, "expected a state dict.*'fcn.bias': str"),
        (lambda state: state | {7: torch.zeros(1)}, "expected a state dict.*7: Tensor"),
        (lambda state: list(state.values()), "expected a state dict.*found list"),
        (lambda state: {}, "and [0-9]+ more"),
    ],
)
def test_another_network_is_refused_strictly_and_changes_nothing(tmp_path, change, fault):
    path, model = weights(tmp_path, change), net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=fault) as caught:
        checkpoint.load_weights(model, path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) < 12
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "size", [{"layers": 3}, {"channel": 48}, {"d_hid": 64}, {"layers": 1, "channel": 48}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_options_that_would_fit_are_told(tmp_path, size, prefix):
    path = weights(tmp_path, lambda state: {prefix + key: value for key, value in state.items()}, **size)
    true = SIZE | size
    advice = f"--layers {true['layers']} --channel {true['channel']} --d_hid {true['d_hid']}"
    with pytest.raises(CheckpointError, match=rf"\nThey look like {advice}: add these options\.$"):
        checkpoint.load_weights(net(), path)


def test_weights_of_some_other_network_get_no_advice(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds weights of another network") as caught:
        checkpoint.load_weights(net(), tmp_path / "other.pth")
    assert "look like" not in str(caught.value)


# Writing


class Killed(BaseException):
    """The process ends here."""


def _killed(*_, **__):
    raise Killed


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "replace"), (os, "fsync"), (torch, "save"), (Path, "write_bytes")]
)
def test_a_kill_while_saving_leaves_the_old_file_whole(tmp_path, monkeypatch, owner, name):
    path = tmp_path / "last.pth"
    checkpoint.save(path, {"a": torch.ones(3)})
    monkeypatch.setattr(owner, name, _killed)
    with pytest.raises(Killed):
        checkpoint.save(path, {"a": torch.zeros(3)})
    assert torch.equal(checkpoint.read(path)["a"], torch.ones(3))


def test_a_disk_that_fills_up_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    checkpoint.save(path, {"a": torch.ones(3)})

    def half(self, content):
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": torch.zeros(3)})
    assert torch.equal(checkpoint.read(path)["a"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]


def test_the_same_values_give_the_same_bytes(tmp_path):
    for name in ("a.pth", "b.pth"):
        checkpoint.save(tmp_path / name, {"weight": torch.arange(5.0)})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


# Telling


def test_a_file_is_described_by_path_size_and_its_sha256(tmp_path):
    path = weights(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.describe(path) == f"{path} ({path.stat().st_size} bytes, SHA-256 {digest})"


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"options": null}', '"text"', "\ufffd"])
def test_options_that_are_not_there_or_damaged_are_none(tmp_path, text):
    if text is not None:
        (tmp_path / "options.json").write_text(text, encoding="utf-8")
    assert checkpoint.read_options(tmp_path) is None


def test_a_changed_bit_is_found_by_its_checksum(tmp_path):
    """PyTorch reads such a file without a word, and the scores are just worse."""
    path = weights(tmp_path)
    content = bytearray(path.read_bytes())
    name = b"/data/"
    content[content.index(b"PK", content.index(name)) - 40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read_weights(path)

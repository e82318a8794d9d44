"""What this machine computes, beside what the shipped file says, and what is not mere rounding."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch

from benchmarks import numbers
from common import checkpoint
from model import HTNet

SHIPPED = numbers.PROJECT / "benchmarks" / "numbers.json"


@pytest.fixture(scope="module")
def shipped() -> dict:
    assert SHIPPED.stat().st_size < 100_000
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def outside(one: dict, other: dict) -> list[str]:
    return [name for name, found, bound, _ in numbers.compare(one, other) if not found <= bound]


def test_this_machine_computes_what_the_shipped_file_says(capsys, shipped, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert numbers.main(["--write", str(tmp_path / "here.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert numbers.main(["--compare", str(SHIPPED), str(tmp_path / "here.json")]) == 0, (
        capsys.readouterr().out
    )
    assert "OUTSIDE" not in capsys.readouterr().out


def test_one_changed_weight_is_outside(shipped):
    """Of 3 million, the largest of the last layer or of one in the middle, by a tenth of it."""
    _, few = numbers.sample()
    for name in ("fcn.weight", "Hiremixer.blocks.1.mlp.fc1.weight"):
        network = HTNet()
        checkpoint.load_weights(network, checkpoint.find_weights("sample", numbers.PROJECT / "ckpt"))
        weights = network.get_parameter(name)
        row, column = divmod(int(weights.abs().argmax()), weights.shape[1])
        with torch.no_grad():
            weights[row, column] *= 1.1
        changed = copy.deepcopy(shipped)
        changed["close"]["poses"]["sample"], _ = numbers.lifted(network, few)
        assert outside(shipped, changed) == ["poses: sample"]


def order(record: dict) -> None:
    record["equal"]["order of the samples"] = "of another seed"


def loss(record: dict) -> None:
    record["close"]["first losses"]["small network"][2] *= 1.0001


def missing_digits(record: dict) -> None:
    record["close"]["P1 and P2"]["open"][0] += 0.01


def nan(record: dict) -> None:
    record["close"]["poses, bf16"]["open"][7] = float("nan")


@pytest.mark.parametrize("change", [order, loss, missing_digits, nan], ids=lambda change: change.__name__)
def test_what_is_not_rounding_is_told_with_exit_code_1(
    capsys, shipped, tmp_path, change: Callable[[dict], None]
):
    changed = copy.deepcopy(shipped)
    change(changed)
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert numbers.main(["--compare", str(SHIPPED), str(tmp_path / "changed.json")]) == 1
    assert capsys.readouterr().out.count("OUTSIDE") == 1


@pytest.mark.parametrize("content", [None, "[]", "{", "{}"])
def test_what_is_no_record_is_told(capsys, tmp_path, content: str | None):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    assert numbers.main(["--compare", str(SHIPPED), str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.startswith("error: expected two files that --write has made, found ")

"""One seed, one result: trainings run twice, in processes of their own, and compared file by file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import sha256

ROOT = Path(__file__).parents[2]
PATIENCE = 300
"""Seconds after which a process is taken to hang."""
MADE_UP = ["--virtual_cameras", "--augment_poses", "--keypoint_noise"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("numbers")


def started(place: Path, name: str, run: int, *more: str) -> subprocess.Popen[str]:
    """A training of an epoch; each run in folders of its own, its cache too."""
    own = place / f"run {run}"
    argv = ["main.py", "--train", "-n", name, "--checkpoint_dir", str(own / "ckpt"), "--dataset", "sample"]
    argv += ["--cache_dir", str(own / "cache"), "--nepoch", "1", "--subset", "0.02", "--batch_size", "64"]
    argv += ["--layers", "1", "--channel", "24", "--d_hid", "32", "--device", "cpu", "--workers", "1", *more]
    # Another order of sets and dictionaries by hash, another zone: what a second day brings.
    other = {"PYTHONHASHSEED": str(run), "TZ": ["UTC", "Asia/Tokyo"][run % 2]}
    return subprocess.Popen(
        [sys.executable, *argv], cwd=ROOT, env=os.environ | other, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def trained(place: Path, name: str, *runs: list[str]) -> list[dict[str, str]]:
    """Digests of what each run has left, all runs at the same time: weights, its whole state, its figures."""
    processes = [started(place, name, number, *more) for number, more in enumerate(runs)]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
    found = []
    for number in range(len(runs)):
        files = [*(place / f"run {number}" / "ckpt" / name).glob("*.pth")]
        assert {path.name.split("_")[0] for path in files} >= {"model", "last.pth"}
        found.append({path.name: sha256(path) for path in [*files, files[0].parent / "history.json"]})
    return found


@pytest.fixture(scope="module")
def plain(place) -> list[dict[str, str]]:
    """Five trainings: one thread, the same again, two threads, the same again, and another seed."""
    threads = ["--workers", "2"]
    return trained(place, "plain", [], [], threads, threads, ["--seed", "2"])


def test_two_trainings_of_one_seed_leave_the_same_files(plain):
    assert plain[0] == plain[1]
    assert plain[2] == plain[3]


def test_another_seed_leaves_other_files(plain):
    assert not set(plain[0].values()) & set(plain[4].values())


def test_another_number_of_threads_changes_no_more_than_rounding(place, plain):
    histories = (place / f"run {run}" / "ckpt" / "plain" / "history.json" for run in (0, 2))
    one, two = (json.loads(path.read_text())[0] for path in histories)
    for name in ("loss", "P1", "P2"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)


@pytest.mark.parametrize(
    "more",
    [["--amp", "bf16", "--accumulate", "3"], [*MADE_UP, "--lr_schedule", "cosine"]],
    ids=["bf16, in parts", "made-up samples"],
)
def test_two_trainings_of_one_seed_and_other_options_leave_the_same_files(place, more):
    one, again = trained(place, f"same {len(more)}", more, more)
    assert one == again


def test_two_second_stages_of_one_seed_leave_the_same_files(place, plain):
    (weights,) = (name for name in plain[0] if name.startswith("model"))
    begun = ["--reload", "--previous_dir", str(place / "run 0" / "ckpt" / "plain" / weights), "--refine"]
    one, again = trained(place, "refined", begun, begun)
    assert one == again
    assert any(name.startswith("refine_") for name in one)

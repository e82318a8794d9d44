"""Trainings that are killed, stopped and confused by the clock: the command line, in processes of its own."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common import checkpoint

ROOT = Path(__file__).parents[2]
NETWORK = ["--layers", "1", "--channel", "24", "--d_hid", "32", "--device", "cpu", "--workers", "1"]
PATIENCE = 300
"""Seconds after which a process is taken to hang."""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("training")


def train(place: Path, name: str, *more: str) -> list[str]:
    """A training of two epochs; with ``--batch_size 16`` of 224 steps each."""
    folders = ["--checkpoint_dir", str(place / "ckpt"), "--cache_dir", str(place / "cache")]
    length = ["--dataset", "sample", "--nepoch", "2", "--subset", "0.1", "--batch_size", "64"]
    return ["main.py", "--train", "-n", name, *NETWORK, *folders, *length, *more]


def resume(place: Path, name: str) -> list[str]:
    return ["main.py", "--train", "--resume", "-n", name, "--checkpoint_dir", str(place / "ckpt")]


def started(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *argv],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(argv: list[str]) -> str:
    """What a call prints that must end well and complain of nothing."""
    process = started(argv)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    return out


def check_same_end(folder: Path, whole: Path) -> None:
    """Weights to the last bit, the kept file's name, and every figure of every epoch."""
    one, other = (checkpoint.read(each / checkpoint.LAST) for each in (folder, whole))
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    kept, expected = (
        {path.name: path.read_bytes() for path in each.glob("model_*")} for each in (folder, whole)
    )
    assert kept == expected
    assert (folder / "history.json").read_text() == (whole / "history.json").read_text()
    assert not list(folder.glob(".*"))


# Kills


def progress(folder: Path) -> tuple[int, int]:
    """Epoch and step of a run's last checkpoint, which must be whole; (0, 0) where there is none."""
    if not (folder / checkpoint.LAST).exists():
        return 0, 0
    state = checkpoint.read(folder / checkpoint.LAST)
    assert all(value.isfinite().all() for value in state["model"].values())
    return state["progress"]["epoch"], state["progress"]["step"]


def kill_once(argv: list[str], folder: Path, moment: random.Random, whole_run: float) -> bool:
    """Kills a run, now and then before it has come to its steps; False if it was done before that."""
    process = started(argv)
    last = folder / checkpoint.LAST
    if moment.random() < 0.3:
        time.sleep(moment.uniform(0, whole_run))
    else:
        before = last.stat().st_mtime_ns if last.exists() else 0
        while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
            time.sleep(0.002)
        time.sleep(moment.uniform(0, 0.1))
    process.kill()
    process.communicate(timeout=PATIENCE)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kills", "more"),
    [
        pytest.param(3, [], id="3"),
        pytest.param(50, ["--batch_size", "16"], id="50", marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_lose_nothing_and_change_nothing(place, kills, more):
    run(train(place, f"{kills} whole", *more))
    name, moment = f"{kills} kills", random.Random(kills)
    folder = place / "ckpt" / name
    done = 0
    reached = (0, 0)
    for _ in range(kills):
        first = not (folder / checkpoint.LAST).exists()
        begin = [*train(place, name, *more), "--checkpoint_minutes", "0"]
        done += kill_once(begin if first else resume(place, name), folder, moment, 3.0)
        now = progress(folder)
        assert now >= reached, "a checkpoint was lost"
        reached = now
        for path in folder.glob("*.json"):
            json.loads(path.read_text())
        for path in folder.glob("model_*.pth"):
            checkpoint.read_weights(path)
    assert done == kills, "the run was over before all kills: it is too short to prove anything"
    assert (0, 0) < reached < (3, 0)
    run(resume(place, name))
    check_same_end(folder, place / "ckpt" / f"{kills} whole")


# A scheduler's signal


def test_sigterm_writes_a_checkpoint_that_a_requeue_goes_on_from(place):
    """With the usual ten minutes between checkpoints: the only one there is, is that of the signal."""
    name = "preempted"
    folder = place / "ckpt" / name
    process = started(train(place, name, "--subset", "1", "--batch_size", "32"))
    log = folder / "train.log"
    while process.poll() is None and not (log.exists() and "learning rate of" in log.read_text()):
        time.sleep(0.05)
    time.sleep(1)  # into the steps
    assert not (folder / checkpoint.LAST).exists()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)  # what Slurm grants before it kills
    assert process.returncode == 0
    first, way_on = errors.splitlines()
    assert first == "stopped by SIGTERM"
    stopped_at = progress(folder)
    assert (1, 0) < stopped_at < (2, 0)

    requeued = started([*shlex.split(way_on.partition("go on by: ")[2])[1:]])
    while requeued.poll() is None and "resumed at" not in log.read_text():
        time.sleep(0.05)
    requeued.kill()
    requeued.communicate(timeout=PATIENCE)
    assert f"resumed at epoch {stopped_at[0]}, step {stopped_at[1]}" in log.read_text()

    # Before its first step too, where nothing is lost that is not on disk.
    loads = log.read_text().count("training on")
    loading = started(resume(place, name))
    while loading.poll() is None and log.read_text().count("training on") == loads:
        time.sleep(0.01)
    loading.send_signal(signal.SIGTERM)
    _, errors = loading.communicate(timeout=30)
    assert (loading.returncode, errors.splitlines()) == (0, ["stopped by SIGTERM", way_on])


# The clock

WRONG_CLOCK = """
import sys, time
real, sign = time.time, [1]
def wrong():
    sign[0] = -sign[0]  # a day ahead, a day behind
    return {start} + real() % 1e6 + sign[0] * 86400
time.time = wrong
import main
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", [1e5, 4e9], ids=["1970", "2096"])
def test_a_clock_that_jumps_changes_nothing(place, tmp_path, start):
    little = ["--nepoch", "1", "--subset", "0.02"]
    if not (place / "ckpt" / "right clock").exists():
        run(train(place, "right clock", *little))
    name = f"clock of {start:g}"
    run(["-c", WRONG_CLOCK.format(start=start), *train(place, name, *little)[1:]])
    check_same_end(place / "ckpt" / name, place / "ckpt" / "right clock")
    score = ["--reload", "--previous_dir", str(place / "ckpt" / name), "--subset", "0.02", *NETWORK]
    score += ["--dataset", "sample", "--cache_dir", str(place / "cache")]
    saved = tmp_path / "predictions.npz"
    run(["-c", WRONG_CLOCK.format(start=start), *score, "--save_predictions", str(saved)])
    assert saved.is_file()


@pytest.mark.slow
def test_files_from_the_future_and_from_the_past_are_files_like_any_other(place):
    little = ["--nepoch", "1", "--subset", "0.02"]
    run(train(place, "dated", *little))
    folder = place / "ckpt" / "dated"
    for number, path in enumerate([*folder.rglob("*"), *(place / "cache").rglob("*")]):
        when = (0, 4_000_000_000)[number % 2]
        os.utime(path, (when, when))
    kept = {path: path.stat().st_ino for path in (place / "cache").rglob("*.npy")}
    run([*resume(place, "dated"), "--nepoch", "2"])
    assert len(json.loads((folder / "history.json").read_text())) == 2
    assert {path: path.stat().st_ino for path in (place / "cache").rglob("*.npy")} == kept

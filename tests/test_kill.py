"""A training that is killed, stopped and resumed in processes of its own ends as an undisturbed one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
import torch
from training import end, last, result, start

import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kill")


def train(place: Path, name: str, *more: str) -> list[str]:
    """Two epochs of some 28 steps."""
    folders = ["--checkpoint_dir", str(place / "ckpt"), "--cache_dir", str(place / "cache")]
    network = ["--layers", "1", "--channel", "24", "--d_hid", "32", "--device", "cpu", "--workers", "1"]
    length = ["--dataset", "sample", "--nepoch", "2", "--subset", "0.05", "--batch_size", "64"]
    return ["--train", "-n", name, *folders, *network, *length, *more]


def position(folder: Path) -> tuple[int, int]:
    if not (folder / "last.pth").exists():
        return 0, 0
    progress = last(folder)["progress"]
    return progress["epoch"], progress["step"]


def stop(process, folder: Path, steps: int, number: signal.Signals) -> int:
    """Sends a signal when the run has taken so many more steps; the exit code."""
    epoch, step = position(folder)
    while process.is_alive() and position(folder) < (max(epoch, 1), step + steps):
        time.sleep(0.01)
    os.kill(process.pid, number)
    return end(process)


def test_killed_interrupted_and_terminated_run_ends_as_an_undisturbed_one(capfd, place):
    threads = torch.get_num_threads()
    assert main.main(train(place, "whole")) == 0
    torch.set_num_threads(threads)
    name, output, often = "broken run", place / "output", ["--checkpoint_minutes", "0"]
    folder = place / "ckpt" / name

    process = start(main.main, train(place, name, *often), output=output)
    assert stop(process, folder, 5, signal.SIGKILL) == -signal.SIGKILL
    killed = position(folder)
    assert (1, 5) <= killed < (1, 28), "not within an epoch: the test proves nothing"

    resume = ["--train", "--resume", "-n", name, "--checkpoint_dir", str(place / "ckpt")]
    process = start(main.main, resume, output=output)
    assert stop(process, folder, 3, signal.SIGINT) == 130
    interrupted = position(folder)
    assert killed < interrupted and "stopped by SIGINT" in output.read_text()

    process = start(main.main, resume, output=output, SIGINT="ignored")
    while process.is_alive() and position(folder) == interrupted:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert stop(process, folder, 3, signal.SIGTERM) == 0
    assert interrupted < position(folder) < (2, 28)

    command = shlex.split(re.findall(r"resume it with: (.*)", output.read_text())[0])
    assert main.main([*command[2:], "--checkpoint_minutes", "10"]) == 0
    found, expected = result(folder), result(place / "ckpt" / "whole")
    found.pop("options.json"), expected.pop("options.json")
    assert found == expected and not list(folder.glob(".*"))

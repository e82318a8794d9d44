"""Two real processes, which must do what one does: the same steps, the same scores, one end."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import two_processes
from two_processes import RUNS, build

import main
from common import checkpoint, distributed
from common.errors import UserError
from common.step import Step

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
needs_gloo = pytest.mark.skipif(
    os.name == "nt" or not torch.distributed.is_available(),
    reason="a system with torchrun and gloo is wanted",
)


def place(monkeypatch, rank: int, world: int, local: int = 0) -> None:
    """Makes this process one of several, which it never joins."""
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": world}
    for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


# A process on its own


def test_a_process_on_its_own_is_the_main_one_and_agrees_with_itself():
    assert (distributed.world(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    assert distributed.agreed(3, 0) == [3, 0]
    assert distributed.share(7) == slice(0, 7)
    values = torch.ones(3)
    assert distributed.total(values) is values
    with distributed.group(torch.device("cpu")), distributed.first_here_first():
        assert not distributed.joined()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "MASTER_ADDR"])
def test_one_variable_that_torchrun_sets_does_not_make_it_several(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    assert (distributed.world(), distributed.rank()) == (1, 0)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 512, 513])
def test_shares_are_all_of_it_once_in_order_and_alike(monkeypatch, world, count):
    place(monkeypatch, 0, world)
    shares = [range(count)[distributed.share(count, rank)] for rank in range(world)]
    assert [thing for share in shares for thing in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_device_that_several_processes_cannot_share_is_refused(monkeypatch):
    place(monkeypatch, 1, 2)
    with pytest.raises(UserError, match="--device mps: several processes need --device cpu or cuda"):
        with distributed.group(torch.device("mps")):
            raise AssertionError("joined")


def test_a_trainer_that_would_not_share_its_gradients_is_refused(monkeypatch, tmp_path):
    trainer = build(tmp_path / "a")
    place(monkeypatch, 0, 2)
    with pytest.raises(ValueError, match=r"several processes: expected Part\.called"):
        Step(trainer.parts, trainer.step.loss, device=two_processes.CPU)


@pytest.mark.parametrize(("local", "said"), [(0, "[process 1] error: --previous_dir"), (1, "")])
def test_of_a_wrong_call_the_first_process_of_a_machine_tells(monkeypatch, capsys, local, said):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    place(monkeypatch, 1, 2, local)
    try:
        assert main.main([*SCORE, "--checkpoint_dir", "nowhere"]) == 2
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    output = capsys.readouterr()
    assert output.err.startswith(said) and bool(output.err) == bool(said)
    assert output.out == ""


# Two


SCORE = ["--reload", "--previous_dir", "WEIGHTS", "--dataset", "sample", "--device", "cpu", "--workers", "1"]
SCORE += ["--layers", "1", "--channel", "24", "--d_hid", "16", "-a", "Walk", "--downsample", "7"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """What one process made of the runs, and what two did."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, keywords in RUNS.items():
        build(one / name, **keywords).fit(2)
    build(two / "one, then two").fit(1)
    np.save(one / "predicted.npy", np.stack(two_processes.lifted()))
    weights = str(next((one / "plain").glob("model_*.pth")))
    score = [weights if word == "WEIGHTS" else word for word in SCORE]
    score += ["--cache_dir", str(one / "cache"), "--metrics_json"]
    wrong = [*SCORE, "--checkpoint_dir", str(one / "nowhere")]
    assert main.main([*score, str(one / "score.json")]) == 0
    (two / "calls.json").write_text(json.dumps({"score": [*score, str(two / "score.json")], "wrong": wrong}))
    done = subprocess.run(
        [*TORCHRUN, "tests/two_processes.py", str(two)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (two / "stderr").write_text(done.stderr)
    build_resumed = build(two / "two, then one")
    build_resumed.restore()
    build_resumed.fit(2)
    torch.set_num_threads(threads)
    return one, two


@pytest.fixture
def told(folders) -> list[dict[str, Any]]:
    return json.loads((folders[1] / "results.json").read_text())


def last(folder: Path) -> dict[str, Any]:
    return checkpoint.read(folder / checkpoint.LAST)


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in json.loads((folder / "history.json").read_text())]


def gradients(folder: Path) -> list[torch.Tensor]:
    """The running mean of each parameter's gradients."""
    return [state["exp_avg"] for state in last(folder)["optimizer"]["state"].values()]


def assert_same(found: Path, expected: Path, tolerance: float = 1e-6) -> None:
    """The same losses, and the same gradients to rounding.

    Not the same weights: Adam makes of the rounding of a gradient that is 0, as that of a bias of the
    attention's keys, steps as large as all others.
    """
    np.testing.assert_allclose(losses(found), losses(expected), rtol=0, atol=min(100 * tolerance, 1e-2))
    for ours, other in zip(gradients(found), gradients(expected), strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=tolerance)
    progress = last(found)["progress"], last(expected)["progress"]
    assert progress[0]["epoch"] == progress[1]["epoch"] == 3


@needs_gloo
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_take_the_steps_of_one(folders, name):
    one, two = folders
    # What bfloat16 rounds is another sum with other samples beside it.
    assert_same(two / name, one / name, tolerance=1e-3 if name == "bf16" else 1e-6)
    assert losses(one / name)[1] != losses(one / name)[0], "nothing was trained"
    files = [{path.name for path in (folder / name).glob("*.*")} for folder in folders]
    assert files[0] == files[1]


@needs_gloo
def test_parts_of_a_step_make_the_same_step(folders):
    one, _ = folders
    assert_same(one / "accumulated", one / "plain")


@needs_gloo
@pytest.mark.parametrize("name", ["one, then two", "two, then one"])
def test_another_number_of_processes_goes_on_with_a_run(folders, name):
    one, two = folders
    assert_same(two / name, one / "plain")


@needs_gloo
def test_a_signal_to_one_process_stops_both_after_the_same_step_and_they_go_on_bit_for_bit(folders, told):
    _, two = folders
    assert [each["ends"]["signal"] for each in told] == ["Stopped 0: SIGTERM"] * 2
    assert [each["stopped at"] for each in told] == [[1, 2]] * 2
    whole, broken = last(two / "dropout"), last(two / "stopped")
    assert losses(two / "stopped") == losses(two / "dropout")
    for name, value in whole["model"].items():
        assert torch.equal(broken["model"][name], value), name


@needs_gloo
def test_chance_is_another_at_each_process(told):
    assert told[0]["seed"] != told[1]["seed"]


@needs_gloo
def test_what_is_not_finite_at_one_process_stops_both_and_is_saved_whole(folders, told):
    _, two = folders
    ends = [each["ends"]["not finite"] for each in told]
    assert "the loss became nan in epoch 1, step" in ends[0]
    assert ends[0].startswith("RunError 1: ")
    assert ends[1].startswith("Elsewhere 1: ")
    (path,) = (two / "not finite").glob("not_finite_*.pt")
    saved = torch.load(path, weights_only=True)
    assert len(saved["target"]) == 8
    assert int((~saved["target"].isfinite()).any(dim=(1, 2, 3)).sum()) == 1
    assert last(two / "not finite")["progress"]["step"] == saved["step"]


@needs_gloo
def test_the_main_process_alone_writes_files_and_words(folders, told):
    assert told[1]["written"] == []
    assert len(told[0]["written"]) > 20
    errors = (folders[1] / "stderr").read_text().splitlines()
    told_of = sorted(line.split(":")[0] for line in errors if "error" in line.lower())
    assert told_of == ["[process 1] error", "error"], "in the words of one line each"
    assert not [line for line in errors if "warning" in line.lower()]


@needs_gloo
def test_poses_lifted_by_two_are_those_lifted_by_one_to_the_last_bit(folders, told):
    one, two = (np.load(folder / "predicted.npy") for folder in folders)
    assert one.shape == (2, 25, 17, 3)
    assert np.array_equal(one, two)
    assert [each["poses"] for each in told] == [2, 0]


@needs_gloo
def test_scores_of_two_are_those_of_one_and_a_wrong_call_is_refused_by_both(folders, told):
    one, two = (json.loads((folder / "score.json").read_text()) for folder in folders)
    one["facts"].pop("date"), two["facts"].pop("date")
    assert one == two
    assert [each["codes"] for each in told] == [{"score": 0, "wrong": 2}] * 2


# Ends


class Run:
    """A training by two processes, which writes a checkpoint with each step."""

    def __init__(self, place: Path, *more: str) -> None:
        self.folder = place / "ckpt" / "run"
        argv = ["main.py", "--train", "-n", "run", "--checkpoint_dir", str(place / "ckpt"), *more]
        self.torchrun = subprocess.Popen(
            [*TORCHRUN, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, step: int) -> int:
        """Waits until the run is at least there."""
        while self.torchrun.poll() is None and self.step() < step:
            time.sleep(0.1)
        return self.step()

    def step(self) -> int:
        return last(self.folder)["progress"]["step"] if (self.folder / checkpoint.LAST).is_file() else 0

    def process(self, rank: int) -> int:
        """The number that the system knows a process by."""
        pid = self.torchrun.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if f"RANK={rank}\0" in (Path("/proc") / child / "environ").read_text().replace("LOCAL_RANK", ""):
                return int(child)
        raise AssertionError(f"no process of rank {rank}")

    def end(self) -> tuple[int, str]:
        _, errors = self.torchrun.communicate(timeout=60)
        return self.torchrun.returncode, errors


@needs_gloo
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux is wanted, to find the processes")
def test_a_killed_process_and_a_signal_end_all_and_leave_the_last_checkpoint_whole(tmp_path):
    options = ["--dataset", "sample", *SCORE[7:13], "--device", "cpu", "--workers", "1", "--nepoch", "1"]
    options += ["--cache_dir", str(tmp_path / "cache"), "--batch_size", "64", "--subset", "0.1"]
    often = ["--checkpoint_minutes", "0"]
    run = Run(tmp_path, *options, *often)
    killed_at = run.wait_for(3)
    os.kill(run.process(1), signal.SIGKILL)
    code, errors = run.end()
    assert code != 0
    assert "error: another process of this run has ended, or cannot be reached any more" in errors
    assert (
        "its state is kept; go on by: torchrun --nproc_per_node 2 main.py --train --resume -n run" in errors
    )
    after_kill = run.step()
    assert killed_at <= after_kill < 50, "not in mid-epoch: the test proves nothing"

    run = Run(tmp_path, "--resume", *often)
    run.wait_for(after_kill + 3)
    run.torchrun.send_signal(signal.SIGTERM)
    _, errors = run.end()
    assert errors.count("stopped by SIGTERM") == 1
    assert after_kill + 3 <= run.step() < 56
    assert "[process 1]" not in errors

    run = Run(tmp_path, "--resume", "--checkpoint_minutes", "10")
    assert run.end()[0] == 0
    assert len(losses(run.folder)) == 1
    assert not list(run.folder.glob(".*"))

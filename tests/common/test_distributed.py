"""Two real processes, which must do what one does: the same steps, the same poses, one end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training
from training import RUNS, build, end, last, resumed, start_two

import main
from common import distributed
from common.console import UserError


def place(monkeypatch, rank: int, world: int) -> None:
    """Makes this process one of several, which it never joins."""
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
    for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


def test_process_on_its_own_agrees_with_itself(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters do, without torchrun
    assert (distributed.world(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    assert distributed.agreed(3, 0) == [3, 0] and distributed.share(7) == slice(0, 7)
    values = torch.ones(3)
    with distributed.process_group(torch.device("cpu")), distributed.local_main_first():
        assert distributed.total(values) is values and torch.equal(values, torch.ones(3))


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 512, 513])
def test_shares_cover_all_once_and_differ_by_one(monkeypatch, world, count):
    place(monkeypatch, 0, world)
    shares = [range(count)[distributed.share(count, rank)] for rank in range(world)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_device_that_processes_cannot_share_is_refused(monkeypatch):
    place(monkeypatch, 1, 2)
    with pytest.raises(UserError, match="--device mps"), distributed.process_group(torch.device("mps")):
        raise AssertionError("joined")


# Two processes


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """What one process made of the runs, and what two did."""
    if os.name == "nt":
        pytest.skip("gloo and fork are wanted")
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    build(two / "one, then two").fit(1)
    running = start_two(training.work_together, two, output=two / "output")
    for name, keywords in RUNS.items():
        build(one / name, **keywords).fit(2)
    np.save(one / "predicted.npy", np.stack(training.lifted()))
    assert [end(process) for process in running] == [0, 0], (two / "output.0").read_text()
    resumed(two / "two, then one").fit(2)
    torch.set_num_threads(threads)
    return one, two


@pytest.fixture
def reports(folders) -> list[dict[str, Any]]:
    return [json.loads((folders[1] / f"report.{rank}.json").read_text()) for rank in range(2)]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in json.loads((folder / "history.json").read_text())]


def assert_same(found: Path, expected: Path, tolerance: float = 1e-5) -> None:
    """The same losses, and gradients that differ by rounding.

    Weights may differ by more: Adam makes a full step of the rounding of a gradient that is 0, such as that
    of the bias of the attention's keys.
    """
    np.testing.assert_allclose(losses(found), losses(expected), rtol=0, atol=10 * tolerance)
    gradients = ([s["exp_avg"] for s in last(f)["optimizer"]["state"].values()] for f in (found, expected))
    for ours, other in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=tolerance)
    assert last(found)["progress"]["epoch"] == last(expected)["progress"]["epoch"] == 3


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_take_the_steps_of_one(folders, name):
    one, two = folders
    # bfloat16 rounds other sums where other samples are beside it.
    assert_same(two / name, one / name, tolerance=1e-3 if name == "bf16" else 1e-5)
    assert losses(one / name)[1] != losses(one / name)[0]
    names = [{path.name for path in (folder / name).iterdir()} for folder in folders]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["one, then two", "two, then one"])
def test_another_number_of_processes_resumes_a_run(folders, name):
    one, two = folders
    assert_same(two / name, one / "plain")


def test_signal_to_one_process_stops_both_after_the_same_step_and_they_resume_bit_for_bit(folders, reports):
    _, two = folders
    assert [report["signal"] for report in reports] == ["Stopped 0: SIGTERM"] * 2
    assert losses(two / "stopped") == losses(two / "dropout")
    whole, stopped = last(two / "dropout"), last(two / "stopped")
    assert all(torch.equal(stopped["model"][name], value) for name, value in whole["model"].items())
    assert reports[0]["seed"] != reports[1]["seed"], "both had the same dropout"


def test_loss_that_is_not_finite_stops_both_and_rank_0_saves_the_batch(folders, reports):
    ends = [report["not finite"] for report in reports]
    assert ends[0].startswith("RunError 1: the loss became nan") and ends[1].startswith("RemoteError 1: ")
    (path,) = (folders[1] / "not finite").glob("not_finite_*.pt")
    assert len(torch.load(path, weights_only=True)["target"]) == 8


def test_poses_of_two_processes_are_those_of_one_to_the_last_bit(folders, reports):
    one, two = (np.load(folder / "predicted.npy") for folder in folders)
    assert one.shape == (2, 25, 17, 3) and np.array_equal(one, two)
    assert [report["poses"] for report in reports] == [2, 0]


def test_command_line_trains_and_evaluates_in_two_processes_and_rank_0_alone_prints(tmp_path):
    for call in ("--train -n a --layers 1 --channel 24 --d_hid 16 --nepoch 1", "--reload --previous_dir a"):
        argv = [*call.split(), *"--dataset sample --device cpu --subset 0.01".split()]
        argv += ["--cache_dir", str(tmp_path / "cache"), "--checkpoint_dir", str(tmp_path)]
        running = start_two(main.main, argv, output=tmp_path / "output")
        assert [end(process) for process in running] == [0, 0], (tmp_path / "output.0").read_text()
        assert "P1" in (tmp_path / "output.0").read_text()
        assert (tmp_path / "output.1").read_text() == ""

"""A run's folder: never written over, never mixed, and open to go on."""

from __future__ import annotations

import json
import logging
import os
from argparse import Namespace

import numpy as np
import pytest
import torch

from common import run
from common.errors import UserError

FREE = {"nepoch", "device", "resume"}


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that has written a checkpoint."""
    folder = tmp_path / "ckpt" / "a"
    with (
        run.alone(folder),
        run.opened(folder, {"lr": 0.1, "nepoch": 3, "name": "a"}, data="1234", resume=False),
    ):
        (folder / "last.pth").write_bytes(b"")
    return folder


def written(folder) -> dict:
    return json.loads((folder / "options.json").read_text())


def test_options_data_and_versions_are_kept(begun):
    assert written(begun)["options"] == {"lr": 0.1, "nepoch": 3, "name": "a"}
    assert written(begun)["data"] == "1234"
    assert written(begun)["versions"]["torch"] == torch.__version__
    assert written(begun)["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("name", ["last.pth", "model_1_2.pth"])
def test_a_run_is_not_written_over(begun, name):
    (begun / "last.pth").rename(begun / name)
    with pytest.raises(UserError, match=r"already holds a run.*--resume.*-n") as caught:
        with run.opened(begun, {"lr": 0.5}, data="1234", resume=False):
            raise AssertionError("opened")
    assert caught.value.exit_code == 2
    assert written(begun)["options"]["lr"] == 0.1


def test_a_run_that_ended_before_its_first_checkpoint_can_begin_again(begun):
    (begun / "last.pth").rename(begun / ".last.pth.123.tmp")  # killed while it wrote
    with run.opened(begun, {"lr": 0.5}, data="5678", resume=False):
        pass
    assert written(begun)["options"] == {"lr": 0.5}
    assert not (begun / ".last.pth.123.tmp").exists()


def test_what_a_killed_process_left_is_cleared_away_on_resume_and_nothing_else(begun):
    (begun / ".last.pth.123.tmp").write_bytes(b"half")
    (begun / "notes.tmp").write_bytes(b"mine")
    with run.opened(begun, written(begun)["options"], data="1234", resume=True):
        pass
    names = {path.name for path in begun.iterdir()}
    assert names == {"last.pth", "options.json", "train.log", "notes.tmp"}


def test_other_data_are_refused_on_resume(begun):
    with pytest.raises(UserError, match="the data are not those"):
        with run.opened(begun, {}, data="5678", resume=True):
            raise AssertionError("opened")


def test_options_given_on_resume_are_written_down_and_the_first_versions_kept(begun):
    saved = written(begun)
    saved["versions"] = {"torch": "2.0"}
    (begun / "options.json").write_text(json.dumps(saved))
    with run.opened(begun, {"lr": 0.1, "nepoch": 9}, data="1234", resume=True):
        pass
    assert written(begun) == {
        "options": {"lr": 0.1, "nepoch": 9},
        "data": "1234",
        "began_with": None,
        "versions": {"torch": "2.0"},
    }


def test_what_a_run_began_with_is_kept_through_every_resume(tmp_path):
    with run.opened(tmp_path, {"lr": 0.1}, data="1234", resume=False, began_with="the last epoch"):
        pass
    for _ in range(2):
        with run.opened(tmp_path, {"lr": 0.1}, data="1234", resume=True):
            pass
        assert written(tmp_path)["began_with"] == "the last epoch"


def test_the_log_grows_and_is_let_go_of(begun):
    log = logging.getLogger("common.test")
    log.setLevel(logging.INFO)
    before = list(logging.getLogger().handlers)
    for line in ("first", "zwei ✓"):
        with run.opened(begun, {}, data="1234", resume=True):
            log.info(line)
    log.info("outside")
    lines = (begun / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first", "zwei ✓"]
    assert logging.getLogger().handlers == before


def resumed(folder, **given):
    defaults = {
        "lr": 5e-4,
        "nepoch": 15,
        "device": "auto",
        "checkpoint_dir": "ckpt",
        "new": 7,
        "resume": False,
    }
    return vars(run.resumed(folder, Namespace(**(defaults | given)), given, FREE))


def test_a_run_goes_on_with_its_own_options_and_not_the_defaults(begun):
    options = resumed(begun, resume=True)
    assert (options["lr"], options["nepoch"], options["resume"]) == (0.1, 3, True)
    assert options["new"] == 7  # unknown to the run: the default


def test_free_options_may_differ_and_others_may_be_repeated(begun):
    options = resumed(begun, nepoch=20, device="cpu", lr=0.1)
    assert (options["nepoch"], options["device"], options["lr"]) == (20, "cpu", 0.1)


def test_an_option_that_contradicts_the_run_is_refused_with_both_values(begun):
    with pytest.raises(UserError, match=r"begun with --lr 0\.1, not 0\.2") as caught:
        resumed(begun, lr=0.2)
    assert caught.value.exit_code == 2


def test_an_option_that_the_run_does_not_know_yet_must_be_as_if_it_was_not_there(begun):
    assert resumed(begun, dropout=0.1, drop_path=[0.1, 0.3])["dropout"] == 0.1
    for given in ({"dropout": 0.2}, {"drop_path": [0.0, 0.3]}, {"recipe": "open"}):
        with pytest.raises(UserError, match="leave the option away"):
            resumed(begun, **given)


def test_a_run_that_was_moved_goes_on_where_it_is(begun, tmp_path):
    saved = written(begun)
    saved["options"]["checkpoint_dir"] = "where/it/began"
    (begun / "options.json").write_text(json.dumps(saved))
    assert resumed(begun)["checkpoint_dir"] == "ckpt"


@pytest.mark.parametrize("text", [None, "{", '{"options": []}'])
def test_no_run_is_refused_with_the_file_that_was_looked_for(tmp_path, text):
    if text:
        (tmp_path / "options.json").write_text(text)
    with pytest.raises(UserError, match=r"options\.json is not there or damaged"):
        resumed(tmp_path)


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ({"device": "cuda"}, ["device"]),
        ({"device": "cpu", "workers": 2}, ["workers"]),
        ({"device": "cpu"}, []),
        ({"amp": "bf16", "compile": True, "accumulate": 2}, ["amp", "accumulate"]),  # it was compiled before
        ({}, []),
    ],
)
def test_another_way_to_compute_is_noted(begun, caplog, given, noted):
    saved = written(begun)
    saved["options"] |= {"device": "cpu", "workers": 1, "amp": "off", "compile": True, "accumulate": 1}
    (begun / "options.json").write_text(json.dumps(saved))
    with caplog.at_level(logging.INFO):
        run.resumed(begun, Namespace(**given), given, FREE | given.keys())
    assert caplog.messages == [
        f"note: with another --{name} the run goes on, but rounding differs from here on" for name in noted
    ]


# One process at a time


needs_flock = pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")


@needs_flock
def test_a_folder_is_one_processes_at_a_time_and_free_after_it(tmp_path):
    folder = tmp_path / "ckpt" / "a"
    for _ in range(2):
        with run.alone(folder):
            with pytest.raises(UserError, match=r"another process trains there.*-n") as caught:
                with run.alone(folder):
                    raise AssertionError("two at once")
            assert str(folder) in str(caught.value)
            assert caught.value.exit_code == 2
            with run.alone(folder.with_name("b")):
                pass
    assert list(folder.iterdir()) == []


@needs_flock
def test_a_folder_is_free_after_a_failure_which_is_passed_on_as_it_is(tmp_path):
    for error in (ValueError, BlockingIOError):
        with pytest.raises(error), run.alone(tmp_path):
            raise error
    with run.alone(tmp_path):
        pass

"""The command line of ``main.py``: defaults, ranges, recipes, the published code's options, resume."""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import asdict

import pytest

from common.console import UserError
from common.options import OPTIONS, PUBLISHED, RECIPES, Options, command_line, parse

TRAIN = ["--train", "-n", "a"]
EVALUATE = ["--reload", "--previous_dir", "a"]


@pytest.fixture
def notes(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_defaults_are_the_published_protocol():
    options = parse(TRAIN)
    assert (options.layers, options.channel, options.d_hid) == (3, 240, 1024)
    assert (options.dropout, options.drop_path) == (0.1, (0.1, 0.3))
    schedule = (options.lr, options.lr_decay, options.lr_decay_large, options.large_decay_epoch)
    assert schedule == (5e-4, 0.95, 0.5, 5)
    assert (options.nepoch, options.batch_size, options.dataset, options.actions) == (15, 512, "h36m", "*")
    assert options.data_augmentation and options.test_augmentation and not options.augment_poses


def test_help_fits_two_screens_with_one_line_an_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 90 and max(map(len, lines)) <= 100
    starts = [line for line in lines if line.startswith("  -")]
    assert len(starts) == len(OPTIONS) + 1
    assert all(f"--{name}" in "".join(starts) for name in OPTIONS)


def test_options_have_their_values():
    options = parse([*TRAIN, *"-k gt -a Walk,Kick -lrd 0.9 --drop_path 0 0.5 --data_augmentation no".split()])
    assert (options.keypoints, options.actions, options.lr_decay) == ("gt", "Walk,Kick", 0.9)
    assert (options.drop_path, options.data_augmentation) == ((0.0, 0.5), False)
    for words, expected in (([], "default"), (["none"], ""), (["pitch=-14:26"], "pitch=-14:26")):
        assert parse([*TRAIN, "--virtual_cameras", *words]).virtual_cameras == expected
        assert parse([*TRAIN, "--keypoint_noise", *words]).keypoint_noise == expected


INVALID = """\
--subset 0; --subset 1.01; --lr nan; --lr inf; --lr_decay 0; --dropout 1; --nepoch 0; --nepoch 1.5
--seed -1; --channel 25; --amp fp8; --data_augmentation maybe; --augment_poses; --refine; --refine_freeze
--resume --reload --previous_dir b; --export onnx; -n ../b; -n ..; --previous_dir b; --metrics_json b.json
--output b.onnx; stray""".replace("\n", "; ")


@pytest.mark.parametrize("words", INVALID.split("; "))
def test_invalid_calls_are_refused(words):
    with pytest.raises(UserError) as caught:
        parse([*TRAIN, *words.split()])
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["", "--reload", "--previous_dir a", "--train", "--compare"])
def test_incomplete_calls_are_refused(words):
    with pytest.raises(UserError):
        parse(words.split())


def test_misspelt_option_gets_a_suggestion():
    with pytest.raises(UserError, match=r"--chanel.*did you mean --channel"):
        parse([*TRAIN, "--chanel", "240"])


def test_recipes_are_defaults_that_options_override():
    options = parse([*TRAIN, "--recipe", "open", "--lr", "2e-3", "--keypoint_noise", "none"])
    expected = RECIPES["open"] | {"lr": 2e-3, "keypoint_noise": "", "recipe": "open"}
    assert {name: getattr(options, name) for name in expected} == expected


# The published code's command line


@pytest.mark.parametrize("value", [[], ["1"]], ids=["flag", "value"])
def test_options_of_the_published_code_are_ignored_with_a_note(notes, value):
    gone = [name for name, here in PUBLISHED.items() if here not in OPTIONS]
    words = [word for name in gone for word in ("-" * (2 - (name == "previous_name")) + name, *value)]
    assert parse([*TRAIN, *words]) == parse(TRAIN)
    assert [message.split(" is ignored: ")[0] for message in notes.messages] == [f"note: --{n}" for n in gone]


def test_renamed_options_of_the_published_code_keep_their_value(notes):
    assert parse(["--train", "--model_name", "mine"]).name == "mine"
    argv = [*EVALUATE, "--refine", "--previous_refine_name", "head.pth"]
    assert parse(argv).previous_refine == "head.pth"


def test_settings_of_training_and_network_are_ignored_with_a_note_in_evaluation(notes):
    parse([*EVALUATE, "--batch_size", "1024", "--nepoch", "20", "--channel", "48", "-n", "a"])
    assert [note.split()[1] for note in notes.messages] == ["--batch_size", "--nepoch", "--channel"]


def test_several_gpus_point_to_torchrun():
    with pytest.raises(UserError, match="torchrun"):
        parse([*TRAIN, "--gpu", "0,1"])


def test_command_follows_from_the_options():
    calls = {"train": TRAIN, "evaluate": EVALUATE, "compare": ["--compare", "a.json", "b.json"]}
    calls["export"] = ["--export", "onnx", "--previous_dir", "a", "--output", "a.onnx"]
    assert {name: parse(argv).command for name, argv in calls.items()} == {name: name for name in calls}
    with pytest.raises(UserError, match="one of"):
        parse([*TRAIN, *calls["compare"]])


# Resume


@pytest.fixture
def resume(tmp_path):
    """Resumes a run that began with the given options."""

    def resume(began: list[str], now: list[str]) -> Options:
        options = parse([*TRAIN, "--checkpoint_dir", "elsewhere", *began])
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / "options.json").write_text(json.dumps({"options": asdict(options)}))
        return parse([*TRAIN, "--resume", "--checkpoint_dir", str(tmp_path), *now])

    return resume


def test_resumed_run_has_its_own_options_where_it_now_lies(resume, tmp_path):
    options = resume(["--recipe", "open", "--channel", "48", "--drop_path", "0", "0.1"], [])
    assert (options.channel, options.lr, options.drop_path) == (48, 1e-3, (0.0, 0.1))
    assert options.folder == tmp_path / "a" and options.resume


def test_resumed_run_may_change_what_leaves_its_results_alone(resume, notes):
    options = resume(
        ["--nepoch", "2"], ["--nepoch", "5", "--device", "cpu", "--root_path", "data", "--lr", "5e-4"]
    )
    assert (options.nepoch, options.device, options.root_path) == (5, "cpu", "data")
    assert len(notes.messages) == 1 and "--device" in notes.text


@pytest.mark.parametrize(
    "words",
    ["| --lr 0.1", "| --dataset sample", "--dropout 0 | --dropout 0.1", "--lr_schedule cosine | --nepoch 20"],
)
def test_resumed_run_refuses_what_changes_its_results(resume, words):
    began, now = (side.split() for side in words.split("|"))
    with pytest.raises(UserError, match=now[0]):
        resume(began, now)


def test_resume_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"options\.json"):
        parse([*TRAIN, "--resume", "--checkpoint_dir", str(tmp_path)])


@pytest.mark.parametrize(
    "words",
    [
        "--train -n a --recipe open --select S8 --nepoch 2 --data_augmentation no",
        "--train -n a -a 'Walk, Kick' --drop_path 0 0.5 --lr 0.1 --augment_poses --virtual_cameras",
        "--reload --previous_dir a --refine --dataset 3dhp --joints 14 --report 'my report'",
        "--compare a.json b.json",
    ],
)
def test_command_line_gives_the_same_options(words):
    command = shlex.split(command_line(parse(shlex.split(words))))
    assert command[:2] == ["python", "main.py"]
    assert parse(command[2:]) == parse(shlex.split(words))

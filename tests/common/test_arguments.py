"""What the command line takes, what it refuses, and that nothing in it is for show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.arguments import FREE_ON_RESUME, READ_BY, build_parser, given, parse
from common.h36m import DATASETS

ROOT = Path(__file__).parents[2]
TRAIN = ["--train", "-n", "run"]
RELOAD = ["--reload", "--previous_dir", "cpn"]
CALLS = {"training": TRAIN, "scoring": RELOAD, "comparing": ["--compare", "a.json", "b.json"]}
CALLS["exporting"] = ["--export", "onnx", "--previous_dir", "cpn"]
NO_NAMES = ["../x", "a/b", "/x", "a/", "..", ".", "./a"]
ACTIONS = {action.dest: action for action in build_parser()._actions if action.dest != "help"}
READERS = [ROOT / "main.py"]
READERS += [ROOT / "common" / f"{name}.py" for name in ("arguments", "commands", "loading", "training")]
READ = {name for path in READERS for name in re.findall(r"\bargs\.(\w+)", path.read_text())}


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(list(argv))
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_defaults_are_the_published_protocol():
    args = vars(parse(TRAIN))
    protocol: dict[str, Any] = {
        "layers": 3,
        "channel": 240,
        "d_hid": 1024,
        "nepoch": 15,
        "batch_size": 512,
        "lr": 0.0005,
    }
    protocol |= {"lr_decay": 0.95, "lr_decay_large": 0.5, "large_decay_epoch": 5, "dataset": "h36m"}
    protocol |= {"data_augmentation": True, "test_augmentation": True, "subset": 1, "downsample": 1}
    protocol |= {"actions": "*", "device": "auto"}
    assert {name: args[name] for name in protocol} == protocol


@pytest.mark.parametrize("name", ["cosine", "open"])
def test_a_recipe_is_the_options_that_its_help_says(name):
    helped = re.search(rf"{name}, for [\w ]+: ([^;]+)", ACTIONS["recipe"].help or "")
    assert helped is not None
    options = vars(parse([*TRAIN, *helped[1].split()]))
    recipe, plain = vars(parse([*TRAIN, "--recipe", name])), vars(parse(TRAIN))
    assert {each for each in recipe if not same_value(recipe[each], options[each])} == {"recipe"}
    assert len([each for each in recipe if not same_value(recipe[each], plain[each])]) > 2


def test_options_of_a_recipe_can_be_given_otherwise(capsys):
    otherwise = parse([*TRAIN, "--recipe", "open", "--lr", "5e-4", "--virtual_cameras", "roll=0:0"])
    assert (otherwise.lr, otherwise.virtual_cameras, otherwise.lr_schedule) == (5e-4, "roll=0:0", "cosine")
    off = parse(
        [
            *TRAIN,
            "--recipe",
            "open",
            "--virtual_cameras",
            "none",
            "--keypoint_noise",
            "none",
            "--augment_poses",
            "false",
        ]
    )
    assert (off.virtual_cameras, off.keypoint_noise, off.augment_poses) == (None, None, False)
    assert vars(parse([*TRAIN, "--recipe", "published"])) == vars(parse(TRAIN))
    assert "--lr_decay is not read with --lr_schedule cosine" in refused(
        capsys, *TRAIN, "--recipe", "cosine", "--lr_decay", "0.9"
    )
    assert "--bone_loss is of the lifter's own training" in refused(
        capsys, *TRAIN, "--refine", *RELOAD, "--bone_loss", "1"
    )
    assert "invalid choice: 'opn'" in refused(capsys, *TRAIN, "--recipe", "opn")
    assert "--recipe is not read when scoring" in refused(capsys, *RELOAD, "--recipe", "open")


def same_value(a: Any, b: Any) -> bool:
    """Equal, a tuple and a list of the same numbers too."""
    return (list(a) == list(b)) if isinstance(a, (tuple, list)) else a == b


def test_every_option_has_help():
    assert not [name for name, action in ACTIONS.items() if len(action.help or "") < 10]


def test_every_option_is_read_and_none_that_is_not_there():
    assert set(ACTIONS) == READ


def test_options_of_the_field_are_taken_under_their_names():
    argv = "--train -n r -k gt -a Walking -lrd 0.9 --lr_decay_large 0.4 --large_decay_epoch 3 --gpu 1"
    argv += (
        " --seed 7 --workers 2 --root_path d --downsample 5 --subset 0.5 --test_augmentation False --lr 1e-3"
    )
    args = parse([*argv.split(), "--layers", "2", "--channel", "48", "--d_hid", "96", "--batch_size", "8"])
    assert (args.keypoints, args.actions, args.lr_decay, args.lr_decay_large) == ("gt", "Walking", 0.9, 0.4)
    assert (args.large_decay_epoch, args.gpu, args.seed, args.workers) == (3, 1, 7, 2)
    assert (args.root_path, args.downsample, args.subset, args.lr) == ("d", 5, 0.5, 0.001)
    assert args.test_augmentation is False
    assert (args.layers, args.channel, args.d_hid, args.batch_size) == (2, 48, 96, 8)


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], True), (["True"], True), (["yes"], True), (["false"], False), (["FALSE"], False), (["0"], False)],
)
def test_truth_values_are_words_not_any_text(words, expected):
    assert parse([*RELOAD, "--test_augmentation", *words]).test_augmentation is expected


WRONG = {
    "--nepoch": ["0", "-1", "1.5", "many", ""],
    "--batch_size": ["0", "1e3"],
    "--layers": ["0"],
    "--channel": ["0", "100", "23"],
    "--d_hid": ["0"],
    "--lr": ["0", "-0.1", "nan", "inf", "1e39", "fast"],
    "--lr_refine": ["0", "nan"],
    "--lr_decay": ["0", "nan", "1.01"],
    "--lr_decay_large": ["0", "inf"],
    "--large_decay_epoch": ["0"],
    "--downsample": ["0"],
    "--subset": ["0", "1.1", "nan"],
    "--seed": ["-1", str(2**32), "x"],
    "--workers": ["-1"],
    "--gpu": ["-1"],
    "--accumulate": ["0", "1.5"],
    "--amp": ["fp8", "bfloat16"],
    "--dropout": ["1", "-0.1"],
    "--lr_schedule": ["linear"],
    "--checkpoint_minutes": ["-1", "nan", "inf"],
    "--test_augmentation": ["maybe"],
    "--data_augmentation": ["2"],
    "--device": ["tpu"],
}


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag in WRONG for value in WRONG[flag]])
def test_wrong_values_are_refused_with_the_flag_and_the_value(capsys, flag, value):
    message = refused(capsys, *TRAIN, flag, value)
    assert flag in message
    assert value in message


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("", "--train"),
        ("-n run", "nothing to do"),
        ("--train", "-n NAME"),
        ("--reload", "--previous_dir"),
        ("--previous_dir cpn", "--reload"),
        ("--train -n run --previous_dir cpn", "--reload"),
        ("--resume", "--train"),
        ("--reload --previous_dir cpn --resume", "--resume"),
        ("--train -n run --resume --reload --previous_dir cpn", "--resume"),
        ("--reload --previous_dir cpn -n run", "--name is not read when scoring"),
        ("--train -n run --picture p.png", "--picture is not read when training"),
        ("--train -n run --epochs 3", "--epochs"),
        ("--train -n run --nepo 3", "--nepo"),
        ("--train -n run stray", "stray"),
        ("--train -n run --refine", "--previous_dir"),
        ("--reload --previous_dir cpn --refine_freeze", "--refine_freeze is not read when scoring"),
        ("--train -n run --refine_freeze", "--refine_freeze goes with --refine"),
        ("--train -n run --lr_refine 1e-3", "--lr_refine goes with --refine"),
        ("--train -n run --refine --reload --previous_dir a --refine_freeze --lr 1e-3", "--lr is not read"),
        ("--reload --previous_dir cpn --previous_refine cpn", "--previous_refine goes with --refine"),
        ("--reload --previous_dir cpn --joints 15", "--joints"),
        ("--train -n run --report r", "--report"),
        ("--train -n run --batch_size 8 --accumulate 9", "--batch_size 8 has fewer samples"),
        ("--train -n run --augment_poses", "--augment_poses needs --virtual_cameras"),
        ("--train -n run --drop_path 0.1", "--drop_path"),
        ("--train -n run --compare a.json b.json", "is not read when comparing"),
        *((f"--train -n {name}", f"-n {name}: expected the plain name") for name in NO_NAMES),
        *((f"--train --resume -n {name}", f"-n {name}: expected the plain name") for name in NO_NAMES),
    ],
)
def test_calls_that_make_no_sense_are_refused_with_the_reason(capsys, argv, words):
    assert words in refused(capsys, *argv.split())


def words_of(name: str) -> list[str]:
    """An option with a value that it takes."""
    action = ACTIONS[name]
    value = str(next(iter(action.choices or ["0.5" if name.startswith("drop") else "1"])))
    return [action.option_strings[-1], *[value] * {0: 0, 2: 2}.get(action.nargs, 1)]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", ACTIONS)
def test_an_option_is_taken_by_the_calls_that_read_it_and_refused_by_all_others(capsys, kind, name):
    if name in ("train", "compare", "export") and name not in READ_BY[kind]:
        return  # it would make another kind of call of it
    try:
        parse([*CALLS[kind], *words_of(name)])
    except SystemExit:
        message = capsys.readouterr().err.splitlines()[-1]
    else:
        message = ""
    assert (f"--{name} is not read when {kind}" in message) == (name not in READ_BY[kind])


def test_every_option_is_read_by_some_call_and_none_that_is_not_there():
    assert set().union(*READ_BY.values()) == set(ACTIONS)


def test_a_value_that_is_the_default_is_refused_too_where_it_is_not_read(capsys):
    assert "--seed is not read when scoring" in refused(capsys, *RELOAD, "--seed", "1")


@pytest.mark.parametrize("name", ["run", "a.b", "two words", "..a", "ä", "1"])
def test_plain_names_are_taken(name):
    assert parse(["--train", "-n", name]).name == name


def test_given_is_what_the_command_line_names_and_no_default():
    assert given([*TRAIN, "--nepoch", "15", "--test_augmentation", "no"]) == {
        "train": True,
        "name": "run",
        "nepoch": 15,
        "test_augmentation": False,
    }


def test_only_options_that_exist_are_free_on_resume():
    assert set(ACTIONS) >= FREE_ON_RESUME
    decisive = {"seed", "lr", "batch_size", "layers", "subset", "actions", "keypoints", "dataset"}
    assert not decisive & FREE_ON_RESUME


def test_choices_are_what_the_code_behind_them_knows(monkeypatch):
    import torch

    from common.device import choose

    for module in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen = {name: choose(name).type for name in ACTIONS["device"].choices or ()}
    assert chosen == {"auto": "cuda", "cpu": "cpu", "cuda": "cuda", "mps": "mps"}
    assert ACTIONS["dataset"].choices is None  # any name, since prepared data sets have names of their own
    assert all(name in (ACTIONS["dataset"].help or "") for name in DATASETS)


def test_help_needs_no_torch_and_does_nothing():
    script = (
        "import sys, main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for action in ACTIONS.values():
        assert action.option_strings[-1] in done.stdout

"""The options of ``main.py``: one dataclass that is the command line, the recipes and a run's record."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from common.console import UserError, suggestion

RECIPES: dict[str, dict[str, Any]] = {
    "published": {},
    "cosine": {"lr": 1e-3, "lr_schedule": "cosine"},
    "open": {
        "virtual_cameras": "default",
        "augment_poses": True,
        "keypoint_noise": "detector",
        "window": "person",
        "dropout": 0.0,
        "drop_path": (0.0, 0.0),
        "batch_size": 256,
        "lr": 1e-3,
        "lr_schedule": "cosine",
        "select": "last",
    },
}
"""Other defaults, by the name of ``--recipe``; ``benchmarks/`` has what each is worth."""

PUBLISHED = {
    "model_name": "name",
    "previous_refine_name": "previous_refine",
    "frames": "the network lifts single frames",
    "pad": "the network lifts single frames",
    "stride": "every frame is a sample; --downsample takes every N-th",
    "reverse_augmentation": "single frames have no order to reverse",
    "n_joints": "the network has 17 joints",
    "out_joints": "the network has 17 joints",
    "in_channels": "keypoints have 2 coordinates",
    "out_channels": "poses have 3 coordinates",
    "out_all": "all joints are predicted",
    "drop": "the published network does not use it; see --dropout",
    "lr_min": "the published schedule does not use it; --lr_schedule cosine ends at 0",
    "min_lr": "the published schedule does not use it; --lr_schedule cosine ends at 0",
    "test": "main.py evaluates unless --train is given",
    "viz": "--picture and --report draw poses",
    "previous": "--previous_dir selects the weights",
    "previous_name": "--previous_dir takes a file, too",
    "previous_best_threshold": "a run knows its best epoch",
    "refine_test_reload": "--reload --refine reads the weights of the refine head",
    "refine_train_reload": "--previous_refine starts from a trained refine head",
    "crop_uv": "the refine head uses coordinates in the whole image",
}
"""Options of the published code that are unknown here: the new name, or why each is accepted and ignored."""

GROUPS = {
    "train": ("what to do", "train evaluate compare export"),
    "dataset": ("data", "train evaluate"),
    "layers": ("network", "train"),
    "recipe": ("training", "train"),
    "train_with": ("generated training samples", "train"),
    "test_augmentation": ("evaluation", "evaluate"),
    "refine": ("refine head (uses the true root depth and the camera)", "train evaluate"),
    "device": ("machine", "train evaluate"),
}
"""Groups of options by their first one: heading, and the commands that use them."""

FREE = {"train", "resume", "name", "checkpoint_dir", "root_path", "cache_dir", "nepoch", "checkpoint_minutes"}
ROUNDING = {"device", "gpu", "amp", "compile", "workers", "accumulate"}
"""What a resumed run may change: its length and places, and how it is computed."""

log = logging.getLogger(__name__)


def option(default: Any, text: str, metavar: str = "", interval: str = "", **more: Any) -> Any:
    """A field of ``Options``: default, one line of help, name and accepted range of its value.

    ``more`` holds "short", another flag; "use", where it differs from the group's; and arguments of argparse.
    """
    return field(default=default, metadata={"text": text, "metavar": metavar, "interval": interval, **more})


DEFAULT = {"nargs": "?", "const": "default"}


@dataclass
class Options:
    """What one call of ``main.py`` does; ``options.json`` of a run holds these fields."""

    train: bool = option(False, "train; with --reload, start from the weights of --previous_dir")
    resume: bool = option(False, "with --train: continue the run of -n")
    name: str = option("", "folder of the run, in ckpt/", "NAME", short="-n")
    reload: bool = option(False, "evaluate the weights of --previous_dir")
    previous_dir: str = option("", "weights: a name in ckpt/, a folder or a file", "NAME")
    checkpoint_dir: str = option("ckpt", "folder of all runs", "DIR")
    compare: tuple[str, ...] = option((), "compare files of --metrics_json", "A.json", nargs="+")
    export: str = option("", "write the weights as a lifter of its own", choices=("onnx", "torch"))
    output: str = option("", "file of --export [beside the weights]", "FILE")

    dataset: str = option("h36m", "h36m, sample, 3dhp or another prepared one", "NAME")
    keypoints: str = option("", "2D keypoints [h36m: cpn_ft_h36m_dbb; gt]", "NAME", short="-k")
    root_path: str = option("", "folder of the data [dataset/]", "DIR")
    cache_dir: str = option("", "folder of the cache [beside the data]", "DIR")
    actions: str = option("*", "actions, separated by commas", "NAMES", short="-a")
    downsample: int = option(1, "use every N-th frame", "N", "[1, inf)")
    subset: float = option(1.0, "use this fraction of each take, one stretch", "X", "(0, 1]")

    layers: int = option(3, "number of blocks", "N", "[1, inf)")
    channel: int = option(240, "channels, a multiple of 24", "N", "[24, inf)")
    d_hid: int = option(1024, "hidden channels of the MLPs", "N", "[1, inf)")
    dropout: float = option(0.1, "dropout in the MLPs and after the attention", "X", "[0, 1)")
    drop_path: tuple[float, ...] = option((0.1, 0.3), "drop path: first, last", "X", "[0, 1)", nargs=2)

    recipe: str = option("published", "other defaults; open: for photos", choices=tuple(RECIPES))
    nepoch: int = option(15, "epochs of the whole run", "N", "[1, inf)")
    batch_size: int = option(512, "samples of a step, of all processes together", "N", "[1, inf)")
    accumulate: int = option(1, "compute a step in N parts, to save memory", "N", "[1, inf)")
    lr: float = option(5e-4, "learning rate of the first epoch", "X", "(0, 1e30]")
    lr_schedule: str = option("step", "published decay, or a cosine to 0", choices=("step", "cosine"))
    lr_decay: float = option(0.95, "factor after each epoch", "X", "(0, 1]", short="-lrd")
    lr_decay_large: float = option(0.5, "factor instead, every --large_decay_epoch", "X", "(0, 1]")
    large_decay_epoch: int = option(5, "epochs between two large decays", "N", "[1, inf)")
    bone_loss: float = option(0.0, "weight of errors of bone vectors in the loss", "X", "[0, inf)")
    symmetry_loss: float = option(0.0, "weight of left-right differences in the loss", "X", "[0, inf)")
    data_augmentation: bool = option(True, "train on mirror images, too", "BOOL")
    select: str = option("best", "epoch to keep: by test subjects, last, or by SUBJECT", "best|last|SUBJECT")
    seed: int = option(1, "seed of all random numbers", "N", "[0, 4294967295]")
    checkpoint_minutes: float = option(10.0, "time between checkpoints", "X", "[0, inf)")

    train_with: str = option("", "more data sets, separated by commas", "NAMES")
    virtual_cameras: str = option("", "new views: default, none, pitch=-14:26,...", "X", **DEFAULT)
    augment_poses: bool = option(False, "change poses; needs --virtual_cameras", "BOOL")
    keypoint_noise: str = option("", "detector errors: default, detector, none or a file", "X", **DEFAULT)
    window: str = option("image", "normalise by the image, or each person", choices=("image", "person"))

    test_augmentation: bool = option(True, "average with the mirrored input", "BOOL", use=GROUPS["train"][1])
    joints: int = option(17, "joints to score: 16: no neck; 14: 3DHP's", choices=(14, 16, 17))
    table: str = option("text", "format of the printed table", choices=("text", "markdown", "latex"))
    metrics_json: str = option("", "write all means, and P1 and P2 of each pose", "FILE")
    metrics_csv: str = option("", "write all means as a table", "FILE")
    save_predictions: str = option("", "write each predicted and true pose", "FILE.npz")
    report: str = option("", "write a page with tables, plots and poses", "DIR")
    picture: str = option("", "draw poses, or a comparison", "FILE.png", use="evaluate compare")

    refine: bool = option(False, "evaluate the refine head, too; or train it")
    previous_refine: str = option("", "weights of the head [of --previous_dir]", "NAME")
    refine_freeze: bool = option(False, "train the refine head alone", use="train")
    lr_refine: float = option(1e-3, "learning rate of the refine head", "X", "(0, 1e30]", use="train")

    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    gpu: int = option(0, "CUDA device; for several see torchrun in README.md", "N", "[0, inf)")
    amp: str = option("off", "precision of matrix products", choices=("off", "bf16", "fp16"))
    compile: bool = option(False, "use torch.compile", use="train")
    workers: int = option(0, "CPU threads [PyTorch's choice]", "N", "[0, inf)")

    def __post_init__(self) -> None:
        self.compare, self.drop_path = tuple(self.compare), tuple(self.drop_path)

    @property
    def command(self) -> str:
        """Which of "train", "evaluate", "compare" and "export" to run."""
        chosen = {"compare": self.compare, "export": self.export, "train": self.train}
        return next((name for name, value in chosen.items() if value), "evaluate")

    @property
    def loads(self) -> bool:
        """Whether it starts from the weights of ``previous_dir``; a resumed run starts from its own state."""
        return self.reload and not self.resume

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.checkpoint_dir) / self.name


def _specifications() -> dict[str, dict[str, Any]]:
    heading, use, found = "", "", {}
    for each in fields(Options):
        heading, use = GROUPS.get(each.name, (heading, use))
        kind = {"bool": bool, "int": int, "float": float, "tuple[float, ...]": float}.get(str(each.type), str)
        found[each.name] = {"use": use, "type": kind, **each.metadata, "heading": heading}
    return found


OPTIONS = _specifications()
"""What is known of each option, by name."""


def parse(argv: list[str]) -> Options:
    """The options of a command line; a resumed run's are its own, changed by those that are given.

    Raises:
        UserError: The call is invalid.
    """
    given = _given(argv)
    options = Options(**RECIPES[given.get("recipe", "published")] | given)
    _check(options, given)
    if options.resume:
        options = _resumed(options, given)
        _check(options, {})
    return options


def recorded(saved: dict[str, Any]) -> Options:
    """The options that a run wrote down; those that only another version knows are left out."""
    return Options(**{name: value for name, value in saved.items() if name in OPTIONS and value is not None})


def command_line(options: Options) -> str:
    """The call of ``main.py`` that has these options."""
    words = ["python", "main.py"]
    for name, more in OPTIONS.items():
        value = getattr(options, name)
        if value != getattr(Options, name):
            flag = more["type"] is bool and not more["metavar"]
            values = value if isinstance(value, tuple) else () if flag else (value,)
            words += [f"--{name}", *map(str, values)]
    return shlex.join(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (all options: python main.py --help)")


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="main.py",
        usage="main.py --train -n NAME [option ...]                 train\n"
        "       main.py --reload --previous_dir NAME [option ...]    evaluate\n"
        "       main.py --compare A.json B.json                      compare evaluations\n"
        "       main.py --export onnx|torch --previous_dir NAME      export",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=100),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    groups = {heading: parser.add_argument_group(heading) for heading, _ in GROUPS.values()}
    for name, more in OPTIONS.items():
        keywords = {key: more[key] for key in ("metavar", "nargs", "const", "choices") if more.get(key)}
        if more["type"] is bool:
            truth = {"type": _truth, "nargs": "?", "const": True}
            keywords |= truth if more["metavar"] else {"action": "store_true"}
        else:
            keywords["type"] = _number(more["type"], more["interval"]) if more["interval"] else more["type"]
        flags = [more["short"], f"--{name}"] if "short" in more else [f"--{name}"]
        text, default = more["text"], getattr(Options, name)
        if "[" not in text and default not in ("", False, ()):
            text += f" [{str(default).strip('()')}]"
        groups[more["heading"]].add_argument(*flags, help=text, **keywords)
    for name, here in PUBLISHED.items():
        nargs = None if here in OPTIONS else "?"
        parser.add_argument(f"--{name}", f"-{name}", dest=name, nargs=nargs, help=argparse.SUPPRESS)
    return parser


def _number(kind: Callable[[str], float], interval: str) -> Callable[[str], float]:
    low, high = map(float, interval[1:-1].split(", "))

    def number(text: str) -> float:
        if "," in text:
            several = "for several GPUs: torchrun --nproc_per_node N main.py ..."
            raise argparse.ArgumentTypeError(f"expected one number, found {text}; {several}")
        value = kind(text)
        above = value > low or (value == low and interval[0] == "[")
        below = value < high or (value == high and interval[-1] == "]")
        if not (above and below):
            raise argparse.ArgumentTypeError(f"expected a number in {interval}, found {text}")
        return value

    return number


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text}")
    return words[text.lower()]


def _given(argv: list[str]) -> dict[str, Any]:
    """The options that a command line names; those of the published code's are translated or dropped."""
    parser = _build_parser()
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        near = suggestion(unknown[0], [f"--{name}" for name in OPTIONS])
        parser.error(f"{unknown[0]}: no such option{near}")
    given = vars(found)
    for name in [name for name in PUBLISHED if name in given]:
        value, here = given.pop(name), PUBLISHED[name]
        if here in OPTIONS:
            given[here] = value
        log.info("note: --%s %s", name, f"is --{here} here" if here in OPTIONS else f"is ignored: {here}")
    return {name: "" if value == "none" else value for name, value in given.items()}


def _check(options: Options, given: dict[str, Any]) -> None:
    """Refuses what does not go together; unused settings of networks and training get a note."""
    command, resume, loads = options.command, options.resume, options.reload or bool(options.export)
    for name in given:
        known = options.reload and name in ("layers", "channel", "d_hid")  # by the weights
        if known or command not in OPTIONS[name]["use"].split():
            if OPTIONS[name]["heading"] in ("data", "evaluation"):
                raise UserError(f"--{name}: omit it, {command} does not use it")
            log.info("note: --%s is ignored: this command does not use it", name)
    plain = Path(options.name).name == options.name not in ("", "..")
    stage = options.refine_freeze or options.previous_refine
    for invalid, message in (
        (
            sum(map(bool, (options.train, options.compare, options.export))) > 1,
            "expected one of --train, --compare and --export",
        ),
        (command == "evaluate" and not loads, "expected --train, --reload, --compare or --export"),
        (loads != bool(options.previous_dir), "expected --reload or --export with --previous_dir NAME"),
        (options.train and not plain, "expected --train -n NAME, the plain name of a folder in ckpt/"),
        (resume and not options.train, "expected --resume with --train -n NAME"),
        (resume and "reload" in given, "expected --resume without --reload"),
        (options.output and not options.export, "expected --output with --export"),
        (options.refine and not loads and not resume, "--refine needs a trained lifter: add --reload"),
        (stage and not options.refine and not resume, "expected --refine with options of the refine head"),
        (options.refine and (options.bone_loss or options.symmetry_loss), "--refine has a loss of its own"),
        (options.augment_poses and not options.virtual_cameras, "--augment_poses needs --virtual_cameras"),
        (options.refine and options.window == "person", "--refine needs --window image: it uses the camera"),
        (options.channel % 24, f"--channel: expected a multiple of 24, found {options.channel}"),
    ):
        if invalid:
            raise UserError(f"{message} (all options: python main.py --help)")


def _resumed(options: Options, given: dict[str, Any]) -> Options:
    """The options of the run in a folder, changed by the given ones."""
    from common.files import read_json

    run = recorded(read_json(options.folder / "options.json")["options"])
    for name in given:
        began, asked = getattr(run, name), getattr(options, name)
        stretched = name == "nepoch" and run.lr_schedule == "cosine"
        if began != asked and (stretched or name not in FREE | ROUNDING):
            raise UserError(
                f"--resume: {options.folder} began with --{name} {began}, found {asked}: omit the option, "
                "or start a new run from its weights (--reload --previous_dir)"
            )
        if began != asked and name in ROUNDING:
            log.info("note: with another --%s, results differ by rounding from here on", name)
    # A run may have been moved since it began.
    return replace(run, **given | {"checkpoint_dir": options.checkpoint_dir})

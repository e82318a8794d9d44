"""The command line of ``main.py``: what it takes, and what the words mean."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

FREE_ON_RESUME = {"train", "resume", "name", "nepoch", "device", "gpu", "workers", "root_path", "cache_dir"}
FREE_ON_RESUME |= {"checkpoint_dir", "checkpoint_minutes", "amp", "compile", "accumulate"}
"""Options that change of what a run computes no more than rounding and chance, or how long it goes on."""

RECIPES: dict[str, dict[str, object]] = {
    "published": {},
    "cosine": {"lr": 1e-3, "lr_schedule": "cosine"},
    "open": {
        "virtual_cameras": "default",
        "augment_poses": True,
        "keypoint_noise": "default",
        "dropout": 0.0,
        "drop_path": (0.0, 0.0),
        "batch_size": 256,
        "lr": 1e-3,
        "lr_schedule": "cosine",
        "select": "last",
    },
}
"""Defaults of other options, by the name of ``--recipe``; ``benchmarks/`` has what each is worth."""

DATA = {"dataset", "keypoints", "root_path", "cache_dir", "actions", "downsample", "subset"}
NETWORKS = {"reload", "previous_dir", "checkpoint_dir", "layers", "channel", "d_hid"}
NETWORKS |= {"refine", "previous_refine", "test_augmentation", "device", "gpu", "workers", "amp"}
READ_BY = {
    "training": DATA
    | NETWORKS
    | {
        "train",
        "resume",
        "name",
        "nepoch",
        "batch_size",
        "lr",
        "lr_decay",
        "lr_decay_large",
        "large_decay_epoch",
    }
    | {"data_augmentation", "select", "seed", "checkpoint_minutes", "refine_freeze", "lr_refine"}
    | {"compile", "accumulate", "dropout", "drop_path", "train_with", "lr_schedule"}
    | {"bone_loss", "symmetry_loss", "recipe"}
    | {"virtual_cameras", "augment_poses", "keypoint_noise"},
    "scoring": DATA
    | NETWORKS
    | {"joints", "metrics_json", "metrics_csv", "save_predictions", "report", "picture"},
    "comparing": {"compare", "picture"},
    "exporting": {"export", "output", "previous_dir", "checkpoint_dir", "test_augmentation"},
}
"""The options that each kind of call reads; others are refused."""


def _number(
    kind: type, low: float, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], float]:
    """A type for argparse: a number from ``low`` (or above it, if ``open_low``) to ``high``."""

    def parse(text: str) -> float:
        value = kind(text)
        if value == math.inf:
            raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
        if not (low < value if open_low else low <= value) or value > high:
            least = f"{'above' if open_low else 'at least'} {low}"
            most = f", at most {high}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"expected {least}{most}, got {text}")
        return value

    parse.__name__ = {int: "whole number", float: "number"}[kind]
    return parse


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text}")
    return words[text.lower()]


def _unless_none(text: str) -> str | None:
    return None if text == "none" else text


def _words(options: dict[str, object]) -> str:
    """Options as they are typed."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, tuple) else () if value in (True, "default") else (value,)
        words += [f"--{name}", *(f"{each:g}" if isinstance(each, float) else str(each) for each in values)]
    return " ".join(words)


def build_parser(*, defaults: bool = True) -> argparse.ArgumentParser:
    """The parser. Without ``defaults`` its result holds the options that were given, and no others."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        usage="main.py (--train -n NAME | --reload --previous_dir NAME | --compare A.json B.json | "
        "--export KIND --previous_dir NAME) [option]",
        description="HTNet: train a 2D-to-3D lifter, or evaluate one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None if defaults else argparse.SUPPRESS,
        allow_abbrev=False,
    )

    def add(group, *flags, **keywords):
        if not defaults:
            keywords["default"] = argparse.SUPPRESS
        group.add_argument(*flags, **keywords)

    flag = {"action": "store_true", "default": False}
    truth = {"type": _truth, "nargs": "?", "const": True, "metavar": "BOOL"}
    whole, factor = _number(int, 1), _number(float, 0, 1, open_low=True)
    rate = _number(float, 0, 1e30, open_low=True)

    group = parser.add_argument_group("what to do")
    add(group, "--train", **flag, help="train; with --reload start from the weights of --previous_dir")
    add(group, "--reload", **flag, help="read the weights of --previous_dir; without --train, score them")
    add(group, "--previous_dir", metavar="NAME", help="weights: a name under ckpt/, a folder or a file")
    add(group, "--resume", **flag, help="with --train: go on with the run of -n, with its own options")
    add(group, "-n", "--name", metavar="NAME", help="name of the run: its folder under ckpt/")
    add(
        group, "--compare", nargs="+", default=[], metavar="A.json",
        help="compare runs by their files of --metrics_json, each with the first",
    )  # fmt: skip
    add(
        group, "--export", choices=("onnx", "torch"),
        help="write the weights of --previous_dir as one file that runs without this project: ONNX, or an "
        "exported program of PyTorch's",
    )  # fmt: skip
    add(group, "--output", metavar="FILE", help="what --export writes; None: beside the weights")

    group = parser.add_argument_group("data")
    add(
        group, "--dataset", default="h36m", metavar="NAME",
        help="h36m, sample, or a data set that python -m dataset.prepare has made, such as 3dhp",
    )  # fmt: skip
    add(
        group, "-k", "--keypoints", metavar="SOURCE",
        help="source of the key points, as in the file's name; None: cpn_ft_h36m_dbb for h36m, gt for others",
    )  # fmt: skip
    add(group, "--root_path", metavar="DIR", help="folder of the data; None: where the data set belongs")
    add(
        group, "--cache_dir", metavar="DIR",
        help="folder for the converted data; None: beside the npz files, or the user's cache folder if that "
        "cannot be written to",
    )  # fmt: skip
    add(group, "-a", "--actions", default="*", help="actions to train and score on, with commas; * for all")
    add(group, "--downsample", default=1, type=whole, metavar="N", help="take every N-th frame")
    add(
        group, "--subset", default=1.0, type=_number(float, 0, 1, open_low=True), metavar="SHARE",
        help="share of each take's frames to train and score on, in one stretch",
    )  # fmt: skip

    group = parser.add_argument_group("network")
    add(group, "--layers", default=3, type=whole, metavar="N", help="number of blocks")
    add(group, "--channel", default=240, type=whole, metavar="N", help="channels, a multiple of 24")
    add(group, "--d_hid", default=1024, type=whole, metavar="N", help="hidden channels of the MLPs")

    add(
        group, "--dropout", default=0.1, type=_number(float, 0, 0.99),
        help="share of values that training drops in the MLPs and after the attention",
    )  # fmt: skip
    add(
        group, "--drop_path", default=(0.1, 0.3), nargs=2, type=_number(float, 0, 0.99), metavar="RATE",
        help="share of samples that skip a level, in the first and in the last block",
    )  # fmt: skip

    group = parser.add_argument_group("training")
    add(
        group, "--recipe", default="published", choices=tuple(RECIPES),
        help=f"other defaults for the options of training: published, as in the paper; cosine, for less "
        f"error from the same samples: {_words(RECIPES['cosine'])}; open, for ordinary photos: "
        f"{_words(RECIPES['open'])}",
    )  # fmt: skip
    add(group, "--nepoch", default=15, type=whole, metavar="N", help="epochs of the whole run")
    add(
        group, "--batch_size", default=512, type=whole, metavar="N",
        help="samples of a training step, of all processes together",
    )  # fmt: skip
    add(
        group, "--accumulate", default=1, type=whole, metavar="N",
        help="compute a step in N parts, one after another, which takes less memory",
    )  # fmt: skip
    add(
        group,
        "--lr",
        default=5e-4,
        type=rate,
        help="learning rate of the first epoch",
    )
    add(
        group, "--lr_schedule", default="step", choices=("step", "cosine"),
        help="step: the published decay from epoch to epoch; cosine: a short rise, then half a cosine to 0 "
        "over --nepoch epochs",
    )  # fmt: skip
    add(group, "-lrd", "--lr_decay", default=0.95, type=factor, help="factor after each epoch")
    add(
        group, "--lr_decay_large", default=0.5, type=factor,
        help="factor after every --large_decay_epoch epochs, instead of --lr_decay",
    )  # fmt: skip
    add(group, "--large_decay_epoch", default=5, type=whole, metavar="N", help="see --lr_decay_large")
    add(
        group, "--bone_loss", default=0.0, type=_number(float, 0), metavar="WEIGHT",
        help="weight of the mean distance of the bones as vectors in the loss",
    )  # fmt: skip
    add(
        group, "--symmetry_loss", default=0.0, type=_number(float, 0), metavar="WEIGHT",
        help="weight of the difference of left and right bones in the loss",
    )  # fmt: skip
    add(group, "--data_augmentation", default=True, **truth, help="train on mirror images too")
    add(
        group, "--select", default="best", metavar="best|last|SUBJECT",
        help="whose weights are kept: of the epoch with the lowest P1 on the test subjects (the field's "
        "habit), of the last epoch, or of the best one on a training subject that is held out",
    )  # fmt: skip
    add(group, "--seed", default=1, type=_number(int, 0, 2**32 - 1), metavar="N", help="seed of all chance")
    add(
        group, "--checkpoint_minutes", default=10.0, type=_number(float, 0), metavar="N",
        help="time between checkpoints within an epoch",
    )  # fmt: skip
    add(group, "--checkpoint_dir", default="ckpt", metavar="DIR", help="folder of all runs")

    group = parser.add_argument_group("samples made up in training")
    add(
        group, "--train_with", metavar="NAMES",
        help="other data sets to train on too, with commas, each from where it belongs, all its actions",
    )  # fmt: skip
    add(
        group, "--virtual_cameras", nargs="?", const="default", type=_unless_none, metavar="RANGES",
        help="see every pose from a new camera at each step, upright or not, near or far; ranges other than "
        "the default as pitch=-14:26,roll=-7:7 (also yaw, focal_length, distance, aspect, room; "
        "margin=0.02 and near=0.3); none keeps the recorded ones where a recipe has others",
    )  # fmt: skip
    add(
        group, "--augment_poses", **truth, default=False,
        help="with --virtual_cameras: exchange limbs, bend joints, seat, tilt and rescale people",
    )  # fmt: skip
    add(
        group, "--keypoint_noise", nargs="?", const="default", type=_unless_none, metavar="FILE",
        help="add a detector's errors to the key points, by the figures of a JSON file or the default ones; "
        "none leaves them as they are",
    )  # fmt: skip

    group = parser.add_argument_group("evaluation")
    add(
        group, "--test_augmentation", default=True, **truth,
        help="average over the mirrored input, in the scores of training and inside of --export's file too",
    )  # fmt: skip

    add(
        group, "--joints", default=17, type=int, choices=(14, 16, 17),
        help="joints that P1, P2, P3, MPJVE, PCK and AUC are taken over; 16: without the neck; 14: those of "
        "MPI-INF-3DHP's own evaluation",
    )  # fmt: skip
    add(group, "--metrics_json", metavar="FILE", help="write all averages, and P1 and P2 of every pose")
    add(group, "--metrics_csv", metavar="FILE", help="write all averages as a table")
    add(group, "--save_predictions", metavar="FILE.npz", help="write every pose beside its truth")
    add(group, "--report", metavar="DIR", help="write a page with tables, plots, the worst and median poses")
    add(
        group, "--picture", metavar="FILE.png",
        help="draw predictions beside the truth; with --compare, plot the comparison",
    )  # fmt: skip

    group = parser.add_argument_group("refine (uses the true root depth and the camera)")
    add(
        group, "--refine", **flag,
        help="score the second stage too; with --train, train it on the lifter of --previous_dir",
    )  # fmt: skip
    add(
        group, "--previous_refine", metavar="NAME",
        help="weights of the refine head: a name, folder or file; None: where --previous_dir points",
    )  # fmt: skip
    add(group, "--refine_freeze", **flag, help="train the refine head alone, and leave the lifter as it is")
    add(group, "--lr_refine", default=1e-3, type=rate, help="learning rate of the refine head")

    group = parser.add_argument_group("machine")
    add(group, "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")
    add(
        group, "--gpu", default=0, type=_number(int, 0), metavar="N",
        help="which CUDA device, from 0 on; of several processes that of the first",
    )  # fmt: skip
    add(
        group, "--amp", default="off", choices=("off", "bf16", "fp16"),
        help="compute the networks' products in bfloat16, or on CUDA in float16; poses and losses in float32",
    )  # fmt: skip
    add(group, "--compile", **flag, help="have PyTorch's compiler translate the networks that are trained")
    add(
        group, "--workers", default=0, type=_number(int, 0), metavar="N",
        help="CPU threads; 0: as many as PyTorch finds right",
    )  # fmt: skip
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line; a wrong one ends the program with code 2 and a message."""
    parser = build_parser()
    args = parser.parse_args(argv)
    parser.set_defaults(**RECIPES[args.recipe])
    args = parser.parse_args(argv)
    kinds = {"comparing": args.compare, "exporting": args.export, "training": args.train}
    kind = next((kind for kind, chosen in kinds.items() if chosen), "scoring")
    if kind == "scoring" and not args.reload:
        parser.error("nothing to do: give --train, --reload with --previous_dir, --compare, or --export")
    if unread := sorted(given(argv).keys() - READ_BY[kind]):
        parser.error(f"--{unread[0]} is not read when {kind}: leave it away")
    if args.compare:
        return args
    if args.export:
        if not args.previous_dir:
            parser.error("--export needs --previous_dir: a name under ckpt/, a folder or a file")
        return args
    if args.reload and not args.previous_dir:
        parser.error("--reload needs --previous_dir: a name under ckpt/, a folder or a file")
    if args.previous_dir and not args.reload:
        parser.error("--previous_dir is read by --reload alone: add --reload")
    if args.train and not args.name:
        parser.error("--train needs -n NAME, the run's folder under ckpt/")
    if args.train and (Path(args.name).name != args.name or args.name in (".", "..")):
        parser.error(f"-n {args.name}: expected the plain name of a folder under --checkpoint_dir")
    if args.resume and (not args.train or args.reload):
        parser.error("--resume goes with --train and -n NAME, without --reload")
    if args.refine and not args.reload and not args.resume:
        parser.error("--refine is a second stage: it needs a trained lifter, --reload with --previous_dir")
    second_stage = {"refine_freeze", "previous_refine", "lr_refine"} & given(argv).keys()
    if second_stage and not args.refine and not args.resume:
        parser.error(f"--{min(second_stage)} goes with --refine")
    if args.refine_freeze and "lr" in given(argv):
        parser.error("--lr is not read with --refine_freeze: the rate of the refine head is --lr_refine")
    decays = {"lr_decay", "lr_decay_large", "large_decay_epoch"} & given(argv).keys()
    if decays and args.lr_schedule == "cosine":
        parser.error(f"--{min(decays)} is not read with --lr_schedule cosine: leave it away")
    if not args.resume and (wrong := contradiction(args)):
        parser.error(wrong)
    if args.channel % 24:
        parser.error(f"--channel must be a multiple of 24, got {args.channel}")
    return args


def contradiction(args: argparse.Namespace) -> str | None:
    """What does not go together in the options of a training, those of a resumed run among them."""
    if args.augment_poses and args.virtual_cameras is None:
        return "--augment_poses needs --virtual_cameras: the recorded cameras do not see what it makes"
    for name in ("bone_loss", "symmetry_loss") if args.refine else ():
        if getattr(args, name):
            return f"--{name} is of the lifter's own training: leave it away with --refine"
    if args.accumulate > args.batch_size:
        return f"--accumulate {args.accumulate}: a step of --batch_size {args.batch_size} has fewer samples"
    return None


def given(argv: list[str]) -> dict[str, object]:
    """The options that a command line names, without defaults."""
    return vars(build_parser(defaults=False).parse_args(argv))

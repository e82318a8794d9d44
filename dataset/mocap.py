"""``python -m dataset.prepare mocap``: a data set from BVH files, or from ASF and AMC files."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.errors import DataError, UserError
from common.h36m import DATASETS
from common.pose_files import write_poses
from dataset import mocap_files, mocap_takes
from dataset.mocap_joints import read_joint_map
from dataset.mocap_poses import UNITS
from dataset.mocap_takes import Take
from dataset.mocap_views import views
from dataset.motion import checked_rate
from dataset.parts import Parts, writing

RATES = (5.0, 240.0)
SHARE = 0.2
RESERVED = {*DATASETS, "3dhp"}
SHOWN = 20

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""

    def add(name: str, words: str, **keywords: Any) -> None:
        parser.add_argument(name, help=words, **keywords)

    add("--source", "folder with .bvh files, or with .asf and .amc files", type=Path, required=True)
    add("--name", "name of the data set, for main.py --dataset NAME", required=True)
    add(
        "--output", "folder that the data set's folder is made in (default: %(default)s)",
        type=Path, default=Path(DATASETS["h36m"].root),
    )  # fmt: skip
    add("--origin", "where the files come from and under which licence: kept with the data set")
    add("--subjects_test", "subjects to test on; all others are trained on", metavar="A,B")
    add(
        "--test_share", "without --subjects_test: share of the files to test on, whoever is in them; which "
        f"follows from their names (default: {SHARE})", type=float,
    )  # fmt: skip
    add(
        "--subject", "what tells the subject: the file's folder, its name up to the first _, or, with auto, "
        "a number in its name as in CMU's files, else the folder",
        choices=mocap_files.SUBJECTS, default="auto",
    )  # fmt: skip
    add("--joint_map", "JSON file: which joint of the files is which of ours", metavar="FILE")
    add("--fps", "frames a second of the data set (default: %(default)s)", type=float, default=50.0)
    add("--source_fps", "frames a second of the files, whatever they say", type=float)
    add("--unit", "unit of the files; else told by the legs' length", choices=UNITS)
    add("--up", "axis of the files that points up; else told by the poses", choices=("y", "z", "-y"))
    add("--skip_bad", "go on without the files that cannot be used", action="store_true")


def run(args: argparse.Namespace) -> None:
    """Converts all files and writes the data set.

    Raises:
        UserError: Options or files are not what is needed; every fault is named.
        RunError: The disk is full.
    """
    folder = _checked(args)
    sources = mocap_files.find(args.source)
    joint_map = read_joint_map(args.joint_map) if args.joint_map else {}
    options = mocap_takes.Options(joint_map, args.fps, args.source_fps, args.unit)
    parts = Parts(args.output, args.name, options.settings())
    takes, faults = mocap_takes.convert(sources, parts, options)
    if faults and not (args.skip_bad and takes):
        raise DataError(_refusal(faults, len(sources)))
    takes, copies = mocap_takes.without_copies(takes)
    people, split = _split(args, takes)
    takes.sort(key=lambda take: (people[take] in split["test"], people[take], take.source.name))
    origin = f"motion capture files of the folder {args.source.resolve().name}; licence not stated (--origin)"
    facts: dict[str, Any] = {
        "name": args.name,
        **split,
        "keypoints": "gt",
        "origin": args.origin or origin,
        "fps": args.fps,
        "left_out": faults + copies,
        "sources": [],
    }
    with writing(folder):
        write_poses(folder, views(takes, people, split, args.up, parts, facts["sources"]), facts)
    parts.remove()
    log.info("%s", _summary(folder, facts))


def _checked(args: argparse.Namespace) -> Path:
    """The folder to make, if the options make sense."""
    name, folder = args.name, args.output / args.name
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name, re.ASCII) or name in RESERVED:
        words = f"letters, digits, _ . and -, and none of {', '.join(sorted(RESERVED))}"
        raise UserError(f"--name {name[:80]}: expected {words}")
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already: remove it, or choose another --name")
    if not RATES[0] <= args.fps <= RATES[1]:
        raise UserError(f"--fps {args.fps:g}: expected {RATES[0]:g} to {RATES[1]:g}")
    if args.source_fps is not None:
        checked_rate(args.source_fps, f"--source_fps {args.source_fps:g}")
    if args.test_share is not None and not 0 < args.test_share < 1:
        raise UserError(f"--test_share {args.test_share:g}: expected a share between 0 and 1")
    if args.test_share is not None and args.subjects_test is not None:
        raise UserError("--subjects_test and --test_share: one of the two splits the files")
    return folder


def _refusal(faults: list[str], count: int) -> str:
    shown = "\n  ".join(faults[:SHOWN])
    hint = "; what is converted of the others is kept: mend or remove these, or give --skip_bad"
    head = f"{len(faults)} of {count} files cannot be used{hint if len(faults) < count else ''}"
    more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{head}:\n  {shown}{more}"


def _split(args: argparse.Namespace, takes: list[Take]) -> tuple[dict[Take, str], dict[str, list[str]]]:
    """The subject of each take, and the subjects of both parts.

    Where the split is by file, the files held out have subjects of their own: "01-test" beside "01".
    """
    people = {take: mocap_files.subject(take.source, args.source, args.subject) for take in takes}
    if args.subjects_test is None:
        if len(takes) < 2:
            raise DataError(
                f"--source {args.source}: expected two files at least, to train and to test on, "
                f"found {len(takes)} to use; add files. What was read is kept for the next call"
            )
        held_out = mocap_files.held_out([take.source for take in takes], args.test_share or SHARE)
        people |= {take: f"{people[take]}-test" for take in takes if take.source.name in held_out}
        test = {people[take] for take in takes if take.source.name in held_out}
    else:
        test = {name.strip() for name in args.subjects_test.split(",")}
    there = sorted(set(people.values()))
    if unknown := sorted(test - set(there)):
        raise UserError(
            f"--subjects_test: there is no {', '.join(unknown)}; the files have {', '.join(there)}"
        )
    return people, {"train": [name for name in there if name not in test], "test": sorted(test)}


def _summary(folder: Path, facts: dict[str, Any]) -> str:
    """What was made, and what was guessed, for a user to see what is odd."""
    sources = facts["sources"]
    frames = sum(source["frames"] for source in sources)
    lost = [source for source in sources if source["frames_out_of_view"]]
    lines = [
        f"{folder}: {frames:,} frames x 4 cameras, {facts['fps']:g} a second, of {len(sources)} files",
        f"train: {', '.join(facts['train']) or 'nobody'}; test: {', '.join(facts['test'])}",
        _kinds("frames per second of the files", sources, lambda source: f"{source['rate']:g}"),
        _kinds("unit (--unit)", sources, lambda source: source["unit"]),
        _kinds("up (--up)", sources, lambda source: source["up"]),
        _named("left and right exchanged, as knees and toes pointed back", sources, "mirrored"),
        _named("first frame left out, as no body gets from it to the second", sources, "false_start"),
        _named("frames that not all cameras see were left out", lost, "frames_out_of_view"),
        *(f"left out: {fault}" for fault in facts["left_out"]),
        f"train on it: python main.py --train -n NAME --dataset {facts['name']}"
        + ("" if str(folder.parent) == DATASETS["h36m"].root else f" --root_path {folder.parent}"),
    ]
    return "\n".join(line for line in lines if line)


def _kinds(title: str, sources: list[dict[str, Any]], kind: Callable[[dict[str, Any]], str]) -> str:
    """How many files are of each kind; names those that are not like most."""
    counts = Counter(map(kind, sources)).most_common()
    parts = [f"{counts[0][0]} ({counts[0][1]} files)"]
    for other, _ in counts[1:]:
        parts.append(f"{other} ({_listed([each['file'] for each in sources if kind(each) == other])})")
    return f"{title}: {', '.join(parts)}"


def _named(title: str, sources: list[dict[str, Any]], key: str) -> str:
    names = [source["file"] for source in sources if source[key]]
    return f"{title}: {_listed(names)}" if names else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} files: {', '.join(names[:5])}{more}"

"""MPI-INF-3DHP (Mehta et al., 3DV 2017), from its own layout to a prepared set: ``dataset.prepare 3dhp``."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import DataError
from common.files import sha256
from common.h36m import DATASETS
from common.pose_files import read_poses, write_poses
from common.prepared import NAME_3DHP, ROOT
from dataset.annotations import (
    CAMERAS,
    SKELETONS,
    View,
    packed,
    unpacked,
    views_of_test,
    views_of_training,
)
from dataset.parts import Parts, writing

SUBJECTS = tuple(f"S{number}" for number in range(1, 9))
SEQUENCES = ("Seq1", "Seq2")
TEST_SIZES = dict.fromkeys(("TS1", "TS2", "TS3", "TS4"), (2048, 2048)) | dict.fromkeys(
    ("TS5", "TS6"), (1920, 1080)
)
"""The test sequences, and width and height of their pictures."""
GROUPS = {
    "studio with green screen": ["TS1", "TS2"],
    "studio without": ["TS3", "TS4"],
    "outdoor": ["TS5", "TS6"],
}
FIELD_CAMERAS = (0, 2, 4, 5, 6, 7, 8)
"""The cameras at about the height of the chest, on which the field trains."""
NAMES = {"universal": NAME_3DHP, "metric": f"{NAME_3DHP}_metric"}
TEST_FOLDERS = ("mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set", ".")
ORIGIN = (
    "MPI-INF-3DHP (Mehta et al., 3DV 2017) is free for non-commercial research under its own licence, from "
    "vcai.mpi-inf.mpg.de/3dhp-dataset. Of its training set no more is needed than annot.mat and "
    "camera.calibration of each sequence, of its test set annot_data.mat."
)
LAYOUT = """expected
  S1/Seq1/annot.mat, camera.calibration beside it, and so on to S8/Seq2
  mpi_inf_3dhp_test_set/TS1/annot_data.mat and so on to TS6"""
REVISION = 1
"""Raised when the same files come to be converted otherwise, so that no old part is taken."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file of annotations: of sequence ``action`` of a training subject, or of a test sequence."""

    subject: str
    action: str
    path: Path

    def __str__(self) -> str:
        return f"{self.subject}/{self.action}".rstrip("/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("--source", type=Path, required=True, help="the folder with S1 to S8 and mpi_inf_3dhp_test_set")
    add("--output", type=Path, default=Path(ROOT), help="where its folder is put (default: %(default)s)")
    add(
        "--skeleton",
        choices=SKELETONS,
        default="universal",
        help="universal: poses scaled to one height, which the field scores on; metric: as they were "
        "(default: %(default)s)",
    )
    add(
        "--cameras",
        type=_cameras,
        default=FIELD_CAMERAS,
        metavar="0,2,...",
        help=f"training cameras, or all of the {CAMERAS} (default: {','.join(map(str, FIELD_CAMERAS))}, at "
        "about the height of the chest, as the field has it)",
    )
    add(
        "--name",
        dest="as_name",
        metavar="NAME",
        help=f"what to call the data set (default: {NAMES['universal']}, or {NAMES['metric']} for the metric "
        "skeleton)",
    )


def run(options: argparse.Namespace) -> None:
    """Writes the folder of the data set, and says what to do with it.

    Raises:
        DataError: The source has none of the files, or a damaged one; or another data set has the name.
        RunError: The disk is full.
    """
    name = options.as_name or NAMES[options.skeleton]
    if Path(name).name != name or name.startswith(".") or name in DATASETS:
        taken = ", ".join(DATASETS)
        raise DataError(f"--name {name}: expected the plain name of a folder, and none of {taken}")
    folder = options.output / name
    sources, missing = find(options.source)
    if missing:
        log.warning("missing, and left out: %s", ", ".join(missing))
    settings = {"skeleton": options.skeleton, "cameras": list(options.cameras)}
    if folder.exists():
        _check_same(folder, settings, sources)
        log.info("%s is there already, made of the same files; remove it to make it again", folder)
        return
    parts = Parts(options.output, name, f"{REVISION} {settings}")
    digests = _convert(sources, parts, options.skeleton, options.cameras)
    facts = {
        "name": name,
        "train": [subject for subject in SUBJECTS if any(source.subject == subject for source in sources)],
        "test": [subject for subject in TEST_SIZES if any(source.subject == subject for source in sources)],
        "keypoints": "gt",
        "origin": ORIGIN,
        "groups": GROUPS,
        "settings": settings,
        "sources": digests,
        "missing": missing,
    }
    log.info("writing %s", folder)
    with writing(folder):
        write_poses(folder, _views(sources, parts), facts)
    parts.remove()
    where = [] if options.output == Path(ROOT) else ["--root_path", str(options.output)]
    for command in (["--train", "-n", "NAME"], ["--reload", "--previous_dir", "NAME"]):
        log.info("%s", shlex.join(["python", "main.py", *command, "--dataset", name, *where]))


def find(source: Path) -> tuple[list[Source], list[str]]:
    """The files of annotations in a folder, and names of those that are not there.

    Raises:
        DataError: There are none.
    """
    wanted = [
        Source(subject, action, source / subject / action / "annot.mat")
        for subject in SUBJECTS
        for action in SEQUENCES
    ]
    test = next((source / name for name in TEST_FOLDERS if (source / name / "TS1").is_dir()), None)
    test = test or next((source / name for name in TEST_FOLDERS if (source / name).is_dir()), source)
    wanted += [Source(subject, "", test / subject / "annot_data.mat") for subject in TEST_SIZES]
    found = [each for each in wanted if each.path.is_file()]
    if not found:
        there = sorted(path.name for path in source.iterdir())[:20] if source.is_dir() else None
        holds = (
            "There is no such folder"
            if there is None
            else f"The folder holds {', '.join(there) or 'nothing'}"
        )
        raise DataError(f"--source {source}: no annotations; {LAYOUT}\n{holds}.\n{ORIGIN}")
    missing = [
        f"{each} ({'its folder has no ' + each.path.name if each.path.parent.is_dir() else 'no such folder'})"
        for each in wanted
        if each not in found
    ]
    return found, missing


def _cameras(text: str) -> tuple[int, ...]:
    if text == "all":
        return tuple(range(CAMERAS))
    numbers = [int(word) if word.isascii() and word.isdecimal() else -1 for word in text.split(",")]
    if not all(0 <= number < CAMERAS for number in numbers) or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"expected numbers of 0 to {CAMERAS - 1}, or all; got {text}")
    return tuple(sorted(numbers))


def _check_same(folder: Path, settings: dict[str, Any], sources: list[Source]) -> None:
    """Raises a DataError unless a folder holds what is about to be made."""
    try:
        _, facts = read_poses(folder)
        was = facts.get("settings"), set(facts.get("sources", ()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: there already, but damaged ({error}); remove it") from error
    if was != (settings, {str(source) for source in sources}):
        raise DataError(
            f"{folder}: there already, made with other options or of other files; remove it or give --name"
        )


def _convert(sources: list[Source], parts: Parts, skeleton: str, cameras: tuple[int, ...]) -> dict[str, str]:
    """Makes the part of each file that has none yet; returns the SHA-256 of each file."""
    digests, kept = {}, 0
    with tqdm(sources, desc="converting", unit="file", disable=None, leave=False) as bar:
        for source in bar:
            bar.set_postfix_str(str(source))
            arrays = parts.get(source.path, _beside(source))
            if arrays is None:
                arrays = packed(_read(source, skeleton, cameras)) | {"sha256": np.array(sha256(source.path))}
                parts.put(source.path, _beside(source), **arrays)
            else:
                kept += 1
            digests[str(source)] = str(arrays["sha256"])
    if kept:
        log.info("%d of %d files were converted by an earlier run", kept, len(sources))
    return digests


def _read(source: Source, skeleton: str, cameras: tuple[int, ...]) -> list[View]:
    if source.subject in TEST_SIZES:
        return views_of_test(source.path, source.subject, TEST_SIZES[source.subject], skeleton)
    return views_of_training(source.path, source.subject, source.action, cameras, skeleton)


def _beside(source: Source) -> str:
    """What else the conversion of a file depends on: its calibration, told by its content."""
    path = source.path.with_name("camera.calibration")
    return sha256(path) if source.subject in SUBJECTS and path.is_file() else ""


def _views(sources: list[Source], parts: Parts) -> Iterator[View]:
    for source in tqdm(sources, desc="writing", unit="file", disable=None, leave=False):
        arrays = parts.get(source.path, _beside(source))
        if arrays is None:
            raise DataError(f"{source.path}: changed while it was converted; give the same command again")
        yield from unpacked(arrays)

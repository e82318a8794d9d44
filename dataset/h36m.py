"""Human3.6M, from what its site and others give out to the field's two files: ``dataset.prepare h36m``.

Names of takes, and the take that is left out, are those of VideoPose3D (Pavllo et al., CVPR 2019), so that
its key point files fit.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.camera import h36m_cameras
from common.errors import DataError
from common.h36m import DATASETS, RECORDED_JOINTS
from common.safe_npz import read_npz
from dataset import layout
from dataset.archives import Found, files_in, is_archive
from dataset.parts import Parts, writing
from dataset.takes import READERS, fault_of

DATASET = DATASETS["h36m"]
SUBJECTS = DATASET.train + DATASET.test
ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking"),
)
RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
"""Actions that the field calls otherwise than the archives."""
CORRUPT = ("S11", "Directions")
"""The take that the field leaves out: its video is damaged, so that no detector has key points of it."""
TAKES = 2
"""Takes of each action by each subject."""
TRAINING_FRAMES = 389_938
"""Frames of the training subjects in the whole of Human3.6M: a quarter of the protocol's 1,559,752 poses."""
FOLDERS = ("d3_positions", "3d_positions")
"""Folders of world coordinates in the archives and in h36m.zip; ``D3_Positions_mono`` holds others."""
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="a folder with Poses_D3_Positions_S*.tgz, with unpacked .cdf files, with h36m.zip (packed or "
        "not) or with data_3d_h36m.npz; or one such file",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(DATASET.root),
        help="folder for the two files (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Writes ``data_3d_h36m.npz`` and ``data_2d_h36m_gt.npz``, and says what to do with them.

    Raises:
        DataError: The source is not there, damaged, or lacks whole subjects.
        RunError: The disk is full.
    """
    source, output = options.source, options.output
    path_3d, path_2d = DATASET.files(output, "gt")
    if not source.exists():
        raise DataError(f"--source {source}: no such file or folder\n{DATASET.origin}")
    parts = Parts(output, DATASET.name)
    raw = _from_raw(source, parts)
    positions = _ordered(raw or _from_npz(source))
    _report(positions, source)
    log.info("writing %s and %s", path_3d, path_2d)
    with writing(output):
        if raw or not (path_3d.exists() and path_3d.samefile(_npz(source))):
            layout.save(path_3d, positions_3d=positions)
        keypoints = layout.true_keypoints(positions, h36m_cameras())
        layout.save(path_2d, positions_2d=keypoints, metadata=layout.metadata())
    parts.remove()
    for left in output.glob(f".data_*_{DATASET.name}*.tmp"):  # by a run that was killed while it wrote
        left.unlink()
    elsewhere = [] if output == Path(DATASET.root) else ["--root_path", str(output)]
    train = ["python", "main.py", "--train", "-n", "NAME", "-k", "gt", *elsewhere]
    log.info("train by: %s", shlex.join(train))


def _ordered(positions: layout.Positions) -> layout.Positions:
    """The same takes in the protocol's order, whatever the order that they were found in."""

    def place(take: str) -> tuple[int, int, str]:
        action, _, number = take.partition(" ")
        index = ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)
        return index, int(number) if number.isdecimal() else 0, take

    return {
        subject: {
            take: np.ascontiguousarray(positions[subject][take], dtype=np.float32)
            for take in sorted(positions[subject], key=place)
        }
        for subject in SUBJECTS
        if subject in positions
    }


def _report(positions: layout.Positions, source: Path) -> None:
    """Says what was found and which takes are missing.

    Raises:
        DataError: Whole subjects are missing.
    """
    if absent := [subject for subject in SUBJECTS if subject not in positions]:
        files = ", ".join(f"Poses_D3_Positions_{subject}.tgz" for subject in absent)
        raise DataError(
            f"{source}: expected takes of {', '.join(SUBJECTS)}, found none of {', '.join(absent)}. Put "
            f"{files} (or what they hold) there and give the same command again; what was converted is kept."
        )
    missing = []
    for subject, takes in positions.items():
        found = Counter(take.split(" ")[0] for take in takes)
        for action in ACTIONS:
            expected = TAKES - ((subject, action) == CORRUPT)
            if found[action] < expected:
                missing.append(f"{subject}, {action}: {found[action]} of {expected}")
        log.info("%s: %d takes, %d frames", subject, len(takes), sum(map(len, takes.values())))
    if missing:
        log.warning("warning: takes are missing, so that figures will not be the field's:")
        log.warning("  %s", "\n  ".join(missing))
    frames = sum(len(world) for subject in DATASET.train for world in positions[subject].values())
    log.info("training subjects: %d frames; all of Human3.6M has %d", frames, TRAINING_FRAMES)


# From the archives' files


def _from_raw(source: Path, parts: Parts) -> layout.Positions:
    """All takes of the CDF and HDF5 files in a folder, its archives, or an archive."""
    positions: layout.Positions = {}
    ignored: list[str] = []
    with tqdm(total=len(SUBJECTS) * len(ACTIONS) * TAKES - 1, unit="take", disable=None, leave=False) as bar:
        for found in _files(source):
            subject, take = _name(found)
            if subject not in SUBJECTS or take.split(" ")[0] not in ACTIONS:
                ignored.append(str(found))
                continue
            if (subject, take) == CORRUPT or take in positions.get(subject, {}):
                continue
            bar.set_description(f"{subject} {take}")
            positions.setdefault(subject, {})[take] = _take(found, parts)
            bar.update()
    if ignored:
        log.info("left out %d files that are no takes of Human3.6M, such as %s", len(ignored), ignored[0])
    return positions


def _files(source: Path) -> Iterator[Found]:
    """The files of takes: those on the disk, then those in archives."""
    if source.is_file():
        yield from filter(_is_take, files_in(source) if is_archive(source) else ())
        return
    yield from filter(_is_take, files_in(source))
    for found in files_in(source):
        name = found.source.name.lower()
        if is_archive(found.source) and ("d3_positions_s" in name or name.startswith("h36m")):
            yield from filter(_is_take, files_in(found.source))


def _is_take(found: Found) -> bool:
    *folders, name = found.names
    folder = folders[-1] if folders else ""
    right = folder.lower() in FOLDERS or folder in SUBJECTS
    return right and Path(name).suffix.lower() in READERS


def _name(found: Found) -> tuple[str, str]:
    """Subject, and take as the field calls it; empty where the path does not tell."""
    *folders, name = found.names
    subjects = [hit for folder in folders for hit in re.findall(r"(?:^|_)(S\d+)(?=$|\.)", folder)]
    words = re.fullmatch(r"([A-Za-z]+)(?:[ _](\d+))?", Path(name).stem)
    if not subjects or not words:
        return "", ""
    action, number = words.groups()
    action = RENAMED.get(action, action)
    # The same objects for the same names, since pickles tell them from equal ones.
    return sys.intern(subjects[-1]), sys.intern(f"{action} {number}" if number else action)


def _take(found: Found, parts: Parts) -> np.ndarray:
    kept = parts.get(found.source, found.member)
    if kept is not None:
        return kept["world"]
    read = READERS[Path(found.names[-1]).suffix.lower()]
    world = (read(found.read(), str(found)).astype(np.float64) / 1000).astype(np.float32)
    if fault := fault_of(world, "millimetres"):
        raise DataError(f"{found}: {fault}")
    parts.put(found.source, found.member, world=world)
    return world


# From the field's own file


def _npz(source: Path) -> Path:
    return source / DATASET.files(source, "gt")[0].name if source.is_dir() else source


def _from_npz(source: Path) -> layout.Positions:
    path = _npz(source)
    if path.suffix != ".npz" or not path.is_file():
        names = sorted(path.name for path in source.glob("[!.]*")) if source.is_dir() else [source.name]
        there = ", ".join(names[:10])
        raise DataError(
            f"{source}: expected Poses_D3_Positions_S1.tgz and so on (world coordinates, not the "
            "D3_Positions_mono of the cameras), the folders S1/MyPoseFeatures/D3_Positions that they hold, "
            f"h36m.zip, or {DATASET.files(source, 'gt')[0].name}; found {there or 'nothing'}\n"
            f"{DATASET.origin}"
        )
    found = read_npz(path).get("positions_3d")
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a dictionary positions_3d, as VideoPose3D's scripts write it")
    positions: layout.Positions = {}
    for subject in SUBJECTS:
        takes = found.get(subject)
        for take, world in (takes if isinstance(takes, dict) else {}).items():
            if (subject, take) != CORRUPT:
                _check_stored(world, f"{path}: {subject}, {take}")
                positions.setdefault(subject, {})[sys.intern(str(take))] = world
    return positions


def _check_stored(world: object, where: str) -> None:
    """Raises a DataError unless a take of an npz file is one."""
    if not isinstance(world, np.ndarray) or world.dtype.kind != "f":
        raise DataError(f"{where}: expected an array of floats, found {type(world).__name__}")
    if world.ndim != 3 or world.shape[1:] != (RECORDED_JOINTS, 3) or len(world) == 0:
        raise DataError(f"{where}: expected shape (frames, {RECORDED_JOINTS}, 3), found {world.shape}")
    if fault := fault_of(world, "metres"):
        raise DataError(f"{where}: {fault}")

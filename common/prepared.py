"""Data sets that ``python -m dataset.prepare`` has made: folders of ``common.pose_files``, found by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.h36m import DATASETS, Dataset
from common.pose_files import INDEX, read_poses
from common.sequences import PoseSet, Sequence

ROOT = "dataset"
NAME_3DHP = "3dhp"
AGAIN = "remove the folder and prepare it again"


def dataset_named(name: str, root: Path | None = None, *, option: str = "dataset") -> Dataset:
    """The data set of a name: one of ``common.h36m.DATASETS``, or else the prepared one in ``root/name``.

    Args:
        name: Name of the data set.
        root: Folder of the prepared data sets; None for ``dataset``.
        option: The option that names it, for messages.

    Raises:
        DataError: There is none of that name, with those that there are; or its index is damaged.
    """
    if name in DATASETS:
        return DATASETS[name]
    root = root or Path(ROOT)
    if Path(name).name != name or name.startswith("."):
        raise DataError(
            f"--{option} {name}: expected the plain name of a data set, such as {', '.join(DATASETS)}"
        )
    if not (root / name / INDEX).is_file():
        raise DataError(f"--{option} {_unknown(name, root)}")
    facts = _opened(root / name)[1]
    return Dataset(
        name=name,
        root=str(root),
        train=tuple(facts["train"]),
        test=tuple(facts["test"]),
        keypoints=facts["keypoints"],
        origin=facts["origin"],
        prepared=True,
        groups={subject: group for group, subjects in facts["groups"].items() for subject in subjects},
    )


def open_prepared(dataset: Dataset, root: Path) -> PoseSet:
    """Opens a prepared data set, its test subjects told by the groups that they belong to.

    Raises:
        DataError: Its files are missing or damaged.
    """
    poses, _ = _opened(root / dataset.name)
    groups = dataset.groups
    sequences = (replace(each, group=groups.get(each.subject, "")) for each in poses.sequences)
    return PoseSet(poses.keypoints, poses.positions, tuple(sequences))


def _unknown(name: str, root: Path) -> str:
    prepared = {path.parent.name for path in root.glob(f"[!.]*/{INDEX}")} if root.is_dir() else set()
    there = [*DATASETS, *sorted(prepared - set(DATASETS))]
    if name == NAME_3DHP:
        command = f"python -m dataset.prepare {name} --source DIR"
    else:
        command = f"python -m dataset.prepare mocap --source DIR --name {name}"
    if str(root) != ROOT:
        command += f" --output {root}"
    return (
        f"{name}: expected one of {', '.join(there)}; there is no prepared data set in "
        f"{root / name}. To prepare it: {command} (see dataset/README.md); if it is elsewhere, name the "
        "folder that its folder is in with --root_path."
    )


def _opened(folder: Path) -> tuple[PoseSet, dict[str, Any]]:
    """The poses and the facts, both in order."""
    try:
        poses, facts = read_poses(folder)
        facts.setdefault("groups", {})
        for key in ("train", "test"):
            _require(_is_names(facts.get(key)), f"{key}, a list of subjects")
        for key in ("keypoints", "origin"):
            _require(isinstance(facts.get(key), str), f"{key}, a text")
        groups = facts["groups"]
        _require(isinstance(groups, dict) and all(map(_is_names, groups.values())), "groups of subjects")
        row = 0
        for sequence in poses.sequences:
            _require(_is_next(sequence, row), f"sequences one after another, at row {row}")
            row = sequence.stop
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: no whole data set ({reason}); {AGAIN}") from error
    return poses, facts


def _require(condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(f"expected {expected} in {INDEX}")


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, tuple) and len(value) == count and all(type(each) in (int, float) for each in value)
    )


def _is_next(sequence: Sequence, row: int) -> bool:
    whole = (sequence.camera, sequence.start, sequence.stop, sequence.first_frame, sequence.step)
    return (
        all(isinstance(text, str) for text in (sequence.subject, sequence.action))
        and all(type(number) is int for number in whole)
        and sequence.start == row < sequence.stop
        and sequence.first_frame >= 0 < sequence.step
        and _are_numbers(sequence.intrinsics, 4)
        and _are_numbers(sequence.image_size, 2)
        and (sequence.orientation is None or _are_numbers(sequence.orientation, 4))
    )

"""Writes what the demo found as data: npz, JSON, CSV and BVH; docs/formats.md describes what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.files import replacing
from common.skeleton import JOINT_NAMES, PARENTS
from demo.lib.bvh import save_bvh
from demo.lib.result import Result, Track

FORMAT = "htnet-poses"
VERSION = 1
ROWS = 1000
"""Poses turned into text at once: as Python's numbers and text they take ten times the arrays' memory."""

COORDINATE_FRAMES = {
    "image": "pixels, x to the right, y down, from the upper left corner of the picture",
    "camera": "metres, x to the camera's right, y down, z away from it; root-relative: the pelvis is at 0",
    "upright_display": (
        "metres, z up, the lowest joint of each frame at 0: the camera poses turned by one fixed rotation. "
        "It is a display rotation, not a measurement: camera tilt and height above the floor are not known"
    ),
    "root_estimate": (
        "metres, camera space: where the pelvis may be. It is an estimate, as wrong as the focal length and "
        "the stature that were assumed"
    ),
}


class Field(NamedTuple):
    """An array of a person's track.

    Attributes:
        name: Its name in npz and JSON.
        attribute: The attribute of ``Track``.
        meaning: What it is, in words.
        decimals: Decimals in text; None for integers and truth values.
        columns: Its columns in CSV, for each joint.
    """

    name: str
    attribute: str
    meaning: str
    decimals: int | None = None
    columns: tuple[str, ...] = ()


def _axes(what: str) -> tuple[str, ...]:
    return tuple(f"{axis}_{what}" for axis in "xyz")


UPRIGHT = "upright_display"
FIELDS = (
    Field("frames", "frames", "(T,) frame numbers, from 0"),
    Field(
        "interpolated", "interpolated", "(T,) true where nobody was detected; filled in between neighbours"
    ),
    Field("keypoints", "keypoints", "(T, 17, 2) image: the key points that were lifted", 3, ("x_px", "y_px")),
    Field("scores", "scores", "(T, 17) confidence of each key point, 0 to 1", 4, ("score",)),
    Field("poses_camera", "poses", "(T, 17, 3) camera: lifted poses", 6, _axes("camera_m")),
    Field("poses_camera_raw", "raw_poses", "(T, 17, 3) camera: before smoothing", 6, _axes("camera_raw_m")),
    Field(f"poses_{UPRIGHT}", "upright", f"(T, 17, 3) {UPRIGHT}: for display", 6, _axes(f"{UPRIGHT}_m")),
    Field("root_estimate", "root", "(T, 3) root_estimate: the pelvis", 6, _axes("root_estimate_m")),
)
TIMES = "(T,) seconds from the first frame of the input; left out where the rate is not known"


def save(result: Result, stem: str | os.PathLike[str], kinds: Iterable[str]) -> list[Path]:
    """Writes a result in some formats, each file whole or not at all.

    Args:
        result: What was found.
        stem: Path of the files without their suffix; BVH adds the person's number, ``_person_1.bvh``.
        kinds: Some of "npz", "json", "csv", "bvh".

    Returns:
        The files written.
    """
    savers: dict[str, Callable[[Result, Path], None]] = {"npz": save_npz, "json": save_json, "csv": save_csv}
    written = []
    for kind in kinds:
        if kind == "bvh":
            for track in result.tracks:
                written.append(Path(f"{os.fspath(stem)}_person_{track.id}.bvh"))
                save_bvh(track, written[-1], result.fps)
        else:
            written.append(Path(f"{os.fspath(stem)}.{kind}"))
            savers[kind](result, written[-1])
    return written


def save_npz(result: Result, path: str | os.PathLike[str]) -> None:
    """Writes arrays that ``numpy.load`` reads without pickles, a person's named ``person_1_poses_camera``."""
    facts = _facts(result)
    members = {name: np.asarray(facts[name]) for name in ("format", "version", "source", "image_size")}
    members |= {name: np.asarray(facts[name]) for name in ("frame_count", "joint_names", "joint_parents")}
    members |= {
        name: np.asarray(json.dumps(facts[name])) for name in ("coordinate_frames", "fields", "notes")
    }
    members["person_ids"] = np.array([track.id for track in result.tracks], dtype=np.int64)
    if result.fps is not None:
        members["fps"] = np.asarray(float(result.fps))
    for track in result.tracks:
        for name, array in _arrays(track, result).items():
            members[f"person_{track.id}_{name}"] = array
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **members)  # type: ignore[arg-type]


def save_json(result: Result, path: str | os.PathLike[str]) -> None:
    """Writes one JSON object: facts on the input, then the people, with lists as long as their frames."""
    decimals = {field.name: field.decimals for field in FIELDS} | {"times": 6}
    facts = json.dumps(_facts(result), allow_nan=False)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(f'{facts[:-1]}, "people": [')
        for number, track in enumerate(result.tracks):
            file.write(f'{", " if number else ""}{{"id": {track.id}')
            for name, array in _arrays(track, result).items():
                file.write(f', "{name}": [')
                for start in range(0, len(array), ROWS):
                    rows, places = array[start : start + ROWS], decimals[name]
                    plain = (rows if places is None else rows.astype(float).round(places)).tolist()
                    file.write((", " if start else "") + json.dumps(plain, allow_nan=False)[1:-1])
                file.write("]")
            file.write("}")
        file.write("]}\n")


def save_csv(result: Result, path: str | os.PathLike[str]) -> None:
    """Writes a line for each joint of each person in each frame; the columns' names hold the units.

    Columns that nobody has are left out; where only some people have them, the others' are "nan".
    """
    fields = [
        field
        for field in FIELDS
        if field.columns and any(getattr(track, field.attribute) is not None for track in result.tracks)
    ]
    columns = [column for field in fields for column in field.columns]
    numbers = ",".join(f"%.{field.decimals}f" for field in fields for _ in field.columns)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(",".join(["person", "frame", "time_s", "interpolated", "joint", *columns]) + "\n")
        for track in result.tracks:
            cells = [_cells(track, field) for field in fields]
            times = result.times(track)
            for row, frame in enumerate(track.frames):
                if row % ROWS == 0:
                    part = [cell[row : row + ROWS] for cell in cells]
                    table = np.concatenate(part, axis=-1)  # (rows, 17, columns)
                time = "" if times is None else f"{times[row]:.6f}"
                start = f"{track.id},{frame},{time},{int(track.interpolated[row])}"
                for name, values in zip(JOINT_NAMES, table[row % ROWS], strict=True):
                    file.write(f"{start},{name},{numbers % tuple(values)}\n")


def _cells(track: Track, field: Field) -> np.ndarray:
    """(T, 17, columns) of a field in CSV; what all joints share is repeated."""
    shape = (len(track.frames), len(JOINT_NAMES), len(field.columns))
    array = getattr(track, field.attribute)
    if array is None:
        return np.broadcast_to(np.nan, shape)
    if array.ndim == 2:
        array = array[:, :, None] if len(field.columns) == 1 else array[:, None]  # (T, 17, 1) or (T, 1, 3)
    return np.broadcast_to(array, shape)


def _arrays(track: Track, result: Result) -> dict[str, np.ndarray]:
    """A person's arrays by their names in files; those that were not asked for are left out."""
    times = result.times(track)
    arrays = {} if times is None else {"times": times}
    for field in FIELDS:
        value = getattr(track, field.attribute)
        if value is not None:
            arrays[field.name] = value
    return arrays


def _facts(result: Result) -> dict[str, Any]:
    """What is true of the whole input, in plain values."""
    meanings = {field.name: field.meaning for field in FIELDS} | {"times": TIMES}
    present = {name for track in result.tracks for name in _arrays(track, result)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": result.source,
        "image_size": list(result.image_size),
        "frame_count": result.frame_count,
        "fps": result.fps,
        "joint_names": list(JOINT_NAMES),
        "joint_parents": list(PARENTS),
        "coordinate_frames": COORDINATE_FRAMES,
        "fields": {name: meaning for name, meaning in meanings.items() if name in present},
        "notes": result.notes,
    }

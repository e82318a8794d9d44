"""Writes results as npz, JSON, CSV, BVH, glTF, TRC, C3D and joint angles; docs/formats.md describes them.

Each frame keeps its own time. BVH and C3D know one rate only: they are resampled to the mean rate.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from common.console import UserError, printable
from common.files import replacing
from common.skeleton import JOINT_NAMES, PARENTS
from demo.lib.bvh import bvh_lines
from demo.lib.gltf import gltf
from demo.lib.result import Result, Track
from demo.lib.videos import resample

FORMAT, VERSION = "htnet-poses", 1
ROWS = 1000  # poses turned into text at once: as text they take ten times the arrays' memory
DEFAULT_RATE = 30.0  # where the rate is unknown and the format must name one
UPRIGHT = "upright_display"

COORDINATE_FRAMES = {
    "image": "pixels, x to the right, y down, from the upper left corner of the image",
    "camera": "metres, x to the camera's right, y down, z away from it; root-relative: the pelvis is at 0",
    UPRIGHT: (
        "metres, z up. With a floor (note on motion): height above it, the first pelvis over the origin. "
        "Else a display rotation, not a measurement: one fixed rotation, the lowest joint of each frame at 0"
    ),
    "root_estimate": (
        "metres, camera space: where the pelvis may be. An estimate, as accurate as the focal length and the "
        "stature that were assumed"
    ),
}


class Field(NamedTuple):
    """An array of a person's track.

    Attributes:
        name: Its name in npz and JSON.
        attribute: The attribute of ``Track``.
        meaning: What it is, in words.
        decimals: Decimals in text; None for integers and booleans.
        columns: Its columns in CSV, for each joint.
    """

    name: str
    attribute: str
    meaning: str
    decimals: int | None = None
    columns: tuple[str, ...] = ()


def _axes(what: str) -> tuple[str, ...]:
    return tuple(f"{axis}_{what}" for axis in "xyz")


FIELDS = (
    Field("frames", "frames", "(T,) frame numbers, from 0"),
    Field("interpolated", "interpolated", "(T,) true where nobody was detected; filled in from neighbours"),
    Field("keypoints", "keypoints", "(T, 17, 2) image: the keypoints that were lifted", 3, ("x_px", "y_px")),
    Field("scores", "scores", "(T, 17) confidence of each keypoint, 0 to 1", 4, ("score",)),
    Field("poses_camera", "poses", "(T, 17, 3) camera: lifted poses", 6, _axes("camera_m")),
    Field("poses_camera_raw", "raw_poses", "(T, 17, 3) camera: as lifted", 6, _axes("camera_raw_m")),
    Field(f"poses_{UPRIGHT}", "upright", f"(T, 17, 3) {UPRIGHT}: for display", 6, _axes(f"{UPRIGHT}_m")),
    Field("root_estimate", "root", "(T, 3) root_estimate: the pelvis", 6, _axes("root_estimate_m")),
)
TIMES = "(T,) seconds from the first frame of the input; omitted where the rate is unknown"


def save(result: Result, stem: str | os.PathLike[str], kinds: Iterable[str]) -> list[Path]:
    """Writes a result in some formats, each file atomically.

    Args:
        result: What was found.
        stem: Path of the files without their suffix; formats of one person add ``_person_1``.
        kinds: Some of ``KINDS``.

    Returns:
        The files written.

    Raises:
        UserError: A package that a format needs is missing.
    """
    written = []
    for kind in kinds:
        if kind in OF_RESULT:
            written.append(Path(f"{os.fspath(stem)}.{kind}"))
            OF_RESULT[kind](result, written[-1])
        else:
            ending = "_angles.csv" if kind == "angles" else f".{kind}"
            for track in result.tracks:
                written.append(Path(f"{os.fspath(stem)}_person_{track.id}{ending}"))
                OF_PERSON[kind](track, result, written[-1])
    return written


def _save_npz(result: Result, path: Path) -> None:
    metadata = _metadata(result)
    plain = ("format", "version", "source", "image_size", "frame_count", "joint_names", "joint_parents")
    members = {name: np.asarray(metadata[name]) for name in plain}
    as_json = ("coordinate_frames", "fields", "notes")
    members |= {name: np.asarray(json.dumps(metadata[name])) for name in as_json}
    members["person_ids"] = np.array([track.id for track in result.tracks], dtype=np.int64)
    if result.fps is not None:
        members["fps"] = np.asarray(float(result.fps))
    for track in result.tracks:
        for name, array in _arrays(track, result).items():
            members[f"person_{track.id}_{name}"] = array
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **members)  # type: ignore[arg-type]


def _save_json(result: Result, path: Path) -> None:
    decimals = {field.name: field.decimals for field in FIELDS} | {"times": 6}
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(f'{json.dumps(_metadata(result), allow_nan=False)[:-1]}, "people": [')
        for number, track in enumerate(result.tracks):
            file.write(f'{", " if number else ""}{{"id": {track.id}')
            for name, array in _arrays(track, result).items():
                file.write(f', "{name}": [')
                for start in range(0, len(array), ROWS):
                    rows, places = array[start : start + ROWS], decimals[name]
                    values = (rows if places is None else rows.astype(float).round(places)).tolist()
                    file.write((", " if start else "") + json.dumps(values, allow_nan=False)[1:-1])
                file.write("]")
            file.write("}")
        file.write("]}\n")


def _save_csv(result: Result, path: Path) -> None:
    """A line for each joint of each person in each frame; columns that nobody has are omitted."""
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
                    table = np.concatenate([cell[row : row + ROWS] for cell in cells], axis=-1)
                time = "" if times is None else f"{times[row]:.6f}"
                start = f"{track.id},{frame},{time},{int(track.interpolated[row])}"
                for name, values in zip(JOINT_NAMES, table[row % ROWS], strict=True):
                    file.write(f"{start},{name},{numbers % tuple(values)}\n")


def _cells(track: Track, field: Field) -> NDArray[Any]:
    """(T, 17, columns) of a field in CSV; what all joints share is repeated."""
    shape = (len(track.frames), len(JOINT_NAMES), len(field.columns))
    array = getattr(track, field.attribute)
    if array is None:
        return np.broadcast_to(np.nan, shape)
    if array.ndim == 2:
        array = array[:, :, None] if len(field.columns) == 1 else array[:, None]  # (T, 17, 1) or (T, 1, 3)
    return np.broadcast_to(array, shape)


def _arrays(track: Track, result: Result) -> dict[str, NDArray[Any]]:
    """A person's arrays by their names in files, without those that are absent."""
    times = result.times(track)
    found = {field.name: getattr(track, field.attribute) for field in FIELDS}
    arrays = {} if times is None else {"times": times}
    return arrays | {name: array for name, array in found.items() if array is not None}


def _metadata(result: Result) -> dict[str, Any]:
    meanings = {field.name: field.meaning for field in FIELDS} | {"times": TIMES}
    present = {name for track in result.tracks for name in _arrays(track, result)}
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": printable(result.source),
        "image_size": list(result.image_size),
        "frame_count": result.frame_count,
        "fps": result.fps,
        "joint_names": list(JOINT_NAMES),
        "joint_parents": list(PARENTS),
        "coordinate_frames": COORDINATE_FRAMES,
        "fields": {name: meaning for name, meaning in meanings.items() if name in present},
        "notes": {name: printable(text) for name, text in result.notes.items()},
    }


# Formats of one person


def _y_up(track: Track) -> NDArray[np.float64]:
    """(T, 17, 3) metres, x to the camera's right, y up, z towards the camera; with the root if estimated."""
    poses = track.poses.astype(np.float64)
    if track.root is not None:
        poses = poses + track.root[:, None]
    return poses * [1, -1, -1]


def _times(track: Track, result: Result) -> NDArray[np.float64]:
    """(T,) seconds of a track's frames, at the default rate where theirs is unknown."""
    times = result.times(track)
    return track.frames / DEFAULT_RATE if times is None else times


def _rows_and_rate(track: Track, result: Result) -> tuple[NDArray[np.int_], float]:
    """Rows of a track at a constant rate, and the rate: of the video where it is constant, else the mean."""
    times, rate = result.times(track), result.fps or DEFAULT_RATE
    if times is None or result.fps is None:
        times = track.frames / rate
    return resample(times, rate), rate


def _save_bvh(track: Track, result: Result, path: Path) -> None:
    rows, rate = _rows_and_rate(track, result)
    root = None if track.root is None else track.root[rows]
    _write_lines(path, bvh_lines(track.poses[rows], root, rate))


def _save_trc(track: Track, result: Result, path: Path) -> None:
    """OpenSim's and Pose2Sim's marker file: tab-separated, metres, y up."""
    times, rate = _times(track, result), result.fps or DEFAULT_RATE
    points, names = _y_up(track), [name.title().replace("_", "") for name in JOINT_NAMES]
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:g}\t{rate:g}\t{len(points)}\t{len(names)}\tm\t{rate:g}\t{track.frames[0] + 1}\t{len(points)}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{number}" for number in range(1, len(names) + 1) for axis in "XYZ"),
    ]
    for frame, seconds, pose in zip(track.frames, times, points, strict=True):
        values = "\t".join(f"{value:.6f}" for value in pose.ravel())
        lines.append(f"{frame + 1}\t{seconds:.6f}\t{values}")
    _write_lines(path, lines)


def _save_c3d(track: Track, result: Result, path: Path) -> None:
    try:
        import ezc3d
    except ImportError as error:
        raise UserError("--save c3d needs ezc3d: pip install ezc3d") from error
    rows, rate = _rows_and_rate(track, result)
    points = np.ones((4, len(JOINT_NAMES), len(rows)))
    points[:3] = _y_up(track)[rows].transpose(2, 1, 0) * 1000  # (T, 17, 3) -> (3, 17, T), millimetres
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [rate]
    file["parameters"]["POINT"]["UNITS"]["value"] = ["mm"]
    file["parameters"]["POINT"]["LABELS"]["value"] = list(JOINT_NAMES)
    file["data"]["points"] = points
    with replacing(path) as temporary:
        file.write(os.fspath(temporary))  # which adds its suffix
        temporary.with_name(f"{temporary.name}.c3d").rename(temporary)


def _save_gltf(track: Track, result: Result, path: Path) -> None:
    _write_lines(path, [gltf(track.poses, track.root, _times(track, result))])


ANGLES = {
    **{f"{side}_elbow": (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")},
    **{f"{side}_knee": (f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")},
    **{f"{side}_hip": ("thorax", f"{side}_hip", f"{side}_knee") for side in ("left", "right")},
}
"""Flexion: 180 degrees minus the angle at the middle joint; 0 is straight."""


def joint_angles(poses: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Angles in degrees of poses (T, 17, 3) in camera space, by name, (T,) each.

    Elbow, knee and hip flexion as in ``ANGLES``; shoulder elevation between the upper arm and the trunk's
    downward direction; trunk lean between the trunk (pelvis to thorax) and the image's vertical, so a tilted
    camera adds.
    """
    at = {name: poses[:, index].astype(np.float64) for index, name in enumerate(JOINT_NAMES)}
    angles = {
        f"{name}_flexion": 180 - _between(at[first] - at[middle], at[last] - at[middle])
        for name, (first, middle, last) in ANGLES.items()
    }
    trunk = at["thorax"] - at["pelvis"]
    for side in ("left", "right"):
        arm = at[f"{side}_elbow"] - at[f"{side}_shoulder"]
        angles[f"{side}_shoulder_elevation"] = _between(arm, -trunk)
    angles["trunk_lean"] = _between(trunk, np.broadcast_to([0.0, -1.0, 0.0], trunk.shape))
    return angles


def _between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    across = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.degrees(np.arctan2(across, (first * second).sum(axis=-1)))


def _save_angles(track: Track, result: Result, path: Path) -> None:
    angles, times = joint_angles(track.poses), result.times(track)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frame", "time_s", *(f"{name}_deg" for name in angles)])
        for row, frame in enumerate(track.frames):
            seconds = "" if times is None else f"{times[row]:.6f}"
            writer.writerow([frame, seconds, *(f"{values[row]:.3f}" for values in angles.values())])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as temporary:
        file: TextIO
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


OF_RESULT: dict[str, Callable[[Result, Path], None]] = {
    "npz": _save_npz,
    "json": _save_json,
    "csv": _save_csv,
}
OF_PERSON: dict[str, Callable[[Track, Result, Path], None]] = {
    "bvh": _save_bvh,
    "gltf": _save_gltf,
    "trc": _save_trc,
    "c3d": _save_c3d,
    "angles": _save_angles,
}
KINDS = (*OF_RESULT, *OF_PERSON)
"""What ``--save`` accepts."""

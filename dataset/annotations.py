"""MPI-INF-3DHP's annotation files, each to the views that it holds: what a camera sees of a run of frames.

The files give pixels, and millimetres in the axes of each camera (x right, y down, z away from it).
"""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from common.camera import normalize_pixels
from common.errors import DataError
from common.sequences import Sequence
from common.skeleton import (
    HEAD,
    LEFT_LEG,
    MPI_INF_3DHP_17_KEPT,
    MPI_INF_3DHP_28_KEPT,
    NUM_JOINTS,
    RIGHT_LEG,
)
from dataset.calibration import (
    Calibration,
    fit_intrinsics,
    orientation,
    projection_error,
    read_calibration,
    up_axis,
)
from dataset.mat_files import AGAIN, read_cells, read_hdf5

View = tuple[Sequence, np.ndarray, np.ndarray]
"""See ``common.pose_files.write_poses``."""

SKELETONS = {"universal": "univ_annot3", "metric": "annot3"}
CAMERAS = 14
TRAINING_JOINTS, TEST_JOINTS = 28, 17
TRAINING_SIZE = 2048, 2048
ACTIVITIES = (
    *("Unlabelled", "Stand/Walk", "Exercise", "Sit-on-chair", "Crouch/Reach", "On-floor", "Sports"),
    "Miscellaneous",
)
"""What the numbers of ``activity_annotation`` stand for, from 0 on."""
MAX_FRAMES = 100_000
UNKNOWN_LENS = 0.0, 0.0, 0.0, 0.0
THIGH = 200, 800
"""Millimetres that a thigh may have; the check of the unit."""
MAX_ERROR = 10.0
"""Pixels that the projected positions may miss the key points by, in the median, before the user is told."""

log = logging.getLogger(__name__)


def views_of_training(
    path: Path, subject: str, action: str, cameras: tuple[int, ...], skeleton: str
) -> list[View]:
    """The views of a training sequence.

    Args:
        path: Its ``annot.mat``; ``camera.calibration`` is looked for beside it.
        subject: Name of the subject.
        action: Name of the sequence.
        cameras: Which of the 14 cameras.
        skeleton: One of ``SKELETONS``.

    Raises:
        DataError: A file is damaged or not what MPI-INF-3DHP's are.
        OSError: ``annot.mat`` cannot be read.
    """
    names = ("annot2", "annot3", SKELETONS[skeleton])
    cells = read_cells(path, tuple(dict.fromkeys(names)), CAMERAS)
    calibrations = _calibrations(path.with_name("camera.calibration"))
    views = []
    for camera in cameras:
        where = f"{path}: camera {camera}"
        pixels, metric, positions = (
            _matrix(cells[name][camera], f"{where}: {name}", channels)
            for name, channels in zip(names, (2, 3, 3), strict=True)
        )
        if not len(pixels) == len(metric) == len(positions):
            found = f"{len(pixels)}, {len(metric)} and {len(positions)}"
            raise DataError(f"{where}: expected as many frames of {', '.join(names)}; found {found}")
        finite = [np.isfinite(array).all(axis=(1, 2)) for array in (pixels, metric, positions)]  # (F,) each
        labels = np.where(np.all(finite, axis=0), 0, -1)
        name = Sequence(subject, action, camera, 0, 0, UNKNOWN_LENS, TRAINING_SIZE)
        views += _views(where, name, (pixels, metric, positions), labels, (action,), calibrations.get(camera))
    return views


def views_of_test(path: Path, subject: str, size: tuple[int, int], skeleton: str) -> list[View]:
    """The views of a test sequence: its valid frames, a run for each stretch of one activity.

    Args:
        path: Its ``annot_data.mat``.
        subject: Name of the sequence.
        size: Width and height of its pictures, pixels.
        skeleton: One of ``SKELETONS``.

    Raises:
        DataError: The file is damaged, not what MPI-INF-3DHP's are, or has no valid frames.
        OSError: It cannot be read.
    """
    names = ("annot2", "annot3", SKELETONS[skeleton])
    valid_name, activity_name = "valid_frame", "activity_annotation"
    shapes: dict[str, tuple[int | None, ...]] = {
        name: (channels, TEST_JOINTS, 1, None) for name, channels in zip(names, (2, 3, 3), strict=True)
    }
    shapes |= {valid_name: (None, None), activity_name: (None, None)}
    arrays = read_hdf5(path, shapes, MAX_FRAMES, optional=frozenset({activity_name}))
    if activity_name not in arrays:
        log.warning("%s has no %s: its actions are %s", path, activity_name, ACTIVITIES[0])
        arrays[activity_name] = np.zeros_like(arrays[valid_name])
    counts = {name: arrays[name].shape[-1] for name in names}
    counts |= {name: arrays[name].size for name in (valid_name, activity_name)}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise DataError(f"{path}: expected as many frames of each; found {found}")
    pixels, metric, positions = (
        # (C, 17, 1, F) -> (F, 17, C), in this project's order
        arrays[name][:, :, 0].transpose(2, 1, 0)[:, MPI_INF_3DHP_17_KEPT].astype(np.float64)
        for name in names
    )
    labels = arrays[activity_name].ravel()
    labels = np.where(np.isin(labels, range(len(ACTIVITIES))), labels, 0).astype(int)
    labels = np.where(arrays[valid_name].ravel() != 0, labels, -1)
    name = Sequence(subject, "", 0, 0, 0, UNKNOWN_LENS, size)
    return _views(str(path), name, (pixels, metric, positions), labels, ACTIVITIES, None)


def packed(views: list[View]) -> dict[str, np.ndarray]:
    """Views as plain arrays, for ``dataset.parts``."""
    sequences, keypoints, positions = zip(*views)
    return {
        "sequences": np.array(json.dumps([asdict(sequence) for sequence in sequences])),
        "keypoints": np.concatenate(keypoints).astype(np.float32),
        "positions": np.concatenate(positions).astype(np.float32),
    }


def unpacked(arrays: dict[str, np.ndarray]) -> list[View]:
    """The views that ``packed`` has packed."""
    views, row = [], 0
    for entry in json.loads(str(arrays["sequences"])):
        tuples = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
        sequence = Sequence(**{**entry, **tuples})
        rows = slice(row, row + len(sequence))
        views.append((sequence, arrays["keypoints"][rows], arrays["positions"][rows]))
        row = rows.stop
    return views


def _calibrations(path: Path) -> dict[int, Calibration]:
    if path.is_file():
        return read_calibration(path)
    log.warning("%s is missing: its cameras are found from the annotations, without their orientation", path)
    return {}


def _matrix(cell: np.ndarray, where: str, channels: int) -> np.ndarray:
    """A camera's matrix as (F, 17, C) float64."""
    width = TRAINING_JOINTS * channels
    if cell.dtype.kind not in "fiu" or cell.ndim != 2 or cell.shape[1] != width:
        is_other = cell.ndim == 2 and cell.shape[1] % channels == 0
        joints = f", which would be {cell.shape[1] // channels} joints" if is_other else ""
        raise DataError(
            f"{where}: expected numbers of shape (frames, {width}), {TRAINING_JOINTS} joints; "
            f"found {cell.dtype} of shape {cell.shape}{joints}"
        )
    if not 0 < len(cell) <= MAX_FRAMES:
        raise DataError(f"{where}: expected 1 to {MAX_FRAMES:,} frames, found {len(cell):,}")
    # (F, 28 * C) -> (F, 28, C) -> (F, 17, C)
    return cell.reshape(len(cell), TRAINING_JOINTS, channels)[:, MPI_INF_3DHP_28_KEPT].astype(np.float64)


def _views(
    where: str,
    name: Sequence,
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
    labels: np.ndarray,
    actions: tuple[str, ...],
    calibration: Calibration | None,
) -> list[View]:
    """Cuts the frames of a camera into runs of one action, so that a gap is never taken for a motion.

    Args:
        where: The file and the camera, for errors.
        name: Subject, camera and image size.
        arrays: (F, 17, 2) pixels; (F, 17, 3) positions that fit them, and of the chosen skeleton, mm.
        labels: (F,) which of the actions each frame shows; -1 for a frame that is not valid.
        actions: Names of the actions.
        calibration: What is known of the camera.
    """
    pixels, metric, positions = arrays
    valid = labels >= 0
    if not valid.any():
        raise DataError(f"{where}: none of its {len(labels)} frames is valid; {AGAIN}")
    if not all(np.isfinite(array[valid]).all() for array in arrays):
        raise DataError(f"{where}: expected numbers in all valid frames, found NaN or infinity; {AGAIN}")
    _check_unit(metric[valid], where)
    keypoints = normalize_pixels(pixels, *name.image_size)
    lens, turned = _camera(where, name.image_size, keypoints[valid], metric[valid], calibration)
    name = replace(name, intrinsics=lens, orientation=turned)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    views: list[View] = []
    for start, stop in itertools.pairwise(edges):
        if valid[start]:
            action = actions[int(labels[start])]
            sequence = replace(name, action=action, stop=stop - start, first_frame=start)
            views.append((sequence, keypoints[start:stop], positions[start:stop] / 1000))
    return views


def _check_unit(metric: np.ndarray, where: str) -> None:
    bones = [metric[:, leg[1]] - metric[:, leg[0]] for leg in (LEFT_LEG, RIGHT_LEG)]
    thigh = float(np.median(np.linalg.norm(bones, axis=-1)))
    if not THIGH[0] < thigh < THIGH[1]:
        raise DataError(
            f"{where}: expected millimetres and {NUM_JOINTS} joints that make a person, found thighs of "
            f"{thigh:.4g} mm: is this the file that MPI-INF-3DHP gives out?"
        )


def _camera(
    where: str,
    size: tuple[int, int],
    keypoints: np.ndarray,
    metric: np.ndarray,
    calibration: Calibration | None,
) -> tuple[tuple[float, float, float, float], tuple[float, float, float, float] | None]:
    """Intrinsics and orientation of a camera, as far as they can be known."""
    to_pixels = size[0] / 2
    if calibration is not None:
        error = projection_error(keypoints, metric, calibration.intrinsics) * to_pixels
        if calibration.size == size and error < MAX_ERROR:
            ankles = (metric[:, LEFT_LEG[2]] + metric[:, RIGHT_LEG[2]]) / 2
            up = up_axis(metric[:, HEAD] - ankles, calibration.rotation)
            return calibration.intrinsics, None if up is None else orientation(calibration.rotation, up)
        log.warning(
            "%s: its calibration (pictures of %d x %d) misses the key points by %.0f px and is not used",
            *(where, *calibration.size, error),
        )
    try:
        lens = fit_intrinsics(keypoints, metric)
    except ValueError as fault:
        raise DataError(f"{where}: no camera makes its key points of its positions: {fault}") from fault
    error = projection_error(keypoints, metric, lens) * to_pixels
    if error > MAX_ERROR:
        log.warning("%s: its positions miss its key points by %.0f px", where, error)
    return lens, None

"""Cameras of MPI-INF-3DHP: from its calibration files, or from key points and positions that fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.camera import normalize_pixels
from common.errors import DataError

MAX_BYTES = 2**20
TOLERANCE = 1e-3
"""How far a rotation matrix may be from a rotation: the files give seven digits."""
UPRIGHT = 0.5
"""Least share of the mean body axis that one axis of the world has to hold to pass for up or down."""


@dataclass(frozen=True)
class Calibration:
    """One camera of a calibration file.

    Attributes:
        size: Width and height, pixels.
        intrinsics: Focal length and centre (fx, fy, cx, cy) in normalised image coordinates.
        rotation: (3, 3) turns the world's axes into the camera's: x right, y down, z away.
    """

    size: tuple[int, int]
    intrinsics: tuple[float, float, float, float]
    rotation: np.ndarray


def read_calibration(path: Path) -> dict[int, Calibration]:
    """Reads a ``camera.calibration`` file: the cameras by their names, which are numbers.

    Of each camera the file has lines that begin with "name", "size" (pixels), "intrinsic" (4 x 4, pixels) and
    "extrinsic" (4 x 4, world to camera), row after row.

    Raises:
        DataError: A line is missing or not what it should be.
        OSError: The file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: expected a text of cameras, found {path.stat().st_size:,} bytes")
    cameras: list[dict[str, list[str]]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        word, *values = line.split() or [""]
        if word == "name":
            cameras.append({})
        if cameras:
            cameras[-1][word] = values
    if not cameras:
        raise DataError(f"{path}: expected cameras, each begun by a line `name NUMBER`; found none")
    calibrations = {}
    for number, lines in enumerate(cameras):
        try:
            calibrations[int(lines["name"][0])] = _calibration(lines)
        except (KeyError, IndexError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: camera {number}, counted from 0: expected size (2 numbers), intrinsic and "
                f"extrinsic (16 each), the latter a rotation ({error}); copy the file again"
            ) from error
    return calibrations


def _calibration(lines: dict[str, list[str]]) -> Calibration:
    width, height = (int(value) for value in lines["size"])
    k, extrinsic = (
        np.array([float(value) for value in lines[name]]).reshape(4, 4)  # (16,) -> (4, 4)
        for name in ("intrinsic", "extrinsic")
    )
    focal = k[[0, 1], [0, 1]]
    if not np.isfinite(k).all() or not (0 < width < 2**15 and 0 < height < 2**15 and (focal > 0).all()):
        raise ValueError("sizes and focal lengths have to be above 0")
    rotation = extrinsic[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=TOLERANCE) or np.linalg.det(rotation) < 0:
        raise ValueError("no rotation")
    cx, cy = normalize_pixels(k[:2, 2], width, height)
    fx, fy = focal / width * 2
    return Calibration((width, height), (float(fx), float(fy), float(cx), float(cy)), rotation)


def fit_intrinsics(keypoints: np.ndarray, positions: np.ndarray) -> tuple[float, float, float, float]:
    """The pinhole camera (fx, fy, cx, cy) with the least squared error between key points and positions.

    Args:
        keypoints: (T, J, 2) normalised image coordinates.
        positions: (T, J, 3) camera space, in front of the camera, any unit.

    Raises:
        ValueError: No camera fits: positions are behind it or mirrored.
    """
    points = positions.reshape(-1, 3)  # (T, J, 3) -> (T * J, 3)
    image = keypoints.reshape(-1, 2)  # (T, J, 2) -> (T * J, 2)
    if not (points[:, 2] > 0).all():
        raise ValueError(f"expected positions in front of the camera, found depth {points[:, 2].min():.3g}")
    lens = []
    for axis in (0, 1):
        slope = np.stack([points[:, axis] / points[:, 2], np.ones(len(points))], axis=1)
        (focal, center), _, rank, _ = np.linalg.lstsq(slope, image[:, axis], rcond=None)
        if rank < 2 or focal <= 0:
            raise ValueError(f"expected key points that follow the positions, found focal length {focal:.3g}")
        lens.append((float(focal), float(center)))
    (fx, cx), (fy, cy) = lens
    return fx, fy, cx, cy


def projection_error(
    keypoints: np.ndarray, positions: np.ndarray, intrinsics: tuple[float, float, float, float]
) -> float:
    """Median distance from key points to projected positions, in normalised image coordinates.

    Positions behind the camera are infinitely far off, although their projection may fit.
    """
    fx, fy, cx, cy = intrinsics
    depth = positions[..., 2:]
    projected = positions[..., :2] / np.where(depth > 0, depth, np.nan) * (fx, fy) + (cx, cy)
    distances = np.linalg.norm(projected - keypoints, axis=-1)
    return float(np.median(np.where(np.isnan(distances), np.inf, distances)))


def up_axis(body_axes: np.ndarray, rotation: np.ndarray) -> np.ndarray | None:
    """Which way is up in the world of a calibration, which does not say it: the way that people stand.

    Args:
        body_axes: (T, 3) from the ankles to the head, in the camera's axes, any length.
        rotation: (3, 3) the world's axes into the camera's.

    Returns:
        (3,) one of the world's axes, or its opposite; None where people do not mostly stand along one.
    """
    lengths = np.linalg.norm(body_axes, axis=1, keepdims=True)
    mean = (body_axes / np.maximum(lengths, 1e-9)).mean(axis=0) @ rotation  # to the world by the transpose
    strongest = int(np.abs(mean).argmax())
    if abs(mean[strongest]) < UPRIGHT * np.abs(mean).sum() or abs(mean[strongest]) < UPRIGHT / 2:
        return None
    return np.sign(mean[strongest]) * np.eye(3)[strongest]


def orientation(rotation: np.ndarray, up: np.ndarray) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z) that turns the camera's axes into those of a world whose z points up.

    Args:
        rotation: (3, 3) the calibration's world into the camera's axes.
        up: (3,) the axis of the calibration's world that points up.
    """
    from scipy.spatial.transform import Rotation

    beside = np.roll(np.abs(up), 1)
    upright = np.stack([beside, np.cross(up, beside), up])  # (3, 3), its rows the new world's axes in the old
    x, y, z, w = (float(value) for value in Rotation.from_matrix(upright @ rotation.T).as_quat())
    return w, x, y, z

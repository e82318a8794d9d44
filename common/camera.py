"""Pinhole cameras with lens distortion: world to camera space, to pixels, to network input.

World and camera space are in metres. Camera space has x to the right, y down and z away from the camera.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

CAMERA_FILE = Path(__file__).with_name("h36m_cameras.json")


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    Attributes:
        id: Serial number as printed on the camera.
        width: Image width in pixels.
        height: Image height in pixels.
        center: Principal point (x, y) in pixels.
        focal_length: Focal length (x, y) in pixels.
        radial_distortion: k1, k2, k3.
        tangential_distortion: p1, p2.
        orientation: Unit quaternion (w, x, y, z) that turns camera axes into world axes.
        translation: Camera position in world space, metres.
    """

    id: str
    width: int
    height: int
    center: tuple[float, float]
    focal_length: tuple[float, float]
    radial_distortion: tuple[float, float, float]
    tangential_distortion: tuple[float, float]
    orientation: tuple[float, float, float, float]
    translation: tuple[float, float, float]

    def intrinsics(self) -> np.ndarray:
        """(4,) focal length and centre (fx, fy, cx, cy) in the units of ``normalize_pixels``."""
        focal = np.asarray(self.focal_length) / self.width * 2
        return np.concatenate([focal, normalize_pixels(np.asarray(self.center), self.width, self.height)])


@lru_cache(maxsize=1)
def h36m_cameras() -> dict[str, tuple[Camera, ...]]:
    """Human3.6M's four cameras for each subject, in the order of the field's key point files.

    The calibration is the one distributed with Human3.6M (Ionescu et al., PAMI 2014).
    """
    table = json.loads(CAMERA_FILE.read_text())
    return {subject: tuple(_camera(entry) for entry in entries) for subject, entries in table.items()}


def _camera(entry: dict) -> Camera:
    return Camera(
        id=entry["id"],
        width=entry["res_w"],
        height=entry["res_h"],
        center=tuple(entry["center"]),
        focal_length=tuple(entry["focal_length"]),
        radial_distortion=tuple(entry["radial_distortion"]),
        tangential_distortion=tuple(entry["tangential_distortion"]),
        orientation=tuple(entry["orientation"]),
        translation=tuple(mm / 1000 for mm in entry["translation"]),
    )


def rotate(points: np.ndarray, quaternion: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Turns points (..., 3) by a unit quaternion (w, x, y, z)."""
    w, x, y, z = np.asarray(quaternion, dtype=np.float64)
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return points @ matrix.T


def world_to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Moves world points (..., 3) in metres into the camera's space, metres."""
    w, x, y, z = camera.orientation
    return rotate(points - np.asarray(camera.translation), (w, -x, -y, -z))


def camera_to_world(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Moves points (..., 3) of the camera's space into world space, metres."""
    return rotate(points, camera.orientation) + np.asarray(camera.translation)


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Projects camera-space points (..., 3) in metres to pixels (..., 2), lens distortion included.

    Radial and tangential terms follow VideoPose3D (Pavllo et al., CVPR 2019), which made the field's
    key point files; the textbook form of the tangential term differs from it by up to about 1 px.
    """
    plane = points[..., :2] / points[..., 2:]
    radius2 = np.sum(plane**2, axis=-1, keepdims=True)
    k, p = np.asarray(camera.radial_distortion), np.asarray(camera.tangential_distortion)
    radial = 1 + radius2 * (k[0] + radius2 * (k[1] + radius2 * k[2]))
    tangential = plane @ p[:, None]
    plane = plane * (radial + tangential) + p * radius2
    return plane * np.asarray(camera.focal_length) + np.asarray(camera.center)


def normalize_pixels(pixels: np.ndarray, width: float, height: float) -> np.ndarray:
    """Maps pixels (..., 2) to network input: x in [-1, 1], y in the same scale, the image centre at 0."""
    return pixels / width * 2 - np.array([1, height / width])


def denormalize_pixels(points: np.ndarray, width: float, height: float) -> np.ndarray:
    """Inverse of ``normalize_pixels``: network input (..., 2) back to pixels."""
    return (points + np.array([1, height / width])) * width / 2

"""Pinhole cameras with lens distortion: world to camera space, to pixels, to network input.

World and camera space are in metres. Camera space has x to the right, y down and z away from the camera.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

CAMERA_FILE = Path(__file__).with_name("h36m_cameras.json")


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    Attributes:
        width: Image width, pixels.
        height: Image height, pixels.
        focal_length: (x, y), pixels.
        center: Principal point (x, y), pixels.
        radial_distortion: k1, k2, k3.
        tangential_distortion: p1, p2.
        orientation: Unit quaternion (w, x, y, z) that rotates camera axes into world axes.
        translation: Camera position in world space, metres.
    """

    width: int
    height: int
    focal_length: tuple[float, float]
    center: tuple[float, float]
    radial_distortion: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential_distortion: tuple[float, float] = (0.0, 0.0)
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def rotation(self) -> np.ndarray:
        """(3, 3) matrix that rotates camera axes into world axes."""
        return Rotation.from_quat(self.orientation, scalar_first=True).as_matrix()

    def to_camera(self, world: np.ndarray) -> np.ndarray:
        """World points (..., 3) in camera space, metres."""
        return (world - np.asarray(self.translation)) @ self.rotation()

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Camera-space points (..., 3) in world space, metres."""
        return points @ self.rotation().T + np.asarray(self.translation)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Camera-space points (..., 3) as pixels (..., 2), lens distortion included.

        Radial and tangential terms follow VideoPose3D (Pavllo et al., CVPR 2019), which made the field's
        keypoint files; the textbook form of the tangential term differs from it by up to about 1 px.
        """
        plane = points[..., :2] / points[..., 2:]
        radius2 = np.sum(plane**2, axis=-1, keepdims=True)
        k, p = np.asarray(self.radial_distortion), np.asarray(self.tangential_distortion)
        radial = 1 + radius2 * (k[0] + radius2 * (k[1] + radius2 * k[2]))
        tangential = plane @ p[:, None]
        plane = plane * (radial + tangential) + p * radius2
        return plane * np.asarray(self.focal_length) + np.asarray(self.center)

    def intrinsics(self) -> np.ndarray:
        """(4,) focal length and centre (fx, fy, cx, cy) in normalised image coordinates."""
        focal = np.asarray(self.focal_length) / self.width * 2
        return np.concatenate([focal, normalize_pixels(np.asarray(self.center), self.width, self.height)])


@lru_cache(maxsize=1)
def h36m_cameras() -> dict[str, tuple[Camera, ...]]:
    """Human3.6M's four cameras of each subject, in the order of the field's keypoint files.

    The calibration is the one distributed with Human3.6M (Ionescu et al., PAMI 2014).
    """
    table = json.loads(CAMERA_FILE.read_text())
    return {subject: tuple(map(_camera, entries)) for subject, entries in table.items()}


def _camera(entry: dict) -> Camera:
    return Camera(
        width=entry["res_w"],
        height=entry["res_h"],
        focal_length=tuple(entry["focal_length"]),
        center=tuple(entry["center"]),
        radial_distortion=tuple(entry["radial_distortion"]),
        tangential_distortion=tuple(entry["tangential_distortion"]),
        orientation=tuple(entry["orientation"]),
        translation=tuple(mm / 1000 for mm in entry["translation"]),
    )


def normalize_pixels(pixels: np.ndarray, width: float, height: float) -> np.ndarray:
    """Pixels (..., 2) as network input: x in [-1, 1], y in the same scale, the image centre at 0."""
    return pixels / width * 2 - np.array([1, height / width])


def denormalize_pixels(points: np.ndarray, width: float, height: float) -> np.ndarray:
    """Inverse of ``normalize_pixels``: network input (..., 2) as pixels."""
    return (points + np.array([1, height / width])) * width / 2

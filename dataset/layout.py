"""Writes data sets in the field's layout, which ``common/h36m.py`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import Camera, project, world_to_camera
from common.files import replacing
from common.skeleton import H36M_32_KEPT, LEFT, NUM_JOINTS, RIGHT

Positions = dict[str, dict[str, np.ndarray]]
"""By subject and take: (F, 32, 3) float32 in world metres."""
Keypoints = dict[str, dict[str, list[np.ndarray]]]
"""By subject and take: for each of the subject's cameras (F, 17, 2) float32 in pixels."""


def metadata() -> dict[str, Any]:
    """What the field's key point files say of themselves."""
    sides = [list(LEFT), list(RIGHT)]
    return {"layout_name": "h36m", "num_joints": NUM_JOINTS, "keypoints_symmetry": sides}


def pixels(slots: np.ndarray, camera: Camera) -> np.ndarray:
    """Where a camera sees a take (F, 32, 3) in world metres: (F, 17, 2) float64 pixels."""
    pose = slots[:, H36M_32_KEPT].astype(np.float64)  # (F, 32, 3) -> (F, 17, 3)
    return project(world_to_camera(pose, camera), camera)


def true_keypoints(
    positions: Positions, cameras: Mapping[str, tuple[Camera, ...]], *, step: float | None = None
) -> Keypoints:
    """Projects every take to the subject's cameras, lens distortion included.

    Args:
        positions: The takes.
        cameras: The cameras of each subject.
        step: Pixels are rounded to multiples of this; not at all when None.
    """

    def stored(slots: np.ndarray, camera: Camera) -> np.ndarray:
        exact = pixels(slots, camera)
        return (exact if step is None else np.round(exact / step) * step).astype(np.float32)

    return {
        subject: {
            take: [stored(slots, camera) for camera in cameras[subject]] for take, slots in takes.items()
        }
        for subject, takes in positions.items()
    }


def save(path: Path, **dictionaries: Mapping[str, Any]) -> None:
    """Writes dictionaries to an npz file in one piece; the same content gives the same bytes."""
    # As pickled objects, which is how the field's files hold dictionaries.
    entries: dict[str, Any] = {name: np.array(value, dtype=object) for name, value in dictionaries.items()}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **entries)  # type: ignore[arg-type]

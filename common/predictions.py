"""Predicted poses on disk: one npz file of plain arrays that says what it holds."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from common.errors import UserError
from common.evaluate import Evaluation, root_relative
from common.files import replacing
from common.records import check_same_poses
from common.sequences import PoseSet
from common.skeleton import JOINT_NAMES

COORDINATE_FRAME = (
    "camera space, x right, y down, z away from the camera, relative to the pelvis, which is at 0"
)
REFINED_NOTE = "refined poses use the true root depth and the camera"


def save_predictions(
    path: str | os.PathLike[str], evaluation: Evaluation, refined: Evaluation | None = None
) -> None:
    """Writes every scored pose beside its truth; ``np.load`` reads it without pickles.

    The arrays are "subject", "action", "camera" and "frame" (N,), "predicted" and "truth" (N, 17, 3) float32
    in mm, "refined" likewise if it is given, and the texts "units", "coordinate_frame" and "joint_names".

    Args:
        path: The file, written whole or not at all.
        evaluation: What was scored.
        refined: The same poses after the refine head.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If ``refined`` is of other poses.
    """
    arrays: dict[str, Any] = {
        **pose_names(evaluation.poses),
        "predicted": evaluation.predicted.astype(np.float32),
        "truth": (root_relative(evaluation.poses) * 1000).astype(np.float32),
        "units": np.array("mm"),
        "coordinate_frame": np.array(COORDINATE_FRAME),
        "joint_names": np.array(JOINT_NAMES),
    }
    check_same_poses(evaluation, refined)
    if refined is not None:
        arrays["refined"] = refined.predicted.astype(np.float32)
        arrays["refined_note"] = np.array(REFINED_NOTE)
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise UserError(
            f"{path}: the predictions cannot be written: {error.strerror or error}. Name another file."
        ) from error


def pose_names(poses: PoseSet) -> dict[str, np.ndarray]:
    """What tells N poses apart: their "subject", "action", "camera" and "frame" in the take, (N,) each."""
    sequences = poses.sequences
    lengths = [len(sequence) for sequence in sequences]
    steps = [sequence.first_frame + sequence.step * np.arange(len(sequence)) for sequence in sequences]
    return {
        "subject": np.repeat([sequence.subject for sequence in sequences], lengths),
        "action": np.repeat([sequence.action for sequence in sequences], lengths),
        "camera": np.repeat(np.array([sequence.camera for sequence in sequences], dtype=np.int64), lengths),
        "frame": np.concatenate(steps).astype(np.int64),
    }

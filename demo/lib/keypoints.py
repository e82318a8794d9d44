"""COCO's 17 key points turned into Human3.6M's 17 joints, which the lifter was trained on."""

from __future__ import annotations

import numpy as np

from common.skeleton import JOINT_NAMES

COCO_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

_LIMBS = tuple(name for name in COCO_NAMES if name in JOINT_NAMES)
_COCO_LIMBS = [COCO_NAMES.index(name) for name in _LIMBS]
_H36M_LIMBS = [JOINT_NAMES.index(name) for name in _LIMBS]
_PELVIS, _SPINE, _THORAX, _NECK, _HEAD = map(JOINT_NAMES.index, ("pelvis", "spine", "thorax", "neck", "head"))
_NOSE = COCO_NAMES.index("nose")
_EYES, _EARS, _SHOULDERS, _HIPS = (
    [COCO_NAMES.index(f"{side}_{part}") for side in ("left", "right")]
    for part in ("eye", "ear", "shoulder", "hip")
)


def coco_to_h36m(keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Human3.6M's joints from COCO's key points: limbs are copied, the trunk and the head are built.

    The trunk's joints are shifted from plain midpoints to where Human3.6M has them; this is the conversion
    that the published demonstration lifts with.

    Args:
        keypoints: (..., 17, 2) COCO key points, pixels, x right, y down.
        scores: (..., 17) confidence of each.

    Returns:
        (..., 17, 2) joints in the order of ``common.skeleton``, same pixels, and their (..., 17) scores.

    Raises:
        ValueError: The shapes are not these.
    """
    keypoints, scores = np.asarray(keypoints), np.asarray(scores)
    if keypoints.shape[-2:] != (17, 2) or scores.shape != keypoints.shape[:-1]:
        raise ValueError(
            "expected key points (..., 17, 2) and scores (..., 17), "
            f"found {keypoints.shape} and {scores.shape}"
        )
    return _joints(keypoints), _scores(scores)


def _joints(coco: np.ndarray) -> np.ndarray:
    joints = np.empty(coco.shape, np.result_type(coco, np.float32))
    joints[..., _H36M_LIMBS, :] = coco[..., _COCO_LIMBS, :]

    nose = coco[..., _NOSE, :]
    shoulders = coco[..., _SHOULDERS, :].mean(-2)
    eyes_below_nose = coco[..., _EYES, 1].mean(-1) - nose[..., 1]  # negative if the head is upright

    joints[..., _HEAD, 0] = coco[..., _EYES + _EARS, 0].mean(-1)
    joints[..., _HEAD, 1] = nose[..., 1] + 2 * eyes_below_nose
    joints[..., _PELVIS, :] = coco[..., _HIPS, :].mean(-2)
    joints[..., _SPINE, :] = coco[..., _SHOULDERS + _HIPS, :].mean(-2)
    joints[..., _THORAX, :] = shoulders + (nose - shoulders) / 3
    joints[..., _NECK, :] = nose + (shoulders - nose) / 4

    # The spine leans on the thorax as it was before the thorax itself moves.
    joints[..., _SPINE, 0] += 2 * (joints[..., _SPINE, 0] - joints[..., [_PELVIS, _THORAX], 0].mean(-1))
    joints[..., _THORAX, 1] -= eyes_below_nose * 2 / 3
    return joints


def _scores(coco: np.ndarray) -> np.ndarray:
    scores = np.empty(coco.shape, np.result_type(coco, np.float32))
    scores[..., _H36M_LIMBS] = coco[..., _COCO_LIMBS]
    scores[..., _NECK] = coco[..., _NOSE]
    scores[..., _HEAD] = coco[..., _EYES + _EARS].mean(-1)
    scores[..., _PELVIS] = coco[..., _HIPS].mean(-1)
    scores[..., _THORAX] = coco[..., _SHOULDERS].mean(-1)
    scores[..., _SPINE] = scores[..., [_PELVIS, _THORAX]].mean(-1)
    return scores

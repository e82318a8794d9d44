"""2D keypoints of other orders as Human3.6M's 17 joints, with missing ones filled in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.skeleton import BODY25, COCO17, COCO18, H36M17, HALPE26, MEDIAPIPE33, Skeleton

MAX_SIDE = 32_766  # pixels, side of an image
MAX_COORDINATE = 10 * MAX_SIDE  # pixels; joints may lie outside the image
FAR = np.int8(60)  # bones, more than between any two joints; small, as poses by 17 by 17 of them are compared
MIN_PERSON = 4  # pixels; smaller people are in normalised coordinates

ORDERS = {
    skeleton.name: len(skeleton.joints) for skeleton in (COCO17, H36M17, COCO18, BODY25, HALPE26, MEDIAPIPE33)
}
ORDERS |= {"wholebody133": 133, "halpe136": 136}  # COCO's 17, then feet, face and hands
"""Number of joints of each order that is read; without other information the number tells the order."""
COCO_IN = {s.name: s.indices(COCO17.joints) for s in (COCO17, COCO18, BODY25, HALPE26, MEDIAPIPE33)}
COCO_IN |= {"wholebody133": list(range(17)), "halpe136": list(range(17))}

_LIMBS = tuple(name for name in COCO17.joints if name in H36M17.joints)
_COCO_LIMBS, _H36M_LIMBS = COCO17.indices(_LIMBS), H36M17.indices(_LIMBS)
_PELVIS, _SPINE, _THORAX, _NECK, _HEAD = H36M17.indices(("pelvis", "spine", "thorax", "neck", "head"))
_NOSE = COCO17.joints.index("nose")
_EYES, _EARS, _SHOULDERS, _HIPS = (
    COCO17.indices((f"left_{part}", f"right_{part}")) for part in ("eye", "ear", "shoulder", "hip")
)


def coco_to_h36m(keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Human3.6M's joints from COCO's keypoints, as HTNet's published demo converts them.

    Limbs are copied; the joints of trunk and head are shifted from midpoints to where Human3.6M has them.

    Args:
        keypoints: (..., 17, 2) COCO keypoints, pixels, x right, y down.
        scores: (..., 17) confidence of each.

    Returns:
        (..., 17, 2) joints, same pixels, and their (..., 17) scores.
    """
    joints = np.empty(keypoints.shape, np.result_type(keypoints, np.float32))
    joints[..., _H36M_LIMBS, :] = keypoints[..., _COCO_LIMBS, :]
    nose = keypoints[..., _NOSE, :]
    shoulders = keypoints[..., _SHOULDERS, :].mean(-2)
    eyes_below_nose = keypoints[..., _EYES, 1].mean(-1) - nose[..., 1]  # negative for an upright head
    joints[..., _HEAD, 0] = keypoints[..., _EYES + _EARS, 0].mean(-1)
    joints[..., _HEAD, 1] = nose[..., 1] + 2 * eyes_below_nose
    joints[..., _PELVIS, :] = keypoints[..., _HIPS, :].mean(-2)
    joints[..., _SPINE, :] = keypoints[..., _SHOULDERS + _HIPS, :].mean(-2)
    joints[..., _THORAX, :] = shoulders + (nose - shoulders) / 3
    joints[..., _NECK, :] = nose + (shoulders - nose) / 4
    # The spine is shifted by the thorax as it was before the thorax itself moves.
    joints[..., _SPINE, 0] += 2 * (joints[..., _SPINE, 0] - joints[..., [_PELVIS, _THORAX], 0].mean(-1))
    joints[..., _THORAX, 1] -= eyes_below_nose * 2 / 3

    confidence = np.empty(scores.shape, np.result_type(scores, np.float32))
    confidence[..., _H36M_LIMBS] = scores[..., _COCO_LIMBS]
    confidence[..., _NECK] = scores[..., _NOSE]
    confidence[..., _HEAD] = scores[..., _EYES + _EARS].mean(-1)
    confidence[..., _PELVIS] = scores[..., _HIPS].mean(-1)
    confidence[..., _THORAX] = scores[..., _SHOULDERS].mean(-1)
    confidence[..., _SPINE] = confidence[..., [_PELVIS, _THORAX]].mean(-1)
    return joints, confidence


def _steps(skeleton: Skeleton) -> np.ndarray:
    """(J, J) bones between each two joints."""
    steps = np.full((len(skeleton.joints),) * 2, FAR)
    np.fill_diagonal(steps, 0)
    joints, parents = np.transpose(skeleton.bones)
    steps[joints, parents] = steps[parents, joints] = 1
    for via in range(len(steps)):
        steps = np.minimum(steps, steps[:, [via]] + steps[via])
    return steps


_STEPS = {skeleton.name: _steps(skeleton) for skeleton in (COCO17, H36M17)}


def fill_missing(
    keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Moves joints that were not found, those of score 0, to the nearest joint found along the body.

    Args:
        keypoints: (..., 17, 2) pixels.
        scores: (..., 17) confidence of each.
        skeleton: COCO17 or H36M17.

    Returns:
        (..., 17, 2) pixels, and (...,) bool: False where both shoulders or both hips are missing, which is
        too little to lift.
    """
    found = scores > 0
    # From joint J to joint K: (..., 1, K) and (J, K) -> (..., J, K)
    nearest = np.where(found[..., None, :], _STEPS[skeleton.name], FAR).argmin(axis=-1)
    pairs = (skeleton.indices((f"left_{part}", f"right_{part}")) for part in ("shoulder", "hip"))
    shoulder, hip = (found[..., pair].any(axis=-1) for pair in pairs)
    return np.take_along_axis(keypoints, nearest[..., None], axis=-2), np.asarray(shoulder & hip)


def to_h36m(points: np.ndarray, scores: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Human3.6M's joints from keypoints in any order, with missing ones filled in.

    Args:
        points: (..., J, 2) pixels.
        scores: (..., J) confidence of each, 0 to 1; 0 where it was not found.
        order: A name of ``ORDERS``.

    Returns:
        (..., 17, 2) float32 pixels, (..., 17) float32 scores, and (...,) bool: where they can be lifted.
    """
    if order == "h36m17":
        joints, liftable = fill_missing(points, scores, H36M17)
    else:
        scores = scores[..., COCO_IN[order]]
        joints, liftable = fill_missing(points[..., COCO_IN[order], :], scores, COCO17)
        joints, scores = coco_to_h36m(joints, scores)
    return joints.astype(np.float32), scores.astype(np.float32), liftable


def assumed_scores(points: np.ndarray) -> np.ndarray:
    """(..., J) scores of keypoints (..., J, 2) that have none: 0 at exactly (0, 0), "not found", else 1."""
    return (points != 0).any(axis=-1).astype(float)


def is_normalized(points: np.ndarray, scores: np.ndarray, image_size: tuple[int, int]) -> bool:
    """Whether keypoints (N, J, 2) are no pixels: most people would be smaller than ``MIN_PERSON``."""
    points = np.where((scores > 0)[..., None], points, np.nan)[(scores > 0).any(axis=-1)]
    if not len(points) or max(image_size) <= MIN_PERSON:
        return False
    spans = np.nanmax(points, axis=1) - np.nanmin(points, axis=1)  # (N, 2)
    return bool(np.median(spans.max(axis=1)) < MIN_PERSON and np.nanmedian(np.abs(points)) < MIN_PERSON)


def image_size_of(size: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """Width and height, pixels, of what a caller or a file has; others raise a ValueError."""
    sides = np.asarray(size)
    if sides.shape != (2,) or not all(1 <= s <= MAX_SIDE and s == int(s) for s in sides.tolist()):
        raise ValueError(f"image_size: expected two whole numbers from 1 to {MAX_SIDE:,}, found {size}")
    return int(sides[0]), int(sides[1])

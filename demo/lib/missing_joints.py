"""Joints that a detector did not find, put where the lifter can bear them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from common.skeleton import BONES, JOINT_NAMES
from demo.lib.keypoints import COCO_NAMES

FAR = np.int8(60)  # Longer than any way along the body; twice as far still fits.


class Layout(NamedTuple):
    """An order of 17 key points.

    Attributes:
        names: Name of each.
        steps: (17, 17) steps along the body from each to each.
    """

    names: Sequence[str]
    steps: np.ndarray


def _layout(names: Sequence[str], neighbours: Iterable[tuple[str, str]]) -> Layout:
    steps = np.full((len(names), len(names)), FAR)
    np.fill_diagonal(steps, 0)
    for first, second in neighbours:
        one, other = names.index(first), names.index(second)
        steps[one, other] = steps[other, one] = 1
    for over in range(len(names)):
        steps = np.minimum(steps, steps[:, [over]] + steps[over])
    return Layout(names, steps)


_FACE = ("left_eye right_eye", "nose left_shoulder", "nose right_shoulder")
_TRUNK = ("left_shoulder right_shoulder", "left_hip right_hip")
_SIDE = ("nose eye", "eye ear", "ear shoulder", "shoulder hip")
_LIMBS = ("shoulder elbow", "elbow wrist", "hip knee", "knee ankle")


def _coco_neighbours() -> Iterable[tuple[str, str]]:
    for pair in _FACE + _TRUNK:
        first, second = pair.split()
        yield first, second
    for pair in _SIDE + _LIMBS:
        for side in ("left_", "right_"):
            first, second = (part if part == "nose" else side + part for part in pair.split())
            yield first, second


LAYOUTS = {
    "coco17": _layout(COCO_NAMES, _coco_neighbours()),
    "h36m17": _layout(JOINT_NAMES, ((JOINT_NAMES[joint], JOINT_NAMES[parent]) for joint, parent in BONES)),
}


def fill_missing(keypoints: np.ndarray, scores: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Puts joints that were not found, those with score 0, where the nearest found one along the body is.

    The lifter needs all joints. A guess beside its neighbour bends a pose less than one in the picture's
    corner, where most formats put it.

    Args:
        keypoints: (..., 17, 2) pixels.
        scores: (..., 17) confidence of each.
        layout: Their order.

    Returns:
        (..., 17, 2) pixels, and (...,) bool: False where both shoulders or both hips are missing, which is
        too little to lift; the key points there mean nothing.
    """
    found = scores > 0
    # To joint J from joint K: (..., 1, K) and (J, K) -> (..., J, K)
    nearest = np.where(found[..., None, :], layout.steps, FAR).argmin(axis=-1)
    liftable = _either(found, "shoulder", layout) & _either(found, "hip", layout)
    return np.take_along_axis(keypoints, nearest[..., None], axis=-2), liftable


def _either(found: np.ndarray, part: str, layout: Layout) -> np.ndarray:
    """(...,) whether the left or the right one was found."""
    left, right = (layout.names.index(f"{side}_{part}") for side in ("left", "right"))
    return np.logical_or(found[..., left], found[..., right])

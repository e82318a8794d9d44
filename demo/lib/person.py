"""What every 2D detector gives: the people in one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Person:
    """One person found in one picture.

    Attributes:
        keypoints: (17, 2) float32 COCO key points, pixels of the picture (x right, y down).
        scores: (17,) float32 confidence of each key point, 0 to 1.
        box: (4,) float32 left, top, right, bottom in pixels of the picture.
        score: Confidence that this is a person, 0 to 1.
        world: (17, 3) float32 the detector's own 3D estimate of the key points, metres, hip-centred, x right,
            y down, z away; None where it has none. It is for comparison, never an input of the lifter.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    score: float
    world: np.ndarray | None = None


Detector = Callable[[np.ndarray], list[Person]]
"""From a picture (H, W, 3) uint8 RGB to the people in it. One with a method ``track`` gets the frames of a
video through that, after ``reset``."""

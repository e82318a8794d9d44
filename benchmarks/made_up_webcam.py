"""A webcam for ``benchmarks.soak``: somebody comes into the picture each minute, moves, and leaves."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from demo.lib.arguments import DEMO
from demo.lib.person import Person

FPS, SIZE = 25.0, (320, 240)
VISIT = 20
"""Seconds of each minute for which somebody is in the picture."""
FAILS = 997
"""Of so many frames one fails, as now and then with real cameras."""


class Camera:
    """Stands in for ``cv2.VideoCapture``: a photo that floats through a picture, and out of it.

    Args:
        frames: After so many it falls silent.
        taking: Called for each frame.
    """

    def __init__(self, frames: int, taking: Callable[[], None]) -> None:
        self.frames, self._taking = frames, taking
        self.taken = self.failed = 0
        photo = cv2.imread(str(DEMO / "figure" / "astronaut.jpg"))
        assert photo is not None
        self._photo = photo
        coarse = np.random.default_rng(0).integers(90, 150, (12, 16, 3), dtype=np.uint8)
        self._ground = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)

    def get(self, what: int) -> float:
        """The rate; nothing else is known of it."""
        return FPS if what == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and the frame (H, W, 3) uint8 BGR; at once, whatever the rate."""
        if self.taken == self.frames or (self.taken + self.failed) % FAILS == FAILS - 1:
            self.failed += 1
            return False, None
        self._taking()
        picture, placed = self._ground.copy(), whereabouts(self.taken)
        self.taken += 1
        if placed is not None:
            cv2.warpAffine(self._photo, placed, SIZE, dst=picture, borderMode=cv2.BORDER_TRANSPARENT)
        return True, picture

    def release(self) -> None:
        """Nothing is held."""


def whereabouts(frame: int) -> np.ndarray | None:
    """The (2, 3) map from the photo's pixels to the picture's in a frame, None where nobody is there."""
    seconds = frame / FPS
    since = seconds % 60
    if since > VISIT:
        return None
    # In from the right for three seconds, and out to the left in the last three.
    aside = max(1 - since / 3, 0) - max(1 - (VISIT - since) / 3, 0) + 0.1 * np.sin(seconds)
    scale = SIZE[1] / 512 * (0.95 + 0.1 * np.sin(seconds / 3))
    matrix = cv2.getRotationMatrix2D((256, 256), 4 * np.sin(1.3 * seconds), scale)
    matrix[:, 2] += [SIZE[0] * (0.5 + 0.9 * aside) - 256, SIZE[1] / 2 + 10 - 256]
    return matrix


class Knowing:
    """A detector that knows where the person is, and does not look."""

    def __init__(self) -> None:
        body = np.random.default_rng(1).uniform(100, 400, (17, 2))
        self._body = np.column_stack([body, np.ones(17)])  # (J, 3) x, y, 1
        self.reset()

    def reset(self) -> None:
        """Begins with the first frame."""
        self._next = 0

    def track(self, image: np.ndarray) -> list[Person]:
        """The person of the next frame (H, W, 3)."""
        placed, self._next = whereabouts(self._next), self._next + 1
        if placed is None:
            return []
        points = (self._body @ placed.T).astype(np.float32)  # (J, 2)
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        return [Person(points, np.full(17, 0.9, np.float32), box, 0.9)]

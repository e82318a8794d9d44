"""Synthetic people, and a detector that finds them in given frames."""

from __future__ import annotations

import numpy as np

from demo.lib.result import Person

# COCO's order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right. Feet at
# 0, one high, facing the camera, so that their left is on the right of the image.
STANDING = np.array(
    [
        *[(0.0, -0.93), (0.02, -0.95), (-0.02, -0.95), (0.05, -0.94), (-0.05, -0.94)],
        *[(0.11, -0.82), (-0.11, -0.82), (0.15, -0.65), (-0.15, -0.65), (0.16, -0.5), (-0.16, -0.5)],
        *[(0.07, -0.5), (-0.07, -0.5), (0.08, -0.27), (-0.08, -0.27), (0.08, 0.0), (-0.08, 0.0)],
    ]
)


def person(x: float, y: float, height: float = 200.0, *, score: float = 0.9) -> Person:
    """Somebody who stands at a place (pixels) and is so many pixels high."""
    points = (STANDING * height + [x, y]).astype(np.float32)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return Person(points, np.full(17, score, np.float32), box, score, np.zeros((17, 3), np.float32))


def numbered(count: int, size: tuple[int, int] = (320, 240)) -> list[np.ndarray]:
    """Frames (H, W, 3), each filled with its number, up to 250, which a video's compression may blur."""
    return [np.full((size[1], size[0], 3), number, np.uint8) for number in range(count)]


class Scripted:
    """A detector that finds in frame n the people that it was given for it, nobody in later ones.

    Attributes:
        seen: Shape of each image that it was shown since the last reset.
        resets: How often it was reset.
    """

    def __init__(self, *frames: list[Person]) -> None:
        self.frames = frames
        self.seen: list[tuple[int, ...]] = []
        self.resets = 0

    def __call__(self, image: np.ndarray) -> list[Person]:
        """The people of the next frame."""
        self.seen.append(image.shape)
        number = len(self.seen) - 1
        return list(self.frames[number]) if number < len(self.frames) else []

    def track(self, image: np.ndarray) -> list[Person]:
        """The people of the next frame."""
        return self(image)

    def reset(self) -> None:
        """Begins with the first frame again."""
        self.seen, self.resets = [], self.resets + 1

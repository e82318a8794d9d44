"""Poses in memory: flat arrays with one row per frame and camera, and the sequences that they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Sequence:
    """A run of rows: one take of one subject, seen by one camera.

    Attributes:
        subject: Name of the subject, such as "S9".
        action: Name of the take as in the file, such as "Walking 1".
        camera: Index of the camera.
        start: First row.
        stop: Row after the last.
        intrinsics: Focal length and centre (fx, fy, cx, cy) in normalised image coordinates.
        image_size: Width and height of the image, pixels.
        first_frame: Frame of the take that the first row holds.
        step: Frames of the take from one row to the next.
    """

    subject: str
    action: str
    camera: int
    start: int
    stop: int
    intrinsics: tuple[float, float, float, float]
    image_size: tuple[int, int]
    first_frame: int = 0
    step: int = 1

    @property
    def action_name(self) -> str:
        """The action without the number of the take: "Walking 1" is one of the two takes of "Walking"."""
        return self.action.split(" ")[0]

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.subject}, {self.action}, camera {self.camera}"


@dataclass(frozen=True)
class PoseSet:
    """Poses with their key points, and the sequences that they come from.

    Attributes:
        keypoints: (N, 17, 2) float32 network input: normalised image coordinates.
        positions: (N, 17, 3) float32 joint positions in camera space, metres, not root-relative.
        sequences: The runs of rows, in order and without gaps: together they cover all N.
    """

    keypoints: np.ndarray
    positions: np.ndarray
    sequences: tuple[Sequence, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, sequences: Iterable[Sequence], step: int = 1) -> PoseSet:
        """A new set of every ``step``-th row of the given runs of this set's rows."""
        chosen, rows, start = [], [np.empty(0, dtype=np.int64)], 0
        for sequence in sequences:
            rows.append(np.arange(sequence.start, sequence.stop, step))
            stop = start + len(rows[-1])
            chosen.append(replace(sequence, start=start, stop=stop, step=sequence.step * step))
            start = stop
        index = np.concatenate(rows)
        # Whole subjects that lie side by side stay what they are: a view of the memory-mapped cache.
        gapless = len(index) > 0 and bool(np.all(np.diff(index) == 1))
        picked = slice(index[0], index[-1] + 1) if gapless else index
        return PoseSet(self.keypoints[picked], self.positions[picked], tuple(chosen))

"""Poses in memory: flat arrays with one row per frame and camera, and the sequences that they hold."""

from __future__ import annotations

import zlib
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
        orientation: Unit quaternion (w, x, y, z) that turns the camera's axes into the world's, whose z
            points up; None where it is not known.
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
    orientation: tuple[float, float, float, float] | None = None
    group: str = ""

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

    def __str__(self) -> str:
        subjects = dict.fromkeys(sequence.subject for sequence in self.sequences)
        return f"{', '.join(subjects)} ({len(self)} poses in {len(self.sequences)} sequences)"

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

    def subjects(self, names: Iterable[str]) -> PoseSet:
        """The rows of some subjects alone."""
        wanted = set(names)
        return self.select(sequence for sequence in self.sequences if sequence.subject in wanted)


def joined(sets: Iterable[PoseSet]) -> PoseSet:
    """One set of the rows of several, under each other; a copy unless there is one set alone."""
    sets = tuple(sets)
    if len(sets) == 1:
        return sets[0]
    sequences, start = [], 0
    for poses in sets:
        for sequence in poses.sequences:
            sequences.append(replace(sequence, start=sequence.start + start, stop=sequence.stop + start))
        start += len(poses)
    keypoints = np.concatenate([poses.keypoints for poses in sets])  # (N, 17, 2)
    positions = np.concatenate([poses.positions for poses in sets])  # (N, 17, 3)
    return PoseSet(keypoints, positions, tuple(sequences))


def thinned(
    poses: PoseSet, *, actions: Iterable[str] | None = None, downsample: int = 1, subset: float = 1.0
) -> PoseSet:
    """A part of the poses: some actions, every so many frames, a stretch of each take.

    The stretch of a take is the same in all cameras; where it lies follows from the take's name alone, so
    that every run with the same ``subset`` sees the same frames.

    Args:
        poses: All poses.
        actions: Names of actions without take numbers; every action when None.
        downsample: Keep one frame of so many.
        subset: Share of each take's frames that is kept, in one piece, at least one frame.
    """
    chosen = []
    wanted = None if actions is None else set(actions)
    for sequence in poses.sequences:
        if wanted is not None and sequence.action_name not in wanted:
            continue
        length = max(1, round(len(sequence) * subset))
        take = f"{sequence.subject}/{sequence.action}".encode()
        offset = zlib.crc32(take) % (len(sequence) - length + 1)
        start = sequence.start + offset
        first_frame = sequence.first_frame + offset * sequence.step
        chosen.append(replace(sequence, start=start, stop=start + length, first_frame=first_frame))
    return poses.select(chosen, step=downsample)

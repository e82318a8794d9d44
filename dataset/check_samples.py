"""What ``python -m dataset.check`` looks at: takes, frames spread evenly over them, and faults in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.camera import denormalize_pixels, rotate
from common.sequences import PoseSet, Sequence

VIEWS = 4000
"""Views of takes that are looked at; of more than these, takes are picked evenly."""
FRAMES = 8000
"""Frames that are looked at, of all views together, within the bounds that follow."""
FRAMES_OF_A_VIEW = (6, 24)
NAMES_SHOWN = 4

Take = tuple[Sequence, ...]
"""What the cameras saw of the same frames of a subject."""


class Fault(NamedTuple):
    """Something wrong with a data set.

    Attributes:
        kind: Its name, in a word or two.
        found: What was found and where, with the figure that led to it.
        remedy: What to do.
    """

    kind: str
    found: str
    remedy: str


@dataclass(frozen=True)
class View:
    """Frames of a take as one camera saw them.

    Attributes:
        sequence: The rows that they are of.
        frames: (F,) rows after the sequence's first.
        keypoints: (F, 17, 2) float64 pixels.
        positions: (F, 17, 3) float64 camera space, in what should be metres.
    """

    sequence: Sequence
    frames: np.ndarray
    keypoints: np.ndarray
    positions: np.ndarray

    def upright(self) -> np.ndarray:
        """(F, 17, 3) positions with what should be up along z: the world's axes, or the camera's turned."""
        if self.sequence.orientation is not None:
            return rotate(self.positions, self.sequence.orientation)
        x, y, z = np.moveaxis(self.positions, -1, 0)
        return np.stack([x, z, -y], axis=-1)


def takes_of(poses: PoseSet) -> list[Take]:
    """The sequences, those of the same frames together."""
    takes: dict[tuple[str, str, int], list[Sequence]] = {}
    for sequence in poses.sequences:
        takes.setdefault((sequence.subject, sequence.action, sequence.first_frame), []).append(sequence)
    return [tuple(views) for views in takes.values()]


def sampled(poses: PoseSet, takes: list[Take]) -> dict[Take, list[View]]:
    """The views of the takes, or of some of many, each with the same few frames; none that are no numbers."""
    cameras = max(map(len, takes))
    step = max(1, -(-len(takes) * cameras // VIEWS))
    picked = takes[::step]
    count = int(np.clip(FRAMES // sum(map(len, picked)), *FRAMES_OF_A_VIEW))
    samples = {}
    for take in picked:
        last = min(map(len, take)) - 1
        frames = np.unique(np.linspace(0, last, count).round().astype(int))
        views = [view_at(poses, sequence, frames) for sequence in take]
        finite = [
            np.isfinite(array).all(axis=(1, 2))
            for each in views
            for array in (each.keypoints, each.positions)
        ]
        good = np.all(finite, axis=0)  # (F,)
        if good.any():
            samples[take] = [
                View(each.sequence, frames[good], each.keypoints[good], each.positions[good])
                for each in views
            ]
    return samples


def view_at(
    poses: PoseSet, sequence: Sequence, frames: np.ndarray, seen_at: np.ndarray | None = None
) -> View:
    """Some frames of a sequence, if wanted with the key points of other frames ``seen_at``."""
    keypoints = poses.keypoints[sequence.start + (frames if seen_at is None else seen_at)]
    pixels = denormalize_pixels(keypoints.astype(np.float64), *sequence.image_size)
    return View(sequence, frames, pixels, poses.positions[sequence.start + frames].astype(np.float64))


def where(takes: Iterable[Take], among: Iterable[Take]) -> str:
    """Names takes by subject: "S1 (all 30 takes), S5 (2 of 30: Eating, Walking 1)"."""
    totals: dict[str, int] = {}
    for take in among:
        totals[take[0].subject] = totals.get(take[0].subject, 0) + 1
    found: dict[str, list[str]] = {}
    for take in takes:
        found.setdefault(take[0].subject, []).append(take[0].action)
    if sum(map(len, found.values())) == sum(totals.values()):
        return f"all {sum(totals.values())} takes"
    parts = []
    for subject, actions in found.items():
        if len(actions) == totals[subject]:
            parts.append(f"{subject} (all {len(actions)} takes)")
        else:
            parts.append(f"{subject} ({len(actions)} of {totals[subject]} takes: {listed(actions)})")
    return listed(parts, 8)


def listed(names: Iterable[str], shown: int = NAMES_SHOWN) -> str:
    """Names with commas, the first few of many."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")

"""A captured motion: a skeleton of nodes that turn, resampled, and its forward kinematics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.errors import DataError
from dataset.quaternions import IDENTITY, inverse, multiply, rotate, slerp

SLOWEST, FASTEST = 20.0, 2000.0
"""Frames per second: fewer do not tell what lies between them; no capture has more than the second."""
FASTEST_TURN = np.radians(1500)
"""Radians per second that no joint turns by between a take's first two frames."""
LARGEST = 1e9
"""No place in any unit and no angle is as large; NaN and infinity are beyond it as well."""
END = "/end"
"""What the name of a bone's tip (BVH's "End Site") has after the name of its joint."""


@dataclass(frozen=True)
class Rig:
    """A skeleton: nodes in an order where parents come first.

    Attributes:
        names: Name of each node as in the file; a bone's tip is called ``JOINT/end``.
        parents: Number of each node's parent; -1 for the root.
        offsets: (K, 3) place of each node in its parent's frame, in the file's unit.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray

    def above(self, node: int) -> list[int]:
        """The node, its parent, and so on up to the root."""
        line = [node]
        while self.parents[line[-1]] >= 0:
            line.append(self.parents[line[-1]])
        return line


Select = Callable[[Rig], Sequence[int]]
"""Chooses the nodes of a rig whose motion is wanted; those above them come along."""


@dataclass(frozen=True)
class Motion:
    """The motion of a rig's nodes, at a constant rate.

    Attributes:
        rig: The skeleton.
        turns: (F, K, 4) unit quaternions: each node's frame in its parent's.
        places: By node, for those that move in their parent's frame: (F, 3), in place of the rig's offset.
        rate: Frames per second.
    """

    rig: Rig
    turns: np.ndarray
    places: dict[int, np.ndarray]
    rate: float

    def __len__(self) -> int:
        return len(self.turns)


def with_ancestors(rig: Rig, wanted: Sequence[int]) -> list[int]:
    """The wanted nodes and all above them, in the rig's order."""
    return sorted({above for node in wanted for above in rig.above(node)})


def part(rig: Rig, nodes: Sequence[int]) -> Rig:
    """A rig of some of the nodes, which must include all above them."""
    place = {node: number for number, node in enumerate(nodes)} | {-1: -1}
    names = tuple(rig.names[node] for node in nodes)
    return Rig(names, tuple(place[rig.parents[node]] for node in nodes), rig.offsets[list(nodes)])


def checked_rate(rate: float, where: str) -> float:
    """The frame rate, if it can be one.

    Raises:
        DataError: It cannot.
    """
    if math.isfinite(rate) and SLOWEST <= rate <= FASTEST:
        return rate
    words = "expected the seconds of a frame, such as 0.0083333"
    if rate > 0 and SLOWEST <= 1 / rate <= FASTEST:
        words += f"; {1 / rate:g} looks like frames per second"
    elif 0 < rate < SLOWEST:
        words = f"{rate:.3g} frames per second are too few, expected at least {SLOWEST:g}"
    raise DataError(f"{where}: {words}. Where a file is wrong, give the true rate with --source_fps")


def without_false_start(motion: Motion) -> Motion:
    """Leaves the first frame out where no body could get from it to the second.

    Such is the T-pose that conversions of CMU's files put in front of every take.
    """
    if len(motion) < 3:
        return motion
    between = multiply(inverse(motion.turns[:2]), motion.turns[1:3])  # (2, K, 4)
    first, second = 2 * np.arccos(np.clip(np.abs(between[..., 0]), 0, 1)).max(axis=1)
    if first * motion.rate < FASTEST_TURN or first < 5 * second:
        return motion
    places = {node: place[1:] for node, place in motion.places.items()}
    return replace(motion, turns=motion.turns[1:], places=places)


def resample(motion: Motion, rate: float) -> Motion:
    """Brings a motion to ``rate`` frames a second: places linearly, turns along the shortest arc (slerp)."""
    if len(motion) < 2:
        raise DataError(f"expected a motion, found {len(motion)} frame")
    seconds = (len(motion) - 1) / motion.rate
    # A rate that the file rounded (0.0083333) must not cost the last frame.
    at = np.minimum(np.arange(int(seconds * rate + 0.01) + 1) / rate * motion.rate, len(motion) - 1)
    left = np.minimum(at.astype(int), len(motion) - 2)
    share = (at - left)[:, None]  # (F, 1)
    turns = slerp(motion.turns[left], motion.turns[left + 1], share)
    places = {
        node: (1 - share) * place[left] + share * place[left + 1] for node, place in motion.places.items()
    }
    return Motion(motion.rig, turns, places, rate)


def forward(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Forward kinematics.

    Returns:
        (F, K, 3) positions in the file's axes and unit, and (F, K, 4) turns of the nodes' frames in space.
    """
    rig = motion.rig
    turns = np.empty_like(motion.turns)
    points = np.empty((*motion.turns.shape[:2], 3))
    for node, parent in enumerate(rig.parents):
        place = motion.places.get(node, rig.offsets[node])
        if parent < 0:
            turns[:, node], points[:, node] = motion.turns[:, node], place
            continue
        turns[:, node] = multiply(turns[:, parent], motion.turns[:, node])
        points[:, node] = points[:, parent] + rotate(turns[:, parent], place)
    return points, turns


def still(frames: int) -> np.ndarray:
    """(F, 4) turns of a node that does not turn."""
    return np.broadcast_to(IDENTITY, (frames, 4))

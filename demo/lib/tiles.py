"""Where the detector looks: a pyramid of square tiles, and one person out of the hits of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np

SMALLEST_TILE = 160
"""Pixels. People from about a quarter of it (40 px) upward are found; below that there is little to see."""
LEVELS = 4
"""Tiles are halved at most three times, so that a large photo does not need thousands of them."""


class Tile(NamedTuple):
    """A square of the picture, which may reach over its edge.

    Attributes:
        x: Left edge, pixels.
        y: Upper edge, pixels.
        side: Side, pixels.
        whole: Whether it holds the whole picture.
        spans: Whether it reaches from edge to edge of the picture; a body cut by both is then shown as it is.
    """

    x: int
    y: int
    side: int
    whole: bool = False
    spans: bool = False


def pyramid(width: int, height: int) -> list[list[Tile]]:
    """Levels of tiles for a picture, from the whole of it to the finest.

    Each level halves the side of the last. Neighbours overlap by half, and what is larger than half a tile is
    small enough for the level above, so every person lies whole in a tile that shows them large enough.
    """
    longer = max(width, height)
    levels = [[Tile((width - longer) // 2, (height - longer) // 2, longer, whole=True, spans=True)]]
    side = longer // 2
    while side >= SMALLEST_TILE and len(levels) < LEVELS:
        spans = side >= min(width, height)
        levels.append(
            [Tile(x, y, side, spans=spans) for y in _starts(height, side) for x in _starts(width, side)]
        )
        side //= 2
    return levels


def _starts(length: int, side: int) -> list[int]:
    """First pixels of tiles that cover a length evenly and overlap by at least half."""
    if length <= side:
        return [(length - side) // 2]
    steps = -(-2 * (length - side) // side)
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


class Sweep:
    """Takes the tiles of a video by turns, a few a frame.

    The coarse ones, which show people near the camera, come round many times while the fine ones do once.

    Args:
        width: Width of the frames, pixels.
        height: Height of the frames, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        levels = pyramid(width, height)
        self.tiles = [tile for level in levels for tile in level]
        self._coarse = cycle([tile for level in levels[:2] for tile in level])
        fine = [tile for level in levels[2:] for tile in level]
        self._fine: Iterator[Tile] = cycle(fine) if fine else iter(())

    def next(self, fine: int = 2) -> list[Tile]:
        """The next coarse tile and ``fine`` fine ones, where the picture is large enough to have any."""
        return [next(self._coarse), *islice(self._fine, fine)]


def alike(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P, Q) whether bodies (P, 2, 2) and (Q, 2, 2), hip centre and size point, pass for one person.

    They do where the hips lie within half a body's radius and neither is twice as large as the other:
    neighbours in a crowd and a child in front of an adult are people of their own.
    """
    radius, other_radius = (np.linalg.norm(some[:, 1] - some[:, 0], axis=1) for some in (points, others))
    larger = np.maximum(radius[:, None], other_radius)
    smaller = np.minimum(radius[:, None], other_radius)
    between = np.linalg.norm(points[:, None, 0] - others[:, 0], axis=-1)
    return (between < 0.5 * larger) & (smaller > 0.5 * larger)


def suppress(scores: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    """Groups the hits of anchors, tiles and scales that show one person (greedy non-maximum suppression).

    Args:
        scores: (N,) scores.
        points: (N, 2, 2) hip centre and size point of each hit, pixels.

    Returns:
        Indices of the hits of each person, the best hit first, the surest person first.
    """
    same = alike(points, points)
    left = np.argsort(-scores, kind="stable")
    groups = []
    while len(left):
        group = same[left[0], left]
        group[0] = True
        groups.append(left[group])
        left = left[~group]
    return groups


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P, Q) intersection over union of boxes (P, 4) and (Q, 4): left, top, right, bottom."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area, other_area = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (boxes, others))
    return common / np.maximum(area[:, None] + other_area - common, 1e-9)

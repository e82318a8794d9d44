"""Boxes around people, and the regions of an image that keypoint networks see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(N, 4) left, top, right, bottom in pixels, and (N,) scores from 0 to 1, the highest first."""
Finder = Callable[[Image], Boxes]

MAX_PEOPLE = 100  # per image
NMS_IOU = 0.5
TILE = 0.6  # sides of the tiles over those of the image
SURE = 0.4  # score of a box that is believed to be a person
SMALL, LARGE = 0.08, 1000  # people of this fraction of the longer side are at a finder's limit; pixels


class Region(NamedTuple):
    """A rotated rectangle: centre and size in pixels, angle in radians, clockwise."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    @staticmethod
    def of_box(box: NDArray[Any], aspect: float = 1.0, padding: float = 1.25) -> Region:
        """A box (4,), widened or heightened to width over height ``aspect``, then padded."""
        width, height = np.maximum(box[2:] - box[:2], 1).tolist()
        width = padding * max(width, height * aspect)
        x, y = ((box[:2] + box[2:]) / 2).tolist()
        return Region(x, y, width, width / aspect)

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3) affine map from a grid of ``size`` (width, height) laid over the region to the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        linear = np.array([[cos, -sin], [sin, cos]]) * np.divide([self.width, self.height], size)
        return np.column_stack([linear, [self.x, self.y] - linear @ np.divide(size, 2)])

    def to_image(self, points: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
        """Points (..., 2) on such a grid, in pixels of the image."""
        matrix = self.matrix(size)
        return points @ matrix[:, :2].T + matrix[:, 2]

    def cut(self, image: Image, size: tuple[int, int], only: NDArray[Any] | None = None) -> Image:
        """The region (height, width, 3) of an image, black outside of the image and of the box ``only``."""
        matrix = self.matrix(size)
        reach = math.hypot(self.width, self.height) / 2
        low, high = np.array([self.x - reach, self.y - reach]), np.array([self.x + reach, self.y + reach])
        if only is not None:
            low, high = np.maximum(low, only[:2]), np.minimum(high, only[2:])
        left, top = np.maximum(low, 0).astype(int).tolist()
        right, bottom = np.maximum(high, 0).astype(int).tolist()
        part = image[top : bottom + 1, left : right + 1]
        shrink = max(1, int(self.width / size[0]))  # bilinear sampling alone would skip pixels
        height, width = part.shape[0] // shrink, part.shape[1] // shrink
        if not height or not width:
            return np.zeros((size[1], size[0], 3), np.uint8)
        matrix[:, 2] -= [left, top]
        if shrink > 1:
            part = part[: height * shrink, : width * shrink]
            part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            matrix /= shrink
            matrix[:, 2] += 0.5 / shrink - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(part, matrix, size, flags=flags)  # type: ignore[return-value]


def letterbox(
    image: Image, size: tuple[int, int], grey: int, *, centred: bool = False
) -> tuple[Image, Region]:
    """An image scaled to fit into ``size`` (width, height), grey around it.

    Returns:
        (height, width, 3) and the region of the image that this shows.
    """
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    left, top = ((size[0] - width) // 2, (size[1] - height) // 2) if centred else (0, 0)
    square = np.full((size[1], size[0], 3), grey, np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=method)
    x, y = image.shape[1] / width, image.shape[0] / height  # pixels of the image per pixel of the square
    return square, Region((size[0] / 2 - left) * x, (size[1] / 2 - top) * y, size[0] * x, size[1] * y)


def suppress(boxes: NDArray[np.floating], scores: NDArray[np.floating], limit: float = NMS_IOU) -> Boxes:
    """Greedy non-maximum suppression: at most ``MAX_PEOPLE`` boxes, the highest score first."""
    order = np.argsort(-scores, kind="stable")[: 20 * MAX_PEOPLE]
    kept: list[int] = []
    while len(order) and len(kept) < MAX_PEOPLE:
        best = order[0]
        kept.append(int(best))
        order = order[overlaps(boxes[best][None], boxes[order])[0] <= limit]
        order = order[order != best]
    return boxes[kept].astype(np.float32), scores[kept].astype(np.float32)


def overlaps(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """(P, Q) intersection over union of boxes (P, 4) and (Q, 4)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    area, other = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (boxes, others))
    return common / np.maximum(area[:, None] + other - common, 1e-9)


def in_tiles(find: Finder, *, always: bool = False) -> Finder:
    """A finder that also looks at overlapping quarters of an image where people are small.

    Args:
        find: The finder.
        always: Look at the quarters of every image; otherwise only of large ones in which people at the
            finder's limit were seen.
    """

    def find_small(image: Image) -> Boxes:
        boxes, scores = find(image)
        height, width = image.shape[:2]
        longer = max(height, width)
        small = (boxes[:, 3] - boxes[:, 1] < SMALL * longer) & (scores >= SURE)
        if not always and (longer < LARGE or not small.any()):
            return boxes, scores
        everything = [(boxes, scores)]
        for y in (0, round((1 - TILE) * height)):
            for x in (0, round((1 - TILE) * width)):
                tile = image[y : y + round(TILE * height), x : x + round(TILE * width)]
                found, sure = find(tile)
                inner = np.array([x > 0, y > 0, x == 0, y == 0])  # sides at which the image goes on
                edges = np.array([0, 0, tile.shape[1], tile.shape[0]])
                cut = ((np.abs(found - edges) < 2) & inner).any(axis=1)  # bodies that the tile cuts
                everything.append((found[~cut] + [x, y, x, y], sure[~cut]))
        boxes, scores = (np.concatenate(each) for each in zip(*everything, strict=True))
        return suppress(boxes, scores)

    return find_small

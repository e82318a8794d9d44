"""BlazePose's geometry: what its two networks are given and what they answer. No network runs here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from demo.lib.person import Person
from demo.lib.tiles import Tile

COCO = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""Of BlazePose's 33 landmarks the 17 key points of COCO: nose, eyes, ears, shoulders, elbows, wrists, hips,
knees, ankles, the left one first."""
BODY = 33
LIMBS = ((11, 13, 15), (12, 14, 16), (23, 25, 27), (24, 26, 28), (11, 12), (23, 24))
TRUNK, HEAD = (11, 12, 23, 24), (0, 7, 8)
GREY = (127, 127, 127)
HIP_CENTRE, SIZE_POINT = 33, 34
"""Landmarks after the body's own that give the region of the next frame."""

GRIDS = ((28, 2), (14, 2), (7, 6))
"""Cells along a side of the detector's grids, and anchors in each cell."""
DETECTOR_SIDE, CROP_SIDE = 224, 256


class Region(NamedTuple):
    """A turned square round a person: centre and side in pixels, angle in radians (clockwise as seen)."""

    x: float
    y: float
    side: float
    angle: float


class Landmarks(NamedTuple):
    """What the landmark network says of one region.

    Attributes:
        points: (39, 2) pixels of the picture.
        scores: (33,) chance that a body landmark is in the picture and in sight.
        world: (33, 3) metres, hip-centred, x right, y down, z away in the picture's axes.
        presence: Chance that the region holds a person.
    """

    points: np.ndarray
    scores: np.ndarray
    world: np.ndarray
    presence: float

    def region(self) -> Region:
        """The region that these landmarks lie in."""
        return region(self.points[HIP_CENTRE], self.points[SIZE_POINT])


@lru_cache(maxsize=1)
def anchors() -> np.ndarray:
    """(2254, 2) centres of the detector's anchors as fractions of its square, row by row, grid after grid."""
    centres = []
    for cells, repeats in GRIDS:
        y, x = np.mgrid[:cells, :cells]
        grid = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells  # (cells * cells, 2)
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres).astype(np.float32)


def decode_hits(raw: np.ndarray, logits: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Turns the detector's output into hits.

    Args:
        raw: (2254, 12) box, then four points (x, y), pixels of the square relative to the anchor.
        logits: (2254,) logits of the scores.
        threshold: Lowest score kept.

    Returns:
        (N,) scores and (N, 2, 2) hip centre and size point as fractions of the square.
    """
    scores = sigmoid(logits)
    kept = scores >= threshold
    points = raw[kept, 4:8].reshape(-1, 2, 2) / DETECTOR_SIDE  # (N, point, xy)
    return scores[kept], points + anchors()[kept, None]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def region(hip_centre: np.ndarray, size_point: np.ndarray) -> Region:
    """The square round a person in which the size point lies straight above the hip centre."""
    x, y = size_point - hip_centre
    return Region(float(hip_centre[0]), float(hip_centre[1]), 2.5 * math.hypot(x, y), math.atan2(x, -y))


def corners(place: Region) -> np.ndarray:
    """(2, 2) hip centre and size point of a region: the inverse of ``region``."""
    reach = place.side / 2.5
    x, y = place.x + reach * math.sin(place.angle), place.y - reach * math.cos(place.angle)
    return np.array([[place.x, place.y], [x, y]])


def crop_matrix(place: Region) -> np.ndarray:
    """(2, 3) affine map from the pixels of the 256 x 256 crop to those of the picture."""
    scale = place.side / CROP_SIDE
    cos, sin = scale * math.cos(place.angle), scale * math.sin(place.angle)
    half = CROP_SIDE / 2
    return np.array(
        [
            [cos, -sin, place.x - half * (cos - sin)],
            [sin, cos, place.y - half * (sin + cos)],
        ]
    )


def cut(image: np.ndarray, place: Region) -> np.ndarray:
    """(256, 256, 3) uint8 upright crop of a region, black outside the picture."""
    import cv2

    matrix = crop_matrix(place)
    shrink = int(place.side // CROP_SIDE)
    if shrink > 1:  # Bilinear sampling alone would skip pixels of a large person.
        reach = place.side * 0.7072
        left, top = max(0, int(place.x - reach)), max(0, int(place.y - reach))
        part = image[top : max(0, int(place.y + reach)) + 1, left : max(0, int(place.x + reach)) + 1]
        if part.shape[0] >= shrink and part.shape[1] >= shrink:
            height, width = part.shape[0] // shrink, part.shape[1] // shrink
            part = part[: height * shrink, : width * shrink]
            image = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
            matrix = matrix / shrink
            matrix[:, 2] += (0.5 - np.array([left, top])) / shrink - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (CROP_SIDE, CROP_SIDE), flags=flags)


def cut_tile(image: np.ndarray, tile: Tile) -> np.ndarray:
    """(224, 224, 3) uint8 picture of a tile, black outside the picture."""
    import cv2

    height, width = image.shape[:2]
    left, top = max(0, tile.x), max(0, tile.y)
    part = image[top : max(0, min(height, tile.y + tile.side)), left : max(0, min(width, tile.x + tile.side))]
    square = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), dtype=np.uint8)
    if part.size:
        scale = DETECTOR_SIDE / tile.side
        x, y = (
            min(DETECTOR_SIDE - 1, round((left - tile.x) * scale)),
            min(DETECTOR_SIDE - 1, round((top - tile.y) * scale)),
        )
        size = (
            max(1, min(DETECTOR_SIDE - x, round(part.shape[1] * scale))),
            max(1, min(DETECTOR_SIDE - y, round(part.shape[0] * scale))),
        )
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        square[y : y + size[1], x : x + size[0]] = cv2.resize(part, size, interpolation=method)
    return square


def decode_landmarks(raw: np.ndarray, world: np.ndarray, presence: float, place: Region) -> Landmarks:
    """Turns the landmark network's output for a region into landmarks of the picture.

    Args:
        raw: (39, 5) x, y, z in crop pixels, visibility and presence logits.
        world: (39, 3) metres, in the axes of the upright crop.
        presence: Chance that the crop holds a person.
        place: The region cropped.
    """
    matrix = crop_matrix(place)
    points = raw[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    scores = sigmoid(raw[:BODY, 3:]).min(axis=1)
    turn = matrix[:, :2] * (CROP_SIDE / place.side)
    turned = np.concatenate([world[:BODY, :2] @ turn.T, world[:BODY, 2:]], axis=1)  # (33, 3)
    return Landmarks(points, scores, turned, float(presence))


def to_person(landmarks: Landmarks, width: int, height: int) -> Person | None:
    """The person that landmarks show in a picture of this size in pixels, None where all of it lies outside.

    Landmarks outside the picture are guesses and score 0.
    """
    coco, edge = list(COCO), np.array([width, height])
    points, slack = landmarks.points[:BODY], 0.02 * landmarks.region().side
    box = np.concatenate([np.clip(end(points, axis=0), 0, edge) for end in (np.min, np.max)])
    if np.any(box[2:] - box[:2] < 1):
        return None
    inside = np.all((points > -slack) & (points < edge + slack), axis=1)
    return Person(
        keypoints=points[coco].astype(np.float32),
        scores=(landmarks.scores * inside)[coco].astype(np.float32),
        box=box.astype(np.float32),
        score=float(landmarks.presence),
        world=landmarks.world[coco].astype(np.float32),
    )


def hide(square: np.ndarray, tile: Tile, people: Iterable[Landmarks]) -> None:
    """Paints people grey in a tile's (224, 224, 3) picture.

    The detector names the most prominent person and is silent about whoever stands beside them: of two who
    walk together it finds the second only after the first is painted over.
    """
    import cv2

    scale = DETECTOR_SIDE / tile.side
    for person in people:
        points = (person.points - (tile.x, tile.y)) * scale
        radius = float(np.linalg.norm(points[SIZE_POINT] - points[HIP_CENTRE]))
        points = np.clip(points, -1e4, 1e4).astype(np.int32)
        limbs = [points[list(limb)] for limb in LIMBS]
        cv2.polylines(square, limbs, False, GREY, max(1, round(0.3 * radius)))
        cv2.fillConvexPoly(square, cv2.convexHull(points[list(TRUNK)]), GREY)
        for index in HEAD:
            cv2.circle(square, points[index].tolist(), max(1, round(0.18 * radius)), GREY, -1)

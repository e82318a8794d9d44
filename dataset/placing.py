"""Puts takes before Human3.6M's cameras, so that all four see every joint of every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.camera import Camera, project, rotate, world_to_camera
from common.skeleton import LEFT_LEG, RIGHT_LEG, ROOT

HEADING_STEP = np.pi * (3 - 5**0.5)
"""Radians from a heading to the next one tried: the golden angle, which spreads any number of them evenly."""
MARGIN = 15
"""Pixels that every joint keeps from the edge of every image."""
ANKLE_HEIGHT = 0.06
"""Height in metres above the floor of the lowest ankle of a take, for a body of 1.62 m."""
TRIES = 8
"""Headings that are tried before a take is cut in two."""
SHORTEST = 10
"""Frames of the shortest piece that is kept of a longer take."""
ANKLES = [LEFT_LEG[2], RIGHT_LEG[2]]

View = tuple[np.ndarray, np.ndarray]
"""Camera-space positions (F, 17, 3) in metres, and pixels (F, 17, 2)."""


def place(pose: np.ndarray, *, heading: float, floor: float) -> np.ndarray:
    """Moves a take (F, 17, 3) to the cameras' room: turned about the vertical, centred, the floor at z = 0.

    Args:
        pose: Joint positions in metres, z up.
        heading: Radians that the take is turned about the vertical.
        floor: Height of the floor in ``pose``, metres.
    """
    turned = rotate(pose, (np.cos(heading / 2), 0, 0, np.sin(heading / 2)))
    path = turned[:, ROOT, :2]
    return turned - np.append((path.min(axis=0) + path.max(axis=0)) / 2, floor)


def views(pose: np.ndarray, cameras: Sequence[Camera]) -> list[View] | None:
    """What the cameras see of a take (F, 17, 3) in world metres; None if one of them misses a joint."""
    seen: list[View] = []
    for camera in cameras:
        points = world_to_camera(pose, camera)
        if points[..., 2].min() <= 0:
            return None
        pixels = project(points, camera)
        if pixels.min() <= MARGIN or np.any(pixels >= np.array([camera.width, camera.height]) - MARGIN):
            return None
        seen.append((points, pixels))
    return seen


def placed(
    pose: np.ndarray, cameras: Sequence[Camera], headings: Iterator[float], *, floor: float
) -> Iterator[tuple[int, list[View]]]:
    """Puts a take (F, 17, 3), metres, z up, before cameras, in halves of halves where it roams out of view.

    Each piece is centred and turned on its own. What no heading brings into view is left out.

    Args:
        pose: The take.
        cameras: The cameras.
        headings: Radians to try, one after another; endless.
        floor: Height of the floor in ``pose``, metres.

    Returns:
        By piece: its first frame and what each camera sees.
    """
    pieces = [(0, len(pose))]
    while pieces:
        start, stop = pieces.pop()
        if stop - start < min(SHORTEST, len(pose)):
            continue
        candidates = (place(pose[start:stop], heading=next(headings), floor=floor) for _ in range(TRIES))
        seen = next((found for each in candidates if (found := views(each, cameras))), None)
        if seen:
            yield start, seen
        else:
            middle = (start + stop) // 2
            pieces += [(middle, stop), (start, middle)]

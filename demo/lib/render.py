"""Images of people: the input with 2D skeletons, and beside it the poses on a floor, painted by OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from common.files import replacing
from common.plots import FLOOR_CELL, FLOOR_COLOUR, PANEL_COLOUR, TRUNK_COLOUR, bone_colour
from common.skeleton import BONES, HEAD, LEFT, RIGHT
from demo.lib.result import MIN_CONFIDENCE, Result
from demo.lib.stage import Standing, View, set_stage

MAX_SIDE = 1920  # longest side of the input's half, pixels
MIN_HEIGHT = 480  # small images are enlarged to this, so that lines and text have room
FIELD = 2 * np.tan(np.radians(30) / 2)  # width over distance of what the square panel shows
FILLED = 0.94  # fraction of the panel that people may fill
SHIFT = 4  # lines are placed to a sixteenth of a pixel, so that they do not jump between frames
FONT = cv2.FONT_HERSHEY_SIMPLEX
FAR = 1 << 15  # pixels; beyond it lines are clipped, since OpenCV's coordinates are 32-bit integers


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _pale(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour mixed with white: for joints of a low score and for frames that are filled in."""
    red, green, blue = ((value + 2 * 245) // 3 for value in colour)
    return red, green, blue


_PANEL, _FLOOR, _TEXT = _rgb(PANEL_COLOUR), _rgb(FLOOR_COLOUR), _rgb(TRUNK_COLOUR)
_WHITE, _SHADOW = (255, 255, 255), (196, 201, 209)
_BONES = tuple((joint, parent, _rgb(bone_colour(joint))) for joint, parent in BONES)
_LEGEND = (("left", _rgb(bone_colour(LEFT[0]))), ("right", _rgb(bone_colour(RIGHT[0]))))


def rendered(
    result: Result, frames: Iterable[np.ndarray], *, max_side: int = MAX_SIDE
) -> Iterator[np.ndarray]:
    """Paints an input frame by frame, holding one at a time.

    Args:
        result: The people in it.
        frames: All frames of the input in order, (H, W, 3) uint8 RGB.
        max_side: Longest side of the input's half, pixels.

    Yields:
        An image for each frame as ``render_frame`` gives it, all of one size.
    """
    stage = set_stage(result)
    for number, image in enumerate(frames):
        yield render_frame(image, stage.at(number), stage.view, max_side=max_side)


def render_frame(
    image: np.ndarray, people: Sequence[Standing], view: View, *, max_side: int = MAX_SIDE
) -> np.ndarray:
    """Paints one frame: on the left the input with 2D skeletons, on the right the poses on a floor.

    Args:
        image: (H, W, 3) uint8 RGB. Its half keeps its aspect.
        people: Who is in it, with keypoints in its pixels.
        view: the part of the stage to show: ``Stage.view``.
        max_side: Longest side of the input's half, pixels; small inputs are enlarged to a height of 480.

    Returns:
        (H', W', 3) uint8 RGB, sides even as video needs them.
    """
    height, width = image.shape[:2]
    scale, size, panel = _layout(width, height, max_side)
    canvas = np.empty((size[1], size[0] + panel, 3), np.uint8)
    canvas[:, size[0] :] = _empty_panel(view, panel, size[1])
    shrunk = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    left, right = canvas[:, : size[0]], canvas[:, size[0] :]
    left[:] = image if size == (width, height) else cv2.resize(image, size, interpolation=shrunk)
    for person in people:
        # The middle of the first pixel is at 0 in the input and in the enlarged canvas.
        points = (person.keypoints + 0.5) * (np.array(size) / (width, height)) - 0.5
        _draw_skeleton(left, points, None, person, named=len(people) > 1)
    _draw_poses(right, people, view)
    return canvas


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an image (H, W, 3) uint8 RGB as PNG or JPEG, by the name's suffix, atomically."""
    _, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _layout(width: int, height: int, max_side: int) -> tuple[float, tuple[int, int], int]:
    """Scale and even size of the input's half, and the even width of the panel."""
    scale = min(max(1.0, MIN_HEIGHT / height), max_side / max(width, height))
    size = max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)
    panel = min(size[1], max(size[0], MIN_HEIGHT))
    return scale, size, max(panel, 64)


@lru_cache(maxsize=4)
def _empty_panel(view: View, width: int, height: int) -> np.ndarray:
    """The floor's grid and the captions, the same for all frames of a video."""
    panel = np.full((height, width, 3), _PANEL, np.uint8)
    (x0, y0, _), (x1, y1, _) = view.low, view.high
    ends = [[(x, y0), (x, y1)] for x in np.arange(x0, x1 + FLOOR_CELL / 2, FLOOR_CELL)]
    ends += [[(x0, y), (x1, y)] for y in np.arange(y0, y1 + FLOOR_CELL / 2, FLOOR_CELL)]
    lines, _ = _project(np.insert(np.array(ends), 2, 0.0, axis=-1), view, width, height)  # (lines, 2, 3)
    for start, end in lines:
        _line(panel, start, end, _FLOOR, max(round(min(width, height) / 500), 1))
    letter = _letter(width, height)
    words = (*_LEGEND, (f"squares of {FLOOR_CELL} m", _TEXT))
    at = 12 * letter
    for word, colour in words:
        _write(panel, word, (at, 36 * letter), letter, colour)
        at += cv2.getTextSize(word, FONT, letter, 1)[0][0] + 24 * letter
    for line, caption in enumerate(reversed(view.captions)):
        _write(panel, caption, (12 * letter, height - (18 + 36 * line) * letter), letter, _TEXT)
    panel.flags.writeable = False
    return panel


def _project(points: np.ndarray, view: View, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Stage points (..., 3) to pixels of the panel (..., 2), and their distance from the viewer (...).

    The viewer looks at the middle of the view's box from where the whole box is visible.
    """
    low, high = np.array(view[:2])
    corners = np.array(list(product(*zip(low, high, strict=True))))  # (8, 3)
    middle, half = (low + high) / 2, np.array([width, height]) / 2
    reach = half * FILLED - [0, 84 * _letter(width, height)]  # text above and below
    focal = min(width, height) / FIELD
    x, y, z = np.moveaxis(_seen(corners - middle, view.elevation), -1, 0)
    distance = max((np.abs(x) * focal / reach[0] - z).max(), (np.abs(y) * focal / reach[1] - z).max())
    seen = _seen(points - middle, view.elevation)
    away = seen[..., 2] + distance
    return half + seen[..., :2] * (focal / np.maximum(away, 0.1))[..., None], away


def _seen(points: np.ndarray, elevation: float) -> np.ndarray:
    """Stage points (..., 3) in the axes right, down and away of a viewer at an elevation in degrees."""
    x, y, z = np.moveaxis(points, -1, 0)
    sine, cosine = np.sin(np.radians(elevation)), np.cos(np.radians(elevation))
    return np.stack([x, y * -sine - z * cosine, y * cosine - z * sine], axis=-1)


def _letter(width: int, height: int) -> float:
    """OpenCV's scale of text for a panel of this size."""
    return float(np.clip(min(width / 620, height / 480), 0.3, 6)) * 0.5


def _write(canvas: np.ndarray, words: str, place: tuple[float, float], letter: float, colour: tuple) -> None:
    at = round(place[0]), round(place[1])
    cv2.putText(canvas, words, at, FONT, letter, colour, max(round(letter * 1.6), 1), cv2.LINE_AA)


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple, thickness: int) -> None:
    ends = np.rint(np.clip([start, end], -FAR, FAR) * (1 << SHIFT)).astype(int).tolist()
    cv2.line(canvas, ends[0], ends[1], colour, thickness, cv2.LINE_AA, SHIFT)


def _draw_poses(panel: np.ndarray, people: Sequence[Standing], view: View) -> None:
    """Paints shadows, then poses from the farthest to the nearest."""
    height, width = panel.shape[:2]
    for person in people:
        shadow, _ = _project(person.pose * [1, 1, 0], view, width, height)
        for joint, parent, _ in _BONES:
            _line(panel, shadow[joint], shadow[parent], _SHADOW, max(min(width, height) // 300, 1))
    seen = [(*_project(person.pose, view, width, height), person) for person in people]
    for points, away, person in sorted(seen, key=lambda one: -one[1].mean()):
        _draw_skeleton(panel, points, away, person, named=len(people) > 1)


def _draw_skeleton(
    canvas: np.ndarray, points: np.ndarray, away: np.ndarray | None, person: Standing, *, named: bool
) -> None:
    """Paints bones between points (17, 2), with a white rim.

    Bones are painted from the farthest to the nearest by their joints' distances ``away`` (17,), if given.
    """
    height, width = canvas.shape[:2]
    thick = round(float(np.clip(np.ptp(points, axis=0).max() / 85, 2, max(min(width, height) / 60, 2))))
    rim = thick + 2 * max(thick // 3, 1)
    bones = _BONES
    if away is not None:
        bones = tuple(sorted(_BONES, key=lambda bone: -(away[bone[0]] + away[bone[1]])))
    for joint, parent, _ in bones:
        _line(canvas, points[joint], points[parent], _WHITE, rim)
    for joint, parent, colour in bones:
        faint = person.interpolated or min(person.scores[joint], person.scores[parent]) < MIN_CONFIDENCE
        _line(canvas, points[joint], points[parent], _pale(colour) if faint else colour, thick)
    if named:
        _draw_name(canvas, str(person.id), points[HEAD], float(np.clip(thick / 5, 0.4, 4)))


def _draw_name(canvas: np.ndarray, name: str, head: np.ndarray, letter: float) -> None:
    """Writes a person's number on white above the head."""
    (width, height), _ = cv2.getTextSize(name, FONT, letter, round(letter * 2))
    rim = round(5 * letter)
    x, y = np.rint(np.clip(head - [width / 2, 18 * letter], -FAR, FAR)).astype(int).tolist()
    cv2.rectangle(canvas, (x - rim, y - height - rim), (x + width + rim, y + rim), _WHITE, cv2.FILLED)
    cv2.putText(canvas, name, (x, y), FONT, letter, _TEXT, round(letter * 2), cv2.LINE_AA)

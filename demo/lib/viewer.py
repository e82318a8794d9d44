"""One HTML file that shows a result in any browser, offline.

The page is ``viewer.html``; its data are inserted here. A file stays under 35 MB however long the video is:
images are scaled down, and where they or the poses are too many, only some are kept, and the page says so.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.console import printable
from common.files import replacing
from common.plots import FLOOR_CELL, LEFT_COLOUR, RIGHT_COLOUR, TRUNK_COLOUR
from common.skeleton import BONES, HEAD, LEFT, NUM_JOINTS, PARENTS, RIGHT
from demo.lib.result import MIN_CONFIDENCE, Result, Track
from demo.lib.stage import Stage, set_stage

TEMPLATE = Path(__file__).with_name("viewer.html")
MAX_IMAGE_BYTES = 12_000_000  # JPEG bytes of all images together; base64 adds a third
MAX_POSES = 60_000  # of all people together: 188 bytes each, 15 MB in base64
VIDEO_SIZE, IMAGE_SIZE = (854, 480), (1600, 1080)  # largest width and height, pixels
QUALITY = 78  # of JPEG: a 480 px frame of a photo takes about 30 kB
POINT_RANGE = 4  # longer sides of the image that keypoints may lie outside of it


def write_viewer(result: Result, path: str | Path, frames: Iterable[np.ndarray] | None = None) -> None:
    """Writes the viewer, atomically.

    Args:
        result: What to show.
        path: The HTML file.
        frames: All frames of the input in order, (H, W, 3) uint8 RGB; they are read one by one. Without them
            the keypoints stand on an empty background.
    """
    stage = set_stage(result)
    step = max(-(-sum(len(track.frames) for track in result.tracks) // MAX_POSES), 1)
    images = None if frames is None else _images(frames, result.frame_count == 1, step)
    data = _data(result, stage, step) | {"images": images}
    # A name such as </script> must not end the data.
    page = {
        "title": html.escape(printable(Path(result.source).name)),
        "data": json.dumps(data, allow_nan=False).replace("<", r"\u003c"),
    }
    filled = re.sub(r"{{(title|data)}}", lambda match: page[match[1]], TEMPLATE.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(filled, encoding="utf-8")


def _data(result: Result, stage: Stage, step: int) -> dict[str, Any]:
    """Everything but the images, as plain values."""
    reach = np.abs(stage.view.low + stage.view.high).max()
    unit = max(0.001, float(reach) / 32_000)  # metres; millimetres unless people stand far apart
    pixel = max(result.image_size) * POINT_RANGE / 32_000
    people = zip(result.tracks, stage.poses, strict=True)
    return {
        "source": printable(Path(result.source).name),  # the page is passed on, and folders are private
        "size": result.image_size,
        "frames": result.frame_count,
        "fps": result.fps,
        "times": None if result.frame_times is None else result.frame_times[::step].round(4).tolist(),
        "step": step,
        "notes": dict(result.notes),
        "view": stage.view._asdict(),
        "cell": FLOOR_CELL,
        "low": MIN_CONFIDENCE,
        "colours": {"left": LEFT_COLOUR, "right": RIGHT_COLOUR, "trunk": TRUNK_COLOUR},
        "joints": NUM_JOINTS,
        "head": HEAD,
        "bones": [(joint, parent, _side(joint)) for joint, parent in BONES],
        "parents": PARENTS,
        "unit": unit,
        "pixel": pixel,
        "people": [
            person
            for track, poses in people
            if (person := _person(track, poses, step, unit, pixel))["frames"]
        ],
    }


def _side(joint: int) -> str:
    return "left" if joint in LEFT else "right" if joint in RIGHT else "trunk"


def _person(track: Track, poses: np.ndarray, step: int, unit: float, pixel: float) -> dict[str, Any]:
    """One person's kept frames: positions in ``unit`` m, keypoints in ``pixel`` px, scores of 255."""
    kept = np.asarray(track.frames) % step == 0
    return {
        "id": int(track.id),
        "frames": _base64(track.frames[kept], "<i4"),
        "poses": _base64(poses[kept] / unit, "<i2"),
        "points": _base64(track.keypoints[kept] / pixel, "<i2"),
        "scores": _base64(track.scores[kept] * 255, "u1"),
        "filled": _base64(track.interpolated[kept], "u1"),
    }


def _base64(values: np.ndarray, kind: str) -> str:
    """Numbers as integers, rounded and clipped to the integer's range."""
    limits = np.iinfo(kind)
    integers = np.clip(np.rint(np.asarray(values, dtype=np.float64)), limits.min, limits.max).astype(kind)
    return base64.b64encode(integers.tobytes()).decode()


def _images(frames: Iterable[np.ndarray], single: bool, step: int) -> dict[str, Any] | None:
    """JPEG images of every ``step``-th frame, a multiple of the given step at which they stay in bounds."""
    kept: dict[int, bytes] = {}
    held = 0
    for number, frame in enumerate(frames):
        if number % step:
            continue
        kept[number] = _jpeg(frame, IMAGE_SIZE if single else VIDEO_SIZE)
        held += len(kept[number])
        while held > MAX_IMAGE_BYTES and len(kept) > 1:
            step *= 2
            kept = {number: jpeg for number, jpeg in kept.items() if number % step == 0}
            held = sum(map(len, kept.values()))
    if not kept:
        return None
    return {"step": step, "jpeg": [base64.b64encode(jpeg).decode() for jpeg in kept.values()]}


def _jpeg(frame: np.ndarray, limits: tuple[int, int]) -> bytes:
    height, width = frame.shape[:2]
    scale = min(1.0, limits[0] / width, limits[1] / height)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    return data.tobytes()

"""Videos and webcams, a frame at a time, read with OpenCV."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from demo.lib.inputs import InputError, check_size, refusing

if TYPE_CHECKING:
    import cv2

FPS_RANGE = (0.5, 480.0)
FALLBACK_FPS = 30.0
MISSING_SHARE = 0.05
"""Containers only estimate their number of frames; a video that lacks more than this share was cut."""
PATIENCE = 2.0
"""Seconds for which a webcam may give no picture before it counts as gone: single frames fail on a busy bus,
and some cameras take a moment to wake."""
PAUSE = 0.02
_SILENCE = threading.Lock()
"""The level of OpenCV's log is the whole program's: of two who set it, one would set back the other's."""


class Video:
    """A video file or a webcam: iterating gives each frame once, (H, W, 3) uint8 RGB, holding one at a time.

    The rotation that phones note in the file is applied. A video that breaks off is read up to there, with a
    note.

    Attributes:
        name: The file, or "webcam N".
        size: Width and height of the frames, pixels.
        fps: Frames per second.
        frame_count: The container's estimate of the number of frames; None where it has none.
        notes: What is odd about the video, for the user; complete when all frames are read.
        failed: How often a webcam was asked for a frame and gave none, before it went on.

    Args:
        source: The file, or the number of a webcam.

    Raises:
        InputError: The file cannot be opened, is too large, or has no frame; or there is no such webcam.
    """

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        import cv2

        self.name = f"webcam {source}" if isinstance(source, int) else os.fspath(source)
        self.notes: list[str] = []
        self.failed = 0
        self._live = isinstance(source, int)
        self._capture = _open_camera(source) if isinstance(source, int) else _open_file(source)
        try:
            with refusing(self.name):
                sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
                check_size(*(int(self._capture.get(side)) for side in sides))
                self._first = self._read()
                if self._first is None:
                    raise InputError(
                        "it gives no picture; does another program hold it, is its shutter closed?"
                        if self._live
                        else "no frame in it can be read; is it cut short, or still being written?"
                    )
        except InputError:
            self.close()
            raise
        # Of the frame and not of the container, which does not always count the rotation in.
        self.size = (self._first.shape[1], self._first.shape[0])
        self.fps = self._sane_fps(self._capture.get(cv2.CAP_PROP_FPS))
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if not self._live and 0 < count < 1e9 else None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file or camera."""
        self._capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        count = 0
        while frame is not None:
            if frame.shape[1::-1] != self.size:
                self.notes.append(f"frames change size after {count}: the rest is left out")
                return
            count += 1
            yield frame
            frame = self._read()
        if self._live:
            self.notes.append(f"the camera gave no more frames after {count}")
        elif self.frame_count and self.frame_count - count > max(2, MISSING_SHARE * self.frame_count):
            self.notes.append(
                f"it ends after {count} of {self.frame_count} frames: it is cut short or damaged there"
            )

    def _read(self) -> np.ndarray | None:
        frame = self._try()
        if frame is None and self._live:
            failed, end = 0, time.monotonic() + PATIENCE
            while frame is None and time.monotonic() < end:
                failed += 1
                time.sleep(PAUSE)
                frame = self._try()
            self.failed += failed if frame is not None else 0
        return frame

    def _try(self) -> np.ndarray | None:
        import cv2

        taken, frame = self._capture.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if taken and frame is not None and frame.size else None

    def _sane_fps(self, fps: float) -> float:
        low, high = FPS_RANGE
        if math.isfinite(fps) and low <= fps <= high:
            return float(fps)
        if not self._live:  # a webcam's rate is measured
            self.notes.append(
                f"it claims {fps:g} frames per second; {FALLBACK_FPS:g} are assumed: times are a guess"
            )
        return FALLBACK_FPS


def webcam(index: int) -> Video:
    """Opens a webcam by its number, counted from 0; it is a ``Video`` without an end.

    Raises:
        InputError: There is no such camera, or it gives no picture.
    """
    return Video(index)


def _open_file(source: str | os.PathLike[str]) -> cv2.VideoCapture:
    import cv2

    with refusing(source), open(source, "rb") as file:
        if not file.read(1):
            raise InputError("empty")
    with silent():
        # FFmpeg by name: OpenCV's other readers would take some names for patterns of pictures.
        capture = cv2.VideoCapture(os.path.abspath(source), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(
            f"{source}: no video that FFmpeg reads, or one whose index is missing because it is cut short"
        )
    return capture


def _open_camera(index: int) -> cv2.VideoCapture:
    import cv2

    if index < 0:
        raise InputError(f"webcam {index}: expected a number from 0 on")
    with silent():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise InputError(
            f"webcam {index}: no such camera, or another program holds it, or this one may not use it; "
            "the first camera is 0"
        )
    return capture


@contextmanager
def silent() -> Iterator[None]:
    """Keeps OpenCV and FFmpeg from printing beside the error that says the same by name."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, and before it
    with _SILENCE:
        level = log.setLogLevel(0)
        try:
            yield
        finally:
            log.setLogLevel(level)

"""Recording a webcam, until it is enough or Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from demo.lib.video import Video
from demo.lib.video_writer import VideoWriter

MEASURED = 15
"""Frames that are held to measure the camera's rate by: in the dark cameras give fewer than they claim."""
LEAST_SECONDS = 0.2
"""Frames that come in less time were not waited for and tell no rate."""


def record(camera: Video, path: Path, most: int | None = None) -> tuple[int, float]:
    """Writes a camera's frames to an MP4, at the rate at which they come.

    Args:
        camera: An open webcam.
        path: The MP4; it is there when this is done, whole.
        most: Frames after which it is enough; None for no end but Ctrl-C.

    Returns:
        Number of frames, and frames per second.
    """
    with _interrupted() as stop:
        frames = map(_even, islice(camera, most))
        start, first = time.monotonic(), []
        for frame in frames:
            first.append(frame)
            if len(first) == MEASURED or stop.is_set():
                break
        seconds = time.monotonic() - start
        # The first frame was there when the camera was opened.
        fps = (len(first) - 1) / seconds if len(first) > 1 and seconds >= LEAST_SECONDS else camera.fps
        with VideoWriter(path, fps) as writer:
            for frame in first:
                writer.write(frame)
            for frame in frames if not stop.is_set() else ():
                writer.write(frame)
                if stop.is_set():
                    break
    return writer.frames, fps


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) without its last row or column where MP4 could not hold it."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Turns Ctrl-C into a mark while the block runs: an exception could come while a frame is written."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

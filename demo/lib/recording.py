"""Recording a webcam, until it is enough, Ctrl-C, or the disk is nearly full."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from common.errors import RunError
from demo.lib.video import Video
from demo.lib.video_writer import VideoWriter

MEASURED = 15
"""Frames that are held to measure the camera's rate by: in the dark cameras give fewer than they claim."""
LEAST_SECONDS = 0.2
"""Frames that come in less time were not waited for and tell no rate."""
DRIFT = 0.1
"""Share by which the rate of the whole recording may differ from the one measured before it is told."""
SPARE, INDEX_ENTRY = 64 << 20, 32
"""Free bytes of the disk at which a recording ends, and more for each frame: an MP4's index is written last,
and one without it is lost."""
LOOK_EVERY = 30
"""Frames from one look at the disk to the next."""


def record(camera: Video, path: Path, most: int | None = None) -> tuple[int, float]:
    """Writes a camera's frames to an MP4, at the rate at which they come.

    Ctrl-C ends the recording. So does SIGTERM, which then ends the program as it would have before. What is
    odd about the recording is added to the camera's notes.

    Args:
        camera: An open webcam.
        path: The MP4; it is there when this is done, whole.
        most: Frames after which it is enough; None for no end but Ctrl-C.

    Returns:
        Number of frames, and frames per second.

    Raises:
        RunError: The disk is full, or OpenCV cannot write MP4.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _interrupted() as stop:
        frames = _while_room(map(_even, islice(camera, most)), path, camera.notes)
        start = arrived = time.monotonic()
        first = []
        for frame in frames:
            first.append(frame)
            arrived = time.monotonic()
            if len(first) == MEASURED or stop.is_set():
                break
        seconds = arrived - start
        # The first frame was there when the camera was opened.
        measured = len(first) > 1 and seconds >= LEAST_SECONDS
        fps = (len(first) - 1) / seconds if measured else camera.fps
        with VideoWriter(path, fps) as writer:
            for frame in first:
                writer.write(frame)
            for frame in frames if not stop.is_set() else ():
                arrived = time.monotonic()
                writer.write(frame)
                if stop.is_set():
                    break
    rate = (writer.frames - 1) / (arrived - start) if measured else fps
    if abs(rate / fps - 1) > DRIFT:
        camera.notes.append(
            f"frames came at {fps:.1f} per second at first and at {rate:.1f} on the whole: times are a guess"
        )
    if camera.failed:
        camera.notes.append(f"frames that failed and are missing: {camera.failed}")
    return writer.frames, fps


def _while_room(frames: Iterable[np.ndarray], path: Path, notes: list[str]) -> Iterator[np.ndarray]:
    """The frames for which the disk has room, with a note if they are not all."""
    for number, frame in enumerate(frames):
        if number % LOOK_EVERY == 0:
            free = shutil.disk_usage(path.parent).free
            if free < SPARE + number * INDEX_ENTRY:
                if not number:
                    raise RunError(
                        f"{path}: expected at least {SPARE >> 20} MB of free disk for a recording, "
                        f"found {free >> 20}; make room or choose another --output"
                    )
                notes.append(f"the disk is nearly full: the recording ends after {number} frames")
                return
        yield frame


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) without its last row or column where MP4 could not hold it."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Turns Ctrl-C and SIGTERM into a mark while the block runs: an exception could come while a frame is
    written. SIGTERM is raised again when the block has ended well."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    came = []

    def mark(number: int, _: object) -> None:
        came.append(number)
        stop.set()

    before = {number: signal.signal(number, mark) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in came:
        signal.raise_signal(signal.SIGTERM)

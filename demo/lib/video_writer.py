"""MP4 files written frame by frame: one frame in memory, and a whole file or none."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from common.errors import RunError
from demo.lib.video import silent

CODEC = "mp4v"
"""MPEG-4 part 2: the one codec of MP4 that OpenCV's wheels can write and that is as fast as the demo."""


class VideoWriter:
    """Writes one MP4 in a ``with`` block: under a temporary name, renamed when the block has ended well.

    Args:
        path: The file to write, ``.mp4``; its folder is made if it is missing.
        fps: Frames per second.

    Raises:
        ValueError: If the name or the frame rate cannot be written.
        RunError: From ``write`` or at the block's end, if OpenCV lacks the codec, no frame was written, or
            the file is not whole, as on a full disk.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"{path}: expected a name that ends in .mp4")
        if not 0 < fps < float("inf"):
            raise ValueError(f"{path}: expected a positive number of frames per second, found {fps}")
        self.fps = fps
        self.frames = 0
        # OpenCV takes the container from the suffix, so the temporary name ends in it too.
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}.tmp.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame (H, W, 3) uint8 RGB with even sides, all of one size."""
        height, width = frame.shape[:2]
        if self._writer is None:
            self._writer, self._size = self._open(width, height), (width, height)
        if (width, height) != self._size:
            raise ValueError(f"{self.path}: expected frames of {self._size}, found {(width, height)}")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
            if kind is None:
                self._check()
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        if width % 2 or height % 2:
            raise ValueError(f"{self.path}: expected frames with even sides, found {width} x {height}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*CODEC)
        with silent():  # FFmpeg takes its level of words once, from whoever comes first
            writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self.fps, (width, height))
        if not writer.isOpened():
            raise RunError(
                f"{self.path}: OpenCV cannot write MP4 with the codec {CODEC} at {width} x {height} here; "
                "is the disk full? If not, install opencv-python-headless from PyPI, which can, or leave the "
                "video out (--no-render)"
            )
        return writer

    def _check(self) -> None:
        """Reads the file back, since OpenCV tells nobody that it could not write."""
        if not self.frames:
            raise RunError(f"{self.path}: expected frames for a video, found none")
        with silent():
            reader = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        found = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if found != self.frames:
            raise RunError(
                f"{self.path}: expected {self.frames} frames in the video, found {found} on reading it back; "
                "is the disk full?"
            )

"""Videos through PyAV (FFmpeg): frames with their own times in, H.264 out; recording a webcam."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.console import RunError, UserError
from common.files import replacing
from demo.lib.media import IMAGE_SUFFIXES, Pixels, check_size, hint, read_image, reported

RATES = (0.5, 480.0)  # frames per second; others are a container's mistake
DEFAULT_RATE = 30.0
SPARE_DISK = 64 * 2**20  # bytes at which a recording ends: an MP4's index is written last
CAMERA_TIMEOUT_S = 2.0  # a webcam without frames for so long is gone; single frames fail on a busy bus
RATE_FRAMES = 15  # frames that a webcam's rate is measured on


class Video:
    """A video file, or numbered images: iterating gives (H, W, 3) uint8 RGB frames in square pixels.

    Rotation and sample aspect ratio are applied, interlaced frames are reduced to one field. One frame is
    held at a time. A video that breaks off is read up to there, with a note.

    Attributes:
        size: Width and height of the frames, pixels.
        fps: Frames per second; the mean where the rate varies.
        times: Seconds of each frame read so far, from the first frame of the file.
        notes: What is unusual about the video, complete when all frames are read.

    Args:
        path: The file; ``frames/%04d.png`` for numbered images.
        start: Seconds to begin at.
        end: Seconds to end before; None for all.
        fps: Rate of numbered images.

    Raises:
        UserError: The file cannot be opened, is too large, or has no frame.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float | None = None,
    ) -> None:
        import av

        self.path, self.start, self.end = path, start, float("inf") if end is None else end
        self.notes: list[str] = []
        self._times: list[float] = []
        self._container: Any = None
        self._file: Any = None
        self._frames: Iterator[tuple[float, Pixels]]
        with reported(path):
            if images := numbered_images(Path(path)):
                self.fps = fps or DEFAULT_RATE
                self._frames = self._read_images(images)
                self._take_first()
                return
            self._file = open(path, "rb")  # by file object: names may be undecodable
            try:
                self._container = av.open(self._file, metadata_errors="replace")
                if not self._container.streams.video:
                    raise UserError("expected a video, found no images in it")
                self._stream = self._container.streams.video[0]
                self._stream.thread_type = "AUTO"
                check_size(self._stream.codec_context.width, self._stream.codec_context.height)
                self._frames = self._decode()
                self._take_first()
            except BaseException as error:
                self.close()
                if isinstance(error, av.error.FFmpegError):
                    raise UserError(f"{hint(path)} ({error.strerror})") from error
                raise
        self.fps = float(self._stream.average_rate or 0)
        if not RATES[0] <= self.fps <= RATES[1]:
            self.notes.append(f"it claims {self.fps:g} frames per second; {DEFAULT_RATE:g} are assumed")
            self.fps = DEFAULT_RATE

    def _take_first(self) -> None:
        self._first = next(self._frames, None)
        if self._first is None:
            raise UserError("no frame can be read; is it cut short, or outside of --start and --end?")
        self.size = self._first[1].shape[1], self._first[1].shape[0]

    def _read_images(self, images: list[Path]) -> Iterator[tuple[float, Pixels]]:
        for number, image in enumerate(images):
            if self.start <= number / self.fps < self.end:
                yield number / self.fps, read_image(image)

    @property
    def times(self) -> NDArray[np.float64]:
        """(T,) seconds of the frames read so far; rising, where the file's own times do not."""
        times = np.array(self._times)
        if len(times) > 1 and not (np.diff(times) > 0).all():
            return self.start + np.arange(len(times)) / self.fps
        return times

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._container:
            self._container.close()
        if self._file:
            self._file.close()

    def __iter__(self) -> Iterator[Pixels]:
        first, self._first = self._first, None
        if first is not None:
            self._times.append(first[0])
            yield first[1]
        for seconds, frame in self._frames:
            if frame.shape[1::-1] != self.size:
                self.notes.append(f"frames change size after {len(self._times)}: the rest is ignored")
                return
            self._times.append(seconds)
            yield frame
        times = self.times
        if len(times) > 2:
            steps = np.diff(times)
            self.fps = float(len(steps) / (times[-1] - times[0]))
            if steps.max() > 1.5 * np.median(steps):
                self.notes.append("its frame rate varies: each frame keeps its own time")

    def _decode(self) -> Iterator[tuple[float, Pixels]]:
        """Times and frames between start and end; damaged packets are skipped and counted."""
        import av

        damaged, count, origin = 0, 0, None
        step = 1 / float(self._stream.average_rate or DEFAULT_RATE)
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet else []
            except av.error.FFmpegError as error:
                damaged += 1
                if packet is None or isinstance(error, av.error.EOFError) or damaged > 1000:
                    break
                continue
            if packet is None:
                break
            for frame in frames:
                damaged += bool(frame.is_corrupt)
                seconds = frame.time if frame.time is not None else count * step
                origin = seconds if origin is None else origin
                count += 1
                if self.start <= seconds - origin < self.end:
                    yield seconds - origin, self._pixels(frame)
        if damaged:
            self.notes.append(f"damaged parts: {damaged}; frames there may be missing or distorted")

    def _pixels(self, frame: Any) -> Pixels:
        """A frame as people see it: one field, square pixels, rotated."""
        import cv2

        pixels = frame.to_ndarray(format="rgb24")
        height, width = pixels.shape[:2]
        if frame.interlaced_frame and height > 2:
            pixels = cv2.resize(pixels[::2], (width, height), interpolation=cv2.INTER_LINEAR)
        aspect = self._stream.sample_aspect_ratio
        if aspect and aspect != 1:
            width = max(1, round(width * float(aspect)))
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))


def numbered_images(path: Path) -> list[Path]:
    """Images of a folder, or of a pattern such as ``frames/%04d.png``, in the order of their numbers."""
    if path.is_dir():
        files = [
            file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."
        ]
    elif "%" in path.name and not path.exists():
        pattern = re.sub(r"%0?[0-9]*d", "[0-9]+", re.escape(path.name))
        files = [file for file in path.parent.glob("*") if re.fullmatch(pattern, file.name)]
    else:
        return []
    return sorted(
        files, key=lambda file: ([int(number) for number in re.findall("[0-9]+", file.stem)], file.name)
    )


class VideoWriter:
    """Writes RGB frames as an H.264 MP4 (yuv420p, index first) that is there when the block ends, whole.

    Args:
        path: The MP4.
        fps: Frames per second.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path, self.rate, self.frames = path, Fraction(fps).limit_denominator(1001), 0
        self._container: Any = None

    def __enter__(self) -> VideoWriter:
        self._replacing = replacing(self.path)
        self._file = open(self._replacing.__enter__(), "wb")
        return self

    def write(self, frame: Pixels) -> None:
        """Adds a frame (H, W, 3); an odd last row or column is cut off, since yuv420p needs even sides."""
        import av

        frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        if self._container is None:
            self._container = av.open(self._file, "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._container.add_stream(
                "libx264", self.rate, options={"crf": "20", "preset": "veryfast"}
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = (
                frame.shape[1],
                frame.shape[0],
                "yuv420p",
            )
        self._mux(
            self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        )
        self.frames += 1

    def _mux(self, packets: Any) -> None:
        try:
            self._container.mux(packets)
        except OSError as error:
            raise RunError(f"{os.fspath(self.path)}: cannot be written: {error.strerror or error}") from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._mux(self._stream.encode())
                self._container.close()
        finally:
            self._file.close()
            self._replacing.__exit__(kind or (None if self.frames else RuntimeError), error, trace)


def resample(times: NDArray[np.float64], fps: float) -> NDArray[np.int_]:
    """Row to show at each step of a constant rate: for formats that know one rate only.

    Args:
        times: (T,) rising seconds of the rows.
        fps: Steps per second.

    Returns:
        Rows, one per step from the first to the last time.
    """
    steps = times[0] + np.arange(round((times[-1] - times[0]) * fps) + 1) / fps
    return np.abs(np.searchsorted(times, steps + 0.5 / fps, side="left") - 1).clip(0, len(times) - 1)


# Webcam


def record(index: int, path: Path, most: int | None = None) -> list[str]:
    """Records a webcam into an MP4 until Ctrl-C, SIGTERM, ``most`` frames, a full disk or the camera's end.

    Args:
        index: Number of the camera, from 0 on.
        path: The MP4.
        most: Frames after which the recording ends.

    Returns:
        Notes on what was unusual.

    Raises:
        UserError: There is no such camera, or it gives no image.
        RunError: The disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: stopped.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        frames = _camera(index, path, notes, stopped)
        begin = time.monotonic()
        first = [frame for frame, _ in zip(frames, range(min(RATE_FRAMES, most or RATE_FRAMES)))]
        if not first:
            raise UserError(f"webcam {index}: no image; does another program use it?")
        fps = float(np.clip((len(first) - 1) / max(time.monotonic() - begin, 1e-3), 1, 120)) or DEFAULT_RATE
        with VideoWriter(path, fps) as writer:
            for frame in first:
                writer.write(frame)
            while (most is None or writer.frames < most) and (frame := next(frames, None)) is not None:
                writer.write(frame)
        rate = (writer.frames - 1) / max(time.monotonic() - begin, 1e-3)
        if writer.frames > RATE_FRAMES and abs(rate / fps - 1) > 0.1:
            notes.append(
                f"the rate changed from {fps:.1f} to {rate:.1f} frames per second: times are uncertain"
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in stopped:
        signal.raise_signal(signal.SIGTERM)
    return notes


def _camera(index: int, path: Path, notes: list[str], stopped: list[int]) -> Iterator[Any]:
    import cv2

    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        raise UserError(f"webcam {index}: no such camera, or another program uses it; the first camera is 0")
    size, failed, last = None, 0, time.monotonic()
    try:
        while not stopped:
            taken, frame = capture.read()
            if not taken:
                failed += 1
                if time.monotonic() - last > CAMERA_TIMEOUT_S:
                    notes.append("the camera gave no more frames")
                    break
                time.sleep(0.02)
                continue
            if size not in (None, frame.shape) or shutil.disk_usage(path.parent).free < SPARE_DISK:
                notes.append("the recording ended early: the frames changed size, or the disk is nearly full")
                break
            size, last = frame.shape, time.monotonic()
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
        if failed:
            notes.append(f"frames that failed and are missing: {failed}")

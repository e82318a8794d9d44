"""What the demo writes: names that do not collide, and the files of one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from demo.lib import draw, export
from demo.lib.inputs import InputError
from demo.lib.result import Result
from demo.lib.video_writer import VideoWriter
from demo.lib.viewer import write_viewer

UNKNOWN_FPS = 30.0
"""Of the video that shows key points whose rate of frames nobody knows."""
LONGEST_PICTURE = 4096
"""Longest side of the input's half of a written picture, pixels."""


def stems(files: Sequence[Path], folder: Path) -> list[Path]:
    """Paths of the files written for each input, less their endings; no two inputs share one.

    An input is known by its name without suffix. Where several have the same, the suffix is added (``a_jpg``)
    and, if that does not help, a number.
    """
    counts = Counter(_key(file.stem) for file in files)
    used = {name for name, count in counts.items() if count == 1}
    paths = []
    for file in files:
        name = base = file.stem
        if counts[_key(name)] > 1:
            name = base = f"{file.stem}_{file.suffix[1:]}" if file.suffix else file.stem
            number = 1
            while _key(name) in used:
                number += 1
                name = f"{base}_{number}"
            used.add(_key(name))
        paths.append(folder / name)
    return paths


def _key(name: str) -> str:
    return name.casefold()  # what differs in capitals alone is one file on some systems


def spare_inputs(stem: Path, inputs: Iterable[Path]) -> None:
    """Refuses to write over an input.

    Raises:
        InputError: A file that ``write`` might write is one of the inputs.
    """
    endings = ("_3d.png", "_3d.mp4", ".npz", ".json", ".csv", ".html")
    planned = {(stem.parent / f"{stem.name}{ending}").resolve() for ending in endings}
    hit = planned & {path.resolve() for path in inputs}
    if hit:
        raise InputError(f"{min(hit)}: an input, which would be written over; choose another --output")


def write(
    result: Result,
    stem: Path,
    frames: Callable[[], Iterator[np.ndarray]],
    *,
    render: bool = True,
    save: Collection[str] = (),
    html: bool = False,
    photographed: bool = True,
) -> list[Path]:
    """Writes what was asked for of one result, each file whole or not at all.

    Args:
        result: What was found.
        stem: Path of the files without their endings.
        frames: Gives all frames of the input in order, (H, W, 3) uint8 RGB, each time that it is called.
        render: Write a picture, or of several frames a video.
        save: Formats of data: see ``export.save``.
        html: Write a page.
        photographed: Whether the frames show anything; the page does without those that do not.

    Returns:
        The files written.
    """
    written = []
    if render and result.fps is None and result.frame_count == 1:
        written.append(_with(stem, "_3d.png"))
        draw.write_picture(written[-1], next(draw.rendered(result, frames(), longest=LONGEST_PICTURE)))
    elif render:
        from tqdm import tqdm

        written.append(_with(stem, "_3d.mp4"))
        pictures = draw.rendered(result, frames())
        with VideoWriter(written[-1], result.fps or UNKNOWN_FPS) as writer:
            for picture in tqdm(
                pictures, f"{stem.name}_3d.mp4", result.frame_count, unit="frame", disable=None, leave=False
            ):
                writer.write(picture)
    written += export.save(result, stem, save)
    if html:
        written.append(_with(stem, ".html"))
        write_viewer(result, written[-1], frames() if photographed else None)
    return written


def _with(stem: Path, ending: str) -> Path:
    return stem.with_name(f"{stem.name}{ending}")

"""Poses on disk: a folder of two plain npy arrays, opened memory-mapped, and an index of what they hold.

The cache of a data set is such a folder, and a data set that ``python -m dataset.prepare`` makes is one. It
is renamed into place when whole: a kill leaves no half folder, and of two processes that write the same one
the later takes what the first has made.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.sequences import PoseSet, Sequence
from common.skeleton import NUM_JOINTS

FORMAT = 2
INDEX, KEYPOINTS, POSITIONS = "index.json", "keypoints.npy", "positions.npy"
UNFINISHED = "htnet-unfinished-"
"""Start of the names of temporary folders, which no other program's folders beside them share."""
ABANDONED_AFTER = 3600.0
"""Seconds after which a temporary folder counts as left behind by a killed process."""


def write_poses(
    folder: Path,
    views: Iterable[tuple[Sequence, np.ndarray, np.ndarray]],
    facts: dict[str, Any] | None = None,
) -> None:
    """Writes poses in one pass, view after view, so that no more than one is in memory.

    Args:
        folder: The folder to make. If it is there already, it is left as it is.
        views: For each camera's view of a take: its sequence, whose rows are numbered here, its (T, 17, 2)
            normalised key points and its (T, 17, 3) positions in camera space, metres.
        facts: Plain values that go into the index.

    Raises:
        OSError: The disk is full or cannot be written to; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    temporary = folder.parent / f"{UNFINISHED}{uuid.uuid4().hex}"
    sequences: list[Sequence] = []
    start = 0
    try:
        temporary.mkdir()  # Open to whoever the folder is shared with, as far as the umask allows.
        # Plain writes, because a mapped file on a full disk would kill the process.
        with open(temporary / KEYPOINTS, "wb") as file_2d, open(temporary / POSITIONS, "wb") as file_3d:
            _write_header(file_2d, (0, NUM_JOINTS, 2))
            _write_header(file_3d, (0, NUM_JOINTS, 3))
            for sequence, keypoints, positions in views:
                file_2d.write(keypoints.astype("<f4").tobytes())
                file_3d.write(positions.astype("<f4").tobytes())
                sequences.append(replace(sequence, start=start, stop=start + len(keypoints)))
                start += len(keypoints)
            for file, channels in ((file_2d, 2), (file_3d, 3)):
                file.seek(0)  # NumPy pads its headers: there is room for any number of rows.
                _write_header(file, (start, NUM_JOINTS, channels))
                file.flush()
                os.fsync(file.fileno())
        index = {**(facts or {}), "format": FORMAT, "sequences": [asdict(sequence) for sequence in sequences]}
        (temporary / INDEX).write_text(json.dumps(index), encoding="utf-8")
        with suppress(OSError):  # another process was faster: its folder holds the same
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_poses(folder: Path) -> tuple[PoseSet, dict[str, Any]]:
    """Opens what ``write_poses`` wrote, memory-mapped.

    Returns:
        The poses and the index without its sequences.

    Raises:
        OSError: A file is missing or cannot be read.
        ValueError: The files are not what ``write_poses`` writes, or not whole.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"{INDEX} is of format {index['format']}, expected {FORMAT}")
        sequences = tuple(_sequence(entry) for entry in index.pop("sequences"))
        # Copy-on-write, because torch wants arrays that it could write to; nothing ever does.
        keypoints = np.load(folder / KEYPOINTS, mmap_mode="c", allow_pickle=False)
        positions = np.load(folder / POSITIONS, mmap_mode="c", allow_pickle=False)
        rows = sequences[-1].stop
        for array, channels in ((keypoints, 2), (positions, 3)):
            if array.shape != (rows, NUM_JOINTS, channels) or array.dtype != np.float32:
                raise ValueError(f"expected {rows} rows of float32, found {array.shape} of {array.dtype}")
    except (OSError, MemoryError):
        raise  # The files may be whole; it is the reading that went wrong.
    except Exception as error:  # There is no end to what readers raise on damaged files.
        raise ValueError(repr(error)[:300]) from error
    return PoseSet(keypoints, positions, sequences), index


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)


def _write_header(file, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _sequence(entry: dict) -> Sequence:
    tuples = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    return Sequence(**{**entry, **tuples})

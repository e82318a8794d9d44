"""Poses in memory (``PoseSet``) and on disk: two npy arrays and an index in a folder, memory-mapped."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.console import RunError, UserError
from common.skeleton import NUM_JOINTS

FORMAT = 2  # of the folders that ``write_poses`` makes
INDEX, KEYPOINTS, POSITIONS = "index.json", "keypoints.npy", "positions.npy"


@dataclass(frozen=True)
class Sequence:
    """A run of rows: one take of one subject, seen by one camera.

    Attributes:
        subject: Name of the subject, such as "S9".
        action: Name of the take as in the file, such as "Walking 1".
        camera: Index of the camera.
        start: First row.
        stop: Row after the last.
        intrinsics: Focal length and centre (fx, fy, cx, cy) in normalised image coordinates.
        image_size: Width and height of the image, pixels.
        first_frame: Frame of the take that the first row holds.
        step: Frames of the take from one row to the next.
        orientation: Unit quaternion (w, x, y, z) that rotates the camera's axes into the world's, whose z
            points up; None where it is unknown.
        group: Part of the test set that the subject belongs to, where there are such parts.
    """

    subject: str
    action: str
    camera: int
    start: int
    stop: int
    intrinsics: tuple[float, float, float, float]
    image_size: tuple[int, int]
    first_frame: int = 0
    step: int = 1
    orientation: tuple[float, float, float, float] | None = None
    group: str = ""

    @property
    def action_name(self) -> str:
        """The action without the number of the take: "Walking 1" is one of the two takes of "Walking"."""
        return self.action.split(" ")[0]

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.subject}, {self.action}, camera {self.camera}"


@dataclass(frozen=True)
class PoseSet:
    """Poses with their keypoints, and the sequences that they come from.

    Attributes:
        keypoints: (N, 17, 2) float32 network input: normalised image coordinates.
        positions: (N, 17, 3) float32 joint positions in camera space, metres, not root-relative.
        sequences: The runs of rows, in order and without gaps: together they cover all N.
    """

    keypoints: np.ndarray
    positions: np.ndarray
    sequences: tuple[Sequence, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    def __str__(self) -> str:
        subjects = dict.fromkeys(sequence.subject for sequence in self.sequences)
        return f"{', '.join(subjects)} ({len(self)} poses in {len(self.sequences)} sequences)"

    def select(self, sequences: Iterable[Sequence], step: int = 1) -> PoseSet:
        """A new set of every ``step``-th row of the given runs of this set's rows."""
        chosen, rows, start = [], [np.empty(0, dtype=np.int64)], 0
        for sequence in sequences:
            rows.append(np.arange(sequence.start, sequence.stop, step))
            stop = start + len(rows[-1])
            chosen.append(replace(sequence, start=start, stop=stop, step=sequence.step * step))
            start = stop
        index = np.concatenate(rows)
        # Adjacent rows stay a view of the memory-mapped file.
        adjacent = len(index) > 0 and bool(np.all(np.diff(index) == 1))
        picked = slice(index[0], index[-1] + 1) if adjacent else index
        return PoseSet(self.keypoints[picked], self.positions[picked], tuple(chosen))

    def subjects(self, names: Iterable[str]) -> PoseSet:
        """The rows of some subjects only."""
        wanted = set(names)
        return self.select(sequence for sequence in self.sequences if sequence.subject in wanted)


def concatenate(sets: Iterable[PoseSet]) -> PoseSet:
    """One set of the rows of several, in order; a copy unless there is only one."""
    sets = tuple(sets)
    if len(sets) == 1:
        return sets[0]
    sequences, start = [], 0
    for poses in sets:
        for sequence in poses.sequences:
            sequences.append(replace(sequence, start=sequence.start + start, stop=sequence.stop + start))
        start += len(poses)
    keypoints = np.concatenate([poses.keypoints for poses in sets])  # (N, 17, 2)
    positions = np.concatenate([poses.positions for poses in sets])  # (N, 17, 3)
    return PoseSet(keypoints, positions, tuple(sequences))


def thin(
    poses: PoseSet, *, actions: Iterable[str] | None = None, downsample: int = 1, subset: float = 1.0
) -> PoseSet:
    """A part of the poses: some actions, every so many frames, a stretch of each take.

    The stretch of a take is the same in all cameras, and its place follows from the take's name: every run
    with the same ``subset`` sees the same frames.

    Args:
        poses: All poses.
        actions: Names of actions without take numbers; every action when None.
        downsample: Keep one frame of so many.
        subset: Fraction of each take's frames that is kept, in one piece, at least one frame.
    """
    chosen = []
    wanted = None if actions is None else set(actions)
    for sequence in poses.sequences:
        if wanted is not None and sequence.action_name not in wanted:
            continue
        length = max(1, round(len(sequence) * subset))
        take = f"{sequence.subject}/{sequence.action}".encode()
        offset = zlib.crc32(take) % (len(sequence) - length + 1)
        start = sequence.start + offset
        first_frame = sequence.first_frame + offset * sequence.step
        chosen.append(replace(sequence, start=start, stop=start + length, first_frame=first_frame))
    return poses.select(chosen, step=downsample)


View = tuple[Sequence, np.ndarray, np.ndarray]
"""A camera's view of a take: sequence, (T, 17, 2) normalised keypoints, (T, 17, 3) camera-space metres."""


def write_poses(folder: Path, views: Iterable[View], metadata: dict[str, Any] | None = None) -> None:
    """Writes poses into a new folder, one view in memory at a time; it is renamed into place when whole.

    Args:
        folder: The folder to make. One that is there already is left as it is.
        views: For each camera's view of a take its sequence (rows are numbered here) and arrays.
        metadata: Plain values for the index.

    Raises:
        RunError: The disk is full; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".htnet-", dir=folder.parent))
    sequences: list[Sequence] = []
    start = 0
    try:
        with open(temporary / KEYPOINTS, "wb") as file_2d, open(temporary / POSITIONS, "wb") as file_3d:
            _write_header(file_2d, (0, NUM_JOINTS, 2))
            _write_header(file_3d, (0, NUM_JOINTS, 3))
            for sequence, keypoints, positions in views:
                file_2d.write(keypoints.astype("<f4").tobytes())
                file_3d.write(positions.astype("<f4").tobytes())
                sequences.append(replace(sequence, start=start, stop=start + len(keypoints)))
                start += len(keypoints)
            for file, channels in ((file_2d, 2), (file_3d, 3)):
                file.seek(0)  # NumPy pads its headers: there is room for any number of rows
                _write_header(file, (start, NUM_JOINTS, channels))
                file.flush()
                os.fsync(file.fileno())
        index = {**(metadata or {}), "format": FORMAT, "sequences": [asdict(each) for each in sequences]}
        (temporary / INDEX).write_text(json.dumps(index), encoding="utf-8")
        temporary.chmod(0o777 & ~_umask())
        with suppress(OSError):  # another process was faster: its folder holds the same
            os.rename(temporary, folder)
    except OSError as error:
        raise RunError(
            f"{folder.parent}: the poses cannot be written: {error.strerror or error}; free some space or "
            "name another folder (--cache_dir, --output)"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def read_poses(folder: Path) -> tuple[PoseSet, dict[str, Any]]:
    """Opens what ``write_poses`` wrote, memory-mapped, and the index without its sequences.

    Raises:
        UserError: The folder is damaged or of another format.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, expected {FORMAT}")
        sequences = tuple(_sequence(entry) for entry in index.pop("sequences"))
        # Copy-on-write, because PyTorch wants arrays that it could write to.
        keypoints = np.load(folder / KEYPOINTS, mmap_mode="c", allow_pickle=False)
        positions = np.load(folder / POSITIONS, mmap_mode="c", allow_pickle=False)
        rows = sequences[-1].stop
        if (keypoints.shape, positions.shape) != ((rows, NUM_JOINTS, 2), (rows, NUM_JOINTS, 3)):
            raise ValueError(f"arrays of {keypoints.shape} and {positions.shape} for {rows} rows")
        if [each.start for each in sequences] != [0, *(each.stop for each in sequences[:-1])]:
            raise ValueError("sequences with gaps")
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{folder}: damaged ({error}); remove the folder and make it again") from error
    return PoseSet(keypoints, positions, sequences), index


def _sequence(entry: dict[str, Any]) -> Sequence:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return Sequence(**values)

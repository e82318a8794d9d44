"""The memory-mapped cache of a data set: converted once from the field's files, opened in no time after that.

A cache is a folder of two plain npy arrays and an index. Its name holds a fingerprint of all that it was
made from, and it is renamed into place when whole: a changed source gets a new folder, a kill leaves no half
cache, and of two processes that convert at once the later one takes what the first has made.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.camera import CAMERA_FILE
from common.errors import DataError, RunError
from common.h36m import Dataset, Take, check_files, read_takes
from common.safe_npz import npz_fingerprint
from common.sequences import PoseSet, Sequence
from common.skeleton import NUM_JOINTS

FORMAT = 1
FOLDER = ".htnet_cache"
UNFINISHED = "htnet-unfinished-"
"""Start of the names of temporary folders, which no other program's folders in ``--cache_dir`` share."""
ABANDONED_AFTER = 3600.0
"""Seconds after which a temporary folder counts as left behind by a killed process."""

log = logging.getLogger(__name__)


def load(dataset: Dataset, root: Path, keypoints: str, cache_dir: Path | None = None) -> PoseSet:
    """Opens a data set, training subjects first, converting its files on first use.

    Args:
        dataset: Which data set.
        root: Folder of the npz files.
        keypoints: Source of the key points, as in the file's name.
        cache_dir: Folder for the cache. Without it the cache lies beside the data, or in the user's cache
            folder where the data folder cannot be written to.

    Raises:
        DataError: Files are missing or not what the protocol needs, or ``cache_dir`` cannot be written to.
        RunError: The disk is full.
    """
    check_files(dataset, root, keypoints)
    name = f"{dataset.name}-{keypoints}-{fingerprint(dataset, root, keypoints)[:16]}"
    folders = [cache_dir] if cache_dir else [root / FOLDER, *_user_cache()]
    for folder in folders:
        poses = _open(folder / name)
        if poses:
            return poses
    folder = _first_writable(folders)
    log.info("converting %s (%s) once, into %s", dataset.name, keypoints, folder / name)
    _remove_abandoned(folder)
    _build(read_takes(dataset, root, keypoints), folder, name)
    poses = _open(folder / name)
    if poses is None:
        raise RunError(f"{folder / name}: the cache that was just made cannot be read; is the disk in order?")
    return poses


def fingerprint(dataset: Dataset, root: Path, keypoints: str) -> str:
    """Hexadecimal digest of what a cache is made from: the files, the cameras, the subjects, the format."""
    parts = [npz_fingerprint(path) for path in dataset.files(root, keypoints)]
    parts += [CAMERA_FILE.read_text(), str(FORMAT), *dataset.train, *dataset.test]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _user_cache() -> list[Path]:
    with suppress(RuntimeError):  # A user who is no more than a number, as in a container, has no home.
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "htnet"]
    return []


def _first_writable(folders: list[Path]) -> Path:
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        log.info("%s cannot be written to", folder)
    raise DataError(
        f"no place for the cache of the data: tried {', '.join(map(str, folders))}. "
        "Name a folder that can be written to with --cache_dir."
    )


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)


def _build(takes: list[Take], folder: Path, name: str) -> None:
    """Writes the arrays in one pass; plainly, since a mapped file on a full disk would kill the process."""
    temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
    rows = sum(len(take.world) * len(take.cameras) for take in takes)
    sequences: list[Sequence] = []
    try:
        temporary.mkdir()  # Open to whoever the data folder is shared with, as far as the umask allows.
        file_names = temporary / "keypoints.npy", temporary / "positions.npy"
        with open(file_names[0], "wb") as file_2d, open(file_names[1], "wb") as file_3d:
            _write_header(file_2d, (rows, NUM_JOINTS, 2))
            _write_header(file_3d, (rows, NUM_JOINTS, 3))
            start = 0
            for take in tqdm(takes, desc="converting", unit="take", disable=None, leave=False):
                for sequence, keypoints, positions in take.views():
                    file_2d.write(keypoints.astype("<f4").tobytes())
                    file_3d.write(positions.astype("<f4").tobytes())
                    sequences.append(replace(sequence, start=start, stop=start + len(sequence)))
                    start += len(sequence)
            for file in (file_2d, file_3d):
                file.flush()
                os.fsync(file.fileno())
        index = {"format": FORMAT, "sequences": [asdict(sequence) for sequence in sequences]}
        (temporary / "index.json").write_text(json.dumps(index))
        with suppress(OSError):  # another process was faster: its cache holds the same
            os.rename(temporary, folder / name)
    except OSError as error:
        raise RunError(
            f"the cache in {folder} could not be written: {error.strerror or error}. It needs "
            f"{rows * NUM_JOINTS * 5 * 4 / 1e6:.0f} MB; free them or name another folder with --cache_dir."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_header(file, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _open(path: Path) -> PoseSet | None:
    """The cache in a folder, or None if it is not there or not whole."""
    if not path.is_dir():
        return None
    try:
        index = json.loads((path / "index.json").read_text())
        sequences = tuple(_sequence(entry) for entry in index["sequences"])
        # Copy-on-write, because torch wants arrays that it could write to; nothing ever does.
        keypoints = np.load(path / "keypoints.npy", mmap_mode="c", allow_pickle=False)
        positions = np.load(path / "positions.npy", mmap_mode="c", allow_pickle=False)
        rows = sequences[-1].stop
        if keypoints.shape != (rows, NUM_JOINTS, 2) or positions.shape != (rows, NUM_JOINTS, 3):
            raise ValueError(f"{keypoints.shape} and {positions.shape} for {rows} rows")
    except Exception as error:  # There is no end to what readers raise on damaged files.
        if isinstance(error, (OSError, MemoryError)) and not isinstance(error, FileNotFoundError):
            raise  # The files may be whole; it is the reading that went wrong.
        log.warning("%s is damaged (%s) and is made again", path, error)
        shutil.rmtree(path, ignore_errors=True)
        return None
    return PoseSet(keypoints, positions, sequences)


def _sequence(entry: dict) -> Sequence:
    entry = dict(entry, intrinsics=tuple(entry["intrinsics"]), image_size=tuple(entry["image_size"]))
    return Sequence(**entry)

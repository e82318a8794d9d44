"""The memory-mapped cache of a data set: converted once from the field's files, opened in no time after that.

A cache is a folder of ``common.pose_files`` whose name holds a fingerprint of all that it was made from: a
changed source gets a new folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from common.camera import CAMERA_FILE
from common.errors import DataError, RunError
from common.files import sha256
from common.h36m import Dataset, Take, check_files, read_takes
from common.pose_files import FORMAT, INDEX, read_poses, write_poses
from common.prepared import open_prepared
from common.safe_npz import npz_fingerprint
from common.sequences import PoseSet
from common.skeleton import NUM_JOINTS

FOLDER = ".htnet_cache"

log = logging.getLogger(__name__)


def load(dataset: Dataset, root: Path, keypoints: str, cache_dir: Path | None = None) -> PoseSet:
    """Opens a data set, training subjects first, converting its files on first use unless it is prepared.

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
    if dataset.prepared:
        return open_prepared(dataset, root)
    name = f"{dataset.name}-{keypoints}-{fingerprint(dataset, root, keypoints)[:16]}"
    folders = [cache_dir] if cache_dir else [root / FOLDER, *_user_cache()]
    for folder in folders:
        poses = _open(folder / name)
        if poses:
            return poses
    folder = _first_writable(folders)
    log.info("converting %s (%s) once, into %s", dataset.name, keypoints, folder / name)
    _build(read_takes(dataset, root, keypoints), folder / name)
    poses = _open(folder / name)
    if poses is None:
        raise RunError(f"{folder / name}: the cache that was just made cannot be read; is the disk in order?")
    return poses


def fingerprint(dataset: Dataset, root: Path, keypoints: str) -> str:
    """Hexadecimal digest of what a cache is made from: the files, the cameras, the subjects, the format.

    That of a prepared data set is its index's, which says what it was made from.
    """
    if dataset.prepared:
        return sha256(root / dataset.name / INDEX)
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


def _build(takes: list[Take], folder: Path) -> None:
    bar = tqdm(takes, desc="converting", unit="take", disable=None, leave=False)
    try:
        write_poses(folder, (view for take in bar for view in take.views()))
    except OSError as error:
        rows = sum(len(take.world) * len(take.cameras) for take in takes)
        raise RunError(
            f"the cache in {folder.parent} could not be written: {error.strerror or error}. It needs "
            f"{rows * NUM_JOINTS * 5 * 4 / 1e6:.0f} MB; free them or name another folder with --cache_dir."
        ) from error


def _open(path: Path) -> PoseSet | None:
    """The cache in a folder, or None if it is not there or not whole."""
    if not path.is_dir():
        return None
    try:
        return read_poses(path)[0]
    except (ValueError, FileNotFoundError) as error:
        log.warning("%s is damaged (%s) and is made again", path, error)
        shutil.rmtree(path, ignore_errors=True)
        return None

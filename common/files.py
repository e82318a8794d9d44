"""Atomic writes, and safe reading of other people's files: nothing in them runs, each is bounded in size."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from common.console import UserError

MAX_JSON = 64 * 2**20  # bytes; parsed JSON takes some ten times as much memory
MAX_NPZ = 16 * 2**30  # bytes unpacked; Human3.6M's largest file unpacks to 1.1 GB

PICKLE_CLASSES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
"""All that the pickles of the field's npz files need: dictionaries of arrays, written by Python 2 or 3."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` on success.

    Whatever stops the block, ``path`` holds its old content or the new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # another suffix: never taken for a result
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes plain values as readable JSON, atomically; NaN and infinity raise a ValueError."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Content of a regular file of at most ``limit`` bytes.

    Raises:
        UserError: It is missing, no regular file, too large or unreadable.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: expected a regular file")
        if found.st_size > limit:
            raise UserError(f"{path}: expected at most {limit:,} bytes, found {found.st_size:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: str | os.PathLike[str], limit: int = MAX_JSON) -> Any:
    """Parsed JSON of a file from outside.

    Raises:
        UserError: See ``read_bytes``; or it is no JSON.
    """
    try:
        return json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found damaged or other content ({error})") from error


def read_npz(path: str | os.PathLike[str], limit: int = MAX_NPZ) -> dict[str, Any]:
    """Members of an npz file by name; pickled members may hold ``PICKLE_CLASSES`` and plain values alone.

    Args:
        path: File in the layout of VideoPose3D (Pavllo et al., CVPR 2019), or any npz.
        limit: Largest sum of the members' unpacked sizes, bytes.

    Returns:
        Arrays; of a pickled 0-d array the object in it. Text of Python 2 is read as Latin-1.

    Raises:
        UserError: It is missing, no npz, damaged, too large, or asks for another class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > limit:
                raise UserError(f"{path}: expected at most {limit:,} bytes unpacked; is it an npz file?")
            content = {}
            for info in members:
                with archive.open(info) as file:
                    content[info.filename[: -len(".npy")]] = _read_npy(file)  # type: ignore[arg-type]
            return content
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged pickles and archives raise nearly anything
        hint = {b"ve": " (a Git LFS pointer? run `git lfs pull`)", b"<!": " (a web page?)"}.get(
            _head(path), ""
        )
        raise UserError(
            f"{path}: expected an npz file of arrays{hint}, found {type(error).__name__}: {error}; "
            "download or copy it again"
        ) from error


def _head(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(2)


def _read_npy(file: BinaryIO) -> Any:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        array = _Unpickler(file, encoding="latin1").load()
        return array.item() if isinstance(array, np.ndarray) and array.shape == () else array
    array = np.frombuffer(file.read(), dtype=dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLE_CLASSES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

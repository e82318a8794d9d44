"""Reads the field's npz files, which hold pickled dictionaries, whoever made them.

The zip archive and the arrays are checked here, the pickles in ``common/safe_pickle.py``. Nothing that a file
holds is run, and no memory is taken on its word alone.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from common import safe_pickle
from common.safe_pickle import AGAIN, TRUNCATED, UnsafeFileError, check_size, require, shown

MAX_TOTAL = 16 * 2**30
MAX_RATIO = 200  # Of unpacked to packed size; noisy motion capture packs to a half, zeros to a thousandth.
RATIO_FREE = 10 * 2**20
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_HEADER = 4096
CHUNK = 16 * 2**20

NOT_NPZ = (
    (b"version https://git-lfs", "a Git LFS pointer and not the data: fetch the data with `git lfs pull`"),
    (b"<", "a web page saved in place of the file: download the file itself"),
    (b"pk\x03\x04", "an npz file whose end is missing: copy or download it again"),
    (b"\x93numpy", "a single .npy array and not an npz file: numpy.load reads it"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x80", "a bare pickle, which is not read: save it with numpy.savez_compressed"),
    (b"\x89hdf", "an HDF5 file: convert it to npz first"),
    (b"matlab", "a MATLAB file: convert it to npz first"),
)


def read_npz(path: str | os.PathLike[str], *, max_total: int = MAX_TOTAL) -> dict[str, Any]:
    """Reads all members of an npz file without running anything that it holds.

    Args:
        path: File in the layout of VideoPose3D (Pavllo et al., CVPR 2019), or any npz of plain arrays.
        max_total: Most bytes that all members together may unpack to.

    Returns:
        By member name without ".npy": the array, or for a pickled 0-d object array the object that it holds.
        Arrays keep the file's units and coordinate frame. Text of Python 2 is read as Latin-1.

    Raises:
        UnsafeFileError: The file is damaged, no npz file, or holds what is refused; the message says which.
        OSError: The file cannot be opened or read.
    """
    with _located(os.fspath(path)), open(path, "rb") as file:
        archive, members = _open(file, max_total)
        content = {}
        instructions = iter(range(safe_pickle.MAX_INSTRUCTIONS))
        for name, info in members.items():
            with _located(f"member {shown(name)}"):
                content[name] = _read_member(archive, info, instructions)
        return content


def npz_fingerprint(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 over name, CRC-32 and unpacked size of every member, in the order of the file's directory.

    Costs nothing on a big file, as only the zip's directory is read. It follows the content and not the place
    or date of the file, so it tells whether a cache is stale; against forgery it is as weak as a CRC.

    Raises:
        UnsafeFileError: The file is damaged or no npz file.
        OSError: The file cannot be opened or read.
    """
    with _located(os.fspath(path)), open(path, "rb") as file:
        _, members = _open(file, MAX_TOTAL)
        content = [(name, info.CRC, info.file_size) for name, info in members.items()]
        return hashlib.sha256(ascii(content).encode()).hexdigest()


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Turns whatever a hostile file makes the libraries raise into one line that says where."""
    try:
        yield
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{where}: {error}") from error.__cause__
    except Exception as error:
        # A true failure of the disk is passed on; a position before the start comes from a damaged file.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnsafeFileError(f"{where}: damaged, or not what it claims to be ({reason}); {AGAIN}") from error


# The zip archive


def _open(file: BinaryIO, max_total: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    length = file.seek(0, os.SEEK_END)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        words = f"{'no npz (zip) file' if length else 'empty'}; {AGAIN}"
        raise UnsafeFileError(next((known for start, known in NOT_NPZ if head.startswith(start)), words))
    archive = zipfile.ZipFile(file)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename.removesuffix(".npy")
        with _located(f"member {shown(info.orig_filename)}"):
            require(not re.search(r"[/\\:\0]|\A\.*\Z", name), "its name could be a path")
            require(name != info.orig_filename, "not an .npy array")
            require(name not in members, "a second member of that name")
            require(not info.flag_bits & 0x41, "encrypted, which no npz file needs to be")
            require(info.compress_type in PACKINGS, "packed in a way that numpy never uses")
            require(info.compress_size <= length, "truncated: it claims more bytes than the file has")
            _check_unpacked(info.file_size, info.compress_size, max_total)
        members[name] = info
    _check_unpacked(sum(info.file_size for info in members.values()), length, max_total)
    return archive, members


def _check_unpacked(unpacked: int, packed: int, limit: int) -> None:
    require(unpacked <= limit, f"unpacks to {unpacked:,} bytes, more than the limit of {limit:,}")
    bomb = unpacked > RATIO_FREE and unpacked > MAX_RATIO * packed
    require(not bomb, f"unpacks from {packed:,} to {unpacked:,} bytes, as only a zip bomb does")


# One member: an .npy array


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, instructions: Iterator[int]) -> Any:
    with archive.open(info) as member, io.BufferedReader(member) as stream:  # type: ignore[type-var]
        version = npy.read_magic(stream)
        require(version in ((1, 0), (2, 0)), f"an .npy array of the unknown version {version}")
        prefix = stream.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(prefix, "little")
        require(size <= MAX_HEADER, f"its header of {size:,} bytes is longer than {MAX_HEADER:,}")
        parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = parse(io.BytesIO(prefix + stream.read(size)))
        left = info.file_size - stream.tell()
        if dtype == np.dtype(object):
            found = f"an array of Python objects of shape {shown(str(shape))}"
            require(shape == (), f"{found}, where only a single object is read")
            value = safe_pickle.Pickle(stream, left, instructions).load()
        else:
            value = _read_array(stream, left, shape, dtype, fortran)
        # Reading past the end also makes zipfile compare the checksum.
        require(not stream.read(1), "bytes after the end of the array")
        return value


def _read_array(
    stream: io.BufferedIOBase, left: int, shape: tuple[int, ...], dtype: np.dtype, fortran: bool
) -> np.ndarray:
    require(dtype.str[1] in "biufcSU", f"refused elements of type {shown(str(dtype))}")
    check_size(shape, dtype, left)
    data = np.empty(left, np.uint8)
    for start in range(0, left, CHUNK):
        part = data[start : start + CHUNK]
        require(stream.readinto(part.data) == len(part), TRUNCATED)
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")

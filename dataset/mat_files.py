"""MATLAB files from outside, read by SciPy and h5py after a look at the sizes that they claim."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import DataError

MAX_UNPACKED = 4 * 2**30
"""Most bytes that a file may unpack to; MPI-INF-3DHP's largest has some 0.3 GB."""
HEADER, COMPRESSED = 128, 15
CHUNK = 2**22
AGAIN = "unpack, copy or download it again"


def read_cells(path: Path, names: tuple[str, ...], count: int) -> dict[str, list[np.ndarray]]:
    """Reads cell arrays of matrices from a MATLAB file of version 5 to 7.2, such as those of ``save -v7``.

    Args:
        path: The file.
        names: The cell arrays, each a row or a column.
        count: How many cells each has.

    Returns:
        By name, the matrices in the cells, (rows, columns) each.

    Raises:
        DataError: The file is damaged, has other variables, or would take absurd memory.
        OSError: It cannot be read.
    """
    from scipy.io import loadmat, whosmat

    with open(path, "rb") as file:
        _check_unpacked(file, path)
        with _located(path):
            there = {name: (shape, kind) for name, shape, kind in whosmat(file)}
        for name in names:
            expected = f"{path}: expected {name}, a cell array of {count} cameras"
            if name not in there:
                raise DataError(f"{expected}; the file holds {', '.join(there) or 'nothing'}")
            shape, kind = there[name]
            if kind != "cell" or sorted(shape) != [1, count]:
                raise DataError(f"{expected}; found {kind} of shape {shape}")
        with _located(path):
            file.seek(0)
            content = loadmat(file, variable_names=names)
    return {name: [np.asarray(cell) for cell in content[name].ravel()] for name in names}


def read_hdf5(
    path: Path, shapes: dict[str, tuple[int | None, ...]], most: int, optional: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Reads arrays from a MATLAB file of version 7.3, which is HDF5.

    Args:
        path: The file.
        shapes: By name, the shape that MATLAB gives each array; None stands for any length.
        most: Most that all such lengths of an array may come to, multiplied.
        optional: Names that may be missing; the result then lacks them.

    Returns:
        By name, the array with its axes in MATLAB's order.

    Raises:
        DataError: The file is damaged, or holds other arrays.
        OSError: It cannot be opened.
    """
    import h5py

    path.open("rb").close()  # An error that names the reason, where h5py's names its own insides.
    arrays = {}
    with _located(path), h5py.File(path, "r") as file:
        for name, shape in shapes.items():
            if name in optional and name not in file:
                continue
            expected = f"{path}: expected {name}, numbers of shape {_words(shape)}"
            if name not in file:
                raise DataError(f"{expected}; the file holds {', '.join(file) or 'nothing'}")
            # A link could lead to any file of this machine.
            plain = isinstance(file.get(name, getlink=True), h5py.HardLink)
            array = file[name] if plain else None
            if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
                raise DataError(f"{expected}; found no plain array")
            found = (array.shape or ())[::-1]
            fixed = len(found) == len(shape) and all(want in (None, size) for want, size in zip(shape, found))
            if not fixed or array.dtype.kind not in "fiu" or 0 in found:
                raise DataError(f"{expected}; found {array.dtype} of shape {_words(found)}")
            if math.prod(size for want, size in zip(shape, found) if want is None) > most:
                raise DataError(f"{expected}, at most {most:,} frames; found shape {_words(found)}")
            arrays[name] = np.asarray(array).T  # HDF5 lists the axes from MATLAB's last to its first
    return arrays


def _words(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("frames" if size is None else str(size) for size in shape) + ")"


@contextmanager
def _located(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes the libraries raise into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # There is no end to what they raise.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{path}: damaged, or cut short ({reason}); {AGAIN}") from error


def _check_unpacked(file: BinaryIO, path: Path) -> None:
    """Walks through the variables of a file of version 5, unpacking without keeping anything."""
    head = file.read(HEADER)
    if head.startswith(b"MATLAB 7.3") or head[:8] == b"\x89HDF\r\n\x1a\n":
        raise DataError(f"{path}: expected MATLAB version 5 to 7.2, found 7.3; save it again with -v7")
    if len(head) < HEADER or head[126:] not in (b"IM", b"MI"):
        raise DataError(f"{path}: no MATLAB file (it begins with {head[:16]!r}); {AGAIN}")
    order = "<u4" if head[126:] == b"IM" else ">u4"
    total = 0
    while tag := file.read(8):
        kind, size = (int(value) for value in np.frombuffer(tag, order)) if len(tag) == 8 else (0, 1)
        left = size
        unpacker = zlib.decompressobj()
        while left > 0:
            part = file.read(min(left, CHUNK))
            if not part:
                raise DataError(f"{path}: cut short: {left:,} bytes are missing from its end; {AGAIN}")
            left -= len(part)
            total += _unpacked_size(unpacker, part, path) if kind == COMPRESSED else len(part)
            if total > MAX_UNPACKED:
                raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED:,} bytes; {AGAIN}")


def _unpacked_size(unpacker, part: bytes, path: Path) -> int:
    total = 0
    try:
        while part and total <= MAX_UNPACKED:
            total += len(unpacker.decompress(part, CHUNK))
            part = unpacker.unconsumed_tail
    except zlib.error as error:
        raise DataError(f"{path}: damaged ({error}); {AGAIN}") from error
    return total

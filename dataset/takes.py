"""Reads and checks one take of Human3.6M: CDF, as it is distributed, or HDF5, as in ``h36m.zip``."""

from __future__ import annotations

import io
import math
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from common.errors import DataError
from common.h36m import RECORDED_JOINTS
from common.skeleton import H36M_32_KEPT, RIGHT_LEG
from dataset.archives import MAX_FILE

NUMBERS = RECORDED_JOINTS * 3
"""Numbers in a frame: x y z of each joint, millimetres."""
LEG = (0.5, 1.5)
"""Metres that a leg may have from hip to ankle; Human3.6M's have 0.8 to 1."""

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
CDF_FLOATS = ("CDF_REAL4", "CDF_REAL8", "CDF_FLOAT", "CDF_DOUBLE")
CDF_3, CDF_PLAIN = b"\xcd\xf3\x00\x01", b"\x00\x00\xff\xff"


def read_cdf(content: bytes, where: str) -> np.ndarray:
    """The variable "Pose" of a CDF file of Human3.6M's D3_Positions.

    Args:
        content: The file.
        where: What to call it in errors.

    Returns:
        (F, 32, 3) floats: joints in world millimetres.

    Raises:
        DataError: The file is damaged, cut off, or holds something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "take.cdf")
        file.write_bytes(content)  # cdflib reads files alone
        with _located(where, "a CDF file"), _bounded_inflate():
            _check_end(content)
            pose = _pose(file, where)
    return pose.reshape(-1, RECORDED_JOINTS, 3)  # (1, F, 96) -> (F, 32, 3)


def _pose(file: Path, where: str) -> np.ndarray:
    import cdflib

    cdf = cdflib.CDF(file)
    names = [*cdf.cdf_info().zVariables, *cdf.cdf_info().rVariables]
    if "Pose" not in names:
        raise DataError(f'{where}: expected a variable "Pose", found {", ".join(names) or "none"}')
    found = cdf.varinq("Pose")
    if found.Data_Type_Description not in CDF_FLOATS:
        raise DataError(f"{where}: expected floats, found {found.Data_Type_Description}")
    _check_shape((found.Last_Rec + 1, *found.Dim_Sizes), (1, None, NUMBERS), where)
    return np.array(cdf.varget("Pose"))


def read_h5(content: bytes, where: str) -> np.ndarray:
    """The data set "3D_positions" of an HDF5 file of ``h36m.zip``: see ``read_cdf``."""
    import h5py

    with _located(where, "an HDF5 file"), h5py.File(io.BytesIO(content), "r") as file:
        link = file.get("3D_positions", getlink=True)
        data = file["3D_positions"] if isinstance(link, h5py.HardLink) else None
        # Other kinds of links and data sets could name files elsewhere on this machine.
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise DataError(f'{where}: expected a data set "3D_positions", found {", ".join(file) or "none"}')
        if data.dtype.kind != "f":
            raise DataError(f"{where}: expected floats, found {data.dtype}")
        _check_shape(data.shape, (NUMBERS, None), where)
        return data[()].T.reshape(-1, RECORDED_JOINTS, 3)  # (96, F) -> (F, 32, 3)


READERS: dict[str, Callable[[bytes, str], np.ndarray]] = {".cdf": read_cdf, ".h5": read_h5}


def fault_of(world: np.ndarray, unit: str) -> str | None:
    """What is wrong with a take (F, 32, 3) in world metres that was stored in ``unit``."""
    finite = np.isfinite(world).all(axis=(1, 2))  # (F,)
    if not finite.all():
        return f"NaN or infinity in {(~finite).sum()} frames, the first is frame {int(finite.argmin())}"
    joints = [H36M_32_KEPT[joint] for joint in RIGHT_LEG]
    bones = np.diff(world[:, joints].astype(np.float64), axis=1)  # (F, 2, 3)
    length = np.linalg.norm(bones, axis=-1).sum(axis=1)  # (F,)
    human = (length > LEG[0]) & (length < LEG[1])
    if human.all():
        return None
    for name, size in UNITS.items():
        if LEG[0] < np.median(length) / UNITS[unit] * size < LEG[1] and name != unit:
            return f"expected {unit}, found {name}"
    first = int(human.argmin())
    return f"expected legs of {LEG[0]} to {LEG[1]} m, found {length[first]:.3g} m in frame {first}"


def _check_shape(shape: tuple[int, ...], expected: tuple[int | None, ...], where: str) -> None:
    """Compares a shape, where None stands for any number of frames, before memory is taken for it."""
    right = len(shape) == len(expected) and all(
        have == want or want is None for have, want in zip(shape, expected, strict=True)
    )
    if not right or min(shape) < 1 or math.prod(shape) * 8 > MAX_FILE:
        words = ", ".join("frames" if want is None else str(want) for want in expected)
        raise DataError(
            f"{where}: expected a take with {RECORDED_JOINTS} joints, shape ({words}), found {shape}"
        )


def _check_end(content: bytes) -> None:
    """Compares a CDF file's length with the one it states: cdflib fills with zeros what was cut off."""
    if content[4:8] != CDF_PLAIN:
        return  # packed as a whole, with a checksum
    size = 8 if content[:4] == CDF_3 else 4  # bytes of an offset

    def number(at: int) -> int:
        return int.from_bytes(content[at : at + size], "big")

    # The file's descriptor points to the global one, whose fourth offset is the end of the file.
    stated = number(number(8 + size + 4) + size + 4 + 3 * size)
    if len(content) < stated:
        raise EOFError(f"{len(content):,} of {stated:,} bytes")


@contextmanager
def _bounded_inflate() -> Iterator[None]:
    """Bounds what packed CDF files unpack to, which cdflib does not."""
    left = MAX_FILE

    def inflate(data: bytes) -> bytes:
        nonlocal left
        stream = zlib.decompressobj(wbits=31)  # gzip
        content = stream.decompress(data, left + 1)
        left -= len(content)
        if left < 0 or not stream.eof:
            raise EOFError("packed data that are cut off, or unpack to far more than a take")
        return content

    with mock.patch("cdflib.cdfread.gzip_inflate", inflate):
        yield


@contextmanager
def _located(where: str, kind: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # There is no end to what readers raise on damaged files.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{where}: damaged, cut off, or not {kind} ({reason}); get it again") from error

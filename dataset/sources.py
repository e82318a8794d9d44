"""Files from outside: in folders, in tar and zip archives (read into memory, never unpacked), in HDF5."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.console import UserError

if TYPE_CHECKING:
    import h5py

MAX_FILE = 64 * 2**20  # bytes of a file in an archive; a take of Human3.6M has some 5 MB
ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip")


class Source(NamedTuple):
    """A file on the disk or in an archive."""

    label: str  # for messages
    names: tuple[str, ...]  # the folders and archives around it, outermost first, and its own
    open: Callable[[], IO[Any]]  # of a file in an archive only until the next one is asked for

    def read(self) -> bytes:
        """Its content, at most ``MAX_FILE`` bytes."""
        with damaged(self.label), self.open() as file:
            content = file.read(MAX_FILE + 1)
            if len(content) > MAX_FILE:
                raise ValueError(f"more than {MAX_FILE:,} bytes")
            return content


@contextmanager
def damaged(where: object, expected: str = "a whole file") -> Iterator[None]:
    """Turns whatever a library raises on a damaged file into an error that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{where}: expected {expected}, found damaged or other content ({reason})") from error


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its folders in the order of their names; links are followed, each once."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from filter(Path.is_file, (Path(parent, name) for name in sorted(names)))
        seen.add(real)


def sources(path: Path) -> Iterator[Source]:
    """All files of a folder or of an archive; a UserError if the archive is damaged or cut off."""
    if path.is_dir():
        for file in files_below(path):
            yield Source(str(file), file.absolute().parts, partial(open, file, "rb"))
        return
    with damaged(path, "a whole archive"):
        for name, opener in _members(path):
            # Windows PowerShell 5 writes names with backslashes.
            parts = (*path.absolute().parts, *name.replace("\\", "/").split("/"))
            yield Source(f"{path}: {name}", parts, opener)


def _members(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                yield info.filename, partial(archive.open, info)
    else:
        with tarfile.open(path) as tar:
            for member in filter(tarfile.TarInfo.isreg, tar):
                yield member.name, partial(tar.extractfile, member)
            while tar.fileobj.read(2**20):  # type: ignore[union-attr]
                pass  # the checksum of a gzip stream is at its end


def hdf5_array(file: h5py.File, name: str, limit: int = MAX_FILE) -> np.ndarray:
    """A numeric array of at most ``limit`` bytes in this very file; a ValueError if there is none."""
    import h5py

    array = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external:
        raise ValueError(f'no array "{name}" among {", ".join(file)}')
    if array.dtype.kind not in "fiu" or array.nbytes > limit:
        raise ValueError(f"{name}: {array.dtype} of {array.shape}: no numbers, or over {limit:,} bytes")
    return array[()]

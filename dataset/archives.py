"""The files in a folder, a tar or a zip archive, one after another, with nothing unpacked to the disk.

No name that an archive holds is ever opened or written, so that neither ``..`` nor a link leads anywhere.
"""

from __future__ import annotations

import errno
import gzip
import io
import math
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import DataError

MAX_FILE = 64 * 2**20
"""Most bytes of a file that is read: a take of Human3.6M has some 5 MB."""
ENDINGS = (".tgz", ".tar.gz", ".tar", ".zip")
MAX_HEADERS = 2**20
"""Most bytes before a file in a tar: a name or an attribute of it may be longer than a path, but no film."""
CHUNK = 2**20


@dataclass(frozen=True)
class Found:
    """A file that was found.

    Attributes:
        source: The file on the disk: itself, or the archive that holds it.
        member: Its name inside the archive, or "".
        open: Opens it; a file of an archive only until the next one is asked for.
    """

    source: Path
    member: str
    open: Callable[[], Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the folders and archives that it lies in, and its own."""
        return (*self.source.absolute().parts, *(self.member.split("/") if self.member else ()))

    def read(self) -> bytes:
        """Its content.

        Raises:
            DataError: It is damaged, cut off, or larger than ``MAX_FILE``.
        """
        with _located(self.source), self.open() as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise DataError(f"{self}: expected at most {MAX_FILE:,} bytes in one file, found more")
        return content

    def __str__(self) -> str:
        return f"{self.source}: {self.member}" if self.member else str(self.source)


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that ``files_in`` reads."""
    return path.name.lower().endswith(ENDINGS)


def files_in(path: Path) -> Iterator[Found]:
    """All files of an archive, or of a folder and its folders, in an order that is always the same.

    Raises:
        DataError: The archive is damaged, cut off, or no archive.
    """
    if path.is_dir():
        yield from _folder(path)
        return
    with _located(path):
        yield from _zip(path) if path.name.lower().endswith(".zip") else _tar(path)


def _folder(path: Path) -> Iterator[Found]:
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            yield Found(file, "", partial(open, file, "rb"))


class _Unpacked:
    """A stream that gives ``left`` bytes at most, whatever headers ask for, at once or in parts."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self.stream = stream
        self.left: float = MAX_HEADERS

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError(f"headers of more than {MAX_HEADERS:,} bytes before a file")
        return self.stream.read(size)


def _tar(path: Path) -> Iterator[Found]:
    stream: Any
    with open(path, "rb") as raw:
        stream = raw if path.name.lower().endswith(".tar") else gzip.GzipFile(fileobj=raw)
        unpacked = _Unpacked(stream)
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:  # type: ignore[call-overload]
            while member := archive.next():
                archive.members = []  # which would grow with all that was seen
                unpacked.left = math.inf
                if member.isreg() and not member.issparse():
                    yield Found(path, member.name, partial(archive.extractfile, member))
                unpacked.left = MAX_HEADERS
        # Only the end of a gzip stream tells whether all of it was there.
        while stream.read(CHUNK):
            pass


def _zip(path: Path) -> Iterator[Found]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Found(path, info.filename, partial(archive.open, info))


@contextmanager
def _located(path: Path) -> Iterator[None]:
    """Turns whatever a damaged archive makes the libraries raise into an error that says where."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        damage = isinstance(error, gzip.BadGzipFile) or getattr(error, "errno", None) == errno.EINVAL
        if isinstance(error, OSError) and not damage:
            raise  # a true failure of the disk; a position before the start comes from a damaged file
        raise DataError(
            f"{path}: damaged, cut off, or not what its name says ({error}); it has "
            f"{path.stat().st_size:,} bytes: compare with where it came from, and get it again"
        ) from error

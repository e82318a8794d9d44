"""What makes a conversion resumable: each converted source file is kept until the final files are there."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import RunError
from common.files import replacing
from common.safe_npz import UnsafeFileError, read_npz

FORMAT = 1

log = logging.getLogger(__name__)


class Parts:
    """Arrays by the source file that they were converted from, in a hidden folder beside the final files.

    A killed run leaves its parts, and the next one takes them. A part is written under another name and
    renamed, so that half a part is never taken; it counts for one place, size and date of the source file
    and for one ``settings``, so that a part never stands for what is another file by now.

    Args:
        folder: Folder of the final files.
        name: Name of the data set; the parts lie in ``folder/.{name}-parts``.
        settings: All options that change what a source is converted to, in any words.
    """

    def __init__(self, folder: Path, name: str, settings: str = "") -> None:
        self.folder = folder / f".{name}-parts"
        self.settings = settings

    def get(self, source: Path, member: str = "") -> dict[str, np.ndarray] | None:
        """The arrays of a source, or None where it has not been converted yet.

        Args:
            source: The source file.
            member: Name inside it, where it is an archive.
        """
        path = self._path(source, member)
        try:
            return read_npz(path)
        except FileNotFoundError:
            return None
        except UnsafeFileError as error:
            log.warning("%s is converted again: its part is damaged (%s)", source, error)
            return None

    def put(self, source: Path, member: str = "", **arrays: np.ndarray) -> None:
        """Keeps the arrays of a source, under names of the caller's choice.

        Raises:
            RunError: The disk is full or cannot be written to.
        """
        path = self._path(source, member)
        with writing(path), replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Removes all parts, once the final files are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, source: Path, member: str) -> Path:
        stat = source.stat()
        identity = [os.fspath(source.resolve()), stat.st_size, stat.st_mtime_ns, member]
        digest = hashlib.sha256(ascii([FORMAT, self.settings, *identity]).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.npz"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what stops the writing of ``path``, such as a full disk, into an error that says how to go on.

    Raises:
        RunError: In place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}. What was converted so far is kept: "
            "make room and give the same command again."
        ) from error

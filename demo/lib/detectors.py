"""Which 2D detector looks at the input, and getting it ready."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import Empty, SimpleQueue

import torch

from common.errors import CheckpointError
from demo.lib import published
from demo.lib.person import Detector

NAMES = {"hrnet": "YOLOv3 and HRNet-W48", "blazepose": "BlazePose"}


def choose(name: str, folder: Path) -> tuple[str, str]:
    """The detector that a name on the command line stands for, and a line that says which and why.

    Args:
        name: "auto", "blazepose" or "hrnet". "auto" is the published pair where both of its files lie in
            the folder, else BlazePose.
        folder: Folder of weights.
    """
    if name != "auto":
        return name, f"2D pose: {NAMES[name]}"
    files = (published.YOLOV3.name, published.HRNET_W48.name)
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return "hrnet", f"2D pose: {NAMES['hrnet']}, whose weights lie in {folder}"
    return "blazepose", f"2D pose: {NAMES['blazepose']}; {folder} has no {' and no '.join(missing)}"


def load(name: str, folder: Path, device: torch.device, *, quiet: bool = True) -> Detector:
    """Loads "blazepose" or "hrnet".

    Args:
        name: Which one.
        folder: Folder of weights.
        device: Where the published pair computes; BlazePose always uses the CPU.
        quiet: Drop the line that LiteRT prints about itself. For that, standard error is the whole program's
            shortly sent elsewhere: not for calls from several threads.

    Raises:
        CheckpointError: Its weights are missing or damaged; the message says how to get them.
    """
    if name == "hrnet":
        from demo.lib.hrnet import HRNetDetector

        return HRNetDetector(folder, device)
    from demo.lib.blazepose import BlazePose

    try:
        with _quiet() if quiet else nullcontext():
            return BlazePose(folder)
    except ImportError as error:
        raise CheckpointError(f"BlazePose needs LiteRT ({error}): pip install ai-edge-litert") from None


class Pool:
    """Detectors for calls at the same time: one that remembers the last frame serves one call at a time.

    Args:
        load: Gives a detector. If it has a method ``reset``, and so a memory, more are loaded when calls come
            at the same time, and kept for later ones; otherwise all calls share it.
    """

    def __init__(self, load: Callable[[], Detector]) -> None:
        self._load, first = load, load()
        self._shared = None if hasattr(first, "reset") else first
        self._idle: SimpleQueue[Detector] = SimpleQueue()
        self._idle.put(first)

    @contextmanager
    def one(self) -> Iterator[Detector]:
        """Lends a detector that remembers nobody."""
        if self._shared is not None:
            yield self._shared
            return
        try:
            detector = self._idle.get_nowait()
        except Empty:
            detector = self._load()
        try:
            detector.reset()  # type: ignore[attr-defined]
            yield detector
        finally:
            self._idle.put(detector)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops the INFO lines that LiteRT prints about itself, past Python; what else it says comes later."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            os.write(2, b"".join(line for line in file if not line.startswith(b"INFO:")))

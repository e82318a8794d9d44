"""The folder of a run: one process at a time, its options, its log; and how its weights were chosen."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import checkpoint
from common.console import UserError
from common.files import write_json

SELECTIONS = {
    "best": "the epoch with the lowest P1 on the test subjects (the field's habit; it flatters the results)",
    "last": "the last epoch",
}

log = logging.getLogger(__name__)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Makes a run's folder and keeps other processes out while the block runs.

    The system releases the lock when the process ends, however it ends. Windows has no such lock.

    Raises:
        UserError: Another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{folder}: another process trains there; wait for it, or use another -n") from error
    except OSError as error:  # some network drives have no locks
        log.warning("note: %s cannot be locked (%s): start no other training there", folder, error)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def open_run(folder: Path, options: dict[str, Any], data: str, resume: bool) -> Iterator[None]:
    """Writes down the options of a run, and keeps its log while the block runs.

    Args:
        folder: The run's folder.
        options: Its options, plain values.
        data: Fingerprint of the data it learns from.
        resume: Continue the run that the folder holds.

    Raises:
        UserError: A new run would overwrite an old one, or the data changed since the run began.
    """
    saved = checkpoint.read_options(folder) if resume else None
    if saved and saved["data"] != data:
        raise UserError(f"--resume: the data are not those that {folder} began with; start a new run, -n")
    if not resume and any(folder.glob("*.pth")):
        raise UserError(f"{folder} already holds a run: add --resume to continue it, or use another -n")
    for left in folder.glob(".*.tmp"):  # by a process that was killed while it wrote
        left.unlink()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    record = {"data": data, "versions": versions} | (saved or {})
    write_json(folder / checkpoint.OPTIONS, record | {"options": options})
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y/%m/%d %H:%M:%S"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def training_options(weights: Path) -> dict[str, Any]:
    """The options of the run that wrote a file of weights; empty where they are unknown."""
    options = (checkpoint.read_options(weights.parent) or {}).get("options", {})
    # The state of a run is that of its last step, whatever the run keeps beside it.
    return options | {"select": "last"} if options and weights.name == checkpoint.LAST else options


def selection(options: dict[str, Any]) -> str:
    """How the epoch that a run keeps is chosen; of its options."""
    if "select" not in options:
        return "unknown: options.json is missing beside the weights"
    select = options["select"]
    text = SELECTIONS.get(select, f"the epoch with the lowest P1 on {select}, held out of training")
    return f"{text}; the run started from {options['previous_dir']}" if options.get("reload") else text

"""A run's folder: its options, its log, and the way back into it."""

from __future__ import annotations

import logging
import os
import platform
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import checkpoint
from common.arguments import build_parser
from common.errors import UserError
from common.files import write_json

log = logging.getLogger(__name__)


@contextmanager
def opened(
    folder: Path, options: dict[str, Any], *, data: str, resume: bool, began_with: str | None = None
) -> Iterator[None]:
    """Begins a run in a folder, or opens it again, and keeps a log in it while the block runs.

    Args:
        folder: The run's folder.
        options: All options of the run, plain values.
        data: Fingerprint of the data that the run learns from.
        resume: Go on in a folder that holds a run.
        began_with: How the weights that a new run starts from were chosen; None for a start from scratch.

    Raises:
        UserError: A new run would write over an old one, or the data changed since the run began.
    """
    saved = checkpoint.read_options(folder) or {}
    if resume and saved.get("data") != data:
        raise UserError(f"--resume: the data are not those that {folder} was begun with; start a new run, -n")
    if not resume and any(folder.glob("*.pth")):
        raise UserError(f"{folder} already holds a run: go on with it by --resume, or choose another -n")
    began = saved if resume else {"began_with": began_with, "versions": _versions()}
    for left_behind in folder.glob(".*.tmp"):  # by a process that was killed while it wrote
        left_behind.unlink()
    write_json(
        folder / checkpoint.OPTIONS,
        {"options": options, "data": data, **{name: began.get(name) for name in ("began_with", "versions")}},
    )
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y/%m/%d %H:%M:%S"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes a run's folder and keeps other processes out of it while the block runs.

    The system lets go of the lock when the process ends, however it ends. Windows has no such lock.

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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another process trains there; wait for it, or choose another -n"
            ) from error
        except OSError as error:  # some network drives have no locks
            log.warning(
                "note: %s cannot be locked (%s): see that no other process trains there", folder, error
            )
        yield
    finally:
        os.close(descriptor)


def resumed(folder: Path, args: Namespace, given: dict[str, Any], free: Iterable[str]) -> Namespace:
    """The options of the run in a folder, changed by those given now.

    Args:
        folder: The run's folder.
        args: The command line with its defaults, for options that the run does not know yet.
        given: The options that the command line names.
        free: Options that may differ from the run's.

    Raises:
        UserError: The folder holds no run, or an option given now contradicts the run's.
    """
    saved = (checkpoint.read_options(folder) or {}).get("options")
    if not isinstance(saved, dict):
        raise UserError(f"--resume: {folder / checkpoint.OPTIONS} is not there or damaged; is -n right?")
    for name in sorted(given.keys() - set(free)):
        # A run from before there was an option had what is its default now.
        began = saved.get(name, build_parser().get_default(name))
        if given[name] != (list(began) if isinstance(began, tuple) else began):
            raise UserError(
                f"--resume: {folder} was begun with --{name} {began}, not {given[name]}: "
                "leave the option away, or start a new run, -n"
            )
    epochs = saved.get("nepoch")
    if saved.get("lr_schedule") == "cosine" and given.get("nepoch", epochs) != epochs:
        raise UserError(
            f"--resume: {folder} was begun with --lr_schedule cosine over {epochs} epochs, and over "
            f"{given['nepoch']} it is another schedule; begin a new run with its weights, by --reload"
        )
    for name in ("device", "workers", "amp", "compile", "accumulate"):
        if name in given and given[name] != saved.get(name, given[name]):
            log.info("note: with another --%s the run goes on, but rounding differs from here on", name)
    # Where the run lies is where it was found, even if it was somewhere else when it began.
    known = {name: value for name, value in saved.items() if name in vars(args) and name != "checkpoint_dir"}
    return Namespace(**{**vars(args), **known, **given})


def _versions() -> dict[str, str]:
    import numpy
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}

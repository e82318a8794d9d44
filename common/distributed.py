"""Several processes that train or score together: which one this is, and what they agree on.

``torchrun`` starts them, on one machine or several, and tells each its place by environment variables. A
process on its own is rank 0 of 1, and nothing here makes it wait. What tensors of the CPU hold goes by gloo
and never waits for a GPU; gradients on GPUs go by NCCL.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from common.errors import RunError, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets. Some of it may be there for other reasons; all of it is not."""

PATIENCE = timedelta(minutes=30)
"""How long to wait for a process that neither answers nor ends, as when its machine lost its power."""


class Elsewhere(RunError):
    """Another process of this run went wrong, and says how."""


def world() -> int:
    """How many processes work together."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in PLACE) else 1


def rank() -> int:
    """The number of this process, from 0 on."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes files, logs and progress bars."""
    return rank() == 0


def on_this_machine() -> tuple[int, int]:
    """The number of this process among those of its machine, and how many these are."""
    return (int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])) if world() > 1 else (0, 1)


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Joins the other processes while the block runs; all else here needs it.

    Args:
        device: Where this process computes.

    Raises:
        UserError: The device cannot be used by several processes.
    """
    if world() == 1 or joined():
        yield
        return
    import torch
    import torch.distributed as dist

    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device.type}: several processes need --device cpu or cuda")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    except BaseException:
        # When one process has ended so, torchrun sends a signal to the others, which are about to say why.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise
    dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """Ends the program with an exit code.

    One of several processes does it at once: threads that still wait for the others could abort it
    while Python takes itself apart, with a code that says something else.
    """
    if world() == 1:
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def joined() -> bool:
    """Whether this process has joined others."""
    if world() == 1:
        return False
    import torch.distributed as dist

    return dist.is_initialized()


def agreed(*asked: int) -> list[int]:
    """The largest of what the processes ask for, number by number; all must ask at the same point."""
    if world() == 1:
        return list(asked)
    import torch
    import torch.distributed as dist

    together = torch.tensor(asked)
    dist.all_reduce(together, op=dist.ReduceOp.MAX)
    return together.tolist()


def total(values: Tensor) -> Tensor:
    """The sum of the processes' tensors, at all of them; the argument is written over."""
    if world() > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def share(count: int, of: int | None = None) -> slice:
    """What a process takes of ``count`` things in a row: pieces that differ by one at most.

    Args:
        count: How many things there are.
        of: Rank of the process; this one when None.
    """
    number = rank() if of is None else of
    return slice(count * number // world(), count * (number + 1) // world())


def gathered(own: Tensor, lengths: list[int]) -> Tensor | None:
    """The rows of all processes under each other, at rank 0; None elsewhere.

    Args:
        own: (n, ...) rows of this process, on the CPU.
        lengths: n of each process.
    """
    if world() == 1:
        return own
    import torch
    import torch.distributed as dist

    if not is_main():
        if len(own):
            dist.send(own.contiguous(), dst=0)
        return None
    whole = torch.empty((sum(lengths), *own.shape[1:]), dtype=own.dtype)
    for source, piece in enumerate(whole.split(lengths)):
        if source == 0:
            piece.copy_(own)
        elif len(piece):
            dist.recv(piece, src=source)
    return whole


@contextmanager
def first_here_first() -> Iterator[None]:
    """Lets the first process of each machine run the block before the others; its failure ends them all.

    The block may not wait for other processes.

    Raises:
        Elsewhere: The block failed in another process.
    """
    if world() == 1:
        yield
        return
    first = on_this_machine()[0] == 0
    if not first and agreed(0) != [0]:
        raise Elsewhere("another process of this run failed")
    try:
        yield
    except BaseException:
        if first:
            agreed(1)
        raise
    if first and agreed(0) != [0]:
        raise Elsewhere("another process of this run failed")


def lost(error: BaseException) -> bool:
    """Whether an error says that another process has ended or cannot be reached."""
    if world() == 1:
        return False
    import torch.distributed as dist

    words = ("gloo", "nccl", "connection", "socket", "broken pipe")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )

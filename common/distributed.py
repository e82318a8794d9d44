"""Several processes that train or evaluate together: rank, agreement, sums. ``torchrun`` starts them.

A process on its own is rank 0 of 1, and nothing here makes it wait. CPU tensors use gloo, those of GPUs NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from common.console import RunError, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TIMEOUT = timedelta(minutes=30)  # for a process that neither answers nor ends, as after a power cut


class RemoteError(RunError):
    """Another process of this run failed and reports why."""


def world() -> int:
    """Number of processes; a cluster may set some of torchrun's variables for other reasons."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else 1


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files, logs and progress bars."""
    return rank() == 0


def local() -> tuple[int, int]:
    """Number of this process on its machine, and how many these are."""
    return (int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])) if world() > 1 else (0, 1)


def share(count: int, of: int | None = None) -> slice:
    """The part of ``count`` items that a rank takes, this process's by default; all are equal but for one."""
    number = rank() if of is None else of
    return slice(count * number // world(), count * (number + 1) // world())


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connects the processes while the block runs, each computing on its device; see the functions below."""
    if world() == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {device.type}: several processes need --device cpu or cuda")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield
    dist.destroy_process_group()  # not after an error: the others may still wait


def agreed(*values: int) -> list[int]:
    """The largest of the processes' values, number by number; all processes call it at the same point."""
    if world() == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    largest = torch.tensor(values)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.tolist()


def total(values: Tensor) -> Tensor:
    """Replaces a tensor by its sum over the processes, and returns it."""
    if world() > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces the gradients of a step by their sums over the processes."""
    if world() == 1:
        return
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    sums = total(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, piece in zip(gradients, sums.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def gathered(own: Tensor, lengths: list[int]) -> Tensor | None:
    """Rows (n, ...) of all processes in the order of their ranks, at rank 0; None elsewhere.

    Args:
        own: (n, ...) rows of this process, on the CPU.
        lengths: n of each process.
    """
    if world() == 1:
        return own
    import torch
    import torch.distributed as dist

    if not is_main():
        dist.send(own.contiguous(), dst=0)
        return None
    pieces = [own, *(own.new_empty((length, *own.shape[1:])) for length in lengths[1:])]
    for source in range(1, world()):
        dist.recv(pieces[source], src=source)
    return torch.cat(pieces)


@contextmanager
def local_main_first() -> Iterator[None]:
    """Lets the first process of each machine run the block before the others; its failure ends them all."""
    first = local()[0] == 0
    if not first and agreed(0) != [0]:
        raise RemoteError("another process of this run failed")
    try:
        yield
    except BaseException:
        if first:
            agreed(1)
        raise
    if first and agreed(0) != [0]:
        raise RemoteError("another process of this run failed")


def is_connection_error(error: BaseException) -> bool:
    """Whether an error says that another process ended or cannot be reached."""
    text = f"{type(error).__name__} {error}".lower()
    return world() > 1 and any(word in text for word in ("dist", "gloo", "nccl", "connection", "socket"))

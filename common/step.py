"""A step of the optimizer: whole or in parts, in one process or several, compiled or not, the same step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common import distributed
from common.batches import Batch
from common.device import in_precision
from common.losses import Loss

FUSED = ("cpu", "cuda")
"""Devices whose optimizer does all of a step in one kernel."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each epoch: a decay after every epoch, and a larger one instead after every n-th."""

    initial: float = 5e-4
    decay: float = 0.95
    large_decay: float = 0.5
    large_every: int = 5

    def rate(self, at: float) -> float:
        """The learning rate at a place in the run: 1.5 is half-way through the first epoch."""
        epoch = int(at)
        large = (epoch - 1) // self.large_every
        return self.initial * self.decay ** (epoch - 1 - large) * self.large_decay**large

    def __str__(self) -> str:
        return (
            f"{self.initial:g} in the first epoch; after each epoch x {self.decay:g}, "
            f"but x {self.large_decay:g} after every {self.large_every} epochs"
        )


@dataclass(frozen=True)
class Cosine:
    """A learning rate that rises evenly and then falls to 0 in half a cosine, step by step.

    Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, ICLR 2017.
    """

    initial: float
    epochs: int
    warm_up: float = 0.02

    def rate(self, at: float) -> float:
        """The learning rate at a place in the run: 1.5 is half-way through the first epoch."""
        done = min((at - 1) / self.epochs, 1)
        if done < self.warm_up:
            return self.initial * done / self.warm_up
        return self.initial * (1 + math.cos(math.pi * (done - self.warm_up) / (1 - self.warm_up))) / 2

    def __str__(self) -> str:
        rise = f"up to {self.initial:g} in the first {self.warm_up:.0%} of {self.epochs} epochs"
        return f"{rise}, then half a cosine to 0"


@dataclass(frozen=True)
class Part:
    """A network of a run, whose weights are kept in files of their own.

    Attributes:
        network: The network, on the device of the batches.
        schedule: Learning rate of each epoch; None leaves the network as it is, in evaluation mode.
        called: What the loss calls in its place: see ``common.step.called``. The network itself when None.
    """

    network: nn.Module
    schedule: Schedule | Cosine | None
    called: nn.Module | None = None


def called(
    network: nn.Module,
    device: torch.device,
    *,
    amp: str = "off",
    compiled: bool = False,
    trained: bool = True,
) -> nn.Module:
    """What a loss calls in a network's place: the same parameters, called in another way.

    Args:
        network: The network, on the device. Its own ``state_dict`` stays as it is.
        device: Where it is.
        amp: Precision of its products: see ``common.device.in_precision``.
        compiled: Have PyTorch's compiler translate it when it is first called.
        trained: Share the gradients with the other processes.
    """
    network = in_precision(network, amp, device)
    if compiled:
        network = torch.compile(network)  # type: ignore[assignment]
    if trained and distributed.world() > 1:
        devices = [device] if device.type == "cuda" else None
        # Buffers are constants here.
        network = DistributedDataParallel(network, device_ids=devices, forward_sync_buffers=False)
    return network


class Step:
    """Takes steps with an Adam of its own: the gradient of the mean loss of a batch, whoever computes it.

    Args:
        parts: The networks, by name; those with a schedule are trained.
        loss: The loss of a batch, a scalar, the mean over its samples.
        device: Where all this is.
        amp: Precision of the networks.
        accumulate: Parts to compute a batch in, one after another.

    Raises:
        ValueError: There are several processes, and a network to train is not called as ``called`` has it.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        loss: Loss,
        *,
        device: torch.device,
        amp: str = "off",
        accumulate: int = 1,
    ) -> None:
        self.schedules = {name: part.schedule for name, part in parts.items() if part.schedule}
        groups = [{"params": list(parts[name].network.parameters())} for name in self.schedules]
        self.optimizer = torch.optim.Adam(groups, amsgrad=True, fused=device.type in FUSED)
        # What is small in float16 would be 0 there: gradients are computed enlarged, and made smaller again.
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.loss, self.accumulate = loss, accumulate
        self.shared = [p.called for p in parts.values() if isinstance(p.called, DistributedDataParallel)]
        if distributed.world() > 1 and len(self.shared) != len(self.schedules):
            raise ValueError("several processes: expected Part.called for each network that is trained")

    def __call__(self, batch: Batch, weight: float = 1.0) -> Tensor:
        """Takes a step.

        Args:
            batch: This process's samples.
            weight: Their share of the whole batch of all processes.

        Returns:
            This process's summand of the batch's loss, a scalar.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = batch.keypoints.new_zeros(())
        parts = _split(batch, self.accumulate)
        for number, part in enumerate(parts, start=1):
            own = weight * len(part.keypoints) / len(batch.keypoints)
            with self._sharing(number == len(parts)):
                loss = self.loss(part)
                # Processes share the mean of their gradients, and the sum is wanted.
                self.scaler.scale(loss * (own * distributed.world())).backward()
            total += loss.detach() * own
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def set_rates(self, at: float) -> None:
        """Takes the learning rates of a place in the run: see ``Schedule.rate``."""
        for group, schedule in zip(self.optimizer.param_groups, self.schedules.values(), strict=True):
            group["lr"] = schedule.rate(at)

    @contextmanager
    def _sharing(self, now: bool) -> Iterator[None]:
        """Leaves gradients with this process unless they are shared now: once a step, with the last part."""
        with ExitStack() as stack:
            for network in () if now else self.shared:
                stack.enter_context(network.no_sync())
            yield

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over the state of a checkpoint, of any device and precision.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: It is not such a state.
        """
        optimizer = dict(state["optimizer"])
        # How a step is computed is this machine's affair, and not that of the one that began.
        optimizer["param_groups"] = [
            group | {"fused": own["fused"], "foreach": own["foreach"]}
            for group, own in zip(optimizer["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict(optimizer)
        if scaler := state.get("scaler"):
            self.scaler.load_state_dict(scaler)


def _split(batch: Batch, count: int) -> list[Batch]:
    """A batch in ``count`` parts that differ by one sample at most, or fewer if there are too few samples."""
    count = min(count, len(batch.keypoints))
    return [
        Batch(*tensors) for tensors in zip(*(tensor.tensor_split(count) for tensor in batch), strict=True)
    ]

"""Training by the published protocol, in steps that a kill at any moment cannot lose.

The place in a run is (epoch, step): the next step to take, counted from 0, in an epoch counted from 1. The
last checkpoint holds it with the weights, the optimizer, the random state and the losses so far. The order of
the samples follows from the seed and the epoch alone. So a run that goes on from a checkpoint takes the very
steps that it would have taken.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common import checkpoint
from common.batches import Batch, Batches
from common.errors import CheckpointError, RunError
from common.files import write_json
from common.losses import Loss

FINITE_CHECK = 50
"""Steps between looks at the losses: each look makes the device wait for the host."""

SCALARS = ("loss", "P1", "P2", "base_P1")
"""What of an epoch's record goes to TensorBoard, beside the learning rates."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each epoch: a decay after every epoch, and a larger one instead after every n-th."""

    initial: float = 5e-4
    decay: float = 0.95
    large_decay: float = 0.5
    large_every: int = 5

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        large = (epoch - 1) // self.large_every
        return self.initial * self.decay ** (epoch - 1 - large) * self.large_decay**large

    def __str__(self) -> str:
        return (
            f"{self.initial:g} in the first epoch; after each epoch x {self.decay:g}, "
            f"but x {self.large_decay:g} after every {self.large_every} epochs"
        )


@dataclass
class Progress:
    """Where a run is, in plain values that go into the last checkpoint.

    Attributes:
        epoch: The epoch under way, counted from 1.
        step: The next step in it, counted from 0.
        losses: Loss of each step of this epoch so far, metres.
        history: One record for each whole epoch.
    """

    epoch: int = 1
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def best(self) -> dict[str, Any]:
        """The record with the lowest P1, the earliest of equals."""
        return min(self.history, key=lambda record: record["P1"])


class Stopped(KeyboardInterrupt):
    """A signal asked for an end; the last checkpoint is written."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Part:
    """A network of a run, whose weights are kept in files of their own.

    Attributes:
        network: The network, on the device of the batches.
        schedule: Learning rate of each epoch; None leaves the network as it is, in evaluation mode.
    """

    network: nn.Module
    schedule: Schedule | None


class Trainer:
    """One run: its networks and batches, and a folder that holds all it takes to go on.

    Args:
        parts: The networks by the name of their files: "model" is the lifter, "refine" the refine head.
        batches: Training batches.
        loss: The loss of a batch, a scalar.
        score: Called after each epoch; gives averages by name, with at least "P1" and "P2", in mm.
        folder: Where checkpoints, log and scalars go.
        keep: "best" keeps the weights of the epoch with the lowest P1, "last" those of the last one.
        checkpoint_minutes: Time between checkpoints within an epoch.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        batches: Batches,
        loss: Loss,
        score: Callable[[], dict[str, float]],
        *,
        folder: Path,
        keep: Literal["best", "last"] = "best",
        checkpoint_minutes: float = 10.0,
    ) -> None:
        self.parts, self.batches, self.loss, self.score = parts, batches, loss, score
        self.folder, self.keep = folder, keep
        self.checkpoint_seconds = checkpoint_minutes * 60
        self.schedules = {name: part.schedule for name, part in parts.items() if part.schedule}
        groups = [{"params": list(parts[name].network.parameters())} for name in self.schedules]
        self.optimizer = torch.optim.Adam(groups, amsgrad=True)
        self.progress = Progress()
        self._signal: int | None = None
        self._stepping = False

    def fit(self, epochs: int) -> None:
        """Trains until ``epochs`` epochs are done, from wherever the run is.

        Raises:
            Stopped: On SIGINT or SIGTERM, with the last checkpoint written.
            RunError: On a loss or weights that are not finite, with the last good checkpoint left in place.
        """
        for name, schedule in self.schedules.items():
            log.info("learning rate of %s: %s", name, schedule)
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
            scalars = stack.enter_context(_scalars(self.folder, self.progress.epoch))
            self._remove_superseded()
            while self.progress.epoch <= epochs:
                self._steps()
                self._finish_epoch(scalars)
        kept = self._kept()
        log.info("kept epoch %d: P1 %.2f mm, %s", kept["epoch"], kept["P1"], ", ".join(self._files(kept)))

    def _steps(self) -> None:
        """The rest of the epoch's steps."""
        progress = self.progress
        self._set_rate()
        for part in self.parts.values():
            part.network.train(part.schedule is not None)
        saved_at = time.monotonic()
        pending: list[Tensor] = []
        self._stepping = True
        bar = tqdm(
            total=len(self.batches),
            initial=progress.step,
            desc=f"epoch {progress.epoch}",
            disable=None,
            leave=False,
        )
        with bar:
            for batch in self.batches.epoch(progress.epoch, progress.step):
                pending.append(self._step(batch))
                progress.step += 1
                bar.update()
                due = time.monotonic() - saved_at > self.checkpoint_seconds
                done = progress.step == len(self.batches)
                if due or done or self._signal is not None or len(pending) == FINITE_CHECK:
                    self._take_in(pending)
                if due or done or self._signal is not None:
                    self._check_weights()
                    self._save()
                    saved_at = time.monotonic()
                if self._signal is not None:
                    raise Stopped(self._signal)
        self._stepping = False

    def _step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _take_in(self, pending: list[Tensor]) -> None:
        """Moves the losses of the latest steps to the host, and stops the run if one is not finite."""
        if not pending:
            return
        losses = torch.stack(pending).tolist()
        first = self.progress.step - len(losses)
        pending.clear()
        for step, loss in enumerate(losses, start=first):
            if not np.isfinite(loss):
                self._give_up(step, loss, f"the loss became {loss}")
        self.progress.losses += losses

    def _check_weights(self) -> None:
        """Stops the run if a step with a finite loss has led to weights that are not."""
        values = (value for part in self.parts.values() for value in part.network.state_dict().values())
        if not all(bool(value.isfinite().all()) for value in values):
            progress = self.progress
            self._give_up(progress.step - 1, progress.losses[-1], "the weights became NaN or infinite")

    def _give_up(self, step: int, loss: float, what: str) -> NoReturn:
        epoch, last = self.progress.epoch, self.folder / checkpoint.LAST
        path = self.folder / f"not_finite_{epoch}_{step}.pt"
        batch = next(self.batches.epoch(epoch, step))
        tensors = {name: value.cpu() for name, value in batch._asdict().items()}
        checkpoint.save(path, {"epoch": epoch, "step": step, "loss": loss, **tensors})
        kept = f"; {last} still holds the last good state" if last.is_file() else ""
        raise RunError(
            f"{what} in epoch {epoch}, step {step}. The batch is in {path}{kept}. "
            "Look at the batch's values, or try a lower --lr."
        )

    def _finish_epoch(self, scalars: Any) -> None:
        progress = self.progress
        epoch = progress.epoch
        record: dict[str, Any] = {"epoch": epoch, "loss": float(np.mean(progress.losses))}
        # The first network's rate goes by the plain name; that of a second one says whose it is.
        for name, schedule in self.schedules.items():
            key = "learning_rate" if "learning_rate" not in record else f"learning_rate_{name}"
            record[key] = schedule.rate(epoch)
        record |= self.score()
        progress.history.append(record)
        kept = self._kept() is record
        if kept:
            for part, file in zip(self.parts.values(), self._files(record), strict=True):
                checkpoint.save(self.folder / file, part.network.state_dict())
        write_json(self.folder / "history.json", progress.history)
        log.info(
            "epoch: %d, lr: %.7f, loss: %.4f, p1: %.2f, p2: %.2f%s",
            *(record[name] for name in ("epoch", "learning_rate", "loss", "P1", "P2")),
            ", best so far" if kept and self.keep == "best" else "",
        )
        for name, value in record.items():
            if name in SCALARS or name.startswith("learning_rate"):
                scalars.add_scalar(name, value, epoch)
        scalars.flush()
        # Only now is the epoch done: a run that is killed before this line scores it again, to the same end.
        progress.epoch, progress.step, progress.losses = epoch + 1, 0, []
        self._save()
        self._remove_superseded()

    def _kept(self) -> dict[str, Any]:
        """The record of the epoch whose weights are kept."""
        return self.progress.best() if self.keep == "best" else self.progress.history[-1]

    def _files(self, record: dict[str, Any]) -> list[str]:
        """Names of the weights of an epoch, one for each part."""
        return [f"{name}_{record['epoch']}_{record['P1'] * 100:.0f}.pth" for name in self.parts]

    def _remove_superseded(self) -> None:
        """Removes the weights of epochs that are not kept any more."""
        if not self.progress.history:
            return
        kept = self._files(self._kept())
        for name in self.parts:
            for path in self.folder.glob(f"{name}_*.pth"):
                if path.name not in kept:
                    path.unlink()

    def _set_rate(self) -> None:
        for group, schedule in zip(self.optimizer.param_groups, self.schedules.values(), strict=True):
            group["lr"] = schedule.rate(self.progress.epoch)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Between two steps the state is whole; within one it is not, so the step is finished first. While the
        # epoch is scored nothing changes, and the checkpoint from before it is there.
        if self._signal is not None or not self._stepping:
            raise Stopped(number)
        self._signal = number

    def _save(self) -> None:
        """Writes the last checkpoint."""
        checkpoint.save(
            self.folder / checkpoint.LAST,
            {
                **{name: part.network.state_dict() for name, part in self.parts.items()},
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "progress": vars(self.progress),
            },
        )

    def restore(self) -> None:
        """Goes back to the last checkpoint of the folder.

        Raises:
            CheckpointError: It is missing or not a checkpoint of this run.
        """
        path = self.folder / checkpoint.LAST
        if not path.is_file():
            raise CheckpointError(
                f"--resume: {path} is not there: the run has not come to its first "
                "checkpoint; start it again without --resume"
            )
        state = checkpoint.read(path)
        try:
            for name, part in self.parts.items():
                checkpoint.load_weights(part.network, path, name)
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
            torch.set_rng_state(state["random"])
            if torch.cuda.is_available() and state["cuda_random"]:
                torch.cuda.set_rng_state_all(state["cuda_random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: expected the whole state of a run, but {error!r}") from error
        log.info("resumed at epoch %d, step %d", self.progress.epoch, self.progress.step)


def _scalars(folder: Path, epoch: int) -> Any:
    from tensorboardX import SummaryWriter

    # The writer names its file by the second, and a run may go on within it: hence the suffix.
    return SummaryWriter(str(folder / "tensorboard"), purge_step=epoch, filename_suffix=f".{epoch}")

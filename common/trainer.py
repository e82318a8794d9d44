"""Training by the published protocol, in steps that a kill at any moment cannot lose.

The place in a run is (epoch, step): the next step to take, counted from 0, in an epoch counted from 1. The
last checkpoint holds it with the weights, the optimizer and the losses so far. The order of the samples
follows from the seed and the epoch alone, and the random numbers of a step from the seed, the epoch, the step
and the rank of the process. So a run that goes on from a checkpoint takes the very steps that it would have
taken; with another number of processes, the same steps but for dropout and rounding.
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
from torch import Tensor
from tqdm import tqdm

from common import checkpoint, distributed
from common.batches import DROPOUT, Batch, Batches, derived_seed
from common.errors import CheckpointError, RunError
from common.files import write_json
from common.losses import Loss
from common.step import Cosine, Part, Schedule, Step

FINITE_CHECK = 50
"""Steps between looks at the losses: each look makes the device wait for the host."""

SCALARS = ("loss", "P1", "P2", "base_P1")
"""What of an epoch's record goes to TensorBoard, beside the learning rates."""

log = logging.getLogger(__name__)


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
    """A signal asked for an end; the last checkpoint is written, unless there was no time for it.

    Args:
        number: The signal.
        kept: The last checkpoint holds all that was done. A scheduler's SIGTERM is then no failure: a chain
            of jobs, each of which goes on where the last was stopped, goes on after the exit code 0 alone.
    """

    def __init__(self, number: int, *, kept: bool) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 0 if kept and number == signal.SIGTERM else 128 + number


class Trainer:
    """One run: its networks and batches, and a folder that holds all it takes to go on.

    Args:
        parts: The networks by the name of their files: "model" is the lifter, "refine" the refine head.
        batches: Training batches.
        loss: The loss of a batch, a scalar, the mean over its samples.
        score: Called after each epoch, by all processes; gives averages by name, with at least "P1" and "P2",
            in mm, at rank 0.
        folder: Where checkpoints, log and scalars go.
        keep: "best" keeps the weights of the epoch with the lowest P1, "last" those of the last one.
        checkpoint_minutes: Time between checkpoints within an epoch.
        amp: Precision of the networks, as they are called.
        accumulate: Parts that a process computes its share of a batch in.
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
        amp: str = "off",
        accumulate: int = 1,
    ) -> None:
        self.parts, self.batches, self.score = parts, batches, score
        self.folder, self.keep = folder, keep
        self.checkpoint_seconds = checkpoint_minutes * 60
        self.step = Step(parts, loss, device=batches.device, amp=amp, accumulate=accumulate)
        self.schedules: dict[str, Schedule | Cosine] = self.step.schedules
        self.optimizer = self.step.optimizer
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
            scalars = None
            if distributed.is_main():
                scalars = stack.enter_context(_scalars(self.folder, self.progress.epoch))
                self._remove_superseded()
            while self.progress.epoch <= epochs:
                self._steps()
                self._finish_epoch(scalars)
        if distributed.is_main():
            kept = self._kept()
            log.info("kept epoch %d: P1 %.2f mm, %s", kept["epoch"], kept["P1"], ", ".join(self._files(kept)))

    def _steps(self) -> None:
        """The rest of the epoch's steps."""
        progress = self.progress
        for part in self.parts.values():
            part.network.train(part.schedule is not None)
        saved_at = time.monotonic()
        pending: list[Tensor] = []
        self._stepping = True
        bar = tqdm(
            total=len(self.batches),
            initial=progress.step,
            desc=f"epoch {progress.epoch}",
            disable=None if distributed.is_main() else True,
            leave=False,
        )
        with bar:
            for batch in self.batches.epoch(progress.epoch, progress.step):
                pending.append(self._take_step(batch))
                progress.step += 1
                bar.update()
                late = distributed.is_main() and time.monotonic() - saved_at > self.checkpoint_seconds
                # Processes get signals at any time, and one alone may get one: they stop after the same step.
                number, due = distributed.agreed(self._signal or 0, int(late))
                done = progress.step == len(self.batches)
                if due or done or number or len(pending) == FINITE_CHECK:
                    self._take_in(pending)
                if due or done or number:
                    self._check_weights()
                    self._save()
                    saved_at = time.monotonic()
                if number:
                    raise Stopped(number, kept=True)
        self._stepping = False

    def _take_step(self, batch: Batch) -> Tensor:
        progress = self.progress
        place = self.batches.seed, progress.epoch, progress.step
        torch.manual_seed(derived_seed(DROPOUT, *place, distributed.rank()))
        self.step.set_rates(progress.epoch + progress.step / len(self.batches))
        size = self.batches.size(progress.step)
        own = distributed.share(size)
        return self.step(batch, (own.stop - own.start) / size)

    def _take_in(self, pending: list[Tensor]) -> None:
        """Moves the losses of the latest steps to the host, and stops the run if one is not finite."""
        if not pending:
            return
        # What is not finite at one process is not finite in the sum: all find it at the same step.
        losses = distributed.total(torch.stack(pending)).tolist()
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
        with distributed.first_here_first():
            if distributed.is_main():
                batch = self.batches.whole(epoch, step)
                tensors = {name: value.cpu() for name, value in batch._asdict().items()}
                checkpoint.save(path, {"epoch": epoch, "step": step, "loss": loss, **tensors})
        if not distributed.is_main():
            raise distributed.Elsewhere(what)
        kept = f"; {last} still holds the last good state" if last.is_file() else ""
        raise RunError(
            f"{what} in epoch {epoch}, step {step}. The batch is in {path}{kept}. "
            "Look at the batch's values, or try a lower --lr."
        )

    def _finish_epoch(self, scalars: Any) -> None:
        progress = self.progress
        found = self.score()
        with distributed.first_here_first():
            if distributed.is_main():
                self._write_down(found, scalars)
        # Only now is the epoch done: a run that is killed before this line scores it again, to the same end.
        progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
        self._save()
        if distributed.is_main():
            self._remove_superseded()

    def _write_down(self, found: dict[str, float], scalars: Any) -> None:
        """Keeps an epoch's figures, and its weights if they are to be kept."""
        progress = self.progress
        epoch = progress.epoch
        record: dict[str, Any] = {"epoch": epoch, "loss": float(np.mean(progress.losses))}
        # The first network's rate goes by the plain name; that of a second one says whose it is.
        for name, schedule in self.schedules.items():
            key = "learning_rate" if "learning_rate" not in record else f"learning_rate_{name}"
            record[key] = schedule.rate(epoch + 0.5)
        record |= found
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

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Between two steps the state is whole; within one it is not, so the step is finished first. While the
        # epoch is scored nothing changes, and the checkpoint from before it is there.
        if self._signal is not None or not self._stepping:
            whole = not self._stepping and (self.folder / checkpoint.LAST).is_file()
            raise Stopped(number, kept=whole)
        self._signal = number

    def _save(self) -> None:
        """Writes the last checkpoint, and comes back when it is there."""
        with distributed.first_here_first():
            if distributed.is_main():
                networks = {name: part.network.state_dict() for name, part in self.parts.items()}
                state = {"processes": distributed.world(), "progress": vars(self.progress)}
                checkpoint.save(self.folder / checkpoint.LAST, networks | self.step.state() | state)

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
            self.step.restore(state)
            self.progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: expected the whole state of a run, but {error!r}") from error
        epoch, step = self.progress.epoch, self.progress.step
        place = [epoch, step, -epoch, -step]
        if distributed.agreed(*place) != place:
            raise CheckpointError(f"{path}: the processes found different states there; see that all see one")
        if (began := state.get("processes", 1)) != distributed.world():
            log.info(
                "note: %d processes go on where %d were: from here on rounding and dropout's random numbers "
                "are others",
                *(distributed.world(), began),
            )
        log.info("resumed at epoch %d, step %d", self.progress.epoch, self.progress.step)


def _scalars(folder: Path, epoch: int) -> Any:
    from tensorboardX import SummaryWriter

    # The writer names its file by the second, and a run may go on within it: hence the suffix.
    return SummaryWriter(str(folder / "tensorboard"), purge_step=epoch, filename_suffix=f".{epoch}")

"""Training: the loop, checkpoints and resume.

The position in a run is (epoch, step): the next step, from 0, of an epoch, from 1. The order of the samples
depends on the seed and the epoch, random numbers on the seed, the epoch, the step and the rank. So a run that
resumes from its last checkpoint takes the same steps, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from common import checkpoint, console, distributed
from common.batches import DROPOUT, Batch, Batches, derived_seed
from common.console import RunError, UserError
from common.files import write_json
from common.losses import Loss, Schedule

GPU_CHECK_STEPS = 50  # between looks at the losses: each makes the GPU wait for the host
SCALAR_STEPS = 100  # between scalars in TensorBoard
LOG_SECONDS = 30  # between lines of the log where there is no terminal

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a run is: position, the losses of this epoch's steps, and a record of each finished epoch."""

    epoch: int = 1
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


class Stopped(KeyboardInterrupt):
    """A signal ended the run; ``kept`` if the last checkpoint holds all its work."""

    def __init__(self, number: int, *, kept: bool) -> None:
        super().__init__(signal.Signals(number).name)
        # A scheduler ends a job by SIGTERM, and starts the next one of a chain after exit code 0.
        self.exit_code = 0 if kept and number == signal.SIGTERM else 128 + number


@dataclass
class Trainer:
    """One run: networks, batches, optimizer, and the folder that holds all it takes to resume."""

    networks: dict[str, nn.Module]  # "model", the lifter, and maybe "refine", the head
    schedules: dict[str, Schedule]  # learning rates of those that are trained
    loss: Loss
    batches: Batches
    score: Callable[[], dict[str, float]]  # of the networks: at rank 0, means with at least P1 and P2, mm
    folder: Path
    keep: str = "best"  # weights of the epoch with the lowest P1, or of the "last" one
    checkpoint_minutes: float = 10.0  # between checkpoints within an epoch
    amp: str = "off"
    accumulate: int = 1  # parts that a step is computed in
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        device = self.batches.device.type
        groups = [{"params": list(self.networks[name].parameters())} for name in self.schedules]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.Adam(groups, amsgrad=True, fused=device in ("cpu", "cuda"))
        self.scaler = torch.amp.GradScaler(device, enabled=self.amp == "fp16")
        self.check_steps = 1 if device == "cpu" else GPU_CHECK_STEPS
        self.signal, self.stepping = 0, False

    def fit(self, epochs: int) -> None:
        """Trains from wherever the run is until ``epochs`` epochs are done.

        Raises:
            Stopped: On SIGINT or SIGTERM, with the last checkpoint written.
            RunError: The loss or the weights became NaN or infinite; the last good checkpoint is kept.
        """
        progress = self.progress
        with self._signals(), self._tensorboard() if distributed.is_main() else nullcontext() as scalars:
            while progress.epoch <= epochs:
                started = time.monotonic()
                self._train_epoch(scalars)
                means = self.score()
                with distributed.local_main_first():
                    if distributed.is_main():
                        self._record(means, time.monotonic() - started, scalars)
                # A run that is killed before this line scores the epoch again, with the same result.
                progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
                self._save()

    def _train_epoch(self, scalars: Any) -> None:
        progress, batches = self.progress, self.batches
        for name, network in self.networks.items():
            network.train(name in self.schedules)
        saved, pending = time.monotonic(), []
        self.stepping = True
        with _bar(batches, progress) as bar:
            for batch in batches.epoch(progress.epoch, progress.step):
                place = (batches.seed, progress.epoch, progress.step, distributed.rank())
                torch.manual_seed(derived_seed(DROPOUT, *place))
                for group, schedule in zip(self.optimizer.param_groups, self.schedules.values(), strict=True):
                    group["lr"] = schedule(progress.epoch + progress.step / len(batches))
                size = batches.size(progress.step)
                own = distributed.share(size)
                pending.append(self._step(batch, (own.stop - own.start) / size))
                progress.step += 1
                # Signals come at any time, perhaps to one process alone: all stop after the same step.
                overdue = distributed.is_main() and time.monotonic() - saved > self.checkpoint_minutes * 60
                stop, due = distributed.agreed(self.signal, int(overdue))
                save = bool(stop or due or progress.step == len(batches))
                if save or progress.step % self.check_steps == 0:
                    self._collect(pending)
                if save:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    self.stepping = False
                    raise Stopped(stop, kept=True)
                rate = self.optimizer.param_groups[0]["lr"]
                if progress.losses:
                    bar.set_postfix_str(f"loss {progress.losses[-1]:.4f}, lr {rate:.2e}", refresh=False)
                bar.update(size)
                if scalars and progress.losses and progress.step % SCALAR_STEPS == 0:
                    loss = float(np.mean(progress.losses[-SCALAR_STEPS:]))
                    scalars.add_scalar("step/loss", loss, self._steps_done())
                    scalars.add_scalar("step/learning_rate", rate, self._steps_done())
        self.stepping = False

    def _step(self, batch: Batch, weight: float) -> Tensor:
        """A step of the optimizer on this process's ``weight`` of a batch; gives its part of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = batch.keypoints.new_zeros(())
        count = min(self.accumulate, len(batch.keypoints))
        for tensors in zip(*(tensor.tensor_split(count) for tensor in batch), strict=True):
            part = Batch(*tensors)
            own = weight * len(part.keypoints) / len(batch.keypoints)
            value = self.loss(part)
            self.scaler.scale(value * own).backward()
            loss += value.detach() * own
        distributed.sum_gradients(self.parameters)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _steps_done(self) -> int:
        return (self.progress.epoch - 1) * len(self.batches) + self.progress.step

    def _collect(self, pending: list[Tensor]) -> None:
        """Moves the losses of the latest steps to the host; stops the run if one is not finite."""
        losses = distributed.total(torch.stack(pending)).tolist()
        first = self.progress.step - len(pending)
        pending.clear()
        for step, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                self._give_up(step, f"the loss became {loss}")
        self.progress.losses += losses

    def _save(self) -> None:
        """Writes the last checkpoint and returns when it is there; stops the run if it is not finite."""
        states = {name: network.state_dict() for name, network in self.networks.items()}
        if not all(bool(value.isfinite().all()) for state in states.values() for value in state.values()):
            self._give_up(self.progress.step - 1, "the weights became NaN or infinite")
        with distributed.local_main_first():
            if distributed.is_main():
                state: dict[str, Any] = states | {"optimizer": self.optimizer.state_dict()}
                state |= {"scaler": self.scaler.state_dict(), "progress": asdict(self.progress)}
                checkpoint.save(self.folder / checkpoint.LAST, state | {"processes": distributed.world()})

    def _give_up(self, step: int, what: str) -> NoReturn:
        if not distributed.is_main():
            raise distributed.RemoteError(what)
        epoch, last = self.progress.epoch, self.folder / checkpoint.LAST
        path = self.folder / f"not_finite_{epoch}_{step}.pt"
        batch = self.batches.whole(epoch, step)
        checkpoint.save(path, {name: tensor.cpu() for name, tensor in batch._asdict().items()})
        kept = f"; {last} holds the last good state" if last.is_file() else ""
        raise RunError(
            f"{what} in epoch {epoch}, step {step}. Look at its batch, {path}, or try a lower --lr{kept}"
        )

    def _record(self, means: dict[str, float], seconds: float, scalars: Any) -> None:
        """Writes an epoch's results, and its weights if they are to be kept."""
        epoch, history = self.progress.epoch, self.progress.history
        rates = [schedule(epoch + 0.5) for schedule in self.schedules.values()]
        record = {"epoch": epoch, "loss": float(np.mean(self.progress.losses))}
        record |= dict(zip(("learning_rate", "learning_rate_refine"), rates, strict=False)) | means
        history.append(record)
        kept = self.kept()
        for name, network in self.networks.items():
            path = self.folder / f"{name}_{kept['epoch']}_{kept['P1'] * 100:.0f}.pth"
            if kept is record:
                checkpoint.save(path, network.state_dict())
            for other in set(self.folder.glob(f"{name}_*.pth")) - {path}:
                other.unlink()
        write_json(self.folder / "history.json", history)
        best = ", best so far" if kept is record and self.keep == "best" else ""
        log.info(
            "epoch: %d, lr: %.7f, loss: %.4f, p1: %.2f, p2: %.2f%s (%.0f s)",
            *(epoch, rates[0], record["loss"], record["P1"], record["P2"], best, seconds),
        )
        for name in ("loss", "learning_rate", "learning_rate_refine", "P1", "P2", "base_P1"):
            if name in record:
                scalars.add_scalar(name, record[name], self._steps_done())
        scalars.flush()

    def kept(self) -> dict[str, Any]:
        """The record of the epoch whose weights are kept; of equal ones, the first."""
        history = self.progress.history
        return min(history, key=lambda record: record["P1"]) if self.keep == "best" else history[-1]

    def restore(self) -> None:
        """Returns to the last checkpoint of the folder.

        Raises:
            UserError: There is none, or not of this run.
        """
        path = self.folder / checkpoint.LAST
        if not path.is_file():
            raise UserError(f"--resume: {path} is missing: the run has no checkpoint yet; start it again")
        state = checkpoint.read(path)
        try:
            for name, network in self.networks.items():
                network.load_state_dict(state[name])
            groups = zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True)
            for group, own in groups:  # how a step is computed depends on the machine
                group |= {"fused": own["fused"], "foreach": own["foreach"]}
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
            self.progress = Progress(**state["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: expected the state of this run; {error}") from error
        if distributed.agreed(-self._steps_done()) != [-self._steps_done()]:
            raise UserError(f"{path}: the processes see different files")
        if state["processes"] != distributed.world():
            log.info("note: with another number of processes, rounding and dropout differ from here on")
        log.info("resumed at epoch %d, step %d", self.progress.epoch, self.progress.step)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Has signals wait for the end of a step; those that are ignored, as in the background, stay so."""

        def stop(number: int, _: Any) -> None:
            # Outside of steps nothing is lost, and whoever asks twice does not want to wait.
            if self.signal or not self.stepping:
                last = self.folder / checkpoint.LAST
                raise Stopped(number, kept=not self.stepping and last.is_file())
            self.signal = number

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
        try:
            for number in before:
                signal.signal(number, stop)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tensorboard(self) -> Any:
        from tensorboardX import SummaryWriter

        done = self._steps_done()  # scalars after it, of a run that was killed, are dropped
        # The writer names its file by the second, and a run may resume within it: hence the suffix.
        folder = str(self.folder / "tensorboard")
        return SummaryWriter(folder, purge_step=done + 1, filename_suffix=f".{done}")


class _LogLines:
    """A bar's output where there is no terminal: lines of the log."""

    def write(self, text: str) -> None:
        if text.strip():
            log.info("%s", text.strip())

    def flush(self) -> None:
        pass


def _bar(batches: Batches, progress: Progress) -> Any:
    """The progress of an epoch, in poses: a bar, or without a terminal a line every half minute."""
    lines: dict[str, Any] = {
        "file": _LogLines(),
        "bar_format": "{desc}: {n_fmt} of {total_fmt} poses{postfix}, {rate_fmt}, {remaining} left",
        **{"delay": LOG_SECONDS, "mininterval": LOG_SECONDS, "miniters": 1},
    }
    return console.progress(
        total=batches.samples,
        initial=min(progress.step * batches.batch_size, batches.samples),
        desc=f"epoch {progress.epoch}",
        unit="pose",
        disable=None if distributed.is_main() else True,
        **({} if sys.stderr.isatty() else lines),
    )

"""Small trainings, and processes that train: forked from a server in which PyTorch is already imported."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common import distributed
from common.batches import Batch, Batches
from common.console import UserError
from common.device import in_precision
from common.evaluate import predict
from common.losses import step_decay, training_loss
from common.poses import PoseSet, Sequence
from common.train import Stopped, Trainer
from model.htnet import HTNet
from model.refine import RefineHead

CPU = torch.device("cpu")
CONTEXT: Any = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "tensorboardX", "common.commands"])
TIMEOUT = 120  # seconds after which a process hangs
SCHEDULE = partial(step_decay, initial=1e-2, decay=0.95, large_decay=0.5, large_every=5)


def pose_set(frames: int = 25) -> PoseSet:
    """Random poses of one sequence."""
    rng = np.random.default_rng(5)
    sequence = Sequence("S1", "Walking", 0, 0, frames, (2.0, 2.0, 0.0, 0.0), (1000, 1000))
    keypoints = rng.normal(0, 0.3, (frames, 17, 2)).astype(np.float32)
    positions = rng.normal((0, 0, 5), 0.3, (frames, 17, 3)).astype(np.float32)
    return PoseSet(keypoints, positions, (sequence,))


def damaged() -> PoseSet:
    """The same with a NaN."""
    poses = pose_set()
    poses.positions[5, 3] = np.nan
    return poses


def build(
    folder: Path,
    *,
    model: nn.Module | None = None,
    dropout: float = 0.0,
    refine: bool = False,
    freeze: bool = False,
    score: Callable[[int], float] = lambda epoch: 100.0 - epoch,
    poses: PoseSet | None = None,
    batch_size: int = 8,
    mirrored: bool = False,
    augment: Any = None,
    **more: Any,
) -> Trainer:
    """The trainer of a new process: the same seed, nothing else kept; ``score`` gives each epoch's P1."""
    torch.manual_seed(3)
    lifter = model or HTNet(layers=1, channel=24, d_hid=16, dropout=dropout, drop_path=(dropout, dropout))
    networks: dict[str, nn.Module] = {"model": lifter}
    if refine:
        networks["refine"] = RefineHead()
        networks["refine"].post_refine[2].p = dropout
    calls = {name: in_precision(network, more.get("amp", "off"), CPU) for name, network in networks.items()}
    batches = Batches(
        poses or pose_set(), batch_size=batch_size, mirrored=mirrored, seed=1, device=CPU, augment=augment
    )
    if distributed.is_main():
        folder.mkdir(exist_ok=True)
    trainer = Trainer(
        networks,
        {name: SCHEDULE for name in networks if not (freeze and name == "model")},
        training_loss(calls["model"], calls.get("refine"), freeze=freeze),
        batches,
        lambda: {"P1": score(trainer.progress.epoch), "P2": 30.0},
        folder,
        **more,
    )
    return trainer


def resumed(folder: Path, **keywords: Any) -> Trainer:
    """The trainer of a new process that continues a run, if there is one."""
    trainer = build(folder, **keywords)
    if (folder / "last.pth").exists():
        trainer.restore()
    return trainer


def last(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    return torch.load(folder / "last.pth", weights_only=True)


def result(folder: Path) -> dict[str, Any]:
    """The values in all files that a run leaves, but for TensorBoard's and the log."""
    found: dict[str, Any] = {path.name: path.read_text() for path in folder.glob("*.json")}
    return found | {path.name: _plain(torch.load(path, weights_only=True)) for path in folder.glob("*.pth")}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


# Processes


def start(function: Callable[..., Any], *arguments: Any, output: Path, **environment: Any) -> Any:
    """Starts ``function(*arguments)``, whose result is the exit code; what it prints goes to a file."""
    environment = {name: str(value) for name, value in environment.items()}
    process = CONTEXT.Process(target=_run, args=(function, arguments, output, environment), daemon=True)
    process.start()
    return process


def start_two(function: Callable[..., Any], *arguments: Any, output: Path) -> list[Any]:
    """Starts a function in two processes that find each other as torchrun's do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": server.getsockname()[1]}
    place |= {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    outputs = [output.with_suffix(f".{rank}") for rank in range(2)]
    return [
        start(function, *arguments, output=outputs[rank], RANK=rank, LOCAL_RANK=rank, **place)
        for rank in range(2)
    ]


def end(process: Any) -> int:
    """Waits for a process and returns its exit code, negative for a signal."""
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError("the process hangs")
    return process.exitcode


def _run(function: Callable[..., Any], arguments: tuple, output: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Whatever the shell of the tests does with SIGINT.
    ignored = environment.get("SIGINT") == "ignored"
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    code = function(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


# What two processes do together in tests/common/test_distributed.py, which does it alone, too


def noise(batch: Batch, generator: torch.Generator, rows: torch.Tensor) -> Batch:
    """Adds keypoint errors that depend on the row."""
    errors = torch.randn(batch.keypoints.shape, generator=generator) * rows[:, None, None, None] / 100
    return batch._replace(keypoints=batch.keypoints + errors)


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 3},
    "augmented": {"augment": noise, "mirrored": True, "batch_size": 11},
    "joint": {"refine": True},
    "frozen": {"refine": True, "freeze": True},
    "bf16": {"amp": "bf16"},
}


def lifted() -> list[np.ndarray]:
    """Predictions for a set that is no multiple of the batch, by a lifter and a refine head."""
    torch.manual_seed(7)
    lifter, head = HTNet(layers=1, channel=24, d_hid=16), RefineHead()
    return predict(lifter, pose_set(), device=CPU, head=head, batch_size=4)


def outcome(call: Callable[[], None]) -> str:
    """How a call ends, in words."""
    try:
        call()
    except (Stopped, UserError) as error:
        return f"{type(error).__name__} {error.exit_code}: {error}"
    return "well"


def work_together(folder: Path) -> None:
    """All that two processes do; what each reports goes to a file of its own."""
    with distributed.process_group(CPU):
        for name, keywords in RUNS.items():
            build(folder / name, **keywords).fit(2)
        build(folder / "two, then one").fit(1)
        resumed(folder / "one, then two").fit(2)

        build(folder / "dropout", dropout=0.3).fit(2)
        trainer = build(folder / "stopped", dropout=0.3)
        loss = trainer.loss

        def signalled(batch: Batch) -> torch.Tensor:
            if trainer.progress.step == 1 and distributed.rank() == 1:
                signal.raise_signal(signal.SIGTERM)
            return loss(batch)

        trainer.loss = signalled
        report: dict[str, Any] = {"signal": outcome(partial(trainer.fit, 2)), "seed": torch.initial_seed()}
        resumed(folder / "stopped", dropout=0.3).fit(2)
        report["not finite"] = outcome(partial(build(folder / "not finite", poses=damaged()).fit, 2))
        predicted = lifted()
        if predicted:
            np.save(folder / "predicted.npy", np.stack(predicted))
        report["poses"] = len(predicted)
        (folder / f"report.{distributed.rank()}.json").write_text(json.dumps(report))

"""What two processes do together for ``tests/common/test_distributed.py``, which has one do it alone too.

``torchrun --nproc_per_node 2 tests/two_processes.py FOLDER`` writes the runs of ``RUNS`` and results.json.
"""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common import distributed, losses
from common.batches import Batch, Batches
from common.errors import UserError
from common.evaluate import predict
from common.sequences import PoseSet, Sequence
from common.step import Part, Schedule, called
from common.trainer import Stopped, Trainer
from model import HTNet
from model.refine import RefineHead

CPU = torch.device("cpu")
BAD = 5
"""A row that is not finite, where that is asked for."""


def noise(batch: Batch, generator: torch.Generator, rows: torch.Tensor) -> Batch:
    """Key points that are off, each row's by its own measure."""
    off = torch.randn(batch.keypoints.shape, generator=generator) * rows[:, None, None, None] / 100
    return batch._replace(keypoints=batch.keypoints + off)


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mirrored": {"mirrored": True, "batch_size": 11},
    "accumulated": {"accumulate": 3},
    "augmented": {"augment": noise, "mirrored": True},
    "joint": {"refine": True},
    "frozen": {"refine": True, "frozen": True},
    "bf16": {"amp": "bf16"},
}


def pose_set(*, bad: bool = False, frames: int = 25) -> PoseSet:
    """As many poses as leave a last batch of one."""
    rng = np.random.default_rng(5)
    sequence = Sequence("S1", "Walking", 0, 0, frames, (2.0, 2.0, 0.0, 0.0), (1000, 1000))
    keypoints = rng.normal(0, 0.3, (frames, 17, 2)).astype(np.float32)
    positions = rng.normal((0, 0, 5), 0.3, (frames, 17, 3)).astype(np.float32)
    if bad:
        positions[BAD, 3] = np.nan
    return PoseSet(keypoints, positions, (sequence,))


def build(
    folder: Path,
    *,
    dropout: float = 0.0,
    mirrored: bool = False,
    batch_size: int = 8,
    refine: bool = False,
    frozen: bool = False,
    bad: bool = False,
    augment: Any = None,
    amp: str = "off",
    accumulate: int = 1,
) -> Trainer:
    """A small HTNet's trainer, without chance unless there is dropout."""
    torch.manual_seed(3)
    lifter = HTNet(layers=1, channel=24, d_hid=16, dropout=dropout, drop_path=(dropout, dropout))
    lift = called(lifter, CPU, trained=not frozen, amp=amp)
    parts = {"model": Part(lifter, None if frozen else Schedule(1e-2), lift)}
    loss = losses.lifting(lift)
    if refine:
        head = RefineHead()
        for layer in head.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        parts["refine"] = Part(head, Schedule(1e-2), called(head, CPU, amp=amp))
        loss = losses.refining(lift, parts["refine"].called, frozen=frozen)

    def score() -> dict[str, float]:
        return {"P1": 50.0 - trainer.progress.epoch, "P2": 30.0} if distributed.is_main() else {}

    batches = Batches(
        pose_set(bad=bad), batch_size=batch_size, mirrored=mirrored, seed=1, device=CPU, augment=augment
    )
    if distributed.is_main():
        folder.mkdir(exist_ok=True)
    trainer = Trainer(
        parts, batches, loss, score, folder=folder, checkpoint_minutes=0, amp=amp, accumulate=accumulate
    )
    return trainer


def lifted() -> list[np.ndarray]:
    """Predictions for a set that is no multiple of the batch, by a lifter and a refine head."""
    torch.manual_seed(7)
    lifter, head = HTNet(layers=1, channel=24, d_hid=16), RefineHead()
    return predict(lifter, pose_set(frames=25), device=CPU, head=head, batch_size=4)


def signalled(trainer: Trainer, step: int, rank: int) -> None:
    """Has one process get a signal in a step."""
    take_step = trainer.step

    def stepped(*arguments: Any) -> torch.Tensor:
        if trainer.progress.step == step and distributed.rank() == rank:
            signal.raise_signal(signal.SIGTERM)
        return take_step(*arguments)

    trainer.step = stepped  # type: ignore[assignment]
    stepped.state = take_step.state  # type: ignore[attr-defined]
    stepped.set_rates = take_step.set_rates  # type: ignore[attr-defined]


def ended(fit: Any) -> str:
    """How a call ends, in words."""
    try:
        fit()
    except (Stopped, UserError) as error:
        return f"{type(error).__name__} {error.exit_code}: {error}"
    return "well"


def together(folder: Path, calls: dict[str, list[str]]) -> dict[str, Any]:
    """Everything that two processes do; what this one has to tell of it."""
    import main

    for name, keywords in RUNS.items():
        build(folder / name, **keywords).fit(2)
    build(folder / "two, then one").fit(1)
    trainer = build(folder / "one, then two")
    trainer.restore()
    trainer.fit(2)

    build(folder / "dropout", dropout=0.3).fit(2)
    ends = {}
    trainer = build(folder / "stopped", dropout=0.3)
    signalled(trainer, step=1, rank=1)
    ends["signal"] = ended(partial(trainer.fit, 2))
    seed = torch.initial_seed()
    trainer = build(folder / "stopped", dropout=0.3)
    trainer.restore()
    place = trainer.progress.epoch, trainer.progress.step
    trainer.fit(2)
    ends["not finite"] = ended(partial(build(folder / "not finite", bad=True).fit, 2))

    predicted = lifted()
    if predicted:
        np.save(folder / "predicted.npy", np.stack(predicted))
    codes = {name: main.main(argv) for name, argv in calls.items()}
    return {"ends": ends, "stopped at": place, "seed": seed, "codes": codes, "poses": len(predicted)}


def run(folder: Path) -> None:
    """Does it, with a list of what each process opened to write, made or moved."""
    import torch.distributed as dist

    written: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        named = str(arguments[0]) if arguments else ""
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        ours = named.startswith((str(folder.parent), str(Path.cwd()))) and "__pycache__" not in named
        if ours and (writes or event in ("os.mkdir", "os.rename", "os.remove")):
            written.append(f"{event} {named}")

    torch.set_num_threads(1)
    calls = json.loads((folder / "calls.json").read_text())
    with distributed.group(CPU):
        sys.addaudithook(watch)
        told = together(folder, calls)
        gathered: list[Any] = [None] * distributed.world()
        dist.all_gather_object(gathered, told | {"written": list(written)})
        if distributed.is_main():
            (folder / "results.json").write_text(json.dumps(gathered))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
    distributed.leave(0)

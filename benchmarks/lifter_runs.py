"""Training and scoring one row of the table of lifters: see ``benchmarks.lifters``."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.lifter_rows import ROWS, SOURCES, Row
from common import cache, checkpoint, loading, run
from common.arguments import parse
from common.augmentation import augmentation
from common.batches import Batches
from common.errors import UserError
from common.evaluate import Evaluation, evaluate
from common.files import write_json
from common.h36m import DATASETS
from common.sequences import PoseSet, thinned
from common.training import training
from model.refine import RefineHead

DATASET = DATASETS["h36m"]
EPOCHS = 15
"""The published recipe's epochs. Here each is a fifteenth of the samples, so that the rate falls as there."""
OTHER_FRAMES = 5
"""A recipe is scored on one of so many frames of the data's other key points."""
CURVE_FRAMES = 50
"""The curve in a run's history is of one of so many test frames: it is cheap, and nothing is chosen by it."""

log = logging.getLogger(__name__)


class BudgetBatches(Batches):
    """Batches for epochs of a given size, whatever the data's: all samples in turn, over and over.

    Every sample is taken once before one is taken again, in an order that is new each time round. Epochs hold
    whole batches alone.
    """

    def __init__(self, poses: PoseSet, *, samples: int, **keywords: Any) -> None:
        super().__init__(poses, **keywords)
        self.round, self.samples = self.samples, samples

    def order(self, epoch: int) -> Tensor:
        """(samples,) the order of an epoch: see ``Batches.order``."""
        first = (epoch - 1) * self.samples
        rounds = range(first // self.round, (first + self.samples - 1) // self.round + 1)
        orders = [np.random.default_rng([self.seed, number]).permutation(self.round) for number in rounds]
        start = first - rounds[0] * self.round
        return torch.from_numpy(np.concatenate(orders)[start : start + self.samples])


def epoch_samples(samples: int, batch_size: int) -> int:
    """Samples of one of the EPOCHS: whole batches, and together at least ``samples``."""
    return -(-samples // (EPOCHS * batch_size)) * batch_size


def train_row(
    name: str,
    *,
    seed: int,
    samples: int,
    batch_size: int,
    keypoints: str,
    root: Path,
    out: Path,
    device: torch.device,
    amp: str = "off",
    cache_dir: Path | None = None,
    pictures: Sequence[Path] = (),
) -> None:
    """Trains a row and writes its record, unless the record is there; goes on where it was broken off.

    The state of the run lies in a folder beside the record, which is removed in the end.

    Args:
        name: One of ROWS.
        seed: Seed of the weights, the order and the dropout.
        samples: Samples to train with, rounded up to whole epochs: see ``epoch_samples``.
        batch_size: Samples of a step.
        keypoints: Source of the key points, as in the file's name.
        root: Folder of the npz files.
        out: The record to write, JSON.
        device: Where to compute.
        amp: Precision of training: see ``common.device.in_precision``. Scores are computed in float32.
        cache_dir: Folder for the converted data; None as in ``common.cache.load``.
        pictures: Photos to lift people in when it is trained, for the record.

    Raises:
        UserError: The row or data are not there, the state is that of another run, or another process has it.
    """
    if name not in ROWS:
        raise UserError(f"--row {name}: expected one of {', '.join(ROWS)}")
    row = ROWS[name]
    if row.recipe and keypoints not in row.sources:
        raise UserError(f"-k {keypoints}: recipes are tried on {' and '.join(row.sources)} alone")
    poses = cache.load(DATASET, root, keypoints, cache_dir)
    others = _other_tests(root, keypoints, cache_dir) if row.recipe else {}
    options: dict[str, Any] = {
        "row": name,
        "seed": seed,
        "keypoints": keypoints,
        "samples": epoch_samples(samples, batch_size) * EPOCHS,
        "batch_size": batch_size,
        "amp": amp,
        "data": cache.fingerprint(DATASET, root, keypoints),
    }
    folder = out.with_suffix(".run")
    with run.alone(folder):
        if out.exists():
            log.info("%s is there: nothing to train", out)
        else:
            resume = (folder / checkpoint.LAST).is_file()
            began = (checkpoint.read_options(folder) or {}).get("options")
            if resume and began != options:
                raise UserError(
                    f"{folder} holds a run of other options, {began}, not {options}: go on with those, "
                    "remove it, or choose another --out"
                )
            with run.opened(folder, options, data=options["data"], resume=resume):
                log.info("%s: %s, %d samples, on %s", out, row.title, options["samples"], device)
                log.info("scoring each epoch on one of %d test frames", CURVE_FRAMES)
                record = _fit(row, options, poses, others, pictures, folder, device, resume)
            write_json(out, options | record | {"command": _command(options, out)})
        shutil.rmtree(folder)


def _fit(
    row: Row,
    options: dict[str, Any],
    poses: PoseSet,
    others: dict[str, PoseSet],
    pictures: Sequence[Path],
    folder: Path,
    device: torch.device,
    resume: bool,
) -> dict[str, Any]:
    """Trains and scores a network; what the record says of it beside the options."""
    args = _main_options(row, options)
    torch.manual_seed(options["seed"])
    chance = {"dropout": args.dropout, "drop_path": tuple(args.drop_path)} if row.recipe else {}
    lifter = row.build(**chance).to(device)
    head = RefineHead().to(device) if row.refine else None
    train_set, test_set = poses.subjects(DATASET.train), poses.subjects(DATASET.test)
    batches = BudgetBatches(
        train_set,
        samples=options["samples"] // EPOCHS,
        batch_size=options["batch_size"],
        mirrored=True,
        seed=options["seed"],
        device=device,
        augment=augmentation(train_set, **loading.made_up(args), device=device),
    )
    trainer = training(args, lifter, head, batches, thinned(test_set, downsample=CURVE_FRAMES), folder)
    if resume:
        trainer.restore()
    trainer.score = _Curve(trainer.score)
    trainer.fit(EPOCHS)
    found = evaluate(lifter, test_set, device=device, head=head)
    log.info("on all test poses: P1 %.2f mm, P2 %.2f mm", *map(found[-1].average.get, ("P1", "P2")))
    return {
        "steps": len(batches) * EPOCHS,
        "parameters": sum(p.numel() for part in trainer.parts.values() for p in part.network.parameters()),
        "training_poses": len(train_set),
        "test_poses": len(test_set),
        **_errors(found[-1]),
        **({"before_refining": _errors(found[0])} if head is not None else {}),
        **({"elsewhere": _elsewhere(lifter, others, device)} if others else {}),
        **({"photos": _photos(lifter, pictures, device)} if pictures else {}),
        "seconds": sum(record["seconds"] for record in trainer.progress.history),
        "seconds_lack_what_a_stop_cost": resume,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": (checkpoint.read_options(folder) or {})["versions"],
        "history": trainer.progress.history,
    }


class _Curve:
    """The score after each epoch, and the seconds that its training took."""

    def __init__(self, score: Callable[[], dict[str, float]]) -> None:
        self.score, self.began = score, time.monotonic()

    def __call__(self) -> dict[str, float]:
        seconds = time.monotonic() - self.began
        found = self.score()
        self.began = time.monotonic()
        return {"P1": found["P1"], "P2": found["P2"], "seconds": round(seconds, 1)}


def _main_options(row: Row, options: dict[str, Any]) -> Namespace:
    """The options of ``main.py`` that a row is trained with."""
    argv = ["--train", "-n", "row", "--select", "last", "--nepoch", str(EPOCHS), "--checkpoint_minutes", "2"]
    for name in ("seed", "batch_size", "amp"):
        argv += [f"--{name}", str(options[name])]
    return parse([*argv, *row.options])


def _elsewhere(lifter: nn.Module, others: dict[str, PoseSet], device: torch.device) -> dict[str, Any]:
    """P1 and P2 on the test subjects of other data, by the name of these."""
    found = {name: evaluate(lifter, poses, device=device)[-1].average for name, poses in others.items()}
    return {name: {"P1": average["P1"], "P2": average["P2"]} for name, average in found.items()}


def _other_tests(root: Path, keypoints: str, cache_dir: Path | None) -> dict[str, PoseSet]:
    """What a recipe is scored on beside the data's own test subjects: other key points, other motion."""
    sample = DATASETS["sample"]
    others = {
        f"{other} key points": thinned(cache.load(DATASET, root, other, cache_dir), downsample=OTHER_FRAMES)
        for other in SOURCES
        if other != keypoints
    }
    others["the bundled sample"] = cache.load(sample, Path(sample.root), sample.keypoints, cache_dir)
    return {name: poses.subjects(DATASET.test) for name, poses in others.items()}


def _photos(lifter: nn.Module, pictures: Sequence[Path], device: torch.device) -> dict[str, list[float]]:
    """By picture: how far each person's pose is from BlazePose's own points, mm: see ``benchmarks.demo``."""
    from benchmarks.demo import measure_picture
    from demo.lib import detectors
    from demo.lib.pipeline import Lifter
    from demo.vis import DETECTORS

    detector = detectors.load("blazepose", DETECTORS, device)
    found = [measure_picture(path, detector, Lifter(lifter.eval(), device, "row")) for path in pictures]
    return {path.name: [p["window_mm"] for p in people] for path, people in zip(pictures, found, strict=True)}


def _errors(found: Evaluation) -> dict[str, Any]:
    """P1 and P2 action-wise, and the mean error of each joint and PDoF group, all mm."""
    return {
        "P1": found.average["P1"],
        "P2": found.average["P2"],
        "per_pdof": found.summary["per_pdof"],
        "per_joint": found.summary["per_joint"],
    }


def _command(options: dict[str, Any], out: Path) -> str:
    command = ["python", "-m", "benchmarks.lifters"]
    for name in ("row", "seed", "keypoints", "samples", "batch_size", "amp"):
        command += [f"--{name}", str(options[name])]
    return shlex.join([*command, "--root_path", "DIR", "--out", out.name])

"""From the options of a training to its trainer: schedules, losses, and what is scored."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from torch import nn

from common import losses
from common.batches import Batches
from common.evaluate import evaluate
from common.sequences import PoseSet
from common.step import Cosine, Part, Schedule, called
from common.trainer import Trainer


def training(
    args: Namespace,
    lifter: nn.Module,
    head: nn.Module | None,
    batches: Batches,
    test_set: PoseSet,
    folder: Path,
) -> Trainer:
    """The trainer of a run.

    Args:
        args: The options of ``main.py --train``.
        lifter: The network to train, or with ``--refine_freeze`` to leave as it is.
        head: The refine head to train with it, or None.
        batches: What it learns from.
        test_set: What it is scored on after each epoch.
        folder: The run's folder.
    """

    parts = {}

    def add(name: str, network: nn.Module, rate: float, *, trained: bool = True) -> nn.Module:
        """Makes a part, and gives what the loss is to call."""
        call = called(network, batches.device, amp=args.amp, compiled=args.compile, trained=trained)
        parts[name] = Part(network, _schedule(args, rate) if trained else None, call)
        return call

    lift = add("model", lifter, args.lr, trained=not args.refine_freeze)
    loss = losses.lifting(lift, bones=args.bone_loss, symmetry=args.symmetry_loss)
    if head is not None:
        refine = add("refine", head, args.lr_refine)
        loss = losses.refining(lift, refine, frozen=args.refine_freeze)

    def score() -> dict[str, float]:
        found = evaluate(
            lifter,
            test_set,
            device=batches.device,
            flip=args.test_augmentation,
            head=head,
            amp=args.amp,
        )
        if not found:  # rank 0 has them
            return {}
        return found[-1].average | ({"base_P1": found[0].average["P1"]} if head is not None else {})

    return Trainer(
        parts,
        batches,
        loss,
        score,
        folder=folder,
        keep="last" if args.select == "last" else "best",
        checkpoint_minutes=args.checkpoint_minutes,
        amp=args.amp,
        accumulate=args.accumulate,
    )


def _schedule(args: Namespace, rate: float) -> Schedule | Cosine:
    if args.lr_schedule == "cosine":
        return Cosine(rate, args.nepoch)
    return Schedule(rate, args.lr_decay, args.lr_decay_large, args.large_decay_epoch)

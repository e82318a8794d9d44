"""Scoring: a lifter's poses for every frame of a test set, and their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common import distributed, metrics
from common.batches import Arrays
from common.device import LOW_PRECISIONS, in_precision
from common.errors import RunError
from common.flip import lift
from common.losses import refine
from common.sequences import PoseSet
from common.skeleton import NUM_JOINTS
from common.summary import summarize
from model.folding import folded

BATCH = 128
"""Poses a pass. With their mirror images 256 go through the network, which suits a processor's cache."""
GPU_BATCH = 2048


@dataclass(frozen=True)
class Evaluation:
    """What a lifter made of a test set.

    Attributes:
        poses: The N poses that were scored.
        predicted: (N, 17, 3) predicted poses in camera space, mm, relative to the root.
        scores: Errors of each pose: see ``common.metrics.score``.
        summary: Their averages: see ``common.summary.summarize``.
    """

    poses: PoseSet
    predicted: np.ndarray
    scores: dict[str, np.ndarray]
    summary: dict[str, Any]

    @property
    def average(self) -> dict[str, float]:
        """The action-wise averages, the protocol's, by metric."""
        return self.summary["average"]["action_wise"]


def evaluate(
    lifter: nn.Module,
    poses: PoseSet,
    *,
    device: torch.device,
    flip: bool = True,
    head: nn.Module | None = None,
    joints: tuple[int, ...] | None = None,
    amp: str = "off",
) -> list[Evaluation]:
    """Lifts and scores every pose of a set.

    Several processes lift a share each; rank 0 scores them all.

    Args:
        lifter: The lifter; it is put into evaluation mode, as is the head.
        poses: What to lift and to score.
        device: Where the networks are.
        flip: Average with the mirrored input.
        head: Refine the poses too. This uses the true depth of the root and the camera.
        joints: Joints to score; all 17 when None.
        amp: Precision of the networks: see ``common.device.in_precision``.

    Returns:
        The lifter's evaluation, and with a head that of the refined poses after it; nothing but at rank 0.

    Raises:
        RunError: The network gives poses that are not finite.
    """
    everything = predict(lifter, poses, device=device, flip=flip, head=head, amp=amp)
    with distributed.first_here_first():
        return [_scored(metres, poses, joints) for metres in everything]


def _scored(metres: np.ndarray, poses: PoseSet, joints: tuple[int, ...] | None) -> Evaluation:
    predicted = metres * 1000
    if lost := int((~np.isfinite(predicted)).any(axis=(1, 2)).sum()):  # over (N, 17, 3)
        raise RunError(
            f"the network gives NaN or infinity for {lost} of {len(poses)} test poses; there is nothing "
            "to score: its weights are damaged, or its training diverged; try a lower --lr"
        )
    scores = metrics.score(predicted, root_relative(poses) * 1000, poses.sequences, joints)
    return Evaluation(poses, predicted, scores, summarize(scores, poses.sequences))


def predict(
    lifter: nn.Module,
    poses: PoseSet,
    *,
    device: torch.device,
    flip: bool = True,
    head: nn.Module | None = None,
    amp: str = "off",
    batch_size: int | None = None,
) -> list[np.ndarray]:
    """Lifts every frame of a set: see ``evaluate`` for the arguments.

    Returns:
        (N, 17, 3) float64 poses in camera space, metres, root at 0; with a head the refined ones after them.
        Of several processes rank 0 returns them all, and the others nothing.
    """
    for network in (lifter, head):
        if network is not None:
            network.eval()
    lifter = in_precision(folded(lifter, LOW_PRECISIONS.get(amp)), amp, device)
    head = None if head is None else in_precision(head, amp, device)
    size = batch_size or (GPU_BATCH if device.type == "cuda" else BATCH)
    # Processes share whole batches: a pose is computed beside the same others, to the same last bit.
    pieces = [_rows(rank, size, len(poses)) for rank in range(distributed.world())]
    own = pieces[distributed.rank()]
    arrays = Arrays(poses, device)
    found = torch.empty(1 if head is None else 2, len(own), NUM_JOINTS, 3, device=device)
    bar = tqdm(total=len(own), desc="lifting", disable=None if distributed.is_main() else True, leave=False)
    with torch.inference_mode(), bar:
        for start in range(0, len(own), size):
            rows = own[start : start + size]
            batch = arrays.gather(slice(rows.start, rows.stop))
            pose = lift(lifter, batch.keypoints, flip=flip)  # (B, 1, 17, 3)
            found[0, start : start + size] = pose.squeeze(1)  # (B, 17, 3)
            if head is not None:
                found[1, start : start + size] = refine(head, pose, batch).squeeze(1)  # (B, 17, 3)
            bar.update(len(rows))
    lengths = [len(piece) for piece in pieces]
    everything = [distributed.gathered(poses_found, lengths) for poses_found in found.cpu()]
    return [whole.numpy().astype(np.float64) for whole in everything if whole is not None]


def _rows(rank: int, size: int, count: int) -> range:
    """The rows whose poses a process lifts: whole batches of ``size``, in one stretch."""
    batches = distributed.share(-(-count // size), rank)
    return range(batches.start * size, min(batches.stop * size, count))


def root_relative(poses: PoseSet) -> np.ndarray:
    """(N, 17, 3) float64 true poses in camera space, metres, relative to the root."""
    positions = poses.positions.astype(np.float64)
    return positions - positions[:, :1]

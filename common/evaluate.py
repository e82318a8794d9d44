"""Scoring: a lifter's poses for every frame of a test set, and their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common import metrics
from common.batches import Arrays
from common.errors import RunError
from common.flip import lift
from common.losses import refine
from common.sequences import PoseSet
from common.summary import summarize

BATCH = 128
"""Poses a pass. With their mirror images 256 go through the network, which suits a processor's cache."""


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
) -> list[Evaluation]:
    """Lifts and scores every pose of a set.

    Args:
        lifter: The lifter; it is put into evaluation mode, as is the head.
        poses: What to lift and to score.
        device: Where the networks are.
        flip: Average with the mirrored input.
        head: Refine the poses too. This uses the true depth of the root and the camera.
        joints: Joints to score; all 17 when None.

    Returns:
        The lifter's evaluation, and with a head that of the refined poses after it.

    Raises:
        RunError: The network gives poses that are not finite.
    """
    truth = root_relative(poses) * 1000
    evaluations = []
    for metres in predict(lifter, poses, device=device, flip=flip, head=head):
        predicted = metres * 1000
        if lost := int((~np.isfinite(predicted)).any(axis=(1, 2)).sum()):  # over (N, 17, 3)
            raise RunError(
                f"the network gives NaN or infinity for {lost} of {len(poses)} test poses; there is nothing "
                "to score: its weights are damaged, or its training diverged; try a lower --lr"
            )
        scores = metrics.score(predicted, truth, poses.sequences, joints)
        evaluations.append(Evaluation(poses, predicted, scores, summarize(scores, poses.sequences)))
    return evaluations


def predict(
    lifter: nn.Module,
    poses: PoseSet,
    *,
    device: torch.device,
    flip: bool = True,
    head: nn.Module | None = None,
    batch_size: int = BATCH,
) -> list[np.ndarray]:
    """Lifts every frame of a set: see ``evaluate`` for the arguments.

    Returns:
        (N, 17, 3) float64 poses in camera space, metres, root at 0; with a head the refined ones after them.
    """
    networks = [lifter] if head is None else [lifter, head]
    for network in networks:
        network.eval()
    arrays = Arrays(poses)
    found: list[list[torch.Tensor]] = [[] for _ in networks]
    with torch.inference_mode(), tqdm(total=len(poses), desc="lifting", disable=None, leave=False) as bar:
        for start in range(0, len(poses), batch_size):
            batch = arrays.gather(slice(start, start + batch_size), device)
            pose = lift(lifter, batch.keypoints, flip=flip)  # (B, 1, 17, 3)
            found[0].append(pose.squeeze(1).cpu())  # (B, 17, 3)
            if head is not None:
                found[1].append(refine(head, pose, batch).squeeze(1).cpu())  # (B, 17, 3)
            bar.update(len(pose))
    return [torch.cat(parts).numpy().astype(np.float64) for parts in found]


def root_relative(poses: PoseSet) -> np.ndarray:
    """(N, 17, 3) float64 true poses in camera space, metres, relative to the root."""
    positions = poses.positions.astype(np.float64)
    return positions - positions[:, :1]

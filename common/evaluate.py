"""Evaluation: a lifter's poses for every frame of a test set, and their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common import distributed, metrics
from common.batches import Arrays
from common.console import RunError, progress
from common.data import PoseSet
from common.device import LOW_PRECISIONS, in_precision
from common.skeleton import NUM_JOINTS, mirror
from common.window import person_window
from model.accelerate import fuse
from model.refine import refine

CPU_BATCH = 128  # poses; with their mirror images 256 fit into a processor's cache
GPU_BATCH = 2048  # poses


@dataclass(frozen=True)
class Evaluation:
    """A lifter's results on a test set.

    Attributes:
        poses: The N poses that were evaluated.
        predicted: (N, 17, 3) predicted poses in camera space, mm, relative to the root.
        scores: Errors of each pose: see ``common.metrics.score``.
        summary: Their means: see ``common.metrics.summarize``; and "joints", the number of joints scored.
        joints: The joints that were scored; None for all 17.
    """

    poses: PoseSet
    predicted: np.ndarray
    scores: dict[str, np.ndarray]
    summary: dict[str, Any]
    joints: tuple[int, ...] | None = None


def lift(model: nn.Module, keypoints: Tensor, flip: bool = True) -> Tensor:
    """Runs the lifter.

    Args:
        model: Network from (B, 1, 17, 2) to (B, 1, 17, 3), in evaluation mode.
        keypoints: (B, 1, 17, 2) normalised image coordinates.
        flip: Average with the mirrored-back output of the mirrored input, in one batch.

    Returns:
        (B, 1, 17, 3) poses in camera space, metres, with the root set to 0.
    """
    if flip:
        straight, mirrored = model(torch.cat([keypoints, mirror(keypoints)])).chunk(2)
        pose = (straight + mirror(mirrored)) / 2
    else:
        pose = model(keypoints)
    pose[:, :, 0] = 0
    return pose


def evaluate(
    lifter: nn.Module,
    poses: PoseSet,
    *,
    device: torch.device,
    flip: bool = True,
    head: nn.Module | None = None,
    joints: tuple[int, ...] | None = None,
    amp: str = "off",
    fps: float | None = None,
    window: bool = False,
) -> list[Evaluation]:
    """Lifts every pose of a set and computes its errors.

    Several processes lift a share each; rank 0 computes the errors.

    Args:
        lifter: The lifter; it is put into evaluation mode, as is the head.
        poses: Keypoints and true poses.
        device: Where the networks are.
        flip: Average with the mirrored input.
        head: Refine head; it uses the true depth of the root and the camera.
        joints: Joints to score; all 17 if None.
        amp: Precision of the networks: see ``common.device.in_precision``.
        fps: Frames per second of the recordings, if known; adds the velocity error in mm/s.
        window: The lifter was trained with ``common.window.person_window``.

    Returns:
        The lifter's evaluation, and with a head that of the refined poses; an empty list at other ranks.

    Raises:
        RunError: The network returns poses that are not finite.
    """
    found = predict(lifter, poses, device=device, flip=flip, head=head, amp=amp, window=window)
    with distributed.local_main_first():
        return [evaluation(poses, metres * 1000, joints=joints, fps=fps) for metres in found]


def evaluation(
    poses: PoseSet, predicted: np.ndarray, *, joints: tuple[int, ...] | None = None, fps: float | None = None
) -> Evaluation:
    """Errors of predicted poses (N, 17, 3), mm, camera space, relative to the root; see ``evaluate``."""
    if invalid := int((~np.isfinite(predicted)).any(axis=(1, 2)).sum()):  # over (N, 17, 3)
        raise RunError(
            f"expected finite poses, found NaN or infinity in {invalid} of {len(poses)} predicted poses: the "
            "weights are damaged, or the training diverged; try a lower --lr"
        )
    target = root_relative(poses) * 1000
    scores = metrics.score(predicted, target, poses.sequences, joints=joints, fps=fps)
    summary = metrics.summarize(scores, poses.sequences) | {"joints": len(joints or range(NUM_JOINTS))}
    return Evaluation(poses, predicted, scores, summary, joints)


def predict(
    lifter: nn.Module,
    poses: PoseSet,
    *,
    device: torch.device,
    flip: bool = True,
    head: nn.Module | None = None,
    amp: str = "off",
    batch_size: int | None = None,
    window: bool = False,
) -> list[np.ndarray]:
    """Lifts every frame of a set: see ``evaluate`` for the arguments.

    Returns:
        (N, 17, 3) float64 poses in camera space, metres, root at 0, and with a head the refined ones; an
        empty list at other ranks than 0.
    """
    networks = [network.eval() for network in (lifter, head) if network is not None]
    fused = in_precision(fuse(lifter, LOW_PRECISIONS.get(amp)), amp, device)
    head = None if head is None else in_precision(head, amp, device)
    size = batch_size or (GPU_BATCH if device.type == "cuda" else CPU_BATCH)
    # Processes share whole batches: each pose has the same neighbours, so it is the same to the last bit.
    shares = [_rows(rank, size, len(poses)) for rank in range(distributed.world())]
    own = shares[distributed.rank()]
    arrays = Arrays(poses, device)
    found = torch.empty(len(networks), len(own), NUM_JOINTS, 3, device=device)
    bar = progress(total=len(own), desc="lifting", disable=None if distributed.is_main() else True)
    with torch.inference_mode(), bar:
        for start in range(0, len(own), size):
            rows = own[start : start + size]
            batch = arrays.gather(slice(rows.start, rows.stop))
            if window:
                centred = batch.keypoints.squeeze(1) - batch.intrinsics[:, None, 2:]  # (B, 17, 2)
                inputs, rotation = person_window(centred, batch.intrinsics[:, 0])
                pose = lift(fused, inputs[:, None], flip) @ rotation[:, None]  # (B, 1, 17, 3)
            else:
                pose = lift(fused, batch.keypoints, flip)  # (B, 1, 17, 3)
            found[0, start : start + size] = pose.squeeze(1)
            if head is not None:
                refined = refine(head, pose, batch.keypoints, batch.root_depth, batch.intrinsics)
                found[1, start : start + size] = refined.squeeze(1)
            bar.update(len(rows))
    gathered = [distributed.gathered(each, [len(share) for share in shares]) for each in found.cpu()]
    return [whole.numpy().astype(np.float64) for whole in gathered if whole is not None]


def _rows(rank: int, size: int, count: int) -> range:
    batches = distributed.share(-(-count // size), rank)
    return range(batches.start * size, min(batches.stop * size, count))


def root_relative(poses: PoseSet) -> np.ndarray:
    """(N, 17, 3) float64 true poses in camera space, metres, relative to the root."""
    positions = poses.positions.astype(np.float64)
    return positions - positions[:, :1]

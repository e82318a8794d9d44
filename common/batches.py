"""Training batches: one gather of the poses' arrays, with the mirror image applied to the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.flip import mirror
from common.sequences import PoseSet


class Batch(NamedTuple):
    """Samples of a training step, or of an evaluation.

    Attributes:
        keypoints: (B, 1, 17, 2) normalised image coordinates.
        target: (B, 1, 17, 3) true poses in camera space, metres, root at 0.
        root_depth: (B, 1) true depth of the root in camera space, metres.
        intrinsics: (B, 4) focal length and centre (fx, fy, cx, cy) in normalised image coordinates.
    """

    keypoints: Tensor
    target: Tensor
    root_depth: Tensor
    intrinsics: Tensor


class Arrays:
    """The arrays of a set of N poses as tensors, from which batches are gathered."""

    def __init__(self, poses: PoseSet) -> None:
        self.keypoints = torch.from_numpy(poses.keypoints)
        self.positions = torch.from_numpy(poses.positions)
        # A row holds the number of its camera alone: four numbers for each of millions of rows would add up.
        cameras = [sequence.intrinsics for sequence in poses.sequences]
        self.intrinsics = torch.tensor(cameras, dtype=torch.float32)  # (S, 4)
        lengths = torch.tensor([len(sequence) for sequence in poses.sequences])
        self.camera = torch.arange(len(cameras), dtype=torch.int32).repeat_interleave(lengths)  # (N,)

    def gather(self, rows: Tensor | slice, device: torch.device) -> Batch:
        """The poses of some rows, on a device."""
        keypoints = self.keypoints[rows].to(device)  # (B, 17, 2)
        positions = self.positions[rows].to(device)  # (B, 17, 3)
        intrinsics = self.intrinsics[self.camera[rows].long()].to(device)  # (B, 4)
        target = positions - positions[:, :1]
        return Batch(keypoints.unsqueeze(1), target.unsqueeze(1), positions[:, :1, 2], intrinsics)


def mirror_samples(batch: Batch, where: Tensor) -> Batch:
    """The batch with the samples at (B,) ``where`` mirrored: the image, so the camera's centre as well."""
    pose = where[:, None, None, None]  # (B, 1, 1, 1)
    flipped_camera = batch.intrinsics * batch.intrinsics.new_tensor([1, 1, -1, 1])
    return Batch(
        torch.where(pose, mirror(batch.keypoints), batch.keypoints),
        torch.where(pose, mirror(batch.target), batch.target),
        batch.root_depth,
        torch.where(where[:, None], flipped_camera, batch.intrinsics),
    )


class Batches:
    """Every pose, and its mirror image, once an epoch in an order that the seed and the epoch give.

    Args:
        poses: The training set of N poses.
        batch_size: Samples of a batch; the last one of an epoch may be smaller.
        mirrored: Also give the mirror image of each pose: 2 N samples an epoch.
        seed: Seed of the order.
        device: Where the batches are wanted.
    """

    def __init__(
        self, poses: PoseSet, *, batch_size: int, mirrored: bool, seed: int, device: torch.device
    ) -> None:
        self.arrays, self.poses = Arrays(poses), len(poses)
        self.samples = len(poses) * (2 if mirrored else 1)
        self.batch_size, self.seed, self.device = batch_size, seed, device

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.samples // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number ``first`` on: see ``gather``."""
        order = self.order(epoch)
        for start in range(first * self.batch_size, self.samples, self.batch_size):
            yield self.gather(order[start : start + self.batch_size])

    def order(self, epoch: int) -> Tensor:
        """(samples,) the order of an epoch; sample i >= N is the mirror image of pose i - N."""
        return torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(self.samples))

    def gather(self, samples: Tensor) -> Batch:
        """The samples of the given numbers: see ``order``."""
        batch = self.arrays.gather(samples % self.poses, self.device)
        return mirror_samples(batch, (samples >= self.poses).to(self.device))

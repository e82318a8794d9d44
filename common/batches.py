"""Batches: one gather of a set's arrays; in training the order of samples, mirror images and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common import distributed
from common.poses import PoseSet
from common.skeleton import MIRROR, NUM_JOINTS

RESIDENT_FRACTION = 0.5  # of a GPU's free memory that the poses may take; the network needs the rest

DROPOUT, AUGMENTATION = 1, 2  # purposes of random numbers: see ``derived_seed``


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


Augment = Callable[[Batch, torch.Generator, Tensor], Batch]
"""Makes new samples of a batch with a generator on its device; the tensor holds the (B,) rows of poses."""


def derived_seed(*numbers: int) -> int:
    """A seed from whole numbers, such as DROPOUT, a run's seed, the epoch and the step."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def sequence_of_rows(poses: PoseSet) -> Tensor:
    """(N,) int32 number of the sequence that each row belongs to."""
    lengths = torch.tensor([len(sequence) for sequence in poses.sequences])
    return torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths)


class Arrays:
    """The arrays of a set of N poses as tensors, from which batches are gathered.

    On a GPU they lie in its memory if they fit there. Otherwise they stay memory-mapped, and each batch is
    copied to the device asynchronously.

    Args:
        poses: The poses.
        device: Where the batches are wanted.
    """

    def __init__(self, poses: PoseSet, device: torch.device) -> None:
        self.device = device
        self.place = device if _fits(poses, device) else torch.device("cpu")
        self.keypoints = torch.from_numpy(poses.keypoints).to(self.place)
        self.positions = torch.from_numpy(poses.positions).to(self.place)
        # A row holds only the number of its camera, since four numbers for millions of rows add up.
        cameras = [sequence.intrinsics for sequence in poses.sequences]
        self.intrinsics = torch.tensor(cameras, dtype=torch.float32, device=device)  # (S, 4)
        self.camera = sequence_of_rows(poses).to(self.place)

    def gather(self, rows: Tensor | slice) -> Batch:
        """The poses of some rows, on the device; a tensor of rows is expected at ``place``."""
        keypoints = self.moved(self.keypoints[rows])  # (B, 17, 2)
        positions = self.moved(self.positions[rows])  # (B, 17, 3)
        intrinsics = self.intrinsics[self.moved(self.camera[rows]).long()]  # (B, 4)
        target = positions - positions[:, :1]
        return Batch(keypoints.unsqueeze(1), target.unsqueeze(1), positions[:, :1, 2], intrinsics)

    def moved(self, tensor: Tensor) -> Tensor:
        """A tensor at ``place`` on the device."""
        if self.place == self.device:
            return tensor
        # Only from pinned memory is a copy made while the host goes on.
        tensor = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return tensor.to(self.device, non_blocking=True)


def _fits(poses: PoseSet, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return poses.keypoints.nbytes + poses.positions.nbytes < RESIDENT_FRACTION * free


@lru_cache
def _orders(device: torch.device) -> Tensor:
    """(2, 17) the joints as they are, and as the mirror image has them."""
    return torch.from_numpy(np.stack([np.arange(NUM_JOINTS), MIRROR])).to(device)


def mirror_samples(batch: Batch, where: Tensor) -> Batch:
    """The batch with the samples at (B,) ``where`` mirrored: the image, so the camera's centre as well."""
    joints = _orders(where.device)[where.long()]  # (B, J)
    sign = 1 - 2 * where.float()  # (B,)

    def seen(points: Tensor) -> Tensor:
        points = points.gather(2, joints[:, None, :, None].expand_as(points))  # (B, 1, J, 2 or 3)
        points[..., 0] *= sign[:, None, None]
        return points

    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 2] *= sign
    return Batch(seen(batch.keypoints), seen(batch.target), batch.root_depth, intrinsics)


class Batches:
    """Every pose, and its mirror image, once an epoch in an order that the seed and the epoch give.

    Several processes take the same batches, a share of each (see ``common.distributed.share``).

    Args:
        poses: The training set of N poses.
        batch_size: Samples of a batch, of all processes together; the last one of an epoch may be smaller.
        mirrored: Also give the mirror image of each pose: 2 N samples an epoch.
        seed: Seed of the order and of the augmentation.
        device: Where the batches are wanted.
        augment: Makes other samples of each batch before any are mirrored. Its random numbers follow from the
            seed, the epoch and the number of the batch, and each process has it make the whole batch: so the
            samples are the same however many processes there are.
    """

    def __init__(
        self,
        poses: PoseSet,
        *,
        batch_size: int,
        mirrored: bool,
        seed: int,
        device: torch.device,
        augment: Augment | None = None,
    ) -> None:
        self.arrays, self.poses = Arrays(poses, device), len(poses)
        self.samples = len(poses) * (2 if mirrored else 1)
        self.batch_size, self.mirrored, self.seed, self.device = batch_size, mirrored, seed, device
        self.augment = augment

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.samples // self.batch_size)

    def size(self, number: int) -> int:
        """Samples of a batch of an epoch, of all processes together."""
        return min(self.batch_size, self.samples - number * self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This process's share of the batches of an epoch, from number ``first`` on.

        A process without a share, of a batch with fewer samples than there are processes, is given one of
        them all the same; it is for the trainer to give it no weight.
        """
        order = self.order(epoch).to(self.arrays.place)
        for number in range(first, len(self)):
            own = distributed.share(self.size(number))
            yield self._part(order, epoch, number, own if own.start < own.stop else slice(0, 1))

    def whole(self, epoch: int, number: int) -> Batch:
        """A batch of an epoch, the shares of all processes."""
        return self._part(self.order(epoch).to(self.arrays.place), epoch, number, slice(None))

    def order(self, epoch: int) -> Tensor:
        """(samples,) the order of an epoch; sample i >= N is the mirror image of pose i - N."""
        return torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(self.samples))

    def _part(self, order: Tensor, epoch: int, number: int, own: slice) -> Batch:
        samples = order[number * self.batch_size :][: self.batch_size]
        if self.augment is None:
            return self.gather(samples[own])
        seed = derived_seed(AUGMENTATION, self.seed, epoch, number)
        whole = self.gather(samples, torch.Generator(self.device).manual_seed(seed))
        return Batch(*(tensor[own] for tensor in whole))

    def gather(self, samples: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The samples of the given numbers (see ``order``), augmented if there is a generator for it."""
        rows = samples % self.poses
        batch = self.arrays.gather(rows)
        if self.augment is not None and generator is not None:
            batch = self.augment(batch, generator, self.arrays.moved(rows))
        return mirror_samples(batch, self.arrays.moved(samples >= self.poses)) if self.mirrored else batch

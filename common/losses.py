"""Losses of the lifter and the refine head, and schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.batches import Batch
from common.skeleton import BONES, LEFT, PARENTS, RIGHT
from model.refine import refine

SYMMETRY_WEIGHT = 0.01  # of the refine head's loss

Loss = Callable[[Batch], Tensor]
Schedule = Callable[[float], float]
"""Learning rate at a position in the run: 1.5 is half-way through the first epoch."""


def mean_joint_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of joints (B, F, J, 3), metres; a scalar."""
    return torch.linalg.vector_norm(predicted - target, dim=-1).mean()


def bone_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the bone vectors of poses (B, F, 17, 3), metres; a scalar.

    Sun et al., *Compositional Human Pose Regression*, ICCV 2017, section 3.1.
    """
    ends, starts = map(list, zip(*BONES, strict=True))
    bones = [pose[..., ends, :] - pose[..., starts, :] for pose in (predicted, target)]  # 2 x (B, F, 16, 3)
    return mean_joint_distance(*bones)


def asymmetry(pose: Tensor) -> Tensor:
    """Mean difference of left and right bone lengths of poses (B, F, 17, 3), metres; a scalar."""
    lengths = []
    for side in (list(LEFT), list(RIGHT)):
        bones = pose[..., side, :] - pose[..., [PARENTS[joint] for joint in side], :]  # (B, F, 6, 3)
        lengths.append(torch.linalg.vector_norm(bones, dim=-1))
    return (lengths[0] - lengths[1]).abs().mean()


def training_loss(
    lift: nn.Module,
    head: nn.Module | None = None,
    *,
    freeze: bool = False,
    bones: float = 0.0,
    symmetry: float = 0.0,
) -> Loss:
    """The loss of a batch, a scalar, metres.

    Args:
        lift: The lifter.
        head: The refine head; its loss is added.
        freeze: Leave out the lifter's own loss and gradients.
        bones: Weight of ``bone_distance``, of a lifter alone.
        symmetry: Weight of ``asymmetry``, of a lifter alone.
    """

    def loss(batch: Batch) -> Tensor:
        with torch.set_grad_enabled(not freeze):
            pose = lift(batch.keypoints)  # (B, 1, 17, 3)
        if head is not None:
            refined = refine(head, pose, batch.keypoints, batch.root_depth, batch.intrinsics)
            value = mean_joint_distance(refined, batch.target) + SYMMETRY_WEIGHT * asymmetry(refined)
            return value if freeze else value + mean_joint_distance(pose, batch.target)
        value = mean_joint_distance(pose, batch.target)
        if bones:
            value = value + bones * bone_distance(pose, batch.target)
        return value + symmetry * asymmetry(pose) if symmetry else value

    return loss


def step_decay(at: float, *, initial: float, decay: float, large_decay: float, large_every: int) -> float:
    """The published schedule: x ``decay`` after each epoch, but x ``large_decay`` after every n-th."""
    epoch = int(at)
    large = (epoch - 1) // large_every
    return initial * decay ** (epoch - 1 - large) * large_decay**large


def cosine(at: float, *, initial: float, epochs: int, warm_up: float = 0.02) -> float:
    """A linear warm-up, then half a cosine to 0 (Loshchilov and Hutter, *SGDR*, ICLR 2017)."""
    done = min((at - 1) / epochs, 1)
    if done < warm_up:
        return initial * done / warm_up
    return initial * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up))) / 2

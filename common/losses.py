"""What training makes small: functions of a batch, one for each stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.batches import Batch
from common.skeleton import BONES, LEFT, PARENTS, RIGHT
from model.refine import back_project

Loss = Callable[[Batch], Tensor]

SYMMETRY_WEIGHT = 0.01


def mean_joint_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the joints: both (B, F, J, 3), metres; a scalar."""
    return torch.linalg.vector_norm(predicted - target, dim=-1).mean()


def asymmetry(pose: Tensor) -> Tensor:
    """Mean difference of left and right bone lengths of poses (B, F, 17, 3), metres; a scalar."""
    lengths = [
        torch.linalg.vector_norm(
            pose[..., side, :] - pose[..., [PARENTS[joint] for joint in side], :], dim=-1
        )
        for side in (list(LEFT), list(RIGHT))
    ]  # 2 x (B, F, 6)
    return (lengths[0] - lengths[1]).abs().mean()


def bone_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the bones as vectors, so in length and direction: both (B, F, 17, 3), metres.

    Sun et al., *Compositional Human Pose Regression*, ICCV 2017, section 3.1.
    """
    ends, starts = map(list, zip(*BONES, strict=True))
    bones = [pose[..., ends, :] - pose[..., starts, :] for pose in (predicted, target)]  # 2 x (B, F, 16, 3)
    return mean_joint_distance(*bones)


def lifting(lifter: nn.Module, *, bones: float = 0.0, symmetry: float = 0.0) -> Loss:
    """The lifter's loss: the mean joint distance of its poses.

    Args:
        lifter: The lifter.
        bones: Weight of ``bone_distance``, which is added.
        symmetry: Weight of ``asymmetry``, which is added.
    """

    def loss(batch: Batch) -> Tensor:
        pose = lifter(batch.keypoints)  # (B, 1, J, 3)
        total = mean_joint_distance(pose, batch.target)
        if bones:
            total = total + bones * bone_distance(pose, batch.target)
        if symmetry:
            total = total + symmetry * asymmetry(pose)
        return total

    return loss


def refining(lifter: nn.Module, head: nn.Module, *, frozen: bool) -> Loss:
    """The loss of the second stage: that of the refined poses, with their asymmetry, and the lifter's own.

    Args:
        lifter: The trained lifter.
        head: The refine head.
        frozen: Train the head alone: the lifter's own loss is left out.
    """

    def loss(batch: Batch) -> Tensor:
        with torch.set_grad_enabled(not frozen):
            pose = lifter(batch.keypoints)
        refined = refine(head, pose, batch)
        total = mean_joint_distance(refined, batch.target) + SYMMETRY_WEIGHT * asymmetry(refined)
        return total if frozen else total + mean_joint_distance(pose, batch.target)

    return loss


def refine(head: nn.Module, pose: Tensor, batch: Batch) -> Tensor:
    """Sets the root of a lifted pose (B, 1, 17, 3) to 0 and refines it: see ``model.refine``."""
    pose = torch.cat([torch.zeros_like(pose[:, :, :1]), pose[:, :, 1:]], dim=2)  # (B, 1, J, 3)
    return head(pose, back_project(batch.keypoints, pose[..., 2], batch.root_depth, batch.intrinsics))

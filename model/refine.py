"""The refine head: a second stage that mixes a lifted pose with its own back-projection.

It needs the true depth of the root and the camera, so its values cannot be compared with the lifter's own.
Following Cai et al., *Exploiting Spatial-Temporal Relationships for 3D Pose Estimation via Graph
Convolutional Networks*, ICCV 2019, section 3.3, and Zou and Tang, *Modulated Graph Convolutional Network*,
ICCV 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.skeleton import NUM_JOINTS

HIDDEN = 1024


def back_project(keypoints: Tensor, depths: Tensor, root_depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Poses whose joints lie on the rays of their keypoints, at the predicted depths.

    Args:
        keypoints: (B, F, 17, 2) normalised image coordinates.
        depths: (B, F, 17) predicted depths relative to the root, metres; the root's own is taken as 0.
        root_depth: (B, F) true depth of the root in camera space, metres.
        intrinsics: (B, 4) focal length and centre (fx, fy, cx, cy) in normalised image coordinates.

    Returns:
        (B, F, 17, 3) poses in camera space, metres, relative to the root. Gradients flow to ``depths``.
    """
    relative = torch.cat([torch.zeros_like(depths[..., :1]), depths[..., 1:]], dim=-1)  # (B, F, J)
    z = (relative + root_depth.unsqueeze(-1)).unsqueeze(-1)  # (B, F, J, 1)
    focal, center = intrinsics[:, None, None].chunk(2, dim=-1)  # 2 x (B, 1, 1, 2)
    pose = torch.cat([(keypoints - center) / focal * z, z], dim=-1)  # (B, F, J, 3)
    return pose - pose[:, :, :1]


class RefineHead(nn.Module):
    """Weighs, joint by joint, a lifted pose against its back-projection; the published parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.post_refine = nn.Sequential(
            nn.Linear(NUM_JOINTS * 6, HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, NUM_JOINTS * 2),
            nn.Sigmoid(),
        )

    def forward(self, pose: Tensor, back_projected: Tensor) -> Tensor:
        """Refines x and y; depths stay.

        Args:
            pose: (B, F, 17, 3) the lifter's poses in camera space, metres, root at 0.
            back_projected: (B, F, 17, 3) the same poses by ``back_project``.

        Returns:
            (B, F, 17, 3) refined poses.
        """
        both = torch.cat([pose, back_projected], dim=-1).flatten(2)  # (B, F, J, 6) -> (B, F, J * 6)
        weight = self.post_refine(both).unflatten(-1, (NUM_JOINTS, 2))  # (B, F, J * 2) -> (B, F, J, 2)
        xy = weight * pose[..., :2] + (1 - weight) * back_projected[..., :2]  # (B, F, J, 2)
        return torch.cat([xy, pose[..., 2:]], dim=-1)  # (B, F, J, 3)


def refine(
    head: nn.Module, pose: Tensor, keypoints: Tensor, root_depth: Tensor, intrinsics: Tensor
) -> Tensor:
    """Sets the root of lifted poses (B, F, 17, 3) to 0 and refines them: see ``back_project``."""
    pose = torch.cat([torch.zeros_like(pose[:, :, :1]), pose[:, :, 1:]], dim=2)  # (B, F, J, 3)
    return head(pose, back_project(keypoints, pose[..., 2], root_depth, intrinsics))

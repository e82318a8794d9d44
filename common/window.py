"""Per-person crop normalisation: what the lifter sees, the same in training, scoring and the demo.

A person's keypoints are rotated to where a camera that looks straight at them would see them, centred, and
scaled by the summed length of the bones in the image. So the input depends on the person alone, wherever and
however large they are in the image, and the pose is rotated back into the real camera's axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.skeleton import BONES

FOCAL_PER_SIDE = (
    1.15  # focal length over the longer side of the image where it is unknown: 47 degrees of view
)
WINDOW_PER_BONES = 1.25  # side of the window over the summed bone lengths in the image

_JOINTS, _PARENTS = (list(column) for column in zip(*BONES, strict=True))


def person_window(keypoints: Tensor, focal: Tensor) -> tuple[Tensor, Tensor]:
    """Network input for each person, and the rotation back.

    Args:
        keypoints: (B, 17, 2) relative to the image's centre (principal point), in any unit.
        focal: (B,) focal length in the same unit; a rough one does.

    Returns:
        (B, 17, 2) keypoints, -1 to 1 from one edge of the window to the other, and (B, 3, 3) rotations: a
        pose (17, 3) in the window's axes times its rotation, ``pose @ rotation``, is in the camera's axes.
    """
    middle = (keypoints.amin(1) + keypoints.amax(1)) / 2  # (B, 2)
    rotation = _towards(middle / focal[:, None])
    rays = torch.cat(
        [keypoints / focal[:, None, None], torch.ones_like(keypoints[..., :1])], dim=-1
    )  # (B, J, 3)
    rays = rays @ rotation.transpose(1, 2)
    seen = rays[..., :2] / rays[..., 2:].clamp(min=0.1)  # (B, J, 2)
    middle = (seen.amin(1) + seen.amax(1)) / 2
    bones = (seen[:, _JOINTS] - seen[:, _PARENTS]).norm(dim=-1).sum(1)  # (B,)
    side = (WINDOW_PER_BONES * bones).clamp(min=1e-6)
    return (seen - middle[:, None]) * (2 / side)[:, None, None], rotation


def _towards(slope: Tensor) -> Tensor:
    """(B, 3, 3) smallest rotations that bring the rays (x / z, y / z) of (B, 2) onto the optical axis."""
    ray = torch.cat([slope, torch.ones_like(slope[:, :1])], dim=1)
    x, y, z = (ray / ray.norm(dim=1, keepdim=True)).unbind(1)  # 3 x (B,)
    share = 1 / (1 + z)
    rows = [1 - x * x * share, -x * y * share, -x, -x * y * share, 1 - y * y * share, -y, x, y, z]
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))  # (B, 9) -> (B, 3, 3)

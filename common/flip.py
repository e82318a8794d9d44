"""The mirror image of a person: as augmentation in training and as a second opinion in evaluation."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from common.skeleton import MIRROR


@lru_cache
def _order(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # What is made in inference mode is of no use to a gradient later on.
        return torch.from_numpy(MIRROR).to(device)


def mirror(points: Tensor) -> Tensor:
    """Mirrors key points (..., 17, 2) or poses (..., 17, 3): x negated, left and right joints exchanged."""
    flipped = points.index_select(-2, _order(points.device))
    flipped[..., 0].neg_()
    return flipped


def lift(model: nn.Module, keypoints: Tensor, *, flip: bool = True) -> Tensor:
    """Runs the lifter, averaged with the mirrored-back output of the mirrored input if ``flip``.

    Args:
        model: Network from (B, 1, 17, 2) to (B, 1, 17, 3), in evaluation mode.
        keypoints: (B, 1, 17, 2) normalised image coordinates.
        flip: Average over the mirror image; both images go through the network as one batch.

    Returns:
        (B, 1, 17, 3) poses in camera space, metres, with the root set to 0.
    """
    if flip:
        straight, flipped = model(torch.cat([keypoints, mirror(keypoints)])).chunk(2)
        pose = (straight + mirror(flipped)) / 2
    else:
        pose = model(keypoints)
    pose[:, :, 0] = 0
    return pose

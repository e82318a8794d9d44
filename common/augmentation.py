"""What training does to the recorded samples: new cameras, changed poses, a detector's errors."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch

from common import keypoint_noise, pose_augmentation
from common.batches import Augment, Batch, sequence_of_rows
from common.errors import UserError
from common.keypoint_noise import KeypointNoise
from common.pose_augmentation import PoseAugmentation
from common.sequences import PoseSet
from common.virtual_cameras import VirtualCameras, from_camera, to_world


def augmentation(
    poses: PoseSet,
    *,
    cameras: VirtualCameras | None = None,
    figures: PoseAugmentation | None = None,
    noise: KeypointNoise | None = None,
    device: torch.device,
) -> Augment | None:
    """What makes other samples of the recorded ones: see ``common.batches.Batches``.

    Args:
        poses: The training set, whose rows the samples are.
        cameras: See every pose from a new camera of these; None keeps the recorded ones.
        figures: Change the poses too, which needs new cameras.
        noise: Add a detector's errors to the key points.
        device: Where the batches are.

    Returns:
        The function, or None if there is nothing to do.

    Raises:
        UserError: It is not known of all poses where up is.
    """
    if figures is not None and cameras is None:
        raise ValueError("changed poses need new cameras to be seen by, found none")
    if cameras is None and noise is None:
        return None
    if cameras is not None:
        orientation = _orientations(poses).to(device)  # (S, 4)
        sequence = sequence_of_rows(poses).to(device)  # (N,)

    def augment(batch: Batch, generator: torch.Generator, rows: torch.Tensor) -> Batch:
        if cameras is not None:
            world = to_world(batch, orientation[sequence[rows].long()])  # (B, 17, 3)
            if figures is not None:
                world = pose_augmentation.augment(world, figures, generator)
            batch = from_camera(world, cameras, generator)
        if noise is not None:
            batch = batch._replace(keypoints=keypoint_noise.add(batch.keypoints, noise, generator))
        return batch

    return augment


def _orientations(poses: PoseSet) -> torch.Tensor:
    """(S, 4) quaternion of each sequence's camera."""
    for sequence in poses.sequences:
        if sequence.orientation is None:
            raise UserError(
                f"--virtual_cameras: it is not known where up is in {sequence}; "
                "they need data whose cameras' orientation is given"
            )
    return torch.tensor([sequence.orientation for sequence in poses.sequences], dtype=torch.float32)


SINGLE = {"margin", "near"}
SINGLES = "margin and near, a number each"


def virtual_cameras(text: str) -> VirtualCameras:
    """Reads ``--virtual_cameras``: "default", or ranges that differ from it, as "pitch=-14:26,roll=0:0".

    Raises:
        UserError: It says something else.
    """
    cameras = VirtualCameras()
    known = {field.name for field in fields(cameras)}
    for piece in () if text == "default" else text.split(","):
        name, _, value = piece.strip().partition("=")
        try:
            if not value:
                raise ValueError("expected a name, =, and numbers")
            numbers = tuple(float(number) for number in value.split(":"))
            if name not in known or len(numbers) != (2 if isinstance(getattr(cameras, name), tuple) else 1):
                raise ValueError(f"there are the ranges {', '.join(sorted(known - SINGLE))}, and {SINGLES}")
            ranges: dict[str, Any] = {name: numbers if len(numbers) == 2 else numbers[0]}
            cameras = replace(cameras, **ranges)
        except ValueError as error:
            raise UserError(
                f'--virtual_cameras {text}: expected "default" or ranges such as "pitch=-14:26,roll=-7:7", '
                f'found "{piece}" ({error})'
            ) from error
    return cameras

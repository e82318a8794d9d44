"""Training samples that differ at every step: virtual cameras, synthetic poses, a 2D detector's errors.

A recorded pose is rotated upright in the world (``to_world``), changed there (``common.pose_augment``), seen
from a random camera (``see``), and gets a detector's errors (``common.noise``). The world's z axis points up.
Everything runs on the batch's device, and every random number comes from the generator that is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from common import pose_augment
from common.batches import Augment, Batch, sequence_of_rows
from common.console import UserError
from common.noise import KeypointNoise, detected
from common.pose_augment import PoseAugmentation
from common.poses import PoseSet
from common.window import person_window

Range = tuple[float, float]

LIMITS = {  # of the values of ``VirtualCameras``: beyond them is no camera
    "yaw": (-360.0, 360.0),
    "pitch": (-90.0, 90.0),
    "roll": (-180.0, 180.0),
    "focal_length": (0.3, 20.0),
    "distance": (0.01, 20.0),
    "aspect": (0.1, 10.0),
    "room": (1.0, 10.0),
    "margin": (0.0, 0.5),
    "near": (0.01, 5.0),
}
FOCAL_SPREAD = 0.2  # standard deviation of the logarithm of the focal length that a window is made with


@dataclass(frozen=True)
class VirtualCameras:
    """Ranges of the cameras, of which all values are equally likely.

    Attributes:
        yaw: Direction of view about the vertical, degrees; counter-clockwise from above.
        pitch: How far the camera looks down, degrees; negative is up.
        roll: Rotation about the viewing axis, degrees, clockwise.
        focal_length: In half-widths of the image. 1.6 is 64 degrees of view, 3.2 is 35.
        distance: Depth of the root in metres per half-width of focal length, so that people of all focal
            lengths are equally large: about 2 m / distance in half-widths. A person who would not fit into
            the image is moved away until it does.
        aspect: Height of the image by its width, uniform in its logarithm. The default covers 16:9 and 9:16.
        room: How much farther than just inside the image a person is who had to be moved away.
        margin: Least distance of a joint to the image's edge, half-widths.
        near: Least depth of a joint, metres.
    """

    yaw: Range = (-180.0, 180.0)
    pitch: Range = (-14.0, 26.0)
    roll: Range = (-7.0, 7.0)
    focal_length: Range = (1.6, 3.2)
    distance: Range = (1.0, 2.4)
    aspect: Range = (0.56, 1.78)
    room: Range = (1.0, 1.25)
    margin: float = 0.02
    near: float = 0.3


def augmentation(
    train_set: PoseSet,
    *,
    cameras: VirtualCameras | None = None,
    poses: bool = False,
    noise: KeypointNoise | None = None,
    window: bool = False,
    device: torch.device,
) -> Augment | None:
    """A function that makes new samples of recorded ones: see ``common.batches.Batches``.

    Args:
        train_set: The training set, whose rows the samples are.
        cameras: See every pose from a new camera; None keeps the recorded ones.
        poses: Change the poses too, by the defaults of ``PoseAugmentation``, which needs new cameras.
        noise: Add a detector's errors to the keypoints.
        window: Show each person in a window: see ``common.window``; targets are rotated with it.
        device: Where the batches are.

    Returns:
        The function, or None if there is nothing to do.

    Raises:
        UserError: The cameras' orientation, and so the vertical, is unknown for some poses.
    """
    if poses and cameras is None:
        raise UserError("--augment_poses needs --virtual_cameras, which see the changed poses")
    if cameras is None and noise is None and not window:
        return None
    orientations = torch.empty(0)
    if cameras is not None:
        if missing := next((each for each in train_set.sequences if each.orientation is None), None):
            raise UserError(
                f"--virtual_cameras: expected cameras with an orientation, found none for {missing}"
            )
        orientations = torch.tensor([each.orientation for each in train_set.sequences], dtype=torch.float32)
        orientations = orientations.to(device)  # (S, 4)
    sequence = sequence_of_rows(train_set).to(device)  # (N,)

    def augment(batch: Batch, generator: torch.Generator, rows: Tensor) -> Batch:
        if cameras is not None:
            world = to_world(batch.target.squeeze(1), orientations[sequence[rows].long()])  # (B, 17, 3)
            if poses:
                world = pose_augment.augment(world, PoseAugmentation(), generator)
            batch = see(world, cameras, generator)
        if noise is not None:
            batch = batch._replace(keypoints=detected(batch, noise, generator))
        return _in_window(batch, generator) if window else batch

    return augment


def _in_window(batch: Batch, generator: torch.Generator) -> Batch:
    focal, center = batch.intrinsics[:, 0], batch.intrinsics[:, None, 2:]  # (B,), (B, 1, 2)
    spread = torch.randn(len(focal), generator=generator, device=focal.device) * FOCAL_SPREAD
    inputs, rotation = person_window(batch.keypoints.squeeze(1) - center, focal * spread.exp())
    target = _rotate(batch.target.squeeze(1), rotation)
    return batch._replace(keypoints=inputs.unsqueeze(1), target=target.unsqueeze(1))


def to_world(poses: Tensor, orientation: Tensor) -> Tensor:
    """Rotates poses (B, 17, 3) from camera axes into world axes by unit quaternions (B, 4), (w, x, y, z)."""
    w, x, y, z = orientation.to(poses.dtype).unbind(-1)  # 4 x (B,)
    matrix = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))  # (B, 9) -> (B, 3, 3)
    return _rotate(poses, matrix)


def see(poses: Tensor, cameras: VirtualCameras, generator: torch.Generator) -> Batch:
    """Poses seen by random pinhole cameras, everybody whole and somewhere in the image.

    Args:
        poses: (B, 17, 3) poses in world axes, metres, z up.
        cameras: Ranges of the cameras.
        generator: Source of all random numbers, on the device of the poses.

    Returns:
        The batch: keypoints are the projection of target plus root by the intrinsics, to rounding.
    """
    chance = torch.rand(len(poses), 9, generator=generator, device=poses.device, dtype=poses.dtype)
    yaw, pitch, roll, focal, distance, aspect, room, *place = chance.unbind(1)  # each (B,)
    angles = ((yaw, cameras.yaw), (pitch, cameras.pitch), (roll, cameras.roll))
    matrix = _axes(*(torch.deg2rad(_within(*each)) for each in angles))
    relative = _rotate(poses - poses[:, :1], matrix)  # (B, J, 3)
    focal = _within(focal, cameras.focal_length)
    aspect = torch.exp(_within(aspect, (math.log(cameras.aspect[0]), math.log(cameras.aspect[1]))))
    # Slope of the outermost rays, x / z and y / z.
    edge = (
        torch.stack([torch.ones_like(aspect), aspect], dim=1).sub(cameras.margin) / focal[:, None]
    )  # (B, 2)

    # A joint is inside if root + relative is between -edge and edge times its depth. At a given depth each
    # joint thus leaves an interval for the root's x, and for its y. Their intersection is (lowest, highest)
    # plus (-edge, edge) * depth, and not empty from some depth on.
    plane, z = relative[..., :2], relative[..., 2:]  # (B, J, 2), (B, J, 1)
    highest = (edge[:, None] * z - plane).amin(1)  # (B, 2)
    lowest = (-edge[:, None] * z - plane).amax(1)  # (B, 2)
    least = ((lowest - highest) / (2 * edge)).amax(1) * _within(room, cameras.room)  # (B,)
    depth = _within(distance, cameras.distance) * focal
    depth = torch.maximum(torch.maximum(depth, least), cameras.near - z.amin((1, 2)))  # (B,)
    low, high = lowest - edge * depth[:, None], highest + edge * depth[:, None]  # (B, 2)
    root = torch.cat([torch.lerp(low, high, torch.stack(place, dim=1)), depth[:, None]], dim=1)  # (B, 3)

    points = relative + root[:, None]  # (B, J, 3)
    keypoints = points[..., :2] / points[..., 2:] * focal[:, None, None]  # (B, J, 2)
    middle = torch.zeros_like(focal)
    intrinsics = torch.stack([focal, focal, middle, middle], dim=1)  # (B, 4)
    return Batch(keypoints.unsqueeze(1), relative.unsqueeze(1), depth[:, None], intrinsics)


def _within(chance: Tensor, limits: Range) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * chance


def _axes(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """(B, 3, 3): in its rows a camera's axes in the world, right, down and away; angles (B,) in radians."""
    zero = torch.zeros_like(yaw)
    right = torch.stack([yaw.sin(), -yaw.cos(), zero], dim=1)  # (B, 3)
    away = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), -pitch.sin()], dim=1)  # (B, 3)
    down = torch.linalg.cross(away, right)  # (B, 3)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cos * right + sin * down, cos * down - sin * right, away], dim=1)


def _rotate(points: Tensor, matrix: Tensor) -> Tensor:
    """Points (B, J, 3) by matrices (B, 3, 3); a matrix product could be rounded to TF32 or bfloat16."""
    return (points.unsqueeze(2) * matrix.unsqueeze(1)).sum(-1)  # (B, J, 1, 3) * (B, 1, 3, 3) -> (B, J, 3)


def virtual_cameras(text: str) -> VirtualCameras:
    """Reads ``--virtual_cameras``: "default", or ranges that differ from it, as "pitch=-14:26,roll=0:0".

    Raises:
        UserError: It is something else.
    """
    cameras = VirtualCameras()
    for piece in () if text == "default" else text.split(","):
        name, _, value = piece.strip().partition("=")
        try:
            numbers = tuple(float(number) for number in value.split(":"))
            if name not in LIMITS or len(numbers) != (2 if isinstance(getattr(cameras, name), tuple) else 1):
                raise ValueError(f"expected some of {', '.join(LIMITS)}")
            least, most = LIMITS[name]
            if not least <= numbers[0] <= numbers[-1] <= most:  # also for NaN
                raise ValueError(f"expected numbers from {least:g} to {most:g}, the lower one first")
            new: dict[str, Any] = {name: numbers if len(numbers) == 2 else numbers[0]}
            cameras = replace(cameras, **new)
            if cameras.margin >= cameras.aspect[0]:
                raise ValueError("expected a margin below half the height of the image")
        except ValueError as error:
            expected = 'ranges such as "pitch=-14:26,margin=0.02"'
            raise UserError(
                f"--virtual_cameras {text}: expected {expected}, found {piece!r} ({error})"
            ) from error
    return cameras

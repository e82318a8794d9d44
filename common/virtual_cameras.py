"""Virtual cameras: during training every pose can be seen from a new camera, made up on the device.

A recorded pose is turned upright in the world (``to_world``), changed there at will
(``common.pose_augmentation``), and seen from a random camera (``from_camera``). The world's z axis points up.
Nothing here waits for the host, and every random number comes from the generator that is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from common.batches import Batch

Range = tuple[float, float]

LIMITS = {
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
"""What each figure of ``VirtualCameras`` may be; beyond it is no camera."""


@dataclass(frozen=True)
class VirtualCameras:
    """What cameras there are: each figure is a range, of which all values are equally likely.

    Attributes:
        yaw: Where the camera looks about the vertical, degrees; counter-clockwise from above.
        pitch: How far it looks down, degrees; negative is up.
        roll: How far it is turned clockwise about its axis, degrees.
        focal_length: In half-widths of the image. 1.6 is 64 degrees of view, 3.2 is 35.
        distance: Depth of the root in metres per half-width of focal length, so that people of all focal
            lengths are equally large: about 2 m / distance in half-widths. A person who would not fit into
            the image is moved away until it does.
        aspect: Height of the image by its width; equally likely by its logarithm, which prefers neither
            upright images nor wide ones. The default holds 16:9 and 9:16.
        room: How much farther than just inside the image a person is who had to be moved away.
        margin: Least distance of a joint to the image's edge, half-widths.
        near: Least depth of a joint, metres.

    Raises:
        ValueError: A range runs backwards, is not finite, or holds what no camera has.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = value if isinstance(value, tuple) else (value, value)
            least, most = LIMITS[field.name]
            if not least <= low <= high <= most:
                expected = f"numbers from {least:g} to {most:g}, the lower one first"
                raise ValueError(f"{field.name}: expected {expected}, found {low:g} to {high:g}")
        if not 0 <= self.margin < min(1, self.aspect[0]):
            raise ValueError(f"margin: expected a part of half the image, found {self.margin}")


def to_world(batch: Batch, orientation: Tensor) -> Tensor:
    """Poses as they stand in the world.

    Args:
        batch: Samples as recorded. Mirror images are made later, of what the new cameras see: a mirrored
            pose does not go with its camera's orientation.
        orientation: (B, 4) unit quaternions (w, x, y, z) that turn the axes of each pose's camera into world
            axes, as ``common.camera.Camera.orientation``.

    Returns:
        (B, 17, 3) poses in world axes, metres, root at 0.
    """
    w, x, y, z = orientation.to(batch.target.dtype).unbind(-1)  # 4 x (B,)
    matrix = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))  # (B, 9) -> (B, 3, 3)
    return _turn(batch.target.squeeze(1), matrix)  # (B, 1, J, 3) -> (B, J, 3)


def from_camera(poses: Tensor, cameras: VirtualCameras, generator: torch.Generator) -> Batch:
    """Poses as a random pinhole camera each sees them, everybody whole and somewhere in the image.

    Args:
        poses: (B, 17, 3) poses in world axes, metres, z up.
        cameras: What cameras there are.
        generator: Source of all random numbers, on the device of the poses.

    Returns:
        The batch: key points are the projection of target plus root by the intrinsics, to rounding.
    """
    chance = torch.rand(len(poses), 9, generator=generator, device=poses.device, dtype=poses.dtype)
    yaw, pitch, roll, focal, distance, aspect, room, *place = chance.unbind(1)  # each (B,)
    matrix = _axes(
        *(_angle(*each) for each in ((yaw, cameras.yaw), (pitch, cameras.pitch), (roll, cameras.roll)))
    )
    relative = _turn(poses - poses[:, :1], matrix)  # (B, J, 3)
    focal = _within(focal, cameras.focal_length)
    aspect = torch.exp(_within(aspect, (math.log(cameras.aspect[0]), math.log(cameras.aspect[1]))))
    # How steep the rays are, x / z and y / z, through the last places that are allowed.
    edge = (
        torch.stack([torch.ones_like(aspect), aspect], dim=1).sub(cameras.margin) / focal[:, None]
    )  # (B, 2)

    # A joint is inside if root + relative is between -edge and edge times (depth + relative depth). At a
    # given depth each joint thus leaves the root's x an interval, and so for y. It is their intersection
    # that counts: it is (lowest, highest) + (-edge, edge) * depth, and not empty from some depth on.
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


def _angle(chance: Tensor, degrees: Range) -> Tensor:
    return _within(chance, (math.radians(degrees[0]), math.radians(degrees[1])))


def _axes(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """(B, 3, 3): in its rows a camera's axes in the world, right, down and away; angles (B,) in radians."""
    flat = torch.zeros_like(yaw)
    right = torch.stack([yaw.sin(), -yaw.cos(), flat], dim=1)  # (B, 3)
    away = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), -pitch.sin()], dim=1)  # (B, 3)
    down = torch.linalg.cross(away, right)  # (B, 3)
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cos * right + sin * down, cos * down - sin * right, away], dim=1)


def _turn(points: Tensor, matrix: Tensor) -> Tensor:
    """Points (B, J, 3) by matrices (B, 3, 3)."""
    # Not as a matrix product: those are rounded to TF32 or bfloat16 where the user asks for it.
    return (points.unsqueeze(2) * matrix.unsqueeze(1)).sum(-1)  # (B, J, 1, 3) * (B, 1, 3, 3) -> (B, J, 3)

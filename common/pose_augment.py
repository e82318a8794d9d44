"""Synthetic poses from those of a batch: limbs swapped between people, bent, seated, tilted, rescaled.

Swapping limbs and rotating bones is the idea of Li et al., *Cascaded Deep Monocular 3D Human Pose Estimation
with Evolutionary Training Data*, CVPR 2020. Poses are (B, 17, 3) in world axes, z up, root at 0. Everything
runs on their device, and every random number comes from the generator that is given. Samples that are not
chosen stay bit-identical.

Directions on a body are (forward, left, up), in the axes of the pelvis or of the thorax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.skeleton import LEFT_ARM, LEFT_LEG, NUM_JOINTS, PARENTS, RIGHT_ARM, RIGHT_LEG

Range = tuple[float, float]

UPPER_BODY = tuple(range(7, NUM_JOINTS))  # bones above the pelvis, named after their outer joints
MIRRORED_BONES = (  # groups of bones that have one length on a symmetric body
    *((bone,) for bone in (7, 8, 9, 10)),
    *zip(LEFT_LEG + LEFT_ARM, RIGHT_LEG + RIGHT_ARM, strict=True),
)
HINGE = (0.0, 150.0)  # flexion of knees and elbows, degrees; 0 is straight

# Where left thighs and upper arms can point: the axis of a cone (forward, left, up) and degrees from it. Hips
# reach some 30 degrees back and 120 forward, shoulders not across the back.
_HIP = (0.70, 0.12, -0.70), 75.0
_SHOULDER = (0.60, 0.50, -0.30), 110.0
_LEAN = 75.0  # largest angle between thorax and pelvis, degrees
_EPSILON = 1e-6


@dataclass(frozen=True)
class PoseAugmentation:
    """Fraction of the samples that each change is applied to, and its range.

    Attributes:
        exchange: Fraction whose legs, arms or upper body are another sample's.
        bend: Fraction whose joints are all bent at random.
        bend_angle: Largest bend, degrees; knees and elbows twice as far.
        sit: Fraction that is made to sit or squat.
        scale: Fraction with other bone lengths.
        bones: Range of the factors of bones, the same on both sides.
        size: Range of the factor of the whole body.
        tilt: Fraction that is tilted as a whole.
        tilt_angle: Largest tilt, degrees.
        lying: Fraction of the tilted ones that may be tilted by up to 90 degrees.
    """

    exchange: float = 0.3
    bend: float = 0.3
    bend_angle: float = 30.0
    sit: float = 0.1
    scale: float = 1.0
    bones: Range = (0.9, 1.1)
    size: Range = (0.95, 1.05)
    tilt: float = 0.15
    tilt_angle: float = 30.0
    lying: float = 0.15


def augment(poses: Tensor, options: PoseAugmentation, generator: torch.Generator) -> Tensor:
    """Applies all changes below to poses (B, 17, 3), root at 0."""
    poses = exchange_limbs(poses, options.exchange, generator)
    poses = bend_joints(poses, options.bend, generator, angle=options.bend_angle)
    poses = sit(poses, options.sit, generator)
    poses = scale_bones(poses, options.scale, generator, bones=options.bones, size=options.size)
    return tilt(poses, options.tilt, generator, angle=options.tilt_angle, lying=options.lying)


def scale_bones(
    poses: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    bones: Range = (0.9, 1.1),
    size: Range = (0.95, 1.05),
) -> Tensor:
    """Changes proportions: each bone by a factor, the same on both sides, and all by another."""
    own = _bones(poses)
    factors = _uniform(poses, (len(MIRRORED_BONES), 1), *bones, generator)  # (B, groups, 1)
    factors = factors * _uniform(poses, (1, 1), *size, generator)
    for number, group in enumerate(MIRRORED_BONES):
        for bone in group:
            own[bone] = own[bone] * factors[:, number]
    return _some(poses, _joints(own), probability, generator)


def exchange_limbs(poses: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Takes legs, arms or an upper body from another sample of the batch; bone lengths stay.

    Legs and upper body are copied in the pelvis' axes, arms in the thorax's.
    """
    chance = _uniform(poses, (2,), 0, 1, generator)  # (B, 2)
    # Close to 1, the product can be rounded up to the number of samples.
    donor = (chance[:, 0] * len(poses)).long().clamp(max=max(len(poses) - 1, 0))  # (B,)
    part = chance[:, 1:] * 3  # (B, 1)
    own = _bones(poses)
    others = [bone.index_select(0, donor) for bone in own]
    parts = (
        (part < 1, (*LEFT_LEG[1:], *RIGHT_LEG[1:]), _pelvis),
        ((part >= 1) & (part < 2), (*LEFT_ARM[1:], *RIGHT_ARM[1:]), _thorax),
        (part >= 2, UPPER_BODY, _pelvis),
    )
    new = list(own)
    for chosen, bones, axes in parts:
        here, there = axes(own), axes(others)
        for bone in bones:
            direction = _placed(here, _seen(there, _unit(others[bone])))
            new[bone] = torch.where(chosen, _along(direction, own[bone]), new[bone])
    return _some(poses, _joints(new), probability, generator)


def bend_joints(
    poses: Tensor, probability: float, generator: torch.Generator, *, angle: float = 30.0
) -> Tensor:
    """Bends trunk, head and all limbs at random, within the range of human joints.

    Hips, shoulders and the trunk stay in their cones; knees and elbows bend within ``HINGE``, in the plane
    that they are bent in.

    Args:
        poses: (B, 17, 3) poses.
        probability: Fraction of samples to bend.
        generator: Source of all random numbers.
        angle: Largest bend, degrees; knees and elbows twice as far.

    Returns:
        (B, 17, 3) poses with the same bone lengths.
    """
    own = _bones(poses)
    far = math.radians(angle)
    new = _bend_trunk(own, far, generator)
    for limb, cone, left, axes, knee in (
        (LEFT_LEG, _HIP, 1, _pelvis, True),
        (RIGHT_LEG, _HIP, -1, _pelvis, True),
        (LEFT_ARM, _SHOULDER, 1, _thorax, False),
        (RIGHT_ARM, _SHOULDER, -1, _thorax, False),
    ):
        _, upper, lower = limb
        frame = axes(new)
        thigh, shin = _unit(new[upper]), _unit(new[lower])
        bent = _angle(thigh, shin)  # (B, 1)
        usual = _usual_bend(frame, thigh, knee=knee)
        # The plane the joint is bent in; if it is nearly straight, the usual way to bend it decides.
        plane = _unit(_beside(shin, thigh) + 0.2 * usual)
        turn, by = _random_turn(poses, far, generator)
        (forward, outward, up), limit = cone
        axis = _unit(frame[0] * forward + frame[1] * (left * outward) + frame[2] * up)
        rotated = _into_cone(_rotated(thigh, turn, by), axis, math.radians(limit), thigh)
        plane = _unit(_beside(_rotated(plane, turn, by), rotated))
        # Reflected at full extension: clamped, every other limb would end up straight.
        bent = (bent + _uniform(poses, (1,), -2 * far, 2 * far, generator)).abs()
        new[upper], new[lower] = _hinged(rotated, plane, bent, new[upper], new[lower])
    return _some(poses, _joints(new), probability, generator)


def sit(
    poses: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    hips: Range = (60.0, 110.0),
    knees: Range = (60.0, 120.0),
) -> Tensor:
    """Makes samples sit or squat: hips bent about equally, knees too, the legs more or less apart.

    Args:
        poses: (B, 17, 3) poses.
        probability: Fraction of samples that sit down.
        generator: Source of all random numbers.
        hips: Flexion of the hips, degrees: 0 is standing, 90 is a chair.
        knees: Flexion of the knees, degrees.

    Returns:
        (B, 17, 3) poses with the same bone lengths; only thighs and shins change.
    """
    own = _bones(poses)
    frame = _pelvis(own)
    flexion = _uniform(poses, (2,), *hips, generator)  # (B, 2)
    bending = _uniform(poses, (2,), *knees, generator)  # (B, 2)
    apart = torch.deg2rad(_uniform(poses, (2,), 0, 30, generator))
    outward = torch.deg2rad(_uniform(poses, (1,), -25, 25, generator))  # (B, 1)
    new = list(own)
    for index, ((_, upper, lower), left) in enumerate(((LEFT_LEG, 1.0), (RIGHT_LEG, -1.0))):
        # Both legs share most of each angle.
        hip, knee = (
            torch.deg2rad(torch.lerp(each[:, :1], each[:, index, None], 0.15)) for each in (flexion, bending)
        )
        aside = apart[:, index, None]
        local = [aside.cos() * hip.sin(), left * aside.sin(), -aside.cos() * hip.cos()]
        thigh = _placed(frame, torch.cat(local, dim=1))  # (B, 3)
        plane = _usual_bend(frame, thigh, knee=True)
        plane = _rotated(plane, thigh, left * outward)
        new[upper], new[lower] = _hinged(thigh, plane, knee, own[upper], own[lower])
    return _some(poses, _joints(new), probability, generator)


def tilt(
    poses: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    angle: float = 30.0,
    lying: float = 0.15,
) -> Tensor:
    """Tilts whole bodies about a level axis by up to ``angle`` degrees, a fraction of them by up to 90."""
    heading = _uniform(poses, (1, 1), -math.pi, math.pi, generator)  # (B, 1, 1)
    axis = torch.cat([heading.cos(), heading.sin(), torch.zeros_like(heading)], dim=-1)  # (B, 1, 3)
    farthest = torch.where(_uniform(poses, (1, 1), 0, 1, generator) < lying, 90.0, angle)
    by = torch.deg2rad(_uniform(poses, (1, 1), 0, 1, generator) * farthest)
    return _some(poses, _rotated(poses, axis, by), probability, generator)


def _bend_trunk(own: list[Tensor], far: float, generator: torch.Generator) -> list[Tensor]:
    """Leans and twists the upper body and rotates the head, by up to ``far`` each."""
    new, frame = list(own), _pelvis(own)
    up = frame[2]
    lean = _angle(up, _unit(own[8]))  # (B, 1)
    draw = _uniform(up, (4,), -1, 1, generator)
    axis = _unit(frame[0] * draw[:, :1] * 0.6 + frame[1] * draw[:, 1:2])
    by = torch.minimum((draw[:, 2:3] * far).abs(), (math.radians(_LEAN) - lean).clamp(min=0))
    for bone in UPPER_BODY:
        new[bone] = _rotated(own[bone], axis, by / 2 if bone == 7 else by)
    trunk = _unit(new[8])
    for bone in UPPER_BODY[2:]:
        new[bone] = _rotated(new[bone], trunk, draw[:, 3:] * far / 2)
    turn, by = _random_turn(up, far, generator)
    new[9], new[10] = _rotated(new[9], turn, by / 2), _rotated(new[10], turn, by)
    return new


def _hinged(thigh: Tensor, plane: Tensor, bent: Tensor, *own: Tensor) -> tuple[Tensor, Tensor]:
    """Thigh and shin, or the arm's, of their own lengths, with the joint between bent within its limits."""
    bent = bent.clamp(*map(math.radians, HINGE))  # (B, 1)
    return _along(thigh, own[0]), _along(bent.cos() * thigh + bent.sin() * plane, own[1])


def _usual_bend(frame: Sequence[Tensor], thigh: Tensor, *, knee: bool) -> Tensor:
    """(B, 3) the way that a shin leaves a straight leg, or a forearm a straight arm, as the joint bends."""
    if knee:  # Standing it is backward, seated it is down.
        return _unit(torch.linalg.cross(_unit(_beside(frame[1], thigh)), thigh))
    return _unit(_beside(frame[0] + 0.3 * frame[2], thigh))  # Forward, and up where the arm is held forward.


def _into_cone(direction: Tensor, axis: Tensor, limit: float, before: Tensor) -> Tensor:
    """A direction (B, 3) no farther from the axis than the limit, or than ``before`` was."""
    farthest = _angle(axis, before).clamp(min=limit)  # (B, 1)
    edge = farthest.cos() * axis + farthest.sin() * _unit(_beside(direction, axis))
    return torch.where(_angle(axis, direction) > farthest, edge, direction)


def _pelvis(bones: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The pelvis' axes forward, left and up, (B, 3) each; lengths 0 where a pose has none."""
    return _frame(bones[LEFT_LEG[0]] - bones[RIGHT_LEG[0]], bones[7])


def _thorax(bones: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return _frame(bones[LEFT_ARM[0]] - bones[RIGHT_ARM[0]], bones[8])


def _frame(across: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left = _unit(across)
    up = _unit(_beside(along, left))
    return torch.linalg.cross(left, up), left, up


def _placed(frame: Sequence[Tensor], local: Tensor) -> Tensor:
    """(B, 3) or (3,) in a body's axes -> (B, 3) in the world's."""
    return frame[0] * local[..., :1] + frame[1] * local[..., 1:2] + frame[2] * local[..., 2:]


def _seen(frame: Sequence[Tensor], direction: Tensor) -> Tensor:
    """(B, 3) in the world's axes -> (B, 3) in a body's."""
    return torch.stack([(axis * direction).sum(-1) for axis in frame], dim=-1)


def _along(direction: Tensor, bone: Tensor) -> Tensor:
    """A bone of the same length in another direction; unchanged where the direction is 0."""
    # Axes of bones without length are 0, and directions made from them are shorter than 1.
    length = direction.norm(dim=-1, keepdim=True)  # (B, 1)
    moved = direction / length.clamp(min=_EPSILON) * bone.norm(dim=-1, keepdim=True)
    return torch.where(length > 0.99, moved, bone)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True).clamp(min=_EPSILON)


def _beside(vector: Tensor, axis: Tensor) -> Tensor:
    """What of a vector (B, 3) is at right angles to an axis of length 1."""
    return vector - (vector * axis).sum(-1, keepdim=True) * axis


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """(B, 1) between directions (B, 3), radians; exact near 0 too."""
    across = torch.linalg.cross(first, second).norm(dim=-1, keepdim=True)
    return torch.atan2(across, (first * second).sum(-1, keepdim=True))


def _rotated(vector: Tensor, axis: Tensor, by: Tensor) -> Tensor:
    """Vectors (..., 3) rotated about axes of length 1 by angles (..., 1) in radians: Rodrigues' formula."""
    by = by * axis.norm(dim=-1, keepdim=True)  # axes of bones without length are 0
    axis = axis.expand_as(vector)
    along = (vector * axis).sum(-1, keepdim=True) * axis
    return along + (vector - along) * by.cos() + torch.linalg.cross(axis, vector) * by.sin()


def _random_turn(like: Tensor, far: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An axis of any direction (B, 3) and an angle (B, 1) up to ``far``."""
    axis = torch.randn(len(like), 3, generator=generator, device=like.device, dtype=like.dtype)
    return _unit(axis), _uniform(like, (1,), 0, far, generator)


def _uniform(
    like: Tensor, shape: Sequence[int], low: float, high: float, generator: torch.Generator
) -> Tensor:
    """(B, *shape) random numbers, on the device of B samples and of their type."""
    chance = torch.rand(len(like), *shape, generator=generator, device=like.device, dtype=like.dtype)
    return low + (high - low) * chance


def _bones(poses: Tensor) -> list[Tensor]:
    """(B, 17, 3) poses -> for each joint the (B, 3) bone from its parent; the root's own is 0."""
    joints = poses.unbind(1)
    return [joint - joints[max(parent, 0)] for joint, parent in zip(joints, PARENTS, strict=True)]


def _joints(bones: Sequence[Tensor]) -> Tensor:
    """Undoes ``_bones``: (B, 17, 3), root at 0."""
    joints: list[Tensor] = []
    for bone, parent in zip(bones, PARENTS, strict=True):  # Parents come before their children.
        joints.append(bone if parent < 0 else joints[parent] + bone)
    return torch.stack(joints, dim=1)


def _some(poses: Tensor, changed: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """The changed poses for a random fraction of the samples, the given ones for the rest."""
    return torch.where(_uniform(poses, (1, 1), 0, 1, generator) < probability, changed, poses)

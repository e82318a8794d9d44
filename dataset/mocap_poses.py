"""From a captured motion to the 17 joints of Human3.6M, in metres."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from common.errors import DataError
from common.skeleton import JOINT_NAMES, LEFT_LEG, NUM_JOINTS, RIGHT_LEG, ROOT
from dataset.mocap_joints import Joints
from dataset.motion import Motion, forward
from dataset.quaternions import inverse, rotate

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "dm": 0.1, "cmu": 0.0254 / 0.45}
"""Metres in a unit. "cmu" is the unit of CMU's ASF files and of most conversions of them: 1 / 0.45 inch."""
LEG, LEGS, LEGS_IF_STATED = 0.85, (0.55, 1.2), (0.25, 1.6)
"""Metres from hip to ankle: what a unit is guessed by, and what is borne with a guessed and a stated unit."""
UPRIGHT = 0.7
"""Mean cosine between an axis and the body from which on it is up; below it nobody can tell from the take."""
AXES_UP = {"y": (1, 1), "z": (2, 1), "-y": (1, -1)}
HEAD_HEIGHT = 0.13
"""Head top above the base of the skull, in legs, where a rig has no tip: Human3.6M's own."""
TIPS = (0.04, 0.45)
"""Legs that a tip of the head may be above the base of the skull."""
MAX_SPEED = 12.0
"""Metres a second from the pelvis that all joints stay under in half of the frames; sprinters have 9."""

PELVIS, SPINE, THORAX, NECK, HEAD = (
    JOINT_NAMES.index(name) for name in ("pelvis", "spine", "thorax", "neck", "head")
)
HIPS = [RIGHT_LEG[0], LEFT_LEG[0]]


class Captured(NamedTuple):
    """A converted take.

    Attributes:
        pose: (F, 17, 3) float32 positions in the file's axes, metres.
        unit: What was taken for the file's unit.
        up: The file's axis along which the body stands, "" where it does not stand.
        mirrored: Whether knees and toes point back, so that left and right must be exchanged; None where the
            take does not tell.
    """

    pose: np.ndarray
    unit: str
    up: str
    mirrored: bool | None


def captured(motion: Motion, joints: Joints, *, unit: str | None = None) -> Captured:
    """Converts a motion.

    Args:
        motion: The motion of the joints and of all above them.
        joints: The nodes of ``motion`` that stand for our joints.
        unit: One of ``UNITS``; guessed by the length of the legs when None.

    Raises:
        DataError: The body is of no human size, or moves as none does.
    """
    points, turns = forward(motion)
    pose = np.empty((len(points), NUM_JOINTS, 3))
    for number, name in enumerate(JOINT_NAMES):
        if name in joints:
            pose[:, number] = points[:, joints[name]].mean(axis=1)
    if "pelvis" not in joints:
        pose[:, PELVIS] = pose[:, HIPS].mean(axis=1)
    if "spine" not in joints:
        pose[:, SPINE] = _spine(pose, points, motion, joints)
    leg = leg_length(pose)
    unit, size = _unit(leg, unit)
    if not _has_head(pose, joints, leg):
        pose[:, HEAD] = _head_top(pose, turns[:, joints["neck"][0]], leg)
    mirrored = is_mirrored(pose, points, joints)
    pose *= size
    _check_speed(pose, motion.rate)
    return Captured(pose.astype(np.float32), unit, _up(pose), mirrored)


def z_up(pose: np.ndarray, up: str) -> np.ndarray:
    """Turns positions (..., 3) so that the axis ``up`` becomes z."""
    x, y, z = np.moveaxis(pose, -1, 0)
    return np.stack({"z": (x, y, z), "y": (x, -z, y), "-y": (x, z, -y)}[up], axis=-1)


def leg_length(pose: np.ndarray) -> float:
    """Mean of both legs' median length from hip over knee to ankle, for positions (F, 17, 3)."""
    bones = [pose[:, a] - pose[:, b] for leg in (RIGHT_LEG, LEFT_LEG) for a, b in itertools.pairwise(leg)]
    return float(np.median(np.linalg.norm(bones, axis=-1), axis=1).sum() / 2)  # (4, F, 3) -> (4,)


def _unit(leg: float, unit: str | None) -> tuple[str, float]:
    low, high = LEGS if unit is None else LEGS_IF_STATED
    fits = [name for name, size in UNITS.items() if unit in (None, name) and low <= leg * size <= high]
    if not fits:
        taken = f"in {unit} that is {leg * UNITS[unit]:.3g} m" if unit else "which is human in no known unit"
        raise DataError(
            f"legs are {leg:.4g} long from hip to ankle, {taken}; expected {low:g} to {high:g} m. Give "
            f"--unit, one of {', '.join(UNITS)}, if it is a body at all"
        )
    best = min(fits, key=lambda name: abs(np.log(leg * UNITS[name] / LEG)))
    return best, UNITS[best]


def _spine(pose: np.ndarray, points: np.ndarray, motion: Motion, joints: Joints) -> np.ndarray:
    """(F, 3) half the way from pelvis to thorax along the rig's spine, always at one place of one bone."""
    hips = set(motion.rig.above(joints["left_hip"][0])) & set(motion.rig.above(joints["right_hip"][0]))
    bones = [node for node in motion.rig.above(joints["thorax"][0])[1:] if node not in hips]
    way = np.stack([pose[:, PELVIS], *(points[:, node] for node in bones[::-1]), pose[:, THORAX]], axis=1)
    reached = np.cumsum(np.median(np.linalg.norm(np.diff(way, axis=1), axis=-1), axis=0))  # (bones,)
    bone = int(np.searchsorted(reached, reached[-1] / 2))
    start = reached[bone - 1] if bone else 0.0
    share = (reached[-1] / 2 - start) / max(reached[bone] - start, 1e-9)
    return (1 - share) * way[:, bone] + share * way[:, bone + 1]


def _has_head(pose: np.ndarray, joints: Joints, leg: float) -> bool:
    if "head" not in joints:
        return False
    height = np.median(np.linalg.norm(pose[:, HEAD] - pose[:, NECK], axis=-1)) / leg
    return bool(TIPS[0] < height < TIPS[1])


def _head_top(pose: np.ndarray, head: np.ndarray, leg: float) -> np.ndarray:
    """(F, 3) where the head ends: up from its joint, as the trunk is in the head's frame on average."""
    trunk = rotate(inverse(head), pose[:, THORAX] - pose[:, PELVIS]).mean(axis=0)
    up = trunk / max(np.linalg.norm(trunk), 1e-9)
    return pose[:, NECK] + rotate(head, up * HEAD_HEIGHT * leg)


def _up(pose: np.ndarray) -> str:
    """The axis along which the body stands, on average over the take; "" where it does not stand."""
    feet = pose[:, [RIGHT_LEG[2], LEFT_LEG[2]]].mean(axis=1)
    body = pose[:, THORAX] - feet
    mean = (body / np.maximum(np.linalg.norm(body, axis=-1, keepdims=True), 1e-9)).mean(axis=0)
    along = {name: sign * mean[axis] for name, (axis, sign) in AXES_UP.items()}
    best = max(along, key=lambda name: along[name])
    return best if along[best] >= UPRIGHT else ""


def is_mirrored(pose: np.ndarray, points: np.ndarray, joints: Joints) -> bool | None:
    """Whether knees and toes point to where left and right say that back is; None where they do not tell.

    Args:
        pose: (F, 17, 3) positions.
        points: (F, K, 3) positions of the nodes of the rig.
        joints: Nodes of the toes, if there are.
    """
    left = pose[:, LEFT_LEG[0]] - pose[:, RIGHT_LEG[0]]
    forward_of = np.cross(left, pose[:, THORAX] - pose[:, PELVIS])
    signs = []
    for hip, knee, ankle in (RIGHT_LEG, LEFT_LEG):
        leg, thigh = pose[:, ankle] - pose[:, hip], pose[:, knee] - pose[:, hip]
        share = np.sum(leg * thigh, axis=-1) / np.maximum(np.sum(leg * leg, axis=-1), 1e-12)
        bend = thigh - share[:, None] * leg
        bent = np.linalg.norm(bend, axis=-1) > 0.05 * np.linalg.norm(thigh, axis=-1)
        signs.append(np.sum(bend * forward_of, axis=-1)[bent])
    knees = np.concatenate(signs) < 0
    toes = [
        np.sum((points[:, joints[toe]].mean(axis=1) - pose[:, ankle]) * forward_of, axis=-1)
        for toe, ankle in (("right_toe", RIGHT_LEG[2]), ("left_toe", LEFT_LEG[2]))
        if toe in joints
    ]
    shares = {
        bool(round(votes.mean())) if abs(votes.mean() - 0.5) > 0.4 else None
        for votes in (knees, np.concatenate(toes or [[]]) < 0)
        if len(votes) > 10
    }
    return shares.pop() if len(shares) == 1 else None


def _check_speed(pose: np.ndarray, rate: float) -> None:
    relative = pose - pose[:, [ROOT]]
    speed = np.linalg.norm(np.diff(relative, axis=0), axis=-1).max(axis=1) * rate  # (F - 1,)
    usual = np.median(speed) if len(speed) else 0.0
    if usual > MAX_SPEED:
        raise DataError(
            f"joints usually move at {usual:.0f} m/s, faster than people can: the frame time or the data are "
            "wrong. Where it is the frame time, give the true rate with --source_fps"
        )

"""Joints, names, sides and parents of every skeleton that is read or written, and the one mirror."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Points = TypeVar("Points")


@dataclass(frozen=True)
class Skeleton:
    """An order of joints.

    Attributes:
        name: Name of the format, as options spell it.
        joints: Names in order; those of the two sides start with "left_" and "right_".
        parents: Index of each joint's parent, -1 for a root.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) pairs."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if parent >= 0)

    def indices(self, names: tuple[str, ...]) -> list[int]:
        """Index of each of the named joints."""
        return [self.joints.index(name) for name in names]


def _skeleton(name: str, text: str) -> Skeleton:
    """A skeleton from words ``joint`` or ``joint<parent``, in order."""
    words = [word.partition("<")[::2] for word in text.split()]
    joints = tuple(joint for joint, _ in words)
    return Skeleton(name, joints, tuple(joints.index(parent) if parent else -1 for _, parent in words))


H36M17 = _skeleton(
    "h36m17",
    "pelvis right_hip<pelvis right_knee<right_hip right_ankle<right_knee left_hip<pelvis left_knee<left_hip "
    "left_ankle<left_knee spine<pelvis thorax<spine neck<thorax head<neck left_shoulder<thorax "
    "left_elbow<left_shoulder left_wrist<left_elbow right_shoulder<thorax right_elbow<right_shoulder "
    "right_wrist<right_elbow",
)
"""Human3.6M's 17 joints: the network's own order. Its "neck" is a point near the nose."""
BONES_M = 5.4  # metres, summed length of an adult's bones between these joints

COCO17 = _skeleton(
    "coco17",
    "nose left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye left_shoulder<nose "
    "right_shoulder<nose left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow "
    "right_wrist<right_elbow left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip "
    "right_knee<right_hip left_ankle<left_knee right_ankle<right_knee",
)

BODY25 = _skeleton(
    "body25",
    "nose neck<nose right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow "
    "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow mid_hip<neck right_hip<mid_hip "
    "right_knee<right_hip right_ankle<right_knee left_hip<mid_hip left_knee<left_hip left_ankle<left_knee "
    "right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye left_big_toe<left_ankle "
    "left_small_toe<left_big_toe left_heel<left_ankle right_big_toe<right_ankle "
    "right_small_toe<right_big_toe right_heel<right_ankle",
)

JOINT_NAMES = H36M17.joints
NUM_JOINTS = len(JOINT_NAMES)
PARENTS = H36M17.parents
BONES = H36M17.bones
ROOT, NECK, HEAD = 0, 9, 10
LEFT = (4, 5, 6, 11, 12, 13)
RIGHT = (1, 2, 3, 14, 15, 16)
RIGHT_LEG, LEFT_LEG = (1, 2, 3), (4, 5, 6)  # limbs from the trunk outwards
LEFT_ARM, RIGHT_ARM = (11, 12, 13), (14, 15, 16)

PDOF = (0, 1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 1, 2, 3, 1, 2, 3)
"""Part degree of freedom of each joint: its distance to the torso along the limb (HTNet, section 1)."""

MIRROR = np.arange(NUM_JOINTS)
MIRROR[list(LEFT + RIGHT)] = RIGHT + LEFT


def mirror(points: Points) -> Points:
    """Mirror image of keypoints (..., 17, 2) or poses (..., 17, 3): x negated, left and right swapped.

    Args:
        points: NumPy array or PyTorch tensor whose x axis has its zero in the mirror plane.

    Returns:
        A new array or tensor.
    """
    mirrored = points[..., MIRROR.tolist(), :]  # type: ignore[index]
    mirrored[..., 0] *= -1
    return mirrored


H36M_32_KEPT = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""The 17 of the 32 recorded Human3.6M joints that the field keeps, in this skeleton's order."""

MPI_INF_3DHP_28_KEPT = (4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)
"""MPI-INF-3DHP's training set: those of its 28 joints that stand for the 17, in order.

Its neck is the thorax here, its head the "neck", its head top the head: see ``dataset/README.md``.
"""
MPI_INF_3DHP_17_KEPT = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
"""The same joints among the 17 of its test set."""
MPI_INF_3DHP_SCORED = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6)
"""The 14 joints that its own evaluation scores: no pelvis, no spine, no "neck"."""

COCO18 = _skeleton(
    "coco18",  # OpenPose's older model
    "nose neck<nose right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow "
    "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow right_hip<neck right_knee<right_hip "
    "right_ankle<right_knee left_hip<neck left_knee<left_hip left_ankle<left_knee right_eye<nose "
    "left_eye<nose right_ear<right_eye left_ear<left_eye",
)

MEDIAPIPE33 = _skeleton(
    "mediapipe33",
    "nose left_eye_inner<nose left_eye<left_eye_inner left_eye_outer<left_eye right_eye_inner<nose "
    "right_eye<right_eye_inner right_eye_outer<right_eye left_ear<left_eye_outer right_ear<right_eye_outer "
    "left_mouth<nose right_mouth<nose left_shoulder<nose right_shoulder<nose left_elbow<left_shoulder "
    "right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow left_pinky<left_wrist "
    "right_pinky<right_wrist left_index<left_wrist right_index<right_wrist left_thumb<left_wrist "
    "right_thumb<right_wrist left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip "
    "right_knee<right_hip left_ankle<left_knee right_ankle<right_knee left_heel<left_ankle "
    "right_heel<right_ankle left_foot_index<left_heel right_foot_index<right_heel",
)

HALPE26 = _skeleton(
    "halpe26",  # COCO's 17 and 9 more
    "nose<neck left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye left_shoulder<neck "
    "right_shoulder<neck left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow "
    "right_wrist<right_elbow left_hip<pelvis right_hip<pelvis left_knee<left_hip right_knee<right_hip "
    "left_ankle<left_knee right_ankle<right_knee head<nose neck pelvis<neck left_big_toe<left_ankle "
    "right_big_toe<right_ankle left_small_toe<left_big_toe right_small_toe<right_big_toe "
    "left_heel<left_ankle right_heel<right_ankle",
)

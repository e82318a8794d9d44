"""The Human3.6M skeleton of 17 joints: joint indices, names, sides and parents are written here alone."""

from __future__ import annotations

import numpy as np

JOINT_NAMES = (
    "pelvis",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "spine",
    "thorax",
    "neck",
    "head",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
)
NUM_JOINTS = len(JOINT_NAMES)
ROOT = 0
NECK = 9
HEAD = 10

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
BONES = tuple((joint, parent) for joint, parent in enumerate(PARENTS) if parent >= 0)

LEFT = (4, 5, 6, 11, 12, 13)
RIGHT = (1, 2, 3, 14, 15, 16)


def _mirror() -> np.ndarray:
    order = np.arange(NUM_JOINTS)
    order[list(LEFT + RIGHT)] = RIGHT + LEFT
    return order


MIRROR = _mirror()
"""Joint order after left and right are exchanged: ``mirrored = pose[..., MIRROR, :]``."""

# Limbs from the trunk outwards, in the order of the tokens of IPC in model/htnet.py.
RIGHT_LEG, LEFT_LEG = (1, 2, 3), (4, 5, 6)
LEFT_ARM, RIGHT_ARM = (11, 12, 13), (14, 15, 16)

PDOF = (0, 1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 1, 2, 3, 1, 2, 3)
"""Part degree of freedom of each joint: its distance to the torso along the limb (HTNet, section 1)."""

H36M_32_KEPT = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""The 17 of the 32 recorded Human3.6M joints that the field keeps, in this skeleton's order."""

MPI_INF_3DHP_28_KEPT = (4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)
"""Those of the 28 joints of MPI-INF-3DHP's training set that stand for this skeleton's 17, in its order.

Its neck is the thorax here, its head the "neck" (where Human3.6M has a point near the nose), and its head top
the head: see ``dataset/README.md``.
"""
MPI_INF_3DHP_17_KEPT = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
"""The same joints among the 17 of its test set."""
MPI_INF_3DHP_SCORED = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6)
"""The 14 of this skeleton's joints that its own evaluation scores: no pelvis, no spine, no "neck"."""

"""DeepMimic's humanoid: motion clips and skeleton, read and turned into the 17 joints of Human3.6M.

Both files come with the Python package pybullet: clips as JSON, the skeleton as URDF. Their space has x
forward, y up and z to the right of a humanoid in its rest pose. Poses leave this module with z up, as in
Human3.6M's world: x forward, y to the left. Format and skeleton are those of DeepMimic (Peng, Abbeel, Levine,
van de Panne, ACM TOG 2018).
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

from common.skeleton import JOINT_NAMES
from dataset.quaternions import about, multiply, rotate, slerp

UNIT = 0.25
"""Metres in a unit of the URDF: the scaling with which pybullet's own DeepMimic environment loads it."""

CHANNELS = {
    "root": 4,
    "chest": 4,
    "neck": 4,
    "right_hip": 4,
    "right_knee": 1,
    "right_ankle": 4,
    "right_shoulder": 4,
    "right_elbow": 1,
    "left_hip": 4,
    "left_knee": 1,
    "left_ankle": 4,
    "left_shoulder": 4,
    "left_elbow": 1,
}
"""Numbers per joint in a frame, in order: 4 is a quaternion (w, x, y, z), 1 an angle about z in radians."""
FRAME_LENGTH = 1 + 3 + sum(CHANNELS.values())

POINTS = {"pelvis": "root", "spine": "chest", "thorax": "neck", "neck": "nose", "head": "head_top"}
"""The humanoid's point for each of our joints whose name is not the same there."""

Skeleton = dict[str, tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Motion:
    """A clip.

    Attributes:
        times: (F,) seconds since the first frame.
        root: (F, 3) position of the pelvis in metres, y up.
        turns: (F, 13, 4) unit quaternions (w, x, y, z): each joint of ``CHANNELS`` relative to its parent.
    """

    times: np.ndarray
    root: np.ndarray
    turns: np.ndarray


def read_skeleton(urdf: bytes) -> Skeleton:
    """Reads parent and offset (3,) in metres of each joint, parents first, from pybullet's ``humanoid.urdf``.

    Two points are added that are no joints there: ``head_top``, where the head's sphere ends, and ``nose``,
    half the way up from the neck's joint to it and half a radius to the front.
    """
    robot = ET.fromstring(urdf.rstrip(b"\0"))
    skeleton: Skeleton = {}
    for joint in robot.iter("joint"):
        [parent], [origin] = joint.iter("parent"), joint.iter("origin")
        skeleton[joint.attrib["name"]] = (parent.attrib["link"], UNIT * _numbers(origin.attrib["xyz"]))
    [head] = robot.iterfind("link[@name='neck']/collision")
    [origin], [sphere] = head.iter("origin"), head.iter("sphere")
    radius = float(sphere.attrib["radius"])
    top = _numbers(origin.attrib["xyz"])[1] + radius
    skeleton["nose"] = ("neck", UNIT * np.array([radius / 2, top / 2, 0]))
    skeleton["head_top"] = ("neck", UNIT * np.array([0, top, 0]))
    return skeleton


def read_motion(text: bytes | str) -> Motion:
    """Reads a clip.

    Raises:
        ValueError: The frames are not those of DeepMimic's humanoid.
    """
    frames = np.array(json.loads(text)["Frames"], dtype=np.float64)
    if frames.ndim != 2 or frames.shape[1] != FRAME_LENGTH:
        raise ValueError(f"expected frames of {FRAME_LENGTH} numbers each, found shape {frames.shape}")
    columns = np.split(frames[:, 4:], np.cumsum(list(CHANNELS.values()))[:-1], axis=1)
    turns = np.stack([about(2, c[:, 0]) if c.shape[1] == 1 else c for c in columns], axis=1)  # (F, 13, 4)
    turns /= np.linalg.norm(turns, axis=-1, keepdims=True)
    # A duration is that of the way to the next frame; the last one, often 0, leads nowhere.
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    return Motion(times, frames[:, 1:4], turns)


def resample(motion: Motion, rate: float) -> Motion:
    """Brings a clip to ``rate`` frames a second: positions linearly, turns along the shortest arc (slerp)."""
    times = np.arange(int(motion.times[-1] * rate + 1e-6) + 1) / rate
    left = np.clip(np.searchsorted(motion.times, times, side="right") - 1, 0, len(motion.times) - 2)
    part = ((times - motion.times[left]) / (motion.times[left + 1] - motion.times[left]))[:, None]
    root = (1 - part) * motion.root[left] + part * motion.root[left + 1]
    return Motion(times, root, slerp(motion.turns[left], motion.turns[left + 1], part))


def joints(motion: Motion, skeleton: Skeleton) -> np.ndarray:
    """Forward kinematics: (F, 17, 3) joint positions in metres, z up, in the order of ``common.skeleton``."""
    local = {name: motion.turns[:, index] for index, name in enumerate(CHANNELS)}
    turns, points = {"root": local["root"]}, {"root": motion.root}
    for name, (parent, offset) in skeleton.items():
        if parent not in points:
            continue  # the root itself
        turns[name] = multiply(turns[parent], local[name]) if name in local else turns[parent]
        points[name] = points[parent] + rotate(turns[parent], offset)
    pose = np.stack([points[POINTS.get(name, name)] for name in JOINT_NAMES], axis=1)  # (F, 17, 3), y up
    return np.stack([pose[..., 0], -pose[..., 2], pose[..., 1]], axis=-1)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)

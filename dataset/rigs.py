"""From a motion capture rig to Human3.6M's 17 joints: names of joints, units, left and right."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from common.console import UserError
from common.skeleton import HEAD, JOINT_NAMES, LEFT_LEG, NECK, RIGHT_LEG, ROOT
from dataset.motion import END, Node, forward

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "dm": 0.1, "cmu": 0.0254 / 0.45}
"""Metres in a unit. "cmu" is that of CMU's ASF files and of most conversions of them: 1 / 0.45 inch."""
UP_AXES = ("y", "z", "-y")  # of files
LEG, LEGS, LEGS_IF_STATED = 0.85, (0.55, 1.2), (0.25, 1.6)  # metres from hip to ankle: usual, accepted ranges
UPRIGHT = 0.7  # mean cosine of the body with an axis above which it stands along that axis
HEAD_HEIGHT, TIPS = 0.13, (0.04, 0.45)  # legs from the skull's base to the head's top: usual, accepted range
MAX_SPEED = 12.0  # metres per second from the pelvis, in half of the frames; sprinters reach 9
SPINE, THORAX = JOINT_NAMES.index("spine"), JOINT_NAMES.index("thorax")
ANKLES = [LEFT_LEG[2], RIGHT_LEG[2]]

LIMBS = {
    "hip": ("upleg", "upperleg", "thigh", "thighbend", "femur", "hip", "leg"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leg"),
    "ankle": ("ankle", "foot"),
    "toe": ("toebase", "toe", "toes", "ball", "toe0"),
    "shoulder": ("upperarm", "uparm", "humerus", "shldrbend", "shldr", "arm", "shoulder"),
    "elbow": ("elbow", "forearm", "forearmbend", "lowerarm", "lowarm"),
    "wrist": ("fingerbase", "wrist", "hand"),
}
"""Names of each joint of a limb, the best first; "left" or "l", "right" or "r" stands before or behind them.

"leg" is the thigh where the shin has its own name (SOMA), "shoulder" the collar bone in most rigs.
"fingerbase" is where CMU's wrist bends: its "LeftHand" in conversions to BVH lies up the forearm.
"""
MIDDLE = {
    "thorax": "neck neck1 neck01 lowerneck necklower necktwist01 neckbase spine004 shouldercenter".split(),
    "neck": ["head", "head1", "head01", "upperneck", "spine006"],
    "head": ["headtopend", "headend", "headtop", "headnub", "headsite"],
}
"""Human3.6M's thorax is the base of the neck and its neck the base of the skull: rigs' Neck and Head."""
ACCLAIM = dict(zip(LIMBS, ("femur", "tibia", "foot", "toes", "humerus", "radius", "hand"), strict=True))
"""Bones of CMU's ASF files that start at each joint, with "l" or "r" before them."""
OPTIONAL = ("left_toe", "right_toe", "head", "pelvis", "spine")
PREFIX = re.compile(
    r"(mixamorig\d*|ccbase|bip\d+|character\d*|jbipc(?=neck|head)|jbip|joint|jnt|def|org)(?=.)"
)
SUFFIX = re.compile(r"(?<=.)(jnt|joint|bone)$")

Joints = dict[str, list[Node]]
"""By the name of a Human3.6M joint, or left_toe or right_toe: the nodes in whose middle it lies."""


def match(nodes: Sequence[Node], joint_map: Mapping[str, list[str]]) -> Joints:
    """The nodes that stand for our joints, by ``joint_map`` and the tables; a UserError if one has none."""
    joints, names = _by_table(nodes), {node.name: node for node in reversed(nodes)}
    joints |= {joint: [names[each] for each in given if each in names] for joint, given in joint_map.items()}
    missing = [name for name in (*JOINT_NAMES, *joint_map) if not joints.get(name, name in OPTIONAL)]
    for side, chain in itertools.product(("left", "right"), ("hip knee ankle", "shoulder elbow wrist")):
        for pair in [] if missing else itertools.pairwise(f"{side}_{joint}" for joint in chain.split()):
            upper, lower = (joints[each][0] for each in pair)
            if upper not in lower.line()[1:] and not {*pair} & joint_map.keys():
                missing.append(f"{pair[1]} below {pair[0]}")
    if missing:
        there = ", ".join(name[:60] for name in [*names][:0:-1][:80] if not name.endswith(END))
        missed = ", ".join(missing)
        raise UserError(f"found no joint for {missed} among {there}; say which is which with --joint_map")
    return joints


def _by_table(nodes: Sequence[Node]) -> Joints:
    plain = [_plain(node.name) for node in nodes]
    named = [name for name in plain[1:] if not name.endswith("end")]
    prefix = len(os.path.commonprefix(named))  # noqa: RUF071, characters are meant
    known: dict[str, Node] = {}
    for cut in (0, prefix):
        for node, name in zip(nodes, plain, strict=True):
            known.setdefault(name[cut:], node)
    if {*map(_plain, JOINT_NAMES)} <= known.keys():  # a file of this project's demo
        return {name: [known[_plain(name)]] for name in JOINT_NAMES}
    acclaim = {side + bone for side in "lr" for bone in ACCLAIM.values()} <= known.keys()
    forms = dict(MIDDLE)
    for joint, side in itertools.product(LIMBS, ("left", "right")):
        names = (ACCLAIM[joint],) if acclaim else LIMBS[joint]
        sided = [(side + name, side[0] + name, name + side, name + side[0]) for name in names]
        forms[f"{side}_{joint}"] = [*itertools.chain(*sided)]
    found = {joint: [known[name] for name in names if name in known][:1] for joint, names in forms.items()}
    tips = [node for node in nodes if node.name.endswith(END) and node.parent in found["neck"]]
    found["head"] = found["head"] or tips[:1]
    return {joint: each for joint, each in found.items() if each}


def _plain(name: str) -> str:
    """Lower case, without signs, what is before a ":", and what rigs put before or behind every name."""
    name = re.sub(r"[^0-9a-z]", "", name.rpartition(":")[2].lower())
    found = PREFIX.match(name)
    return SUFFIX.sub("", name[found.end() :] if found else name)


def to_joints(
    nodes: Sequence[Node], joints: Joints, rate: float, unit: str | None
) -> tuple[np.ndarray, str, bool | None]:
    """Human3.6M's 17 joints of a motion.

    Args:
        nodes: The nodes of the joints and all their ancestors, parents first.
        joints: See ``match``.
        rate: Frames per second.
        unit: One of ``UNITS``; guessed by the length of the legs when None.

    Returns:
        (F, 17, 3) metres in the file's axes; the unit; whether sides are swapped, None if unclear.

    Raises:
        UserError: The body has no human size, or moves as none does.
    """
    placed = forward(nodes)
    points = {joint: np.mean([placed[node][0] for node in each], axis=0) for joint, each in joints.items()}
    points.setdefault("pelvis", (points["left_hip"] + points["right_hip"]) / 2)
    if "spine" not in joints:
        hips = {*joints["left_hip"][0].line()} & {*joints["right_hip"][0].line()}
        bones = [placed[node][0] for node in joints["thorax"][0].line()[1:] if node not in hips]
        points["spine"] = _halfway(np.stack([points["pelvis"], *bones[::-1], points["thorax"]], axis=1))
    points.setdefault("head", points["neck"])
    pose = np.stack([points[name] for name in JOINT_NAMES], axis=1)
    leg = leg_length(pose)
    low, high = LEGS if unit is None else LEGS_IF_STATED
    fits = [name for name, size in UNITS.items() if unit in (None, name) and low <= leg * size <= high]
    if not fits:
        expected = f"expected {low:g} to {high:g} m in {unit or 'any unit'}"
        raise UserError(f"legs are {leg:.4g} long from hip to ankle: {expected}; see --unit")
    unit = min(fits, key=lambda name: abs(np.log(leg * UNITS[name] / LEG)))
    height = np.median(np.linalg.norm(pose[:, HEAD] - pose[:, NECK], axis=-1)) / leg
    if not TIPS[0] < height < TIPS[1]:  # up from the head's joint, as the trunk is in its frame on average
        head = placed[joints["neck"][0]][1]
        trunk = head.inv().apply(pose[:, THORAX] - pose[:, ROOT]).mean(axis=0)
        top = trunk / max(float(np.linalg.norm(trunk)), 1e-9) * HEAD_HEIGHT * leg
        pose[:, HEAD] = pose[:, NECK] + head.apply(top)
    mirrored = _is_mirrored(pose, {side: points.get(f"{side}_toe") for side in ("right", "left")})
    pose *= UNITS[unit]
    speed = np.linalg.norm(np.diff(pose - pose[:, [ROOT]], axis=0), axis=-1).max(axis=1) * rate
    if len(speed) and np.median(speed) > MAX_SPEED:
        found = f"joints usually move at {np.median(speed):.0f} m/s, faster than people can"
        raise UserError(f"{found}; if the frame time is incorrect, give the true rate with --source_fps")
    return pose, unit, mirrored


def _halfway(way: np.ndarray) -> np.ndarray:
    """(F, 3) half the way along a chain of points (F, N, 3), always at one place of one bone."""
    lengths = np.median(np.linalg.norm(np.diff(way, axis=1), axis=-1), axis=0)  # (N - 1,)
    reached = np.concatenate([[0.0], np.cumsum(lengths)])
    bone = int(np.searchsorted(reached[1:], reached[-1] / 2))
    fraction = (reached[-1] / 2 - reached[bone]) / max(lengths[bone], 1e-9)
    return (1 - fraction) * way[:, bone] + fraction * way[:, bone + 1]


def leg_length(pose: np.ndarray) -> float:
    """Mean of both legs' median length from hip over knee to ankle, for positions (F, 17, 3)."""
    bones = [pose[:, a] - pose[:, b] for leg in (RIGHT_LEG, LEFT_LEG) for a, b in itertools.pairwise(leg)]
    return float(np.median(np.linalg.norm(bones, axis=-1), axis=1).sum() / 2)  # (4, F, 3) -> (4,)


def up_axis(pose: np.ndarray) -> str:
    """The axis, such as y or -z, along which a body (F, 17, 3) stands on average; "" where it does not."""
    body = pose[:, THORAX] - pose[:, ANKLES].mean(axis=1)
    mean = (body / np.maximum(np.linalg.norm(body, axis=-1, keepdims=True), 1e-9)).mean(axis=0)
    axis = int(np.abs(mean).argmax())
    return ("-" if mean[axis] < 0 else "") + "xyz"[axis] if abs(mean[axis]) >= UPRIGHT else ""


def z_up(pose: np.ndarray, up: str) -> np.ndarray:
    """Positions (..., 3) rotated so that the axis ``up`` becomes z."""
    x, y, z = np.moveaxis(pose, -1, 0)
    return np.stack({"z": (x, y, z), "y": (x, -z, y), "-y": (x, z, -y)}[up], axis=-1)


def _is_mirrored(pose: np.ndarray, toes: Mapping[str, np.ndarray | None]) -> bool | None:
    """Whether knees and toes (F, 3) point to where left and right say that back is; None if unclear."""
    front = np.cross(pose[:, LEFT_LEG[0]] - pose[:, RIGHT_LEG[0]], pose[:, THORAX] - pose[:, ROOT])
    knees, feet = [], []
    for toe, (hip, knee, ankle) in zip(toes.values(), (RIGHT_LEG, LEFT_LEG), strict=True):
        leg, thigh = pose[:, ankle] - pose[:, hip], pose[:, knee] - pose[:, hip]
        along = np.sum(leg * thigh, axis=-1) / np.maximum(np.sum(leg * leg, axis=-1), 1e-12)
        bend = thigh - along[:, None] * leg
        bent = np.linalg.norm(bend, axis=-1) > 0.05 * np.linalg.norm(thigh, axis=-1)
        knees.append(np.sum(bend * front, axis=-1)[bent] < 0)
        if toe is not None:
            feet.append(np.sum((toe - pose[:, ankle]) * front, axis=-1) < 0)
    votes = [np.concatenate(each) for each in (knees, feet) if each]
    fractions = [each.mean() for each in votes if len(each) > 10]
    verdicts = {bool(round(each)) if abs(each - 0.5) > 0.4 else None for each in fractions}
    return verdicts.pop() if len(verdicts) == 1 else None

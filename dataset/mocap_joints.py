"""Which joints of a rig stand for Human3.6M's: the table of names, and ``--joint_map``.

Names are compared in lower case, without what is before a ":", without signs and spaces, and without what
rigs put before every name ("CC_Base_", "mixamorig", "Bip01 ", "joint_") or behind it ("_JNT").
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping

from common.errors import DataError, UserError
from common.skeleton import JOINT_NAMES
from dataset.motion import END, Rig

LIMBS = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leg"),
    "ankle": ("ankle", "foot"),
    "toe": ("toebase", "toe", "toes", "ball", "toe0"),
    "shoulder": ("upperarm", "uparm", "humerus", "shldr", "arm", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm"),
    "wrist": ("fingerbase", "wrist", "hand"),
}
"""Names of each joint of a limb, the best first; "left" or "l", "right" or "r" stands before or behind them.

"shoulder" is the collar bone in most rigs and the shoulder where nothing else could be it. "fingerbase" is
where CMU's wrist bends; its "LeftHand" in conversions to BVH lies up the forearm.
"""
MIDDLE = {
    "thorax": ("neck", "neck1", "neck01", "lowerneck", "necktwist01", "neckbase"),
    "neck": ("head", "head1", "head01"),
    "head": ("headtopend", "headend", "headtop", "headnub", "headsite"),
}
"""Human3.6M's thorax is the base of the neck and its neck/nose the base of the skull: rigs' Neck and Head."""
ACCLAIM = {"hip": "femur", "knee": "tibia", "ankle": "foot", "toe": "toes"} | {
    "shoulder": "humerus",
    "elbow": "radius",
    "wrist": "hand",
}
"""Bones of CMU's ASF files that start at each joint, with "l" or "r" before them."""
OPTIONAL = ("left_toe", "right_toe", "head", "pelvis", "spine")
NEEDED = tuple(name for name in JOINT_NAMES if name not in OPTIONAL)
KNOWN = (*JOINT_NAMES, "left_toe", "right_toe")
PREFIX = re.compile(r"mixamorig\d*|ccbase|bip\d+|character\d*|jbipc(?=neck|head)|jbip|joint|jnt|def")
SUFFIX = re.compile(r"(?<=.)(jnt|joint|bone)$")
CHAINS = [[f"{side}_{joint}" for joint in limb] for side in ("left", "right")
          for limb in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))]  # fmt: skip

MAX_MAP_BYTES = 2**20
MAX_PER_JOINT = 16
SHOWN = 80

Joints = dict[str, list[int]]
"""By the name of a Human3.6M joint, or left_toe or right_toe: the nodes whose middle it is."""
JointMap = Mapping[str, list[str]]


def read_joint_map(path: str | os.PathLike[str]) -> JointMap:
    """Reads a file of ``--joint_map``: JSON, by our joint's name the rig's, or a list whose middle is meant.

    Raises:
        UserError: It is not that.
    """
    example = '{"left_hip": "LeftThigh", "head": "Head/end", "thorax": ["LeftArm", "RightArm"]}'
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_MAP_BYTES + 1)
        if len(content) > MAX_MAP_BYTES:
            raise ValueError("more than a megabyte")
        entries = json.loads(content)
        if not isinstance(entries, dict):
            raise ValueError(f"{type(entries).__name__} instead of an object")
        joint_map = {name: [value] if isinstance(value, str) else value for name, value in entries.items()}
        for name, value in joint_map.items():
            if name not in KNOWN:
                raise ValueError(f"{name[:30]!r}, which is none of {', '.join(KNOWN)}")
            if not isinstance(value, list) or not 1 <= len(value) <= MAX_PER_JOINT:
                raise ValueError(f"no name and no list of names for {name}")
            if not all(isinstance(each, str) for each in value):
                raise ValueError(f"something else than names for {name}")
    except OSError as error:
        raise UserError(f"--joint_map {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        words = "JSON nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"--joint_map {path}: expected JSON like {example}, found {words}") from error
    return joint_map


def match(rig: Rig, joint_map: JointMap | None = None) -> Joints:
    """The nodes that stand for our joints: those of ``joint_map``, and for all others those of the table.

    Raises:
        DataError: A joint has none; the message lists the rig's joints.
    """
    names = _by_table(rig) | _by_map(rig, joint_map or {})
    missing = [name for name in NEEDED if name not in names]
    if missing:
        joints = [name[:60] for name in rig.names if not name.endswith(END)]
        more = f" and {len(joints) - SHOWN} more" if len(joints) > SHOWN else ""
        example = json.dumps({name: "..." for name in missing[:3]})
        raise DataError(
            f"no joint known as {', '.join(missing)}. Its joints: {', '.join(joints[:SHOWN])}{more}. Write "
            f"which is which to a file, such as {example}, and give it with --joint_map"
        )
    given = set(joint_map or {})
    for chain in CHAINS:
        for upper, lower in itertools.pairwise(chain):
            if not {upper, lower} & given and names[upper][0] not in rig.above(names[lower][0]):
                pair = [rig.names[names[name][0]] for name in (lower, upper)]
                raise DataError(
                    f"{pair[0]} was taken for {lower} and {pair[1]} for {upper}, but it does not hang on it: "
                    "say which is which with --joint_map"
                )
    return names


def _by_map(rig: Rig, joint_map: JointMap) -> Joints:
    exact = {name: node for node, name in reversed(list(enumerate(rig.names)))}
    folded = {name.casefold(): node for name, node in reversed(exact.items())}
    joints: Joints = {}
    for joint, names in joint_map.items():
        nodes = [exact.get(name, folded.get(name.casefold(), -1)) for name in names]
        if -1 in nodes:
            there = ", ".join(rig.names[:SHOWN])
            raise DataError(
                f"no joint {names[nodes.index(-1)][:60]!r}, which --joint_map names; it has {there}"
            )
        joints[joint] = nodes
    return joints


def _by_table(rig: Rig) -> Joints:
    plain = [_plain(name) for name in rig.names]
    names = sorted(name for name in plain[1:] if not name.endswith("end")) or [""]
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(names[0], names[-1], strict=False))
    common = len(list(same))  # what all names begin with
    places: dict[str, int] = {}
    for cut in (0, common):
        for node, name in enumerate(plain):
            places.setdefault(name[cut:], node)
    ours = {name: [places[_plain(name)]] for name in JOINT_NAMES if _plain(name) in places}
    if len(ours) == len(JOINT_NAMES):
        return ours  # a file of this project's own demo
    joints: Joints = {}
    acclaim = {side + bone for side in "lr" for bone in ACCLAIM.values()} <= places.keys()
    for joint, known in LIMBS.items():
        wanted = (ACCLAIM[joint],) if acclaim else known
        for side in ("left", "right"):
            forms = [form for name in wanted for form in _sided(side, name)]
            _first(joints, f"{side}_{joint}", forms, places)
    for joint, known in MIDDLE.items():
        _first(joints, joint, known, places)
    if "head" not in joints and "neck" in joints:
        tip = rig.names[joints["neck"][0]] + END
        joints |= {"head": [rig.names.index(tip)]} if tip in rig.names else {}
    return joints


def _first(joints: Joints, joint: str, forms: Iterable[str], places: Mapping[str, int]) -> None:
    node = next((places[form] for form in forms if form in places), None)
    if node is not None:
        joints[joint] = [node]


def _sided(side: str, name: str) -> tuple[str, ...]:
    return side + name, side[0] + name, name + side, name + side[0]


def _plain(name: str) -> str:
    """A name as it is compared; the tip of a joint keeps its mark as letters."""
    name = re.sub(r"[^0-9a-z]", "", name.rpartition(":")[2].lower())
    return SUFFIX.sub(
        "", name[found.end() :] if (found := PREFIX.match(name)) and found.end() < len(name) else name
    )


def documented() -> str:
    """The table in Markdown, as README.md has it."""
    rows = ["| joint | names, the best first |", "| --- | --- |"]
    rows += [f"| left and right {joint} | {', '.join(names)} |" for joint, names in LIMBS.items()]
    rows += [f"| {joint} | {', '.join(names)} |" for joint, names in MIDDLE.items()]
    return "\n".join(rows)

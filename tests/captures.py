"""Motion capture files of one known body, in the names and units of many programs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from common.skeleton import JOINT_NAMES

KINDS = "left right middle hip knee ankle toe collar shoulder elbow wrist hips spine chest neck head".split()
_MIXAMO = "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand Hips Spine Spine1 Neck Head"
STYLES = {
    name: dict(zip(KINDS, [*sides.split("|"), *names.split()], strict=True))
    for name, sides, names in (
        ("mixamo", "Left{}|Right{}|{}", _MIXAMO),
        ("prefixed", "mixamorig:Left{}|mixamorig:Right{}|mixamorig:{}", _MIXAMO),
        ("own prefix", "Bob77_Left{}|Bob77_Right{}|Bob77_{}", _MIXAMO),
        ("cc_base", "CC_Base_L_{}|CC_Base_R_{}|CC_Base_{}",
         "Thigh Calf Foot ToeBase Clavicle Upperarm Forearm Hand Hip Waist Spine02 NeckTwist01 Head"),
        ("smpl", "L_{}|R_{}|{}",
         "Hip Knee Ankle Foot Collar Shoulder Elbow Wrist Pelvis Spine1 Chest2 Neck Head"),
        ("bandai", "{}_L|{}_R|{}",
         "UpperLeg LowerLeg Foot Toes Shoulder UpperArm LowerArm Hand Hips Spine Chest Neck Head"),
        ("biped", "Bip01 L {}|Bip01 R {}|Bip01 {}",
         "Thigh Calf Foot Toe0 Clavicle UpperArm Forearm Hand Pelvis Spine Spine1 Neck Head"),
        ("deepmotion", "l_{}_JNT|r_{}_JNT|{}_JNT", _MIXAMO.lower()),
        ("kinds", "Left{}|Right{}|{}",
         "Hip Knee Ankle Toe Collar Shoulder Elbow Wrist Hips Chest Chest2 Neck Head"),
        ("unreal", "{}_l|{}_r|{}",
         "thigh calf foot ball clavicle upperarm lowerarm hand pelvis spine_01 spine_02 neck_01 head"),
        ("soma", "Left{}|Right{}|{}",
         "Leg Shin Foot ToeBase Shoulder Arm ForeArm Hand Hips Spine1 Chest Neck1 Head"),
        ("genesis 8", "l{}|r{}|{}",
         "ThighBend Shin Foot Toe Collar ShldrBend ForearmBend Hand hip abdomenLower chest neckLower head"),
        ("rigify", "DEF-{}.L|DEF-{}.R|DEF-{}",
         "thigh shin foot toe shoulder upper_arm forearm hand spine spine.001 spine.003 spine.004 spine.006"),
        ("kinect", "{}Left|{}Right|{}",
         "Hip Knee Ankle Foot Clavicle Shoulder Elbow Wrist SpineBase SpineMid Chest ShoulderCenter Head"),
        ("fairmotion", "l{}|r{}|{}",
         "hip knee ankle toe clavicle shoulder elbow wrist root lowerback chest lowerneck upperneck"),
    )
}  # fmt: skip
"""How programs name the joints of ``BODY``, by kind; left, right and middle say where the kind goes."""
MIXAMO = STYLES["mixamo"]

BODY: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0, 0, 0)),
    "left hip": ("hips", (0.1, -0.05, 0)),
    "left knee": ("left hip", (0, -0.43, 0)),
    "left ankle": ("left knee", (0, -0.42, -0.02)),
    "left toe": ("left ankle", (0, -0.07, 0.14)),
    "right hip": ("hips", (-0.1, -0.05, 0)),
    "right knee": ("right hip", (0, -0.43, 0)),
    "right ankle": ("right knee", (0, -0.42, -0.02)),
    "right toe": ("right ankle", (0, -0.07, 0.14)),
    "spine": ("hips", (0, 0.1, 0)),
    "chest": ("spine", (0, 0.15, -0.01)),
    "neck": ("chest", (0, 0.25, 0.01)),
    "head": ("neck", (0, 0.1, 0.02)),
    "left collar": ("chest", (0.03, 0.2, 0)),
    "left shoulder": ("left collar", (0.14, 0, 0)),
    "left elbow": ("left shoulder", (0.28, 0, 0)),
    "left wrist": ("left elbow", (0.25, 0, 0)),
    "right collar": ("chest", (-0.03, 0.2, 0)),
    "right shoulder": ("right collar", (-0.14, 0, 0)),
    "right elbow": ("right shoulder", (-0.28, 0, 0)),
    "right wrist": ("right elbow", (-0.25, 0, 0)),
}
"""Joint: parent, and offset in its frame at rest; metres, y up, facing z, so that left is x."""
JOINTS = list(BODY)
TIPS = {"left toe": (0, 0, 0.07), "right toe": (0, 0, 0.07), "head": (0, 0.15, 0.01)}
TIPS |= {"left wrist": (0.1, 0, 0), "right wrist": (-0.1, 0, 0)}
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "dm": 0.1, "cmu": 0.0254 / 0.45}

Walk = tuple[np.ndarray, np.ndarray]
"""Angles (F, 21, 3) about z, x and y in degrees, and the root's path (F, 3) in metres, y up."""


def walk(
    frames: int = 120, rate: float = 60.0, *, seed: int = 0, far: float = 0.0, speed: float = 0.3
) -> Walk:
    """Somebody who steps on the spot, or goes ``far`` metres along z; every joint moves a little."""
    seconds = np.arange(frames) / rate
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (len(BODY), 3))
    angles = 8 * np.sin(2 * np.pi * speed * seconds[:, None, None] + phase)
    for joint in ("left knee", "right knee"):
        angles[:, JOINTS.index(joint), 1] += 15 * (1 + np.sin(2 * np.pi * speed * seconds))
    angles[:, JOINTS.index("left shoulder"), 0] -= 70
    angles[:, JOINTS.index("right shoulder"), 0] += 70
    path = np.zeros((frames, 3))
    path[:, 1], path[:, 2] = 0.95, far * np.arange(frames) / max(frames - 1, 1)
    return angles, path


def rotation_about(axis: int, degrees: np.ndarray) -> np.ndarray:
    """(F, 3, 3) right-handed rotation matrices about x (0), y (1) or z (2)."""
    angle, matrix = np.radians(degrees), np.zeros((len(degrees), 3, 3))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, one, one] = matrix[:, two, two] = np.cos(angle)
    matrix[:, two, one], matrix[:, one, two] = np.sin(angle), -np.sin(angle)
    return matrix


def expected(angles: np.ndarray, path: np.ndarray) -> np.ndarray:
    """(F, 17, 3) Human3.6M's joints in metres, z up, by the definition of BVH alone."""
    points: dict[str, np.ndarray] = {}
    frames: dict[str, np.ndarray] = {}
    for number, (joint, (parent, offset)) in enumerate(BODY.items()):
        z, x, y = (rotation_about(axis, angles[:, number, column]) for column, axis in enumerate((2, 0, 1)))
        frames[joint] = z @ x @ y if parent is None else frames[parent] @ z @ x @ y
        points[joint] = path if parent is None else points[parent] + frames[parent] @ np.array(offset, float)
    points["head tip"] = points["head"] + frames["head"] @ np.array(TIPS["head"], float)
    pelvis = (points["left hip"] + points["right hip"]) / 2
    way = [pelvis, points["spine"], points["chest"], points["neck"]]
    lengths = [np.median(np.linalg.norm(b - a, axis=1)) for a, b in itertools.pairwise(way)]
    fraction = (sum(lengths) / 2 - lengths[0]) / lengths[1]
    assert 0 < fraction < 1  # half the way lies between spine and chest
    ours = {name: points[name.replace("_", " ")] for name in JOINT_NAMES if "_" in name}
    ours |= {"pelvis": pelvis, "spine": way[1] + (way[2] - way[1]) * fraction}
    ours |= {"thorax": points["neck"], "neck": points["head"], "head": points["head tip"]}
    x, y, z = np.moveaxis(np.stack([ours[name] for name in JOINT_NAMES], axis=1), -1, 0)
    return np.stack([x, -z, y], axis=-1)


def write_bvh(
    path: Path, angles: np.ndarray, root: np.ndarray, *, style: dict[str, str] = MIXAMO, unit: str = "cm",
    rate: float = 60.0, up: str = "y", positions: str = "", tips: bool = True, frames: int | None = None,
) -> None:  # fmt: skip
    """Writes a BVH file.

    ``up`` "z" puts a rotation above the hips; ``positions`` of joints are "absolute" or "added" to OFFSET.
    """
    scale, lines, columns = 1 / METRES[unit], ["HIERARCHY"], []

    def add(joint: str) -> None:
        side, _, kind = joint.rpartition(" ")
        parent, rest = BODY[joint]
        offset = np.array(rest, float) * scale
        lines.append(
            f"{'JOINT' if parent or up == 'z' else 'ROOT'} {style[side or 'middle'].format(style[kind])}"
        )
        lines.extend(["{", "OFFSET " + " ".join(f"{value:.9f}" for value in offset)])
        if parent is None or positions:
            lines.append("CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
            place = root * scale if parent is None else np.tile(offset, (len(angles), 1))
            columns.append(place - offset if positions == "added" else place)
        else:
            lines.append("CHANNELS 3 Zrotation Xrotation Yrotation")
        columns.append(angles[:, JOINTS.index(joint)])
        for child in (each for each, (above, _) in BODY.items() if above == joint):
            add(child)
        if joint in TIPS and tips:
            tip = " ".join(f"{value * scale:.9f}" for value in TIPS[joint])
            lines.extend(["End Site", "{", f"OFFSET {tip}", "}"])
        lines.append("}")

    if up == "z":
        lines += ["ROOT World", "{", "OFFSET 0 0 0", "CHANNELS 1 Xrotation"]
        columns.append(np.full((len(angles), 1), 90.0))
    add("hips")
    lines += ["}"] if up == "z" else []
    rows = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(rows) if frames is None else frames}", f"Frame Time: {1 / rate:.9f}"]
    lines += [" ".join(f"{value:.7f}" for value in row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_asf_amc(
    asf: Path, amc: Path, angles: np.ndarray, root: np.ndarray, *, radians: bool = False
) -> None:
    """Writes the same motion as ASF and AMC, every bone with an axis of its own.

    A bone ends where the next one begins, so that bones of their own lead from the hips to each hip.
    """
    rng, scale = np.random.default_rng(3), 0.45 / 0.0254
    kinds = "hip knee ankle toe shoulder elbow wrist spine chest neck".split()
    bone_names = "femur tibia foot toes humerus radius hand lowerback upperback lowerneck".split()
    limbs = dict(zip(kinds, bone_names, strict=True))
    bones: dict[str, tuple[str, np.ndarray, np.ndarray, np.ndarray | None]] = {}

    def name_of(joint: str) -> str:
        side, _, kind = joint.rpartition(" ")
        return side[:1] + limbs.get(kind, kind)

    def bone(name: str, parent: str, reach: tuple[float, ...], joint: str = "") -> None:
        axis = Rotation.from_euler("xyz", rng.uniform(-90, 90, 3), degrees=True)
        own = None
        if joint:
            local = Rotation.from_euler("ZXY", angles[:, JOINTS.index(joint)], degrees=True)
            own = (axis.inv() * local * axis).as_euler("xyz", degrees=not radians)
        bones[name] = (parent, np.array(reach, float) * scale, axis.as_euler("xyz", degrees=True), own)

    def add(joint: str, parent: str) -> None:
        children = [each for each, (above, _) in BODY.items() if above == joint]
        name, single = name_of(joint), len(children) == 1
        if joint != "hips":
            reach = BODY[children[0]][1] if single else (0, 0, 0) if children else TIPS[joint]
            bone(name, parent, reach, joint)
        for child in children:
            if not single:
                bone(f"to_{name_of(child)}", name if joint != "hips" else "root", BODY[child][1])
            add(child, name if single else f"to_{name_of(child)}")

    add("hips", "")
    turn = Rotation.from_euler("ZXY", angles[:, 0], degrees=True).as_euler("xyz", degrees=not radians)
    lines = [":version 1.10", ":units", "  length 0.45", "  angle deg", ":root", " order TX TY TZ RX RY RZ"]
    lines += [" axis XYZ", " position 0 0 0", " orientation 0 0 0", ":bonedata"]
    for name, (_, reach, axis, own) in bones.items():
        length = np.linalg.norm(reach)
        direction = " ".join(f"{v / max(length, 1e-9):.12f}" for v in reach)
        lines += ["begin", f"name {name}", f"direction {direction}", f"length {length:.9f}"]
        lines += ["axis " + " ".join(f"{v:.9f}" for v in axis) + " XYZ"]
        lines += [] if own is None else ["dof rx ry rz", "limits (-160.0 20.0)", "       (-70 70)"]
        lines += ["end"]
    lines += [":hierarchy", "begin"]
    for parent in ["root", *bones]:
        below = [name for name, (above, *_) in bones.items() if above == parent]
        lines += [f"{parent} {' '.join(below)}"] if below else []
    asf.parent.mkdir(parents=True, exist_ok=True)
    asf.write_text("\n".join([*lines, "end", ""]))
    rows = [":FULLY-SPECIFIED", ":RADIANS" if radians else ":DEGREES"]
    for frame in range(len(angles)):
        rows += [str(frame + 1), "root " + " ".join(f"{v:.9f}" for v in (*root[frame] * scale, *turn[frame]))]
        for name, (_, _, _, own) in bones.items():
            rows += [] if own is None else [f"{name} " + " ".join(f"{v:.9f}" for v in own[frame])]
    amc.write_text("\n".join([*rows, ""]))

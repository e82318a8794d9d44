"""``python -m dataset.prepare mocap``, on files that the tests write: known skeletons, known turns."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.camera import h36m_cameras, normalize_pixels, project, rotate, world_to_camera
from common.pose_files import read_poses
from common.prepared import dataset_named, open_prepared
from common.skeleton import BONES, JOINT_NAMES, LEFT_LEG, MIRROR, RIGHT_LEG, ROOT
from dataset import mocap_files, mocap_joints, mocap_poses, motion, placing, prepare
from dataset.asf_amc import read_amc
from dataset.bvh import read_bvh
from dataset.mocap_files import Source

REPOSITORY = Path(prepare.__file__).parent.parent
MIXAMO = {
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "toe": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
    "elbow": "ForeArm", "wrist": "Hand", "hips": "Hips", "spine": "Spine", "chest": "Spine1", "neck": "Neck",
    "head": "Head", "left": "Left{}", "right": "Right{}",
}  # fmt: skip
CC_BASE = {
    "hip": "Thigh", "knee": "Calf", "ankle": "Foot", "toe": "ToeBase", "collar": "Clavicle",
    "shoulder": "Upperarm", "elbow": "Forearm", "wrist": "Hand", "hips": "Hip", "spine": "Waist",
    "chest": "Spine02", "neck": "NeckTwist01", "head": "Head",
    "left": "CC_Base_L_{}", "right": "CC_Base_R_{}", "middle": "CC_Base_{}",
}  # fmt: skip
BANDAI = {
    "hip": "UpperLeg", "knee": "LowerLeg", "ankle": "Foot", "toe": "Toes", "collar": "Shoulder",
    "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand", "hips": "Hips", "spine": "Spine",
    "chest": "Chest", "neck": "Neck", "head": "Head", "left": "{}_L", "right": "{}_R",
}  # fmt: skip
BIPED = {
    "hip": "Thigh", "knee": "Calf", "ankle": "Foot", "toe": "Toe0", "collar": "Clavicle",
    "shoulder": "UpperArm", "elbow": "Forearm", "wrist": "Hand", "hips": "Pelvis", "spine": "Spine",
    "chest": "Spine1", "neck": "Neck", "head": "Head", "left": "Bip01 L {}", "right": "Bip01 R {}",
    "middle": "Bip01 {}",
}  # fmt: skip
DEEPMOTION = {
    "hip": "upleg", "knee": "leg", "ankle": "foot", "toe": "toebase", "collar": "shoulder", "shoulder": "arm",
    "elbow": "forearm", "wrist": "hand", "hips": "hips", "spine": "spine", "chest": "spine1", "neck": "neck",
    "head": "head", "left": "l_{}_JNT", "right": "r_{}_JNT", "middle": "{}_JNT",
}  # fmt: skip
POSITIONS_NAMED = {
    "hip": "Hip", "knee": "Knee", "ankle": "Ankle", "toe": "Toe", "collar": "Collar", "shoulder": "Shoulder",
    "elbow": "Elbow", "wrist": "Wrist", "hips": "Hips", "spine": "Chest", "chest": "Chest2", "neck": "Neck",
    "head": "Head", "left": "Left{}", "right": "Right{}",
}  # fmt: skip
SMPL = POSITIONS_NAMED | {"hips": "Pelvis", "spine": "Spine1", "left": "L_{}", "right": "R_{}", "toe": "Foot"}
UNREAL = {
    "hip": "thigh", "knee": "calf", "ankle": "foot", "toe": "ball", "collar": "clavicle",
    "shoulder": "upperarm", "elbow": "lowerarm", "wrist": "hand", "hips": "pelvis", "spine": "spine_01",
    "chest": "spine_02", "neck": "neck_01", "head": "head", "left": "{}_l", "right": "{}_r",
}  # fmt: skip
MIXAMO_PREFIX = MIXAMO | {"left": "mixamorig:Left{}", "right": "mixamorig:Right{}", "middle": "mixamorig:{}"}
OWN_PREFIX = MIXAMO | {"left": "Bob77_Left{}", "right": "Bob77_Right{}", "middle": "Bob77_{}"}
STYLES = {
    "mixamo": MIXAMO, "prefixed": MIXAMO_PREFIX, "own prefix": OWN_PREFIX, "cc_base": CC_BASE, "smpl": SMPL,
    "bandai": BANDAI, "biped": BIPED, "deepmotion": DEEPMOTION, "kinds": POSITIONS_NAMED, "unreal": UNREAL,
}  # fmt: skip

# Joint: parent, and place in its parent's frame at rest; metres, y up, facing z, so that left is x.
BODY = {
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
TIPS = {"left toe": (0, 0, 0.07), "right toe": (0, 0, 0.07), "head": (0, 0.15, 0.01)}
TIPS |= {"left wrist": (0.1, 0, 0), "right wrist": (-0.1, 0, 0)}
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "dm": 0.1, "cmu": 0.0254 / 0.45}
Y_UP_TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def named(joint, style):
    side, _, kind = joint.rpartition(" ")
    return style.get(side or "middle", "{}").format(style[kind])


def walk(frames=120, rate=60.0, *, seed=0, far=0.0, speed=0.3):
    """Angles (F, 21, 3) about z, x and y in degrees, and the root's path (F, 3) in metres, y up.

    Somebody who steps on the spot, or goes ``far`` metres along z; every joint moves a little.
    """
    rng = np.random.default_rng(seed)
    seconds = np.arange(frames) / rate
    phase = rng.uniform(0, 2 * np.pi, (len(BODY), 3))
    angles = 8 * np.sin(2 * np.pi * speed * seconds[:, None, None] + phase)
    for joint, turn in (("left knee", 30), ("right knee", 30), ("left shoulder", 0), ("right shoulder", 0)):
        angles[:, list(BODY).index(joint), 1] += turn * (1 + np.sin(2 * np.pi * speed * seconds)) / 2
    angles[:, list(BODY).index("left shoulder"), 0] -= 70
    angles[:, list(BODY).index("right shoulder"), 0] += 70
    path = np.zeros((frames, 3))
    path[:, 1], path[:, 2] = 0.95, far * np.arange(frames) / max(frames - 1, 1)
    return angles, path


def turn_about(axis, degrees):
    """(F, 3, 3) right-handed turns."""
    angle, matrix = np.radians(degrees), np.zeros((len(degrees), 3, 3))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, one, one] = matrix[:, two, two] = np.cos(angle)
    matrix[:, two, one], matrix[:, one, two] = np.sin(angle), -np.sin(angle)
    return matrix


def places(angles, path, body=BODY):
    """{joint: (F, 3)} in metres, y up, tips as "JOINT/end": by the definition of BVH alone."""
    found, turns = {}, {}
    for number, (joint, (parent, offset)) in enumerate(body.items()):
        z, x, y = (turn_about(axis, angles[:, number, column]) for column, axis in enumerate((2, 0, 1)))
        own = z @ x @ y
        turns[joint] = own if parent is None else turns[parent] @ own
        found[joint] = path if parent is None else found[parent] + turns[parent] @ np.array(offset, float)
        if joint in TIPS:
            found[joint + "/end"] = found[joint] + turns[joint] @ np.array(TIPS[joint], float)
    return found


def h36m(found):
    """(F, 17, 3) the joints that the command's documentation promises for ``places``."""
    ours = {name: name.replace("_", " ") for name in JOINT_NAMES}
    ours |= {"thorax": "neck", "neck": "head", "head": "head/end"}
    pose = {name: found[theirs] for name, theirs in ours.items() if theirs in found}
    pose["pelvis"] = (found["left hip"] + found["right hip"]) / 2
    way = [pose["pelvis"], found["spine"], found["chest"], found["neck"]]
    lengths = [np.median(np.linalg.norm(b - a, axis=1)) for a, b in itertools.pairwise(way)]
    left = sum(lengths) / 2 - lengths[0]
    assert 0 < left < lengths[1]  # half the way lies between spine and chest
    pose["spine"] = way[1] + (way[2] - way[1]) * left / lengths[1]
    return np.stack([pose[name] for name in JOINT_NAMES], axis=1)


def write_bvh(
    path,
    angles,
    path_of_root,
    *,
    style=MIXAMO,
    added=False,
    unit="cm",
    rate=60.0,
    up="y",
    six=False,
    tips=True,
    frames=None,
):
    """Writes a BVH file; ``up`` "z": a turn above the hips; ``six``, ``added``: places, added to OFFSET."""
    scale, lines, columns = 1 / METRES[unit], ["HIERARCHY"], []
    children = {joint: [each for each, (parent, _) in BODY.items() if parent == joint] for joint in BODY}

    def add(joint, depth):
        pad, number = "\t" * depth, list(BODY).index(joint)
        parent, offset = BODY[joint]
        offset = np.array(offset, float) * scale
        lines.append(f"{pad}{'JOINT' if parent or up == 'z' else 'ROOT'} {named(joint, style)}")
        lines.extend([pad + "{", f"{pad}\tOFFSET " + " ".join(f"{value:.9f}" for value in offset)])
        place = path_of_root * scale if parent is None else np.tile(offset, (len(angles), 1))
        if parent is None or six or added:
            lines.append(f"{pad}\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
            columns.append(place - offset if added else place)
        else:
            lines.append(f"{pad}\tCHANNELS 3 Zrotation Xrotation Yrotation")
        columns.append(angles[:, number])
        for child in children[joint]:
            add(child, depth + 1)
        if joint in TIPS and tips:
            tip = " ".join(f"{value * scale:.9f}" for value in TIPS[joint])
            lines.extend([f"{pad}\tEnd Site", pad + "\t{", f"{pad}\t\tOFFSET {tip}", pad + "\t}"])
        lines.append(pad + "}")

    if up == "z":
        lines += ["ROOT World", "{", "\tOFFSET 0 0 0", "\tCHANNELS 1 Xrotation"]
        columns.append(np.full((len(angles), 1), 90.0))
    add("hips", 1 if up == "z" else 0)
    lines += ["}"] if up == "z" else []
    rows = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(rows) if frames is None else frames}", f"Frame Time: {1 / rate:.9f}"]
    lines += [" ".join(f"{value:.7f}" for value in row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


ASF_NAMES = {
    "hip": "femur", "knee": "tibia", "ankle": "foot", "toe": "toes", "shoulder": "humerus", "elbow": "radius",
    "wrist": "hand",
}  # fmt: skip


def write_asf_amc(asf, amc, angles, path_of_root, *, unit="cmu", seed=3):
    """The same motion as ASF and AMC, every bone with a random axis frame; angles of z, x, y as rx ry rz.

    A bone ends where the next one begins, so that one leads from the hips to each hip, as CMU's lhipjoint.
    """
    from scipy.spatial.transform import Rotation

    rng, scale = np.random.default_rng(seed), 1 / METRES[unit]
    bones, lines = {}, []

    def name_of(joint):
        side, _, kind = joint.rpartition(" ")
        middle = {"spine": "lowerback", "chest": "upperback", "neck": "lowerneck", "head": "head"}
        return middle[kind] if not side else side[0] + ASF_NAMES.get(kind, kind)

    def bone(name, parent, reach, local):
        axis = Rotation.from_euler("xyz", rng.uniform(-90, 90, 3), degrees=True)
        own = None if local is None else (axis.inv() * local * axis).as_euler("xyz", degrees=True)
        bones[name] = (parent, np.array(reach, float) * scale, axis.as_euler("xyz", degrees=True), own)

    def local(joint):
        return Rotation.from_euler("ZXY", angles[:, list(BODY).index(joint)], degrees=True)

    def add(joint, parent):
        children = [each for each, (above, _) in BODY.items() if above == joint]
        own, turn = name_of(joint), local(joint)
        reaches = [BODY[child][1] for child in children] or [TIPS[joint]]
        if len(children) > 1:  # as CMU's thorax: bones of its own lead to each
            bone(own, parent, (0, 0, 0), turn)
            for child, reach in zip(children, reaches, strict=True):
                bone(f"to_{name_of(child)}", own, reach, None)
                add(child, f"to_{name_of(child)}")
        else:
            bone(own, parent, reaches[0], turn)
            for child in children:
                add(child, own)

    for child in [each for each, (above, _) in BODY.items() if above == "hips"]:
        bone(f"to_{name_of(child)}", "root", BODY[child][1], None)
        add(child, f"to_{name_of(child)}")
    root = Rotation.from_euler("ZXY", angles[:, 0], degrees=True).as_euler("xyz", degrees=True)
    lines += ["# made by a test", ":version 1.10", ":name test", ":units", "  mass 1.0", "  length 0.45"]
    lines += ["  angle deg", ":documentation", "   nothing: to say", ":root", "   order TX TY TZ RX RY RZ"]
    lines += ["   axis XYZ", "   position 0 0 0", "   orientation 0 0 0", ":bonedata"]
    for number, (name, (_, reach, axis, own)) in enumerate(bones.items()):
        length = np.linalg.norm(reach)
        direction = reach / length if length else np.array([0, 1.0, 0])
        lines += ["  begin", f"     id {number + 1}", f"     name {name}"]
        lines += ["     direction " + " ".join(f"{v:.12f}" for v in direction), f"     length {length:.9f}"]
        lines += ["     axis " + " ".join(f"{v:.9f}" for v in axis) + "  XYZ"]
        lines += (
            [] if own is None else ["    dof rx ry rz", "    limits (-160.0 20.0)", "           (-70 70)"]
        )
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for parent in ["root", *bones]:
        below = [name for name, (above, *_) in bones.items() if above == parent]
        lines += [f"    {parent} {' '.join(below)}"] if below else []
    asf.parent.mkdir(parents=True, exist_ok=True)
    asf.write_text("\n".join([*lines, "  end", ""]))
    rows = ["#!OML:ASF test", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(len(angles)):
        values = [*path_of_root[frame] * scale, *root[frame]]
        rows += [str(frame + 1), "root " + " ".join(f"{v:.9f}" for v in values)]
        for name, (_, _, _, own) in bones.items():
            rows += [] if own is None else [f"{name} " + " ".join(f"{v:.9f}" for v in own[frame])]
    amc.write_text("\n".join([*rows, ""]))


def make(folder, *options, name="made"):
    """Runs the command on ``folder/raw``; the exit code."""
    source, output = str(folder / "raw"), str(folder / "out")
    return prepare.main(["mocap", "--source", source, "--name", name, "--output", output, *map(str, options)])


def opened(folder, name="made"):
    return read_poses(folder / "out" / name)


def world(poses, sequence):
    """(T, 17, 3) positions in metres, z up, but for where they stand."""
    rows = np.asarray(poses.positions[sequence.start : sequence.stop], dtype=np.float64)
    return rotate(rows, sequence.orientation)


def aligned(found, wanted):
    """``wanted`` moved and turned about z as a whole to where ``found`` is: nothing else may differ."""
    a, b = found - found.mean(axis=(0, 1)), wanted - wanted.mean(axis=(0, 1))
    cross = np.sum(b[..., 0] * a[..., 1] - b[..., 1] * a[..., 0])
    angle = np.arctan2(cross, np.sum(b[..., :2] * a[..., :2]))
    turn = turn_about(2, np.degrees(np.array([angle])))[0]
    return b @ turn.T + found.mean(axis=(0, 1))


def two_takes(folder, **options):
    """Files 01_01 and 02_01, and their angles and paths."""
    takes = {}
    for subject in ("01", "02"):
        takes[f"{subject}_01"] = walk(seed=int(subject))
        write_bvh(folder / "raw" / f"{subject}_01.bvh", *takes[f"{subject}_01"], **options)
    return takes


def expected(angles, path):
    return h36m(places(angles, path)) @ Y_UP_TO_Z_UP.T


def check(folder, takes, tolerance=1e-4):
    """That every camera's view of every take is the motion as it was written."""
    poses, _ = opened(folder)
    assert len(poses.sequences) == 4 * len(takes)
    for sequence in poses.sequences:
        wanted = expected(*takes[sequence.action.split(" ", 1)[1]])
        found = world(poses, sequence)
        np.testing.assert_allclose(found, aligned(found, wanted), atol=tolerance)


# Positions


@pytest.mark.parametrize("style", STYLES)
def test_joints_of_known_rigs_lie_where_forward_kinematics_puts_them(tmp_path, style):
    takes = two_takes(tmp_path, style=STYLES[style])
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    check(tmp_path, takes)


@pytest.mark.parametrize("unit", METRES)
def test_units_are_told_by_the_legs(tmp_path, unit, capsys):
    takes = two_takes(tmp_path, unit=unit)
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    check(tmp_path, takes)
    assert f"unit (--unit): {unit} (2 files)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [{}, {"six": True}, {"added": True}], ids=["turns", "places", "added"])
@pytest.mark.parametrize("up", ["y", "z"])
def test_axis_that_points_up_is_found(tmp_path, up, kind, capsys):
    takes = two_takes(tmp_path, up=up, **kind)
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    check(tmp_path, takes)
    assert f"up (--up): {up} (2 files)" in capsys.readouterr().out


def test_somebody_who_only_lies_has_what_is_up_in_the_other_files(tmp_path):
    two_takes(tmp_path, up="z")
    angles, path = walk()
    angles[:, 0] += [0, 90, 0]  # on the belly, with the head to the front
    write_bvh(tmp_path / "raw" / "01_02.bvh", angles, path, up="z")
    assert make(tmp_path, "--subjects_test", "02") == 0
    poses, facts = opened(tmp_path)
    assert {source["up"] for source in facts["sources"]} == {"z"}
    lying = next(sequence for sequence in poses.sequences if "01_02" in sequence.action)
    assert np.ptp(world(poses, lying)[..., 2]) < 0.8


def test_libraries_forward_kinematics_agree(tmp_path):
    bvhio = pytest.importorskip("bvhio", reason="bvhio has no wheels for this Python")
    angles, path = walk(5)
    write_bvh(tmp_path / "a.bvh", angles, path)
    found, _ = motion.forward(read_bvh(tmp_path / "a.bvh", lambda rig: range(len(rig.names))))
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    rig = read_bvh(tmp_path / "a.bvh", lambda rig: range(len(rig.names))).rig
    for frame in range(5):
        root.loadPose(frame, recursive=True)
        for joint, _, _ in root.layout():
            node = rig.names.index(joint.Name)
            np.testing.assert_allclose(found[frame, node], joint.PositionWorld.to_tuple(), atol=2e-3)


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "YZX", "ZYX", "XZY", "YXZ"])
def test_turns_are_made_in_the_order_of_the_channels(tmp_path, order):
    from scipy.spatial.transform import Rotation

    channels = " ".join(f"{axis}rotation" for axis in order)
    (tmp_path / "a.bvh").write_text(
        f"HIERARCHY\nROOT a\n{{\nOFFSET 0 0 0\nCHANNELS 3 {channels}\nEnd Site\n{{\nOFFSET 1 2 3\n}}\n}}\n"
        "MOTION\nFrames: 1\nFrame Time: 0.01\n20 -130 70\n"
    )
    found, _ = motion.forward(read_bvh(tmp_path / "a.bvh", lambda rig: [1]))
    wanted = Rotation.from_euler(order, [20, -130, 70], degrees=True).apply([1, 2, 3])
    np.testing.assert_allclose(found[0, 1], wanted, atol=1e-12)


def test_asf_and_amc_are_the_same_motion(tmp_path):
    takes = {}
    for subject in ("01", "02"):
        takes[f"{subject}/{subject}_01"] = walk(60, 120.0, seed=int(subject))
        folder = tmp_path / "raw" / subject
        write_asf_amc(
            folder / f"{subject}.asf", folder / f"{subject}_01.amc", *takes[f"{subject}/{subject}_01"]
        )
    assert make(tmp_path, "--fps", 120, "--subjects_test", "02") == 0
    check(tmp_path, takes)
    assert {source["unit"] for source in opened(tmp_path)[1]["sources"]} == {"cmu"}


def test_positions_and_keypoints_are_one_another_through_the_camera(tmp_path):
    two_takes(tmp_path)
    assert make(tmp_path, "--subjects_test", "02") == 0
    poses, _ = opened(tmp_path)
    setups = [camera for cameras in h36m_cameras().values() for camera in cameras]
    for sequence in poses.sequences:
        camera = next(each for each in setups if each.orientation == sequence.orientation)
        rows = slice(sequence.start, sequence.stop)
        pixels = project(poses.positions[rows].astype(np.float64), camera)
        assert pixels.min() > 0 and np.all(pixels < sequence.image_size)
        again = normalize_pixels(pixels, *sequence.image_size)
        np.testing.assert_allclose(poses.keypoints[rows], again, atol=1e-5)
        np.testing.assert_allclose(sequence.intrinsics, camera.intrinsics())


def test_takes_stand_on_the_floor_and_bones_keep_their_length(tmp_path):
    two_takes(tmp_path)
    assert make(tmp_path, "--subjects_test", "02") == 0
    poses, _ = opened(tmp_path)
    for sequence in poses.sequences:
        cameras = [camera for cameras in h36m_cameras().values() for camera in cameras]
        camera = next(each for each in cameras if each.orientation == sequence.orientation)
        pose = world(poses, sequence) + np.array(camera.translation)
        ankles = pose[:, [LEFT_LEG[2], RIGHT_LEG[2]], 2]
        assert 0.04 < ankles.min() < 0.08
        assert np.all(np.abs(pose[:, ROOT, :2].mean(axis=0)) < 0.5)
        rigid = [(joint, parent) for joint, parent in BONES if "spine" not in JOINT_NAMES[joint]]
        for joint, parent in rigid:
            if JOINT_NAMES[joint] not in ("thorax", "left_shoulder", "right_shoulder"):
                assert np.ptp(np.linalg.norm(pose[:, joint] - pose[:, parent], axis=-1)) < 1e-3


def test_a_head_without_a_tip_ends_above_the_skull(tmp_path):
    takes = two_takes(tmp_path, tips=False)
    # Without tips wrists and toes are leaves without "End Site", as exporters of Maya write them.
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    poses, _ = opened(tmp_path)
    for sequence in poses.sequences:
        found = world(poses, sequence)
        wanted = aligned(found, expected(*takes[sequence.action.split(" ")[1]]))
        head = JOINT_NAMES.index("head")
        others = [joint for joint in range(17) if joint != head]
        assert np.abs(found[:, others] - wanted[:, others]).max() < 0.02  # the mean moves with the head
        assert np.linalg.norm(found[:, head] - wanted[:, head], axis=-1).max() < 0.08


def test_a_bvh_file_of_the_demo_is_read_back(tmp_path):
    from common.safe_npz import read_npz
    from common.skeleton import H36M_32_KEPT
    from demo.lib.bvh import save_bvh
    from demo.lib.result import Track

    camera = h36m_cameras()["S9"][0]
    clips = read_npz(REPOSITORY / "dataset" / "sample" / "data_3d_sample.npz")["positions_3d"]["S9"]
    for number, clip in enumerate(("Walk", "Kick"), start=1):
        seen = world_to_camera(clips[clip][:, H36M_32_KEPT].astype(float), camera)
        nothing, pose = np.zeros((len(seen), 17)), (seen - seen[:, :1]).astype(np.float32)
        frames = np.arange(len(seen))
        root = seen[:, 0].astype(np.float32)
        keypoints = np.zeros((len(seen), 17, 2))
        track = Track(1, frames, keypoints, nothing, nothing[:, 0] > 0, pose, pose, root=root)
        (tmp_path / "raw").mkdir(exist_ok=True)
        save_bvh(track, tmp_path / "raw" / f"0{number}_01.bvh", 50.0)
    # Camera space leans forward by the camera's tilt; y is still nearest to up.
    assert make(tmp_path, "--subjects_test", "02") == 0
    poses, _ = opened(tmp_path)
    sequence = poses.sequences[0]
    found, seen = (
        world(poses, sequence),
        world_to_camera(clips["Walk"][:, H36M_32_KEPT].astype(float), camera),
    )
    upright = rotate(seen, (np.sqrt(0.5), np.sqrt(0.5) * -1, 0, 0))  # y down to z up
    np.testing.assert_allclose(found, aligned(found, upright), atol=0.005)


# Rates


def test_mixed_frame_rates_are_brought_to_one(tmp_path, capsys):
    for subject, rate in (("01", 120.0), ("02", 30.0), ("03", 120.0)):
        angles, path = walk(round(2 * rate) + 1, rate, seed=1)
        write_bvh(tmp_path / "raw" / f"{subject}_01.bvh", angles, path + int(subject), rate=rate)
    assert make(tmp_path, "--subjects_test", "03") == 0
    poses, facts = opened(tmp_path)
    assert facts["fps"] == 50 and {len(sequence) for sequence in poses.sequences} == {101}
    wanted = expected(*walk(101, 50.0, seed=1))
    for sequence in poses.sequences:
        found = world(poses, sequence)
        np.testing.assert_allclose(found, aligned(found, wanted), atol=2e-3)
    assert "frames per second of the files: 120 (2 files), 30 (1 files: 02_01.bvh)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Frame Time: 120", "120 looks like frames per second"),
        ("Frame Time: 0", "expected the seconds of a frame"),
        ("Frame Time: -0.01", "expected the seconds of a frame"),
        ("Frame Time: 0.1", "10 frames per second are too few, expected at least 20"),
        ("Frame Time: fast", "line 135: expected a number, found 'fast'"),
        ("Frame Time: nan", "line 135: expected a number, found 'nan'"),
    ],
)
def test_wrong_frame_times_are_named(tmp_path, capsys, line, words):
    two_takes(tmp_path)
    file = tmp_path / "raw" / "02_01.bvh"
    lines = file.read_text().split("\n")
    [number] = [number for number, each in enumerate(lines) if each.startswith("Frame Time")]
    lines[number] = line
    file.write_text("\n".join(lines))
    assert make(tmp_path) == 2
    error = capsys.readouterr().err
    assert "02_01.bvh: " in error and words.replace("135", str(number + 1)) in error
    assert not (tmp_path / "out" / "made").exists()
    if "looks" in words:
        assert make(tmp_path, "--source_fps", 60) == 0


def test_a_motion_too_fast_for_people_is_refused(tmp_path, capsys):
    angles, path = walk(600, speed=9.3)
    write_bvh(tmp_path / "raw" / "01_01.bvh", 6 * angles, path, rate=120)
    write_bvh(tmp_path / "raw" / "02_01.bvh", *walk())
    assert make(tmp_path) == 2
    assert "faster than people can" in capsys.readouterr().err


def test_a_t_pose_before_the_take_is_left_out(tmp_path, capsys):
    takes = two_takes(tmp_path)
    angles, path = takes["01_01"]
    rest = np.concatenate([np.zeros_like(angles[:1]), angles])
    write_bvh(tmp_path / "raw" / "01_01.bvh", rest, np.concatenate([path[:1] * 0, path]))
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    check(tmp_path, takes)
    assert (
        "first frame left out, as no body gets from it to the second: 1 files: 01" in capsys.readouterr().out
    )


# Left and right


@pytest.mark.parametrize("toes", [True, False], ids=["by toes and knees", "by knees"])
def test_exchanged_sides_are_put_right(tmp_path, toes, capsys):
    angles, path = walk()
    style = dict(MIXAMO, left=MIXAMO["right"], right=MIXAMO["left"])
    style |= {} if toes else {"toe": "Tip"}
    write_bvh(tmp_path / "raw" / "01_01.bvh", angles, path, style=style)
    write_bvh(tmp_path / "raw" / "02_01.bvh", angles, path, style=MIXAMO)
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    check(tmp_path, {"01_01": (angles, path), "02_01": (angles, path)})
    assert (
        "left and right exchanged, as knees and toes pointed back: 1 files: 01_01" in capsys.readouterr().out
    )


def test_somebody_who_walks_backward_keeps_left_and_right(tmp_path):
    angles, path = walk(far=-2.0)
    for name in ("01_01", "02_01"):
        write_bvh(tmp_path / "raw" / f"{name}.bvh", angles, path + int(name[:2]))
    assert make(tmp_path, "--subjects_test", "02") == 0
    assert not any(source["mirrored"] for source in opened(tmp_path)[1]["sources"])


# Joint names


def test_unknown_joints_are_named_and_a_joint_map_helps(tmp_path, capsys):
    style = dict(MIXAMO, hip="Oberschenkel", neck="Hals")
    takes = two_takes(tmp_path, style=style)
    assert make(tmp_path) == 2
    error = capsys.readouterr().err
    assert "no joint known as right_hip, left_hip, thorax" in error and "--joint_map" in error
    assert "LeftOberschenkel" in error and "Hals" in error
    names = {"left_hip": "LeftOberschenkel", "right_hip": ["rightoberschenkel"], "thorax": "Hals"}
    (tmp_path / "map.json").write_text(json.dumps(names))
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02", "--joint_map", tmp_path / "map.json") == 0
    check(tmp_path, takes)


def test_a_list_in_the_joint_map_is_the_middle(tmp_path):
    takes = two_takes(tmp_path)
    names = {"pelvis": "Hips", "thorax": ["LeftShoulder", "RightShoulder"], "spine": "Spine1"}
    (tmp_path / "map.json").write_text(json.dumps(names))
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02", "--joint_map", tmp_path / "map.json") == 0
    poses, _ = opened(tmp_path)
    found = places(*takes["01_01"])
    wanted = h36m(found)
    wanted[:, 0], wanted[:, 7] = found["hips"], found["chest"]
    wanted[:, 8] = (found["left collar"] + found["right collar"]) / 2
    seen = world(poses, poses.sequences[0])
    np.testing.assert_allclose(seen, aligned(seen, wanted @ Y_UP_TO_Z_UP.T), atol=1e-4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "list instead of an object"),
        ('{"nose": "Head"}', "'nose', which is none of pelvis"),
        ('{"head": 3}', "no name and no list of names for head"),
        ('{"head": []}', "no name and no list of names for head"),
        ('{"head": ["a", 3]}', "something else than names for head"),
        ("{" * 10, "expected JSON like"),
        ("[" * 100_000, "expected JSON like"),
        ('{"head": "' + "x" * 2_000_000 + '"}', "more than a megabyte"),
        ('{"head": "Crown"}', "no joint 'Crown', which --joint_map names; it has Hips"),
        (b"\xff\xfe\x00", "expected JSON like"),
    ],
)
def test_bad_joint_maps_are_refused(tmp_path, capsys, content, words):
    two_takes(tmp_path)
    file = tmp_path / "map.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert make(tmp_path, "--joint_map", file) == 2
    error = capsys.readouterr().err
    assert words in error and len(error) < 3000


def test_a_knee_that_hangs_elsewhere_is_no_knee(tmp_path, capsys):
    two_takes(tmp_path, style=dict(MIXAMO, knee="Foot", ankle="Leg"))
    assert make(tmp_path) == 2
    assert "LeftFoot was taken for left_ankle and LeftLeg for left_knee" in capsys.readouterr().err


# Split and names


def test_subjects_and_actions_come_from_names(tmp_path):
    folder = tmp_path / "Set"
    cases = {
        "01_02": ("01", "motion"),
        "dataset-1_walk_normal_001": ("Set", "walk"),
        "walk1_subject5": ("subject5", "walk"),
        "HDM_bd_01-01_01_120": ("bd", "motion"),
        "Female1/Female1_A01_Stand": ("Female1", "Stand"),
        "S7/jump 3": ("S7", "jump"),
        "a/b/run": ("b", "run"),
    }
    for name, (subject, action) in cases.items():
        source = Source(folder / f"{name}.bvh", name)
        assert mocap_files.subject(source, folder) == subject
        assert mocap_files.action(source, subject) == action
    source = Source(folder / "x" / "anna_walk.bvh", "x/anna_walk")
    assert mocap_files.subject(source, folder, "prefix") == "anna"
    assert mocap_files.subject(source, folder, "folder") == "x"


def test_a_split_by_file_follows_from_the_names_alone(tmp_path):
    for number in range(10):
        write_bvh(tmp_path / "raw" / f"dance_{number}.bvh", *walk(8, seed=number))
    assert make(tmp_path, "--test_share", 0.3) == 0
    poses, facts = opened(tmp_path)
    assert facts["train"] == ["raw"] and facts["test"] == ["raw-test"]
    tested = {sequence.action for sequence in poses.sequences if sequence.subject == "raw-test"}
    trained = {sequence.action for sequence in poses.sequences if sequence.subject == "raw"}
    assert len(tested) == 3 and len(trained) == 7 and not tested & trained
    order = [sequence.subject for sequence in poses.sequences]
    assert order == sorted(order)  # training subjects first
    assert make(tmp_path, "--test_share", 0.3, name="again") == 0
    assert {s.action for s in opened(tmp_path, "again")[0].sequences if s.subject == "raw-test"} == tested


def test_the_data_set_is_found_by_its_name(tmp_path):
    two_takes(tmp_path)
    assert make(tmp_path, "--subjects_test", "02", "--origin", "made by a test, CC0") == 0
    dataset = dataset_named("made", tmp_path / "out")
    assert dataset.train == ("01",) and dataset.test == ("02",) and dataset.keypoints == "gt"
    assert dataset.origin == "made by a test, CC0"
    poses = open_prepared(dataset, tmp_path / "out")
    assert len(poses.subjects(["01"])) == len(poses.subjects(["02"])) == 4 * 100
    assert {sequence.action_name for sequence in poses.sequences} == {"motion"}
    sources = opened(tmp_path)[1]["sources"]
    for source in sources:
        content = (tmp_path / "raw" / source["file"]).read_bytes()
        assert source["digest"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--subjects_test", "02,07"], "there is no 07; the files have 01, 02"),
        (["--test_share", "1"], "--test_share 1: expected a share"),
        (["--test_share", "0.2", "--subjects_test", "01"], "one of the two splits the files"),
        (["--fps", "0"], "--fps 0: expected 5 to 240"),
        (["--fps", "nan"], "--fps nan: expected 5 to 240"),
        (["--unit", "m"], "legs are 85.05 long from hip to ankle, in m that is 85 m"),
        (["--source_fps", "3"], "frames per second"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, capsys, options, words):
    two_takes(tmp_path)
    assert make(tmp_path, *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "made").exists()


@pytest.mark.parametrize("name", ["h36m", "sample", "3dhp", "../x", "a/b", ".x", "", "-x"])
def test_names_that_are_paths_or_taken_are_refused(tmp_path, name, capsys):
    two_takes(tmp_path)
    source, output = str(tmp_path / "raw"), str(tmp_path / "out")
    options = ["mocap", "--source", source, f"--name={name}", "--output", output]
    assert prepare.main(options) == 2
    assert "--name" in capsys.readouterr().err


def test_a_data_set_is_never_overwritten(tmp_path, capsys):
    two_takes(tmp_path)
    assert make(tmp_path) == 0
    assert make(tmp_path) == 2
    assert "is there already" in capsys.readouterr().err


def test_copies_of_a_file_are_not_in_both_parts(tmp_path, capsys):
    two_takes(tmp_path)
    (tmp_path / "raw" / "03_01.bvh").write_bytes((tmp_path / "raw" / "01_01.bvh").read_bytes())
    assert make(tmp_path) == 0
    assert "left out: 03_01.bvh: the same, byte for byte, as 01_01.bvh" in capsys.readouterr().out
    assert len(opened(tmp_path)[1]["sources"]) == 2


def test_an_amc_file_is_preferred_to_its_own_conversion(tmp_path):
    two_takes(tmp_path)
    write_asf_amc(tmp_path / "raw" / "01.asf", tmp_path / "raw" / "01_01.amc", *walk(60, 120.0))
    assert make(tmp_path, "--subjects_test", "02") == 0
    assert [source["file"] for source in opened(tmp_path)[1]["sources"]] == ["01_01.amc", "02_01.bvh"]


def test_links_in_a_circle_and_pipes_do_not_hang(tmp_path):
    two_takes(tmp_path)
    (tmp_path / "raw" / "deeper").mkdir()
    (tmp_path / "raw" / "deeper" / "back").symlink_to(tmp_path / "raw", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    write_bvh(tmp_path / "elsewhere" / "03_01.bvh", *walk(seed=9))
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    os.mkfifo(tmp_path / "raw" / "04_01.bvh")
    found = [source.name for source in mocap_files.find(tmp_path / "raw")]
    assert found == ["01_01", "02_01", "linked/03_01"]


# Who roams


def test_a_take_that_roams_is_cut_and_every_piece_is_in_view(tmp_path):
    takes = {"01_01": walk(600, far=12.0), "02_01": walk()}
    for name, take in takes.items():
        write_bvh(tmp_path / "raw" / f"{name}.bvh", *take)
    assert make(tmp_path, "--fps", 60, "--subjects_test", "02") == 0
    poses, facts = opened(tmp_path)
    pieces = [sequence for sequence in poses.sequences if sequence.subject == "01" and sequence.camera == 0]
    assert len(pieces) >= 4
    assert [piece.first_frame for piece in pieces] == [sum(map(len, pieces[:n])) for n in range(len(pieces))]
    assert sum(map(len, pieces)) == 600 and not any(s["frames_out_of_view"] for s in facts["sources"])
    wanted = expected(*takes["01_01"])
    for piece in pieces:
        found = world(poses, piece)
        cut = wanted[piece.first_frame : piece.first_frame + len(piece)]
        np.testing.assert_allclose(found, aligned(found, cut), atol=1e-4)
    size = np.array(pieces[0].image_size)
    pixels = (poses.keypoints + np.array([1, size[1] / size[0]])) * size[0] / 2
    assert pixels.min() > 0 and pixels.max() < 1002


def test_what_is_seen_keeps_a_margin_and_who_is_too_far_is_not_seen():
    pose = expected(*walk(4))
    placed = placing.place(pose, heading=0.3, floor=float(pose[..., 2].min()))
    cameras = h36m_cameras()["S1"]
    for metres in np.linspace(0, 30, 301):
        there = placed + np.array([metres, 0, 0])
        seen = placing.views(there, cameras)
        pixels = np.stack([project(world_to_camera(there, camera), camera) for camera in cameras])
        assert seen is None or (pixels.min() > 15 and pixels.max() < 1000 - 15)
        assert seen is None or metres < 2
    assert placing.views(placed, cameras) is not None


def test_what_no_heading_brings_into_view_is_left_out():
    pose = expected(*walk(64))
    pose[32:, :, 2] += 10 * np.arange(32)[:, None]  # up and away
    headings = iter(lambda: 0.5, None)
    pieces = list(placing.placed(pose, h36m_cameras()["S1"], headings, floor=0.0))
    assert [(start, len(seen[0][0])) for start, seen in pieces] == [(0, 32)]


# Damage


def _damage(folder, change):
    file = folder / "raw" / "02_01.bvh"
    file.write_text(change(file.read_text()))


CASES = {
    "cut in a frame": (lambda text: text[: len(text) // 2], "numbers, found"),
    "cut between frames": (
        lambda text: "\n".join(text.split("\n")[:-5]) + "\n",
        "expected 120 frames, as its header says, found 116; the file is cut off",
    ),
    "cut in the skeleton": (lambda text: text[:700], "the file ends there"),
    "empty": (lambda text: "", "expected HIERARCHY, as BVH files begin, found ''"),
    "no BVH": (lambda text: "<html>" + text, "line 1: expected HIERARCHY"),
    "no frames": (lambda text: text.split("Frame Time")[0] + "Frame Time: 0.01\n", "found 0"),
    "too many claimed": (
        lambda text: text.replace("Frames: 120", "Frames: 999999999"),
        "expected 999,999,999 frames, as its header says, found 120",
    ),
    "too few claimed": (lambda text: text.replace("Frames: 120", "Frames: 12"), "expected 12 frames"),
    "negative": (lambda text: text.replace("Frames: 120", "Frames: -1"), "Frames: and a whole number"),
    "a word": (lambda text: text.rsplit(" ", 1)[0] + " #QNAN\n", "expected 66 numbers, found '#QNAN'"),
    "NaN": (lambda text: text.rsplit(" ", 1)[0] + " nan\n", "in 1 frames, the first is frame 120"),
    "infinity": (lambda text: text.rsplit(" ", 1)[0] + " 1e999\n", "NaN, infinity or numbers above"),
    "brackets": (lambda text: text.replace("}", "", 1), "expected a skeleton whose every {"),
    "channels": (lambda text: text.replace("CHANNELS 3", "CHANNELS 4", 1), "expected CHANNELS, their number"),
    "offset": (lambda text: text.replace("OFFSET", "OFFSET x", 1), "expected a number, found 'x'"),
    "two people": (lambda text: text.replace("MOTION", "ROOT b\n{\nOFFSET 0 0 0\n}\nMOTION"), "one ROOT"),
    "all zero": (
        lambda text: "\n".join(
            "OFFSET 0 0 0" if "OFFSET" in line else line for line in text.split("\n")
        ),
        "legs are 0 long from hip to ankle",
    ),
    "binary": (lambda text: "\0" * 5000, "expected HIERARCHY"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path, capsys, case):
    change, words = CASES[case]
    two_takes(tmp_path)
    _damage(tmp_path, change)
    assert make(tmp_path) == 2
    error = capsys.readouterr().err
    assert "1 of 2 files cannot be used" in error and "02_01.bvh: " in error and words in error
    assert "01_01" not in error and "Traceback" not in error
    assert not (tmp_path / "out" / "made").exists()


def test_bad_files_can_be_skipped_and_are_listed(tmp_path, capsys):
    two_takes(tmp_path)
    write_bvh(tmp_path / "raw" / "03_01.bvh", *walk(seed=3))
    _damage(tmp_path, lambda text: text[:-500])
    assert make(tmp_path, "--skip_bad") == 0
    out = capsys.readouterr().out
    assert "left out: 02_01.bvh: line" in out
    assert [source["file"] for source in opened(tmp_path)[1]["sources"]] != []
    assert len(opened(tmp_path)[1]["left_out"]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda asf, amc: (asf, amc[: len(amc) // 2]), "cut off there"),
        (lambda asf, amc: (asf, amc.rsplit("\n", 4)[0] + "\n"), "the file is cut off there"),
        (lambda asf, amc: (asf, amc.replace("\n7\n", "\n8\n")), "frame 7: expected its number"),
        (lambda asf, amc: (asf, amc.replace("lfemur", "lfemor")), "'lfemor', which the skeleton lacks"),
        (lambda asf, amc: (asf, amc.replace("lfemur ", "lfemur nan ", 1)), "frame 1: expected lfemur and 3"),
        (lambda asf, amc: (asf, "".join(amc.split("\n")[:3])), "expected frames of an AMC file"),
        (lambda asf, amc: (asf.split(":hierarchy")[0], amc), "no section :hierarchy; is it cut off?"),
        (lambda asf, amc: (asf.replace("length", "length x", 3), amc), "expected 1 numbers"),
        (lambda asf, amc: (asf.replace("XYZ\n    dof", "XXZ\n    dof", 1), amc), "an axis order like XYZ"),
        (lambda asf, amc: (asf.replace("root to_lfemur", "root"), amc), "do not hang on the root: to_lfemur"),
        (lambda asf, amc: (asf.replace("rx ry rz", "rx ry l", 1), amc), "degrees of freedom like rx"),
    ],
)  # fmt: skip
def test_damaged_asf_and_amc_are_named(tmp_path, capsys, change, words):
    asf, amc = tmp_path / "raw" / "01.asf", tmp_path / "raw" / "01_01.amc"
    write_asf_amc(asf, amc, *walk(20, 120.0))
    write_bvh(tmp_path / "raw" / "02_01.bvh", *walk())
    for path, text in zip((asf, amc), change(asf.read_text(), amc.read_text()), strict=True):
        path.write_text(text)
    assert make(tmp_path) == 2
    error = capsys.readouterr().err
    assert "01_01.amc: " in error and words in error


def test_an_amc_file_without_a_skeleton_is_named(tmp_path, capsys):
    two_takes(tmp_path)
    (tmp_path / "raw" / "05_01.amc").write_text("1\nroot 0 0 0 0 0 0\n")
    assert make(tmp_path) == 2
    assert "05_01.amc: no skeleton: expected one .asf file" in capsys.readouterr().err


def test_memory_is_not_taken_on_a_headers_word(tmp_path):
    import tracemalloc

    write_bvh(tmp_path / "a.bvh", *walk(), frames=10**12)
    tracemalloc.start()
    try:
        with pytest.raises(motion.DataError):
            read_bvh(tmp_path / "a.bvh", lambda rig: [0])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_skeletons_as_deep_as_allowed_are_read_and_deeper_ones_refused(tmp_path):
    def deep(levels):
        head = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n"
        body = "".join(f"JOINT j{n}\n{{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n" for n in range(levels))
        motion_part = "MOTION\nFrames: 1\nFrame Time: 0.01\n" + "0 " * levels + "\n"
        (tmp_path / "deep.bvh").write_text(head + body + "}\n" * (levels + 1) + motion_part)
        return read_bvh(tmp_path / "deep.bvh", lambda rig: [len(rig.names) - 1])

    assert motion.forward(deep(1500))[0][0, -1, 1] == 1500
    with pytest.raises(motion.DataError, match="at most 2000 joints"):
        deep(3000)


def test_no_files_and_no_folder_are_named(tmp_path, capsys):
    assert make(tmp_path) == 2
    assert "there is none" in capsys.readouterr().err
    (tmp_path / "raw").mkdir()
    assert make(tmp_path) == 2
    assert "found none" in capsys.readouterr().err


# Killed runs


def _digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


KILLED = """
import itertools, os, signal, sys
from dataset import mocap_takes, mocap_views, parts, prepare
owner, name, last = {
    "reading": (mocap_takes, "read_bvh", 4),
    "keeping": (os, "replace", 4),
    "placing": (mocap_views, "placed", 3),
    "finishing": (os, "rename", 1),
}[sys.argv[1]]
calls, called = itertools.count(1), getattr(owner, name)
def until_killed(*args, **keywords):
    if next(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return called(*args, **keywords)
setattr(owner, name, until_killed)
sys.exit(prepare.main(sys.argv[2:]))
"""
"""Runs the command, and kills itself at the given call."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A folder with files and the data set of them."""
    folder = tmp_path_factory.mktemp("unbroken")
    for number in range(6):
        write_bvh(folder / "raw" / f"{number % 3:02}_{number:02}.bvh", *walk(30, seed=number))
    assert make(folder, "--subjects_test", "02") == 0
    return folder


@pytest.mark.parametrize(("at", "kept"), [("reading", 3), ("keeping", 3), ("placing", 6), ("finishing", 6)])
def test_a_killed_run_goes_on_and_makes_the_same_bytes(unbroken, tmp_path, at, kept):
    options = ["mocap", "--source", unbroken / "raw", "--name", "made", "--output", tmp_path / "out"]
    options = [*map(str, options), "--subjects_test", "02"]
    command = [sys.executable, "-c", KILLED, at, *options]
    killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    parts = tmp_path / "out" / ".made-parts"
    assert len(list(parts.glob("*.npz"))) == kept and not (tmp_path / "out" / "made").exists()
    assert prepare.main(options) == 0
    assert _digests(tmp_path / "out" / "made") == _digests(unbroken / "out" / "made")
    assert not parts.exists()


def test_parts_of_a_killed_run_are_taken_and_a_changed_file_is_read_again(tmp_path, monkeypatch):
    from dataset import mocap_takes

    two_takes(tmp_path)
    read = []
    monkeypatch.setattr(
        mocap_takes, "read_bvh", lambda path, *a, **k: (read.append(path.stem), read_bvh(path, *a, **k))[1]
    )

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataset.mocap.write_poses", die)
        assert make(tmp_path) == 130
        assert read == ["01_01", "02_01"]
        write_bvh(tmp_path / "raw" / "02_01.bvh", *walk(seed=77))
        assert make(tmp_path) == 130
        assert read == ["01_01", "02_01", "02_01"]
    assert make(tmp_path, "--fps", 25) == 0  # other parts are needed
    assert read[3:] == ["01_01", "02_01"] and opened(tmp_path)[1]["fps"] == 25
    assert not list((tmp_path / "out").glob(".*"))


def test_a_full_disk_leaves_no_data_set(tmp_path, monkeypatch, capsys):
    two_takes(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dataset.mocap.write_poses", full)
        assert make(tmp_path) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert make(tmp_path) == 0


# What the tables say


def test_the_readme_has_the_table_of_names():
    readme = (REPOSITORY / "dataset" / "README.md").read_text()
    assert mocap_joints.documented() in readme
    for unit in mocap_poses.UNITS:
        assert f"`{unit}`" in readme


def test_mirror_of_a_pose_is_found_mirrored():
    angles, path = walk()
    pose = h36m(places(angles, path))
    points = np.zeros((len(pose), 1, 3))
    assert not mocap_poses.is_mirrored(pose, points, {})
    assert mocap_poses.is_mirrored(pose[:, MIRROR], points, {})
    assert mocap_poses.is_mirrored(pose * [-1, 1, 1], points, {})


def test_amc_radians_are_read(tmp_path):
    angles, path = walk(10, 120.0)
    write_asf_amc(tmp_path / "a.asf", tmp_path / "a.amc", angles, path)
    lines = (tmp_path / "a.amc").read_text().replace(":DEGREES", ":RADIANS").split("\n")
    turned = []
    for line in lines:
        name, *values = line.split() or [""]
        if values and name != "#!OML:ASF":
            skip = 3 if name == "root" else 0
            numbers = [float(v) for v in values]
            numbers[skip:] = np.radians(numbers[skip:])
            line = f"{name} " + " ".join(f"{v:.12f}" for v in numbers)
        turned.append(line)
    (tmp_path / "b.amc").write_text("\n".join(turned))
    both = [
        read_amc(tmp_path / f"{n}.amc", tmp_path / "a.asf", lambda rig: range(len(rig.names))) for n in "ab"
    ]
    np.testing.assert_allclose(motion.forward(both[0])[0], motion.forward(both[1])[0], atol=1e-6)

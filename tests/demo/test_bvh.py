"""BVH files, read back by two other readers: the library bvhio and the few lines here."""

from pathlib import Path

import numpy as np
import pytest

from common.camera import h36m_cameras, world_to_camera
from common.safe_npz import read_npz
from common.skeleton import BONES, H36M_32_KEPT, JOINT_NAMES
from dataset.sample import make
from demo.lib.bvh import save_bvh
from demo.lib.result import Track

SAMPLE = Path(make.__file__).parent / "data_3d_sample.npz"
MILLIMETRE = 0.001
CAMERA = h36m_cameras()["S9"][0]


@pytest.fixture(scope="module")
def takes():
    """Camera-space positions (F, 17, 3) of one test subject's clips, metres."""
    clips = read_npz(SAMPLE)["positions_3d"]["S9"]
    return {
        name: world_to_camera(slots[:, H36M_32_KEPT].astype(float), CAMERA) for name, slots in clips.items()
    }


def as_track(positions, frames=None, root=True):
    count = len(positions)
    poses = positions - positions[:, :1]
    nothing = np.zeros((count, 17))
    return Track(
        id=1,
        frames=np.arange(count) if frames is None else np.array(frames),
        keypoints=np.zeros((count, 17, 2)),
        scores=nothing,
        interpolated=np.zeros(count, bool),
        poses=poses.astype(np.float32),
        upright=poses,
        root=positions[:, 0] if root else None,
    )


def relaid(positions):
    """The poses with every bone at its median length and in its own direction, from the root outwards."""
    laid = positions.copy()
    for joint, parent in BONES:
        bone = positions[:, joint] - positions[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        laid[:, joint] = laid[:, parent] + bone / np.maximum(length, 1e-12) * np.median(length)
    return laid


def to_camera(positions):
    """From the file's axes (x right, y up, z toward the camera), centimetres, to camera space, metres."""
    return positions * [0.01, -0.01, -0.01]


def forward_kinematics(path):
    """{name: (F, 3)} positions in the file's axes, by the definition of BVH alone."""
    head, motion = Path(path).read_text().split("MOTION")
    stack, nodes = [], []
    for words in map(str.split, head.splitlines()):
        if words[0] in ("ROOT", "JOINT", "End"):
            nodes.append({"name": words[1], "parent": stack[-1] if stack else None, "channels": []})
            stack.append(nodes[-1])
        elif words[0] == "OFFSET":
            stack[-1]["offset"] = np.array(words[1:], float)
        elif words[0] == "CHANNELS":
            stack[-1]["channels"] = words[2:]
        elif words[0] == "}":
            stack.pop()
    lines = motion.strip().splitlines()
    values = np.array([line.split() for line in lines[2:]], float)
    assert lines[0] == f"Frames: {len(values)}"
    used = 0
    for node in nodes:
        shift = np.tile(node["offset"], (len(values), 1))
        turn = np.broadcast_to(np.eye(3), (len(values), 3, 3))
        for channel in node["channels"]:
            axis, value = "XYZ".index(channel[0]), values[:, used]
            used += 1
            if channel.endswith("position"):
                shift[:, axis] += value
            else:
                turn = turn @ about(axis, np.radians(value))
        above = node["parent"]
        node["turn"] = above["turn"] @ turn if above else turn
        node["position"] = (
            above["position"] + np.einsum("fij,fj->fi", above["turn"], shift) if above else shift
        )
    assert used == values.shape[1]
    return {node["name"]: node["position"] for node in nodes}


def about(axis, angle):
    """(F, 3, 3) right-handed turns about x, y or z."""
    turn = np.zeros((len(angle), 3, 3))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    turn[:, axis, axis] = 1
    turn[:, one, one] = turn[:, two, two] = np.cos(angle)
    turn[:, two, one], turn[:, one, two] = np.sin(angle), -np.sin(angle)
    return turn


def joints(path):
    """(F, 17, 3) camera-space positions, metres, of a file read back."""
    found = forward_kinematics(path)
    return to_camera(np.stack([found[name] for name in JOINT_NAMES], axis=1))


@pytest.mark.parametrize("take", ["Walk", "Kick", "DanceB", "GetupFaceup"])
def test_real_motion_read_back_is_within_a_millimetre(takes, tmp_path, take):
    positions = takes[take]
    save_bvh(as_track(positions), tmp_path / "walk.bvh", 50.0)
    away = np.linalg.norm(joints(tmp_path / "walk.bvh") - relaid(positions), axis=-1)
    assert away.max() < MILLIMETRE


def test_a_library_reads_the_same_positions(takes, tmp_path):
    bvhio = pytest.importorskip("bvhio", reason="bvhio has no wheels for this Python")
    positions = takes["Walk"]
    save_bvh(as_track(positions), tmp_path / "walk.bvh", 50.0)
    container = bvhio.readAsBvh(str(tmp_path / "walk.bvh"))
    assert container.FrameCount == len(positions) and container.FrameTime == pytest.approx(0.02)
    root = bvhio.readAsHierarchy(str(tmp_path / "walk.bvh"))
    wanted = relaid(positions)
    for frame in (0, 20, len(positions) - 1):
        root.loadPose(frame, recursive=True)
        found = {joint.Name: np.array(joint.PositionWorld.to_tuple()) for joint, _, _ in root.layout()}
        found = to_camera(np.stack([found[name] for name in JOINT_NAMES]))
        assert np.linalg.norm(found - wanted[frame], axis=-1).max() < MILLIMETRE


def test_bones_that_change_length_and_angle_are_laid_in_their_own_direction(tmp_path):
    # Lifted poses are not rigid: neither at the hips nor at the shoulders.
    positions = np.random.default_rng(0).normal(size=(40, 17, 3))
    save_bvh(as_track(positions), tmp_path / "wild.bvh", 25.0)
    assert np.abs(joints(tmp_path / "wild.bvh") - relaid(positions)).max() < MILLIMETRE


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_straight_back_and_quarter_turns_are_exact(takes, tmp_path, axis):
    # Every bone along one axis or against it: rotations by half turns, and those that lock Euler angles.
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(60, 17))
    positions = np.zeros((60, 17, 3))
    for joint, parent in BONES:
        positions[:, joint] = positions[:, parent] + 0.3 * signs[:, joint, None] * np.array(axis)
    save_bvh(as_track(positions), tmp_path / "straight.bvh", 25.0)
    assert np.abs(joints(tmp_path / "straight.bvh") - positions).max() < MILLIMETRE


def test_joints_that_coincide_leave_no_holes_in_the_numbers(takes, tmp_path):
    positions = takes["Walk"].copy()
    positions[3, 3] = positions[3, 2]
    positions[:, 10] = positions[:, 9]
    save_bvh(as_track(positions), tmp_path / "odd.bvh", 50.0)
    found, wanted = joints(tmp_path / "odd.bvh"), relaid(positions)
    assert np.isfinite(found).all() and np.abs(found - wanted)[4:].max() < MILLIMETRE
    save_bvh(as_track(np.zeros((2, 17, 3))), tmp_path / "point.bvh", 50.0)
    assert (joints(tmp_path / "point.bvh") == 0).all()


def test_axes_are_those_documented(tmp_path):
    # Somebody who stands upright and faces the camera: their left is on the camera's right.
    pose = np.zeros((1, 17, 3))
    places = {"left_hip": (0.1, 0, 0), "left_ankle": (0.1, 0.8, -0.2)}
    places |= {"spine": (0, -0.3, 0), "thorax": (0, -0.5, 0), "head": (0, -0.7, 0)}
    for name, place in places.items():
        pose[0, JOINT_NAMES.index(name)] = place
    save_bvh(as_track(pose, root=False), tmp_path / "axes.bvh", None)
    content = (tmp_path / "axes.bvh").read_text().split("\n")
    assert content[1] == "ROOT pelvis" and "Xposition Yposition Zposition Zrotation Xrotation" in content[4]
    found = forward_kinematics(tmp_path / "axes.bvh")
    np.testing.assert_allclose(found["left_hip"][0], (10, 0, 0), atol=1e-3)
    assert found["head"][0, 1] > 50 and found["left_ankle"][0, 1] < -50 and found["left_ankle"][0, 2] > 10


def test_the_root_rests_at_the_origin_where_it_is_not_estimated(takes, tmp_path):
    positions = takes["Walk"]
    save_bvh(as_track(positions, root=False), tmp_path / "still.bvh", 50.0)
    found = joints(tmp_path / "still.bvh")
    assert (found[:, 0] == 0).all()
    assert np.abs(found - relaid(positions - positions[:, :1])).max() < MILLIMETRE


def test_frames_without_the_person_hold_the_pose_before(takes, tmp_path):
    positions = takes["Walk"][:3]
    save_bvh(as_track(positions, frames=[4, 5, 8]), tmp_path / "gap.bvh", 50.0)
    assert np.abs(joints(tmp_path / "gap.bvh") - relaid(positions)[[0, 1, 1, 1, 2]]).max() < MILLIMETRE


def test_angles_run_on_over_half_a_turn(tmp_path, takes):
    angle = np.linspace(0, 4 * np.pi, 80)
    spin = about(1, angle) @ (takes["Walk"][0] - takes["Walk"][0, 0]).T  # (80, 3, 17)
    save_bvh(as_track(spin.swapaxes(1, 2), root=False), tmp_path / "spin.bvh", 25.0)
    motion = (tmp_path / "spin.bvh").read_text().split("Frame Time")[1].splitlines()[1:]
    values = np.array([line.split() for line in motion], float)
    assert np.abs(np.diff(values, axis=0)).max() < 180
    assert np.ptp(values[:, 5]) == pytest.approx(720, abs=20)

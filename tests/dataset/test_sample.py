"""The sample data set: the shipped files, and the code that makes them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from common.camera import h36m_cameras, project, world_to_camera
from common.safe_npz import read_npz
from common.skeleton import BONES, H36M_32_KEPT, JOINT_NAMES, LEFT, MIRROR, NECK, RIGHT, ROOT
from dataset.sample import make
from dataset.sample.deepmimic import CHANNELS, Motion, joints, read_motion, read_skeleton, resample, slerp

FOLDER = Path(make.__file__).parent
FILES = [FOLDER / "data_3d_sample.npz", FOLDER / "data_2d_sample_gt.npz"]
TRAIN, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = 1, 2, 3, 4, 5, 6
SPINE, THORAX, HEAD = 7, 8, 10
UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def positions():
    return read_npz(FILES[0])["positions_3d"]


@pytest.fixture(scope="module")
def keypoints():
    return read_npz(FILES[1])["positions_2d"]


def poses(positions):
    """Subject, clip and (F, 17, 3) of every take."""
    for subject, takes in positions.items():
        for clip, slots in takes.items():
            yield subject, clip, slots[:, H36M_32_KEPT].astype(np.float64)


def bone_lengths(pose):
    """(F, 17); the root's is 0."""
    lengths = np.zeros(pose.shape[:2])
    for joint, parent in BONES:
        lengths[:, joint] = np.linalg.norm(pose[:, joint] - pose[:, parent], axis=-1)
    return lengths


# The shipped files


def test_files_are_small_and_those_of_the_readme():
    readme = (FOLDER / "README.md").read_text()
    assert sum(path.stat().st_size for path in FILES) < 3_000_000
    for path in FILES:
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in readme


def test_readme_counts_are_those_of_the_files(positions):
    readme = (FOLDER / "README.md").read_text()
    assert make.count_table(positions) in readme
    frames = sum(len(slots) for subject in TRAIN for slots in positions[subject].values())
    assert f"An epoch has {2 * 4 * frames:,} training samples: {frames:,} frames" in readme


def test_layout_is_that_of_the_fields_files(positions, keypoints):
    assert set(positions) == set(keypoints) == {*TRAIN, *TEST}
    for subject, takes in positions.items():
        assert list(takes) == list(keypoints[subject])
        for clip, slots in takes.items():
            assert slots.dtype == np.float32 and slots.shape[1:] == (32, 3)
            views = keypoints[subject][clip]
            assert [view.shape for view in views] == [(len(slots), 17, 2)] * 4
            assert all(view.dtype == np.float32 for view in views)
    metadata = read_npz(FILES[1])["metadata"]
    assert metadata["layout_name"] == "h36m" and metadata["num_joints"] == 17
    assert [tuple(side) for side in metadata["keypoints_symmetry"]] == [LEFT, RIGHT]
    with np.load(FILES[0], allow_pickle=True) as stored:  # as the field's own code opens it
        assert stored["positions_3d"].item()["S9"]["Walk"].shape == positions["S9"]["Walk"].shape


def test_test_clips_are_not_trained_on(positions):
    trained = {clip for subject in TRAIN for clip in positions[subject]}
    tested = {clip for subject in TEST for clip in positions[subject]}
    assert trained and tested and not trained & tested


def test_bones_keep_their_length_and_both_sides_agree(positions):
    for subject, clip, pose in poses(positions):
        lengths = bone_lengths(pose)
        assert np.ptp(lengths, axis=0).max() < 0.002, (subject, clip)
        np.testing.assert_allclose(lengths, lengths[:, MIRROR], atol=0.002, err_msg=f"{subject} {clip}")


def test_bodies_have_human_size(positions):
    for subject, clip, pose in poses(positions):
        lengths = bone_lengths(pose)[0]
        legs = lengths[RIGHT_KNEE] + lengths[RIGHT_ANKLE]
        trunk = lengths[[SPINE, THORAX, NECK, HEAD]].sum()
        assert 1.5 < legs + trunk < 1.9, (subject, clip)


def test_takes_stand_on_the_floor_around_the_origin(positions):
    for subject, clip, pose in poses(positions):
        ankle = pose[:, [LEFT_ANKLE, RIGHT_ANKLE], 2].min()
        assert 0.05 < ankle < 0.1, (subject, clip)
        assert pose[..., 2].min() > -0.05, (subject, clip)
        assert np.all(np.abs(pose[:, ROOT, :2].mean(axis=0)) < 0.5), (subject, clip)


def test_keypoints_are_the_projected_positions_and_inside_the_images(positions, keypoints):
    for subject, clip, pose in poses(positions):
        for camera, pixels in zip(h36m_cameras()[subject], keypoints[subject][clip], strict=True):
            points = world_to_camera(pose, camera)
            assert points[..., 2].min() > 1
            # Pixels are rounded to an eighth.
            np.testing.assert_allclose(pixels, project(points, camera), atol=1 / 16 + 1e-3)
            assert pixels.min() > 0 and np.all(pixels < [camera.width, camera.height])


def test_walkers_go_where_right_and_left_say_that_they_face(positions):
    seen = 0
    for _, clip, pose in poses(positions):
        if clip in ("Walk", "WalkForward", "Run"):
            left = pose[:, LEFT_HIP] - pose[:, RIGHT_HIP]
            forward = np.cross(left.mean(axis=0), UP)
            way = pose[-1, ROOT] - pose[0, ROOT]
            assert forward @ way / np.linalg.norm(forward) / np.linalg.norm(way) > 0.9
            seen += 1
    assert seen >= 7


def test_takes_turn_to_the_side_in_their_name(positions):
    for _, clip, pose in poses(positions):
        if clip.startswith("Turn"):
            left = pose[:, LEFT_HIP, :2] - pose[:, RIGHT_HIP, :2]
            heading = np.unwrap(np.arctan2(left[:, 1], left[:, 0]))
            assert (heading[-1] > heading[0]) == clip.startswith("TurnLeft")


def test_knees_bend_backwards_elbows_forwards_and_the_nose_is_in_front(positions):
    shoulders = JOINT_NAMES.index("left_shoulder"), JOINT_NAMES.index("right_shoulder")
    for subject in TEST:
        pose = positions[subject]["Walk"][:, H36M_32_KEPT]
        forward = np.cross(pose[:, LEFT_HIP] - pose[:, RIGHT_HIP], UP)
        for first, sign in ((LEFT_HIP, -1), (RIGHT_HIP, -1), (shoulders[0], 1), (shoulders[1], 1)):
            bones = np.diff(pose[:, first : first + 3], axis=1)  # (F, 2, 3): upper, lower
            bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
            bend = np.sum((bones[:, 1] - bones[:, 0]) * forward, axis=-1)
            assert np.all(sign * bend > 0), (subject, JOINT_NAMES[first])
        nose = pose[:, NECK] - (pose[:, THORAX] + pose[:, HEAD]) / 2
        assert np.all(np.sum(nose * forward, axis=-1) > 0)


# The code that makes them, on a skeleton and motions of a few numbers

URDF_JOINTS = {
    "root": ("base", (0, 0, 0)),
    "chest": ("root", (0, 1, 0)),
    "neck": ("chest", (0, 0.9, 0)),
    "right_hip": ("root", (0, 0, 0.4)),
    "right_knee": ("right_hip", (0, -1.7, 0)),
    "right_ankle": ("right_knee", (0, -1.6, 0)),
    "right_shoulder": ("chest", (-0.1, 1, 0.7)),
    "right_elbow": ("right_shoulder", (0, -1.1, 0)),
    "right_wrist": ("right_elbow", (0, -1.0, 0)),
    "left_hip": ("root", (0, 0, -0.4)),
    "left_knee": ("left_hip", (0, -1.7, 0)),
    "left_ankle": ("left_knee", (0, -1.6, 0)),
    "left_shoulder": ("chest", (-0.1, 1, -0.7)),
    "left_elbow": ("left_shoulder", (0, -1.1, 0)),
    "left_wrist": ("left_elbow", (0, -1.0, 0)),
}


@pytest.fixture(scope="module")
def skeleton():
    joint = '<joint name="{}"><parent link="{}"/><child link="{}"/><origin xyz="{} {} {}"/></joint>'
    urdf = "".join(joint.format(name, parent, name, *xyz) for name, (parent, xyz) in URDF_JOINTS.items())
    head = (
        '<link name="neck"><collision><origin xyz="0 0.7 0"/>'
        '<geometry><sphere radius="0.4"/></geometry></collision></link>'
    )
    return read_skeleton(f"<robot>{head}{urdf}</robot>\0".encode())


def clip_text(*frames, step=0.04):
    """A clip in DeepMimic's format; a frame is a dictionary of joints that are not at rest, and ``at``."""
    rows = []
    for frame in frames:
        row = [step, *frame.get("at", (0, 0, 0))]
        for name, length in CHANNELS.items():
            row += frame.get(name, [1, 0, 0, 0] if length == 4 else [0])
        rows.append(row)
    return json.dumps({"Loop": "none", "Frames": rows})


def pose_of(skeleton, **frame):
    """Joint name -> (3,) position for one frame."""
    pose = joints(read_motion(clip_text(frame, frame)), skeleton)[0]
    return dict(zip(JOINT_NAMES, pose, strict=True))


def about(axis, angle):
    return [np.cos(angle / 2), *(np.sin(angle / 2) * np.eye(3)["xyz".index(axis)])]


def test_at_rest_joints_lie_at_the_sums_of_the_offsets(skeleton):
    pose = pose_of(skeleton, at=(1, 2, 3))
    pelvis = np.array([1, -3, 2])  # y up becomes z up
    np.testing.assert_allclose(pose["pelvis"], pelvis)
    # URDF units are a quarter of a metre; the humanoid's right (z) is -y once z is up.
    np.testing.assert_allclose(pose["right_ankle"] - pelvis, [0, -0.1, -0.825])
    np.testing.assert_allclose(pose["left_wrist"] - pelvis, [-0.025, 0.175, -0.025], atol=1e-12)
    np.testing.assert_allclose(pose["thorax"] - pelvis, [0, 0, 0.475])
    np.testing.assert_allclose(pose["neck"] - pelvis, [0.05, 0, 0.475 + 0.1375])
    np.testing.assert_allclose(pose["head"] - pelvis, [0, 0, 0.75])


def test_a_turned_root_turns_everything(skeleton):
    rest, turned = pose_of(skeleton), pose_of(skeleton, root=about("y", np.pi / 2))
    for name in JOINT_NAMES:
        x, y, z = rest[name]
        np.testing.assert_allclose(turned[name], [-y, x, z], atol=1e-12)  # a quarter turn to the left


def test_a_bent_joint_moves_only_what_hangs_on_it(skeleton):
    rest, bent = pose_of(skeleton), pose_of(skeleton, right_knee=[-np.pi / 2], left_elbow=[np.pi / 2])
    np.testing.assert_allclose(bent["right_ankle"] - rest["right_knee"], [-0.4, 0, 0], atol=1e-12)
    np.testing.assert_allclose(bent["left_wrist"] - rest["left_elbow"], [0.25, 0, 0], atol=1e-12)
    for name in set(JOINT_NAMES) - {"right_ankle", "left_wrist"}:
        np.testing.assert_allclose(bent[name], rest[name], atol=1e-12)


def test_a_joint_turns_in_the_frame_of_its_parent(skeleton):
    pose = pose_of(skeleton, right_hip=about("y", np.pi / 2), right_knee=[-np.pi / 2])
    np.testing.assert_allclose(pose["right_knee"] - pose["right_hip"], [0, 0, -0.425], atol=1e-12)
    # The thigh faces left: bent backwards, the shank points to the right.
    np.testing.assert_allclose(pose["right_ankle"] - pose["right_knee"], [0, -0.4, 0], atol=1e-12)


def test_frames_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"expected frames of 44 numbers each, found shape \(2, 20\)"):
        read_motion(json.dumps({"Frames": [[0.1] * 20] * 2}))


def test_resampling_keeps_speed_and_ends(skeleton):
    frames = [{"at": (0.1 * i, 0, 0), "root": about("y", 0.2 * i)} for i in range(4)]
    motion = resample(read_motion(clip_text(*frames, step=0.1)), 50)
    assert len(motion.times) == 16  # 0.3 s and the first frame
    np.testing.assert_allclose(motion.root[:, 0], motion.times)
    expected = [about("y", 2 * time) for time in motion.times]
    np.testing.assert_allclose(motion.turns[:, 0], expected, atol=1e-12)


def test_resampling_at_its_own_rate_changes_nothing():
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((5, len(CHANNELS), 4))
    turns /= np.linalg.norm(turns, axis=-1, keepdims=True)
    motion = Motion(np.arange(5) / 50, rng.standard_normal((5, 3)), turns)
    again = resample(motion, 50)
    np.testing.assert_allclose(again.root, motion.root, atol=1e-9)
    same = np.abs(np.sum(again.turns * turns, axis=-1))  # q and -q are one turn
    np.testing.assert_allclose(same, 1, atol=1e-9)


def test_slerp_takes_the_shorter_way_and_bears_equal_ends():
    start, end = np.array([[about("x", 0.2)]]), np.array([[about("x", 0.6)]])
    half = np.array([[0.5]])
    np.testing.assert_allclose(slerp(start, -end, half)[0, 0], about("x", 0.4), atol=1e-12)
    np.testing.assert_allclose(slerp(start, start, half), start, atol=1e-12)


def test_every_training_clip_is_dealt_to_different_subjects():
    takes = make.deal()
    assert len(set(takes)) == len(takes) == make.PERFORMERS * len(make.TRAIN_CLIPS) + 2 * len(make.TEST_CLIPS)


def test_a_placed_take_is_turned_to_its_heading(skeleton):
    frames = [{"at": (0.1 * i, 0.9, 0)} for i in range(10)]
    pose = make.place(joints(read_motion(clip_text(*frames)), skeleton), size=1.1, heading=np.pi / 2)
    way = pose[-1, ROOT] - pose[0, ROOT]
    np.testing.assert_allclose(way, [0, 1.1 * 0.9, 0], atol=1e-12)  # x ahead became y
    np.testing.assert_allclose(pose[:, ROOT, :2].mean(axis=0), 0, atol=1e-12)
    assert pose[:, RIGHT_ANKLE, 2].min() == pytest.approx(1.1 * make.ANKLE_HEIGHT)


def test_a_take_that_leaves_an_image_is_not_in_view(skeleton):
    pose = make.place(joints(read_motion(clip_text({}, {})), skeleton), size=1, heading=0)
    assert make.in_view(pose, "S1")
    assert not make.in_view(pose + np.array([2.5, 0, 0]), "S1")
    assert not make.in_view(pose + np.array([0, 20, 0]), "S1")  # behind two of the cameras


def test_other_clips_than_the_published_are_refused(tmp_path):
    clips = [make.MOTIONS + clip + ".txt" for clip in (make.TRAIN_CLIPS | make.TEST_CLIPS).values()]
    for name in [make.URDF, *clips]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=r"expected the clips of pybullet 3\.2\.7"):
        make.read_files(tmp_path)


def test_a_missing_wheel_is_named_without_a_traceback(tmp_path, monkeypatch, capsys):
    wheel = str(tmp_path / "none.whl")
    monkeypatch.setattr("sys.argv", ["make.py", "--wheel", wheel, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        make.main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "none.whl" in message and "README.md" in message

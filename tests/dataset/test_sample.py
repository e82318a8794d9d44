"""The sample data set: the shipped files, and the code that makes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.camera import h36m_cameras
from common.files import read_npz
from common.skeleton import BONES, H36M_32_KEPT, JOINT_NAMES, MIRROR
from dataset.sample import make

FOLDER = Path(make.__file__).parent
FILES = [FOLDER / "data_3d_sample.npz", FOLDER / "data_2d_sample_gt.npz"]
HEAD = '<link name="neck"><collision><origin xyz="0 0.5 0"/><sphere radius="0.4"/></collision></link>'
OFFSETS = {
    "root": ("base", "0 0 0"), "chest": ("root", "0 1 0"), "neck": ("chest", "0 1 0"),
    "right_hip": ("root", "0 0 0.4"), "right_knee": ("right_hip", "0 -2 0"),
    "right_ankle": ("right_knee", "0 -2 0"), "left_hip": ("root", "0 0 -0.4"),
    "left_knee": ("left_hip", "0 -2 0"), "left_ankle": ("left_knee", "0 -2 0"),
    "right_shoulder": ("chest", "0 1 0.8"), "right_elbow": ("right_shoulder", "0 -1 0"),
    "right_wrist": ("right_elbow", "0 -1 0"), "left_shoulder": ("chest", "0 1 -0.8"),
    "left_elbow": ("left_shoulder", "0 -1 0"), "left_wrist": ("left_elbow", "0 -1 0"),
}  # fmt: skip


def test_shipped_files_are_those_of_the_readme_and_sound() -> None:
    readme = (FOLDER / "README.md").read_text()
    for path in FILES:
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in readme
    positions, keypoints = read_npz(FILES[0])["positions_3d"], read_npz(FILES[1])["positions_2d"]
    for subject, takes in positions.items():
        assert list(takes) == list(keypoints[subject])
        for take, slots in takes.items():
            pose = slots[:, H36M_32_KEPT].astype(np.float64)
            lengths = np.array([np.linalg.norm(pose[:, a] - pose[:, b], axis=-1) for a, b in BONES])
            assert np.ptp(lengths, axis=1).max() < 0.003
            sides = [int(MIRROR[joint]) - 1 for joint, _ in BONES]
            np.testing.assert_allclose(lengths[sides], lengths, atol=0.003)
            for camera, pixels in zip(h36m_cameras()[subject], keypoints[subject][take], strict=True):
                exact = camera.project(camera.to_camera(pose))
                assert np.abs(exact - pixels).max() < 0.07 and pixels.min() > 14 and pixels.max() < 1002 - 14


def clip(*frames: dict[str, list[float]], step: float = 0.04) -> np.ndarray:
    """(F, 17, 3) at 25 frames per second of a tiny humanoid, at rest but for the given channels."""
    joints = "".join(
        f'<joint name="{name}"><parent link="{parent}"/><origin xyz="{xyz}"/></joint>'
        for name, (parent, xyz) in OFFSETS.items()
    )
    rest = {name: [0.0] if name in make.ANGLES else [1.0, 0, 0, 0] for name in make.CHANNELS}
    rows = [
        [step, 0.0, 1.0, 0.0, *(value for name in make.CHANNELS for value in (rest | frame)[name])]
        for frame in frames
    ]
    skeleton = make.read_skeleton(f"<robot>{HEAD}{joints}</robot>\0".encode())
    return make.read_clip(json.dumps({"Frames": rows}), skeleton, 25.0)


def test_clip_at_rest_is_the_sum_of_the_offsets() -> None:
    pose = dict(zip(JOINT_NAMES, clip({}, {})[0], strict=True))
    # Units of 0.25 m; x stays, y becomes z, z (to the right) becomes -y.
    np.testing.assert_allclose(pose["right_ankle"], [0, -0.1, 0])
    np.testing.assert_allclose(pose["left_wrist"], [0, 0.2, 1.0])
    np.testing.assert_allclose(pose["thorax"], [0, 0, 1.5])
    np.testing.assert_allclose(pose["head"], [0, 0, 1.5 + 0.25 * 0.9])
    np.testing.assert_allclose(pose["neck"], [0.25 * 0.2, 0, 1.5 + 0.25 * 0.45])


def test_clip_joints_bend_in_their_parents_frame_and_are_interpolated() -> None:
    half = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]  # 90 degrees about z
    pose = clip({}, {"left_knee": [-np.pi / 2], "root": half}, step=0.08)
    assert len(pose) == 3
    by_name = [dict(zip(JOINT_NAMES, frame, strict=True)) for frame in pose]
    np.testing.assert_allclose(by_name[2]["left_knee"], [0.5, 0.1, 1.0], atol=1e-12)
    np.testing.assert_allclose(by_name[2]["left_ankle"], [0.5, 0.1, 0.5], atol=1e-12)
    thigh = by_name[1]["left_knee"] - by_name[1]["left_hip"]
    np.testing.assert_allclose(thigh, 0.5 * np.array([np.sqrt(0.5), 0, -np.sqrt(0.5)]), atol=1e-12)


def test_other_clips_than_the_published_are_refused(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    files = [make.MOTIONS + file + ".txt" for file in (make.TRAIN_CLIPS | make.TEST_CLIPS).values()]
    for name in [make.URDF, *files]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    for option, path in (("--wheel", tmp_path / "none.whl"), ("--source", tmp_path)):
        monkeypatch.setattr("sys.argv", ["make", option, str(path)])
        with pytest.raises(SystemExit):
            make.main()
        assert str(path) in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected the clips of pybullet"):
        make.read_files(tmp_path)

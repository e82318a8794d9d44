"""``python -m dataset.prepare mocap``, on files of a known body."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captures import METRES, MIXAMO, STYLES, Walk, expected, rotation_about, walk, write_asf_amc, write_bvh

from common.camera import h36m_cameras, normalize_pixels
from common.data import PoseSet, Sequence, find_dataset, load, read_poses
from common.skeleton import HEAD, LEFT_LEG, RIGHT_LEG, ROOT
from dataset import mocap, prepare

PROJECT = Path(prepare.__file__).parent.parent
TEST_02 = ("--subjects_test", "02")


def make(folder: Path, *options: Any, name: str = "made") -> int:
    """Runs the command on ``folder/raw``; the exit code."""
    command = ["mocap", "--source", folder / "raw", "--name", name, "--output", folder / "out", *options]
    return prepare.main([*map(str, command)])


def two_takes(folder: Path, **options: Any) -> dict[str, Walk]:
    """Writes 01_01.bvh and 02_01.bvh; their motions."""
    takes = {f"0{subject}_01": walk(seed=subject) for subject in (1, 2)}
    for name, take in takes.items():
        write_bvh(folder / "raw" / f"{name}.bvh", *take, **options)
    return takes


def world(poses: PoseSet, sequence: Sequence) -> np.ndarray:
    """(F, 17, 3) positions in metres, z up, but for where they stand."""
    cameras = {camera.orientation: camera for each in h36m_cameras().values() for camera in each}
    camera = cameras[sequence.orientation]
    return poses.positions[sequence.start : sequence.stop].astype(float) @ camera.rotation().T


def aligned(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """``wanted`` moved and rotated about z as a whole to where ``found`` is: nothing else may differ."""
    a, b = found - found.mean(axis=(0, 1)), wanted - wanted.mean(axis=(0, 1))
    sine = np.sum(b[..., 0] * a[..., 1] - b[..., 1] * a[..., 0])
    angle = np.degrees(np.arctan2(sine, np.sum(b[..., :2] * a[..., :2])))
    return b @ rotation_about(2, np.array([angle]))[0].T + found.mean(axis=(0, 1))


def check(folder: Path, takes: dict[str, Walk]) -> None:
    """That every camera's view of every take is the motion as it was written."""
    poses, _ = read_poses(folder / "out" / "made")
    assert len(poses.sequences) == 4 * len(takes)
    for sequence in poses.sequences:
        found, wanted = world(poses, sequence), expected(*takes[sequence.action.split(" ", 1)[1]])
        np.testing.assert_allclose(found, aligned(found, wanted), atol=1e-4)


UP_AXES_AND_POSITIONS = itertools.cycle(itertools.product("yz", ("", "absolute", "added")))


@pytest.mark.parametrize(
    ("style", "unit", "more"), [*zip(STYLES, itertools.cycle(METRES), UP_AXES_AND_POSITIONS, strict=False)]
)
def test_joints_of_known_rigs_lie_where_forward_kinematics_puts_them(
    tmp_path: Path, style: str, unit: str, more: tuple[str, str]
) -> None:
    takes = two_takes(tmp_path, style=STYLES[style], unit=unit, up=more[0], positions=more[1])
    assert make(tmp_path, "--fps", 60, *TEST_02) == 0
    check(tmp_path, takes)
    found = read_poses(tmp_path / "out" / "made")[1]["sources"]
    assert {(each["unit"], each["up"]) for each in found} == {(unit, more[0])}


def test_amc_files_are_read_and_preferred_to_their_conversion(tmp_path: Path) -> None:
    takes = {}
    for subject in ("01", "02"):
        folder, name = tmp_path / "raw" / subject, f"{subject}_01"
        takes[f"{subject}/{name}"] = walk(60, 120.0, seed=int(subject))
        write_asf_amc(folder / f"{subject}.asf", folder / f"{name}.amc", *takes[f"{subject}/{name}"])
        write_bvh(folder / f"{name}.bvh", *walk(seed=9))
    assert make(tmp_path, "--fps", 120, *TEST_02) == 0
    check(tmp_path, takes)


def test_keypoints_are_projected_positions_and_takes_stand_on_the_floor(tmp_path: Path) -> None:
    two_takes(tmp_path)
    assert make(tmp_path, *TEST_02) == 0
    dataset = find_dataset("made", tmp_path / "out")
    poses = load(dataset, tmp_path / "out")
    assert (dataset.train, dataset.test) == (("01",), ("02",))
    for sequence in poses.sequences:
        camera = h36m_cameras()["S1" if sequence.subject == "01" else "S9"][sequence.camera]
        rows = slice(sequence.start, sequence.stop)
        pixels = camera.project(poses.positions[rows].astype(float))
        assert pixels.min() > 0 and np.all(pixels < sequence.image_size)
        again = normalize_pixels(pixels, *sequence.image_size)
        np.testing.assert_allclose(poses.keypoints[rows], again, atol=1e-5)
        np.testing.assert_allclose(sequence.intrinsics, camera.intrinsics())
        pose = camera.to_world(poses.positions[rows].astype(float))
        assert 0.04 < pose[:, [LEFT_LEG[2], RIGHT_LEG[2]], 2].min() < 0.08
        assert np.all(np.abs(pose[:, ROOT, :2].mean(axis=0)) < 0.5)


def test_head_without_a_tip_ends_above_the_skull(tmp_path: Path) -> None:
    takes = two_takes(tmp_path, tips=False)
    assert make(tmp_path, "--fps", 60, *TEST_02) == 0
    poses, _ = read_poses(tmp_path / "out" / "made")
    for sequence in poses.sequences:
        found = world(poses, sequence)
        off = np.linalg.norm(found - aligned(found, expected(*takes[sequence.action.split(" ")[1]])), axis=-1)
        assert off[:, HEAD].max() < 0.08 and np.delete(off, HEAD, axis=1).max() < 0.02


def test_frame_rates_are_brought_to_one_and_a_t_pose_before_the_take_is_dropped(tmp_path: Path) -> None:
    for subject, rate in (("01", 120.0), ("02", 30.0), ("03", 120.0)):
        angles, path = walk(round(2 * rate) + 1, rate, seed=1)
        if subject == "03":
            angles, path = np.concatenate([0 * angles[:1], angles]), np.concatenate([0 * path[:1], path])
        write_bvh(tmp_path / "raw" / f"{subject}_01.bvh", angles, path + int(subject), rate=rate)
    assert make(tmp_path, "--subjects_test", "03") == 0
    poses, metadata = read_poses(tmp_path / "out" / "made")
    assert metadata["fps"] == 50 and {len(sequence) for sequence in poses.sequences} == {101}
    assert [each["false_start"] for each in metadata["sources"]] == [False, False, True]
    for sequence in poses.sequences:
        found = world(poses, sequence)
        np.testing.assert_allclose(found, aligned(found, expected(*walk(101, 50.0, seed=1))), atol=2e-3)


@pytest.mark.parametrize("toe", ["ToeBase", "Tip"])
def test_mirrored_rigs_are_swapped_back(tmp_path: Path, toe: str) -> None:
    style = MIXAMO | {"left": MIXAMO["right"], "right": MIXAMO["left"], "toe": toe}
    takes = two_takes(tmp_path, style=style)
    assert make(tmp_path, "--fps", 60, *TEST_02) == 0
    check(tmp_path, takes)


def test_who_only_lies_has_the_up_axis_of_the_other_files(tmp_path: Path) -> None:
    two_takes(tmp_path, up="z")
    angles, path = walk()
    angles[:, 0] += [0, 90, 0]  # on the belly
    write_bvh(tmp_path / "raw" / "01_02.bvh", angles, path, up="z")
    assert make(tmp_path, *TEST_02) == 0
    poses, metadata = read_poses(tmp_path / "out" / "made")
    assert {source["up"] for source in metadata["sources"]} == {"z"}
    lying = next(sequence for sequence in poses.sequences if "01_02" in sequence.action)
    assert np.ptp(world(poses, lying)[..., 2]) < 0.8


def test_a_take_that_roams_is_cut_and_every_piece_is_in_view(tmp_path: Path) -> None:
    write_bvh(tmp_path / "raw" / "01_01.bvh", *walk(600, far=14.0))
    write_bvh(tmp_path / "raw" / "02_01.bvh", *walk())
    assert make(tmp_path, "--fps", 60, *TEST_02) == 0
    poses, metadata = read_poses(tmp_path / "out" / "made")
    pieces = [each for each in poses.sequences if each.subject == "01" and each.camera == 0]
    assert len(pieces) > 1 and sum(map(len, pieces)) == 600
    assert pieces[1].first_frame == len(pieces[0])
    assert np.abs(poses.keypoints).max() < 1
    assert [each["frames_out_of_view"] for each in metadata["sources"]] == [0, 0]


def test_joint_map_names_joints_that_no_table_knows(tmp_path: Path) -> None:
    strange = {kind: f"Q{number}" for number, kind in enumerate(MIXAMO)}
    style = strange | {"left": "{}x", "right": "{}y", "middle": "{}"}
    takes = two_takes(tmp_path, style=style)
    assert make(tmp_path, "--fps", 60, *TEST_02) == 2
    names = {
        f"{side}_{kind}": strange[kind] + end
        for side, end in (("left", "x"), ("right", "y"))
        for kind in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    }
    names |= {"thorax": strange["neck"], "neck": strange["head"], "head": f"{strange['head']}/end"}
    (tmp_path / "map.json").write_text(json.dumps(names | {"left_toe": ["Q3x"]}))
    assert make(tmp_path, "--fps", 60, *TEST_02, "--joint_map", tmp_path / "map.json") == 0
    check(tmp_path, takes)


@pytest.mark.parametrize("content", ["[", "[]", "{}", '{"left_hip": 3}', '{"nose": "Head"}', "[" * 100_000])
def test_joint_map_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    two_takes(tmp_path)
    (tmp_path / "map.json").write_text(content)
    assert make(tmp_path, "--joint_map", tmp_path / "map.json") == 2


@pytest.mark.parametrize(
    ("name", "by", "subject", "action"),
    [
        ("07/07_03", "auto", "07", "motion"),
        ("a/HDM_bd_01-02_walk_120", "auto", "bd", "walk"),
        ("walk1_subject5", "auto", "subject5", "walk"),
        ("dataset-1_walk_normal_001", "auto", "raw", "walk"),
        ("anna/Salsa_07", "auto", "anna", "Salsa"),
        ("anna/Salsa_07", "prefix", "Salsa", "motion"),
        ("anna b/run", "folder", "anna-b", "run"),
    ],
)
def test_subject_and_action_follow_from_the_name(name: str, by: str, subject: str, action: str) -> None:
    assert mocap.subject_of(name, "raw", by) == subject
    assert mocap.action_of(name, subject) == action


def test_split_by_file_holds_out_a_fraction_under_other_subjects(tmp_path: Path) -> None:
    for number in range(10):
        write_bvh(tmp_path / "raw" / f"01_{number:02}.bvh", *walk(20, seed=number))
    assert make(tmp_path, "--test_share", 0.3) == 0
    dataset = find_dataset("made", tmp_path / "out")
    assert (dataset.train, dataset.test) == (("01",), ("01-test",))
    poses = load(dataset, tmp_path / "out", subjects=dataset.test)
    assert len({sequence.action for sequence in poses.sequences}) == 3


def test_odd_files_are_read(tmp_path: Path) -> None:
    """A row more than stated (Rokoko), a name in Latin-1, a copy, a circular link, a pipe."""
    raw = tmp_path / "raw"
    write_bvh(raw / "rokoko.bvh", *walk(60), frames=59)
    write_bvh(tmp_path / "b.bvh", *walk(seed=2))
    os.rename(tmp_path / "b.bvh", os.fsencode(raw) + b"/caf\xe9.bvh")
    shutil.copy(raw / "rokoko.bvh", raw / "copy.bvh")
    os.symlink(raw, raw / "loop")
    os.mkfifo(raw / "pipe.bvh")
    assert make(tmp_path) == 0
    _, metadata = read_poses(tmp_path / "out" / "made")
    assert len(metadata["sources"]) == 2 and len(metadata["left_out"]) == 1
    assert "59" in next(each["note"] for each in metadata["sources"] if each["note"])


@pytest.mark.parametrize("sound", [2, 0])
def test_bad_files_are_named_and_can_be_skipped(tmp_path: Path, sound: int, capsys: Any) -> None:
    for number in range(3):
        write_bvh(tmp_path / "raw" / f"0{number}_01.bvh", *walk(seed=number))
    for path in sorted((tmp_path / "raw").iterdir())[sound:]:
        path.write_text(path.read_text()[:-500])
    assert make(tmp_path) == 2
    assert "02_01.bvh" in capsys.readouterr().err and not (tmp_path / "out" / "made").exists()
    assert make(tmp_path, "--skip_bad") == (0 if sound else 2)
    assert "02_01.bvh" in str(capsys.readouterr())
    assert (tmp_path / "out" / "made").exists() == bool(sound)


def test_a_killed_run_leaves_no_data_set(tmp_path: Path) -> None:
    two_takes(tmp_path)
    code = (
        "import os; from dataset import mocap, prepare; placed = mocap.placed\n"
        "def die(pose, *rest):\n    yield from placed(pose, *rest)\n    os.kill(os.getpid(), 9)\n"
        "mocap.placed = die\n"
        f"prepare.main('mocap --name made --source {tmp_path}/raw --output {tmp_path}/out'.split())"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == -9
    assert not (tmp_path / "out" / "made").exists()
    assert make(tmp_path) == 0

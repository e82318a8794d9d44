"""Data sets: what loading gives and refuses, where the cache goes, prepared folders."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import data
from common.camera import denormalize_pixels, h36m_cameras, normalize_pixels
from common.console import UserError
from common.data import DATASETS, find_dataset, load
from common.files import read_json, write_json
from common.poses import Sequence, concatenate, read_poses, thin, write_poses
from common.skeleton import H36M_32_KEPT

H36M = DATASETS["h36m"]
Write = Callable[..., Path]


def test_load_gives_the_projections_of_camera_space(folder: Path, files: Any) -> None:
    poses = load(H36M, folder, "gt")
    assert [each.subject for each in poses.sequences[:4]] == ["S1"] * 4
    sequence = next(each for each in poses.sequences if (each.subject, each.action) == ("S9", "Walking"))
    camera = h36m_cameras()["S9"][sequence.camera]
    world = files[0]["S9"]["Walking"][:, H36M_32_KEPT]
    rows = slice(sequence.start, sequence.stop)
    np.testing.assert_allclose(poses.positions[rows], camera.to_camera(world), atol=1e-5)
    pixels = denormalize_pixels(poses.keypoints[rows], camera.width, camera.height)
    np.testing.assert_allclose(pixels, camera.project(poses.positions[rows].astype(float)), atol=0.01)
    assert sequence.action_name == "Walking"


def test_load_opens_the_cache_again_and_follows_changed_files(
    folder: Path, files: Any, write_files: Write
) -> None:
    first = load(H36M, folder, "gt")
    (cache,) = (folder / data.CACHE).iterdir()
    assert isinstance(first.keypoints, np.memmap)
    load(H36M, folder, "gt")
    assert list((folder / data.CACHE).iterdir()) == [cache]
    files[0]["S1"]["Walking"] = files[0]["S1"]["Walking"][:-1]
    write_files(*files)
    assert len(load(H36M, folder, "gt")) < len(first)


def test_load_requires_the_used_subjects_only(files: Any, write_files: Write) -> None:
    kept = [{name: file[name] for name in ("S9", "S11")} for file in files]
    folder = write_files(*kept)
    poses = load(H36M, folder, "gt", subjects=H36M.test)
    assert {each.subject for each in poses.sequences} == {"S9", "S11"}
    with pytest.raises(UserError, match="S1"):
        load(H36M, folder, "gt")


def spoil_units(positions: Any, pixels: Any) -> None:
    positions["S9"]["Walking"] = positions["S9"]["Walking"] * 1000


def spoil_pixels(positions: Any, pixels: Any) -> None:
    pixels["S9"]["Walking"] = [
        normalize_pixels(each, 1000, 1000).astype(np.float32) for each in pixels["S9"]["Walking"]
    ]


def spoil_cameras(positions: Any, pixels: Any) -> None:
    pixels["S9"]["Walking"] = pixels["S9"]["Walking"][::-1]


def spoil_values(positions: Any, pixels: Any) -> None:
    positions["S9"]["Walking"][0, 3] = np.nan


def spoil_range(positions: Any, pixels: Any) -> None:
    positions["S9"]["Walking"] = positions["S9"]["Walking"].astype(np.float64)
    positions["S9"]["Walking"][0, 3] = 1e300


def spoil_count(positions: Any, pixels: Any) -> None:
    pixels["S9"]["Walking"] = pixels["S9"]["Walking"][:3]


def spoil_length(positions: Any, pixels: Any) -> None:
    pixels["S9"]["Walking"] = [each[:2] for each in pixels["S9"]["Walking"]]


@pytest.mark.parametrize(
    "spoil",
    [spoil_units, spoil_pixels, spoil_cameras, spoil_values, spoil_range, spoil_count, spoil_length],
)
def test_load_refuses_invalid_takes_by_name(files: Any, write_files: Write, spoil: Any) -> None:
    spoil(*files)
    folder = write_files(*files)
    with pytest.raises(UserError, match="S9, Walking"):
        load(H36M, folder, "gt")
    assert not (folder / data.CACHE).exists() or not list((folder / data.CACHE).iterdir())


def test_load_refuses_keypoints_in_coco_order(files: Any, write_files: Write) -> None:
    with pytest.raises(UserError, match="coco"):
        load(H36M, write_files(*files, metadata={"layout_name": "coco"}), "gt")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1", b"<html>", b"PK\3\4cut"]
)
def test_load_reports_damaged_files(folder: Path, content: bytes) -> None:
    (folder / "data_2d_h36m_gt.npz").write_bytes(content)
    with pytest.raises(UserError, match="data_2d_h36m_gt"):
        load(H36M, folder, "gt")


def test_load_reports_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data_3d_h36m\.npz"):
        load(H36M, tmp_path, "gt")


def test_load_uses_the_users_cache_where_the_folder_is_read_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / data.CACHE).write_text("in the way")  # also for root
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load(H36M, folder, "gt")
    assert list((tmp_path / "cache" / "htnet").iterdir())


def test_prepared_folder_comes_back_as_written_and_is_found_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = [
        (Sequence(name, "walk 1", 2, 0, 0, (1.5, 1.4, 0.1, 0.0), (9, 8), 5, 2, (0.6, 0.0, 0.8, 0.0)), *arrays)
        for name in "AB"
        for arrays in [(rng.normal(size=(3, 17, 2)), rng.normal(size=(3, 17, 3)))]
    ]
    metadata = {
        **{"train": ["A"], "test": ["B"], "keypoints": "gt", "origin": "here"},
        "groups": {"indoor": ["B"]},
    }
    write_poses(tmp_path / "dance", iter(written), metadata)
    assert [path.name for path in tmp_path.iterdir()] == ["dance"]
    dataset = find_dataset("dance", tmp_path)
    poses = load(dataset, tmp_path)
    assert [each.group for each in poses.sequences] == ["", "indoor"]
    for found, (sequence, keypoints, positions) in zip(poses.sequences, written, strict=True):
        rows = slice(found.start, found.stop)
        expected = replace(sequence, start=found.start, stop=found.start + 3, group=found.group)
        assert found == expected
        np.testing.assert_array_equal(poses.keypoints[rows], keypoints.astype(np.float32))
        np.testing.assert_array_equal(poses.positions[rows], positions.astype(np.float32))
    assert {each.subject for each in load(dataset, tmp_path, subjects=["B"]).sequences} == {"B"}
    with pytest.raises(UserError, match="gt"):
        load(dataset, tmp_path, "cpn")
    with pytest.raises(UserError, match="did you mean dance"):
        find_dataset("dances", tmp_path)
    for name in ("../dance", "dance/", "/etc", ".."):
        with pytest.raises(UserError):
            find_dataset(name, tmp_path / "dance")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared folder of one take."""
    sequence = Sequence("A", "walk", 0, 0, 0, (1.0, 1.0, 0.0, 0.0), (9, 9))
    metadata = {"train": ["A"], "test": ["A"], "keypoints": "gt", "origin": "here"}
    write_poses(tmp_path / "dance", [(sequence, np.ones((3, 17, 2)), np.ones((3, 17, 3)))], metadata)
    return tmp_path / "dance"


@pytest.mark.parametrize("name", ["keypoints.npy", "positions.npy", "index.json"])
@pytest.mark.parametrize("size", [0, 60, -1])
def test_cut_prepared_folder_is_reported(prepared: Path, name: str, size: int) -> None:
    (prepared / name).write_bytes((prepared / name).read_bytes()[:size])
    with pytest.raises(UserError, match="dance"):
        find_dataset("dance", prepared.parent)


@pytest.mark.parametrize(
    "change",
    [
        *({"format": 1}, {"sequences": 7}, {"sequences": []}, {"sequences": ["a"]}, {"sequences": [{}]}),
        *({"start": 1}, {"start": "0"}, {"stop": 2}, {"stop": 9}, {"surprise": 1}),
        *({"train": None}, {"test": 3}, {"groups": ["a"]}, {"groups": {"a": 1}}),
    ],
    ids=str,
)
def test_invalid_index_is_reported(prepared: Path, change: dict[str, Any]) -> None:
    index = read_json(prepared / "index.json")
    place = index["sequences"][0] if change.keys() & {"start", "stop", "surprise"} else index
    place |= change
    write_json(prepared / "index.json", index)
    with pytest.raises(UserError, match="dance"):
        find_dataset("dance", prepared.parent)


def test_arrays_of_other_joints_are_reported(prepared: Path) -> None:
    np.save(prepared / "positions.npy", np.ones((3, 16, 3), np.float32))
    with pytest.raises(UserError, match="dance"):
        read_poses(prepared)


def test_kill_while_poses_are_written_leaves_no_folder(tmp_path: Path) -> None:
    script = f"""
import time, numpy as np, pathlib
from common.files import read_json, write_json
from common.poses import Sequence, write_poses
def views():
    for number in range(10000):
        if number == 3:
            print("writing", flush=True)
        time.sleep(0.01)
        yield Sequence("A", "a", 0, 0, 0, (1, 1, 0, 0), (9, 9)), np.ones((9, 17, 2)), np.ones((9, 17, 3))
write_poses(pathlib.Path({str(tmp_path / "set")!r}), views())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "set").exists()


def test_thin_and_concatenate_keep_rows_and_names(folder: Path) -> None:
    poses = load(H36M, folder, "gt")
    walking = thin(poses, actions=["Walking"], downsample=2)
    assert {each.action for each in walking.sequences} == {"Walking"}
    assert all(each.step == 2 for each in walking.sequences)
    part = thin(poses, subset=0.5)
    for each in part.sequences[:4]:
        whole = next(s for s in poses.sequences if str(s) == str(each))
        start = whole.start + each.first_frame
        np.testing.assert_array_equal(
            part.positions[each.start : each.stop], poses.positions[start : start + len(each)]
        )
    both = concatenate([walking, part])
    assert len(both) == len(walking) + len(part)
    last = both.sequences[-1]
    np.testing.assert_array_equal(both.keypoints[last.start :], part.keypoints[part.sequences[-1].start :])


def test_select_keeps_rows_that_are_side_by_side_a_view(folder: Path) -> None:
    poses = load(H36M, folder, "gt")
    middle = poses.select(poses.sequences[2:5])
    assert np.shares_memory(middle.positions, poses.positions)
    order = [poses.sequences[7], poses.sequences[1]]
    apart = poses.select(order, step=2)
    assert [str(each) for each in apart.sequences] == [str(each) for each in order]
    for found, source in zip(apart.sequences, order, strict=True):
        np.testing.assert_array_equal(
            apart.keypoints[found.start : found.stop], poses.keypoints[source.start : source.stop : 2]
        )
        assert found.step == 2
    assert len(poses.select([])) == 0


def test_thin_takes_the_same_stretch_in_all_cameras_and_never_nothing(folder: Path) -> None:
    poses = load(H36M, folder, "gt")
    for part in (thin(poses, subset=0.5), thin(poses, subset=1e-9), thin(poses, downsample=1000)):
        assert len(part.sequences) == len(poses.sequences) and all(map(len, part.sequences))
        stretches = {(each.subject, each.action, each.first_frame, len(each)) for each in part.sequences}
        assert len(stretches) == len(poses.sequences) / 4

"""Prepared data sets, found by name: what is said of those that are missing or damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import evaluation_of, make_evaluation, make_poses

import main
from common import cache
from common.errors import DataError
from common.evaluate import root_relative
from common.h36m import DATASETS, check_files
from common.pose_files import INDEX, read_poses, write_poses
from common.prepared import dataset_named
from common.sequences import PoseSet
from common.summary import summarize
from common.tables import part_table, write_csv

FACTS = {"name": "mine", "train": ["S9"], "test": ["S11"], "keypoints": "gt", "origin": "made up"}


def write(root: Path, name: str = "mine", **facts) -> PoseSet:
    """Writes a prepared data set; the poses that it holds."""
    poses = make_poses()
    views = [
        (s, poses.keypoints[s.start : s.stop], poses.positions[s.start : s.stop]) for s in poses.sequences
    ]
    write_poses(root / name, iter(views), {**FACTS, **facts})
    return poses


def change_index(root: Path, name: str = "mine", **changes) -> None:
    path = root / name / INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_names_of_the_table_need_no_folder(tmp_path):
    assert all(dataset_named(name, tmp_path / "none") is DATASETS[name] for name in DATASETS)


def test_a_prepared_set_is_opened_as_it_is(tmp_path):
    poses = write(tmp_path)
    dataset = dataset_named("mine", tmp_path)
    assert (dataset.train, dataset.test, dataset.keypoints) == (("S9",), ("S11",), "gt")
    found = cache.load(dataset, tmp_path, "gt", tmp_path / "cache")
    assert found.sequences == poses.sequences
    np.testing.assert_array_equal(found.keypoints, poses.keypoints)
    np.testing.assert_array_equal(found.positions, poses.positions)
    assert isinstance(found.keypoints, np.memmap)
    assert not (tmp_path / "cache").exists()  # nothing is converted


def test_without_a_root_it_is_in_the_folder_dataset(tmp_path, monkeypatch):
    write(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    assert dataset_named("mine").root == "dataset"


def test_subjects_have_the_groups_that_the_index_gives(tmp_path):
    write(tmp_path, groups={"indoor": ["S11", "S12"]})
    poses = cache.load(dataset_named("mine", tmp_path), tmp_path, "gt")
    assert {each.subject: each.group for each in poses.sequences} == {"S9": "", "S11": "indoor"}
    assert {each.group for each in poses.select(poses.sequences, step=2).sequences} == {"", "indoor"}


def test_a_changed_index_has_another_fingerprint(tmp_path):
    write(tmp_path)
    dataset = dataset_named("mine", tmp_path)
    before = cache.fingerprint(dataset, tmp_path, "gt")
    assert before == cache.fingerprint(dataset, tmp_path, "gt")
    change_index(tmp_path, sources={"a": "b"})
    assert before != cache.fingerprint(dataset, tmp_path, "gt")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("3dhp", "python -m dataset.prepare 3dhp --source DIR --output"),
        ("other", "python -m dataset.prepare mocap --source DIR --name other --output"),
    ],
)
def test_a_set_that_is_not_prepared_is_told_with_those_that_are(tmp_path, capsys, name, command):
    write(tmp_path)
    (tmp_path / "empty").mkdir()
    call = ["--reload", "--previous_dir", "x", "--dataset", name, "--root_path", str(tmp_path)]
    assert main.main(call) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: --dataset {name}: expected one of h36m, sample, mine;")
    assert f"{command} {tmp_path} " in message


@pytest.mark.parametrize("name", ["", ".", "..", "../mine", "a/../mine", ".mine", "/"])
def test_a_name_is_never_a_path(tmp_path, name):
    write(tmp_path)
    write(tmp_path, ".mine")
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="expected"):
        dataset_named(name, tmp_path)
    with pytest.raises(DataError, match="expected"):
        dataset_named(name, tmp_path / "a")


def test_other_key_points_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match="-k cpn: mine has gt key points alone"):
        check_files(dataset_named("mine", tmp_path), tmp_path, "cpn")


ENTRY = {"subject": "S11", "action": "a", "camera": 0, "start": 0, "stop": 16, "image_size": [1, 1]}
ENTRY |= {"intrinsics": [1, 1, 0, 0], "first_frame": 0, "step": 1, "orientation": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"train": "S1"},
        {"test": [1]},
        {"keypoints": None},
        {"origin": 3},
        {"groups": ["a"]},
        {"groups": {"a": "TS1"}},
        {"sequences": []},
        {"sequences": [{**ENTRY, "start": 1}]},
        {"sequences": [{**ENTRY, "stop": 20}]},
        {"sequences": [{**ENTRY, "stop": 10}, {**ENTRY, "start": 8}]},
        {"sequences": [{**ENTRY, "step": 0}]},
        {"sequences": [{**ENTRY, "subject": 3}]},
        {"sequences": [{**ENTRY, "intrinsics": [1]}]},
        {"sequences": [{**ENTRY, "intrinsics": None}]},
        {"sequences": [{**ENTRY, "start": "0"}]},
        {"sequences": [{**ENTRY, "surprise": 1}]},
        {"sequences": 7},
        {"format": 1},
    ],
)
def test_an_index_that_is_not_right_is_refused(tmp_path, changes):
    write(tmp_path)
    change_index(tmp_path, sequences=[ENTRY])
    dataset_named("mine", tmp_path)
    change_index(tmp_path, **changes)
    with pytest.raises(DataError, match=r"no whole data set .*prepare it again"):
        dataset_named("mine", tmp_path)


@pytest.mark.parametrize("file", ["index.json", "keypoints.npy", "positions.npy"])
@pytest.mark.parametrize("size", [0, 60, -1])
def test_files_cut_short_are_refused(tmp_path, file, size):
    write(tmp_path)
    path = tmp_path / "mine" / file
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="no whole data set"):
        dataset_named("mine", tmp_path)


def test_missing_arrays_are_said_before_anything_starts(tmp_path, capsys):
    write(tmp_path)
    (tmp_path / "mine" / "keypoints.npy").unlink()
    assert main.main(["--train", "-n", "a", "--dataset", "mine", "--root_path", str(tmp_path)]) == 2
    assert "no whole data set (No such file or directory)" in capsys.readouterr().err


# Averages by group


def grouped(evaluation):
    """The same evaluation, S9 indoor and S11 outdoor."""
    names = {"S9": "indoor", "S11": "outdoor"}
    poses = evaluation.poses
    sequences = tuple(replace(each, group=names[each.subject]) for each in poses.sequences)
    return evaluation_of(PoseSet(poses.keypoints, poses.positions, sequences), evaluation.predicted)


def test_groups_are_averaged_over_their_poses():
    evaluation = grouped(make_evaluation())
    rows = {"indoor": slice(0, 9), "outdoor": slice(9, 16)}
    found = evaluation.summary["per_group"]
    assert found.keys() == rows.keys()
    for name, own in rows.items():
        assert (found[name]["poses"], found[name]["sequences"]) == (own.stop - own.start, 2)
        for metric in ("P1", "P2", "PCK", "AUC"):
            np.testing.assert_allclose(found[name][metric], evaluation.scores[metric][own].mean())


def test_a_set_without_groups_has_no_such_table(tmp_path):
    plain, parted = make_evaluation(), grouped(make_evaluation())
    assert "per_group" not in plain.summary
    assert {**plain.summary, "per_group": parted.summary["per_group"]} == parted.summary
    write_csv(tmp_path / "a.csv", {"lifted": plain.summary})
    assert "per_group" not in (tmp_path / "a.csv").read_text()
    write_csv(tmp_path / "a.csv", {"lifted": parted.summary})
    assert "lifted,per_group,outdoor,7,2," in (tmp_path / "a.csv").read_text()


def test_table_of_parts():
    poses = make_poses()
    errors = np.zeros((16, 17, 3))
    errors[:9, :, 0] = 100  # indoor: 100 mm at every joint; 11 of 31 thresholds are above
    errors[9:, :8, 0] = 200  # outdoor: 8 of 17 joints are missed
    evaluation = grouped(evaluation_of(poses, root_relative(poses) * 1000 + errors))
    indoor, outdoor = ["1.0000", f"{10 / 31:.4f}", "100.00"], [f"{9 / 17:.4f}", f"{9 / 17 * 30 / 31:.4f}"]
    outdoor.append(f"{200 * 8 / 17:.2f}")
    lines = [line.split() for line in part_table(evaluation.summary).splitlines()]
    assert lines[0] == ["part", "poses", "PCK", "AUC", "P1", "(mm)"]
    assert lines[1:5] == [
        ["indoor", "9", *indoor],
        ["outdoor", "7", *outdoor],
        ["S11", "7", *outdoor],
        ["S9", "9", *indoor],
    ]
    assert lines[5][:3] == ["all", "(frame-wise)", "16"] and len(lines) == 6
    assert float(lines[5][5]) == pytest.approx((9 * 100 + 7 * 200 * 8 / 17) / 16, abs=0.01)


def test_summary_of_a_written_and_read_set_is_the_same(tmp_path):
    write(tmp_path)
    evaluation = make_evaluation()
    read, _ = read_poses(tmp_path / "mine")
    assert summarize(evaluation.scores, read.sequences, resamples=100) == evaluation.summary

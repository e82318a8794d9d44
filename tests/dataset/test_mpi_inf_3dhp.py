"""MPI-INF-3DHP's files, made small, to prepared data sets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mpi_inf_3dhp as made
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.spatial.transform import Rotation

from common.camera import normalize_pixels
from common.data import find_dataset, load, read_poses
from common.skeleton import HEAD
from dataset import mpi_inf_3dhp, prepare

VALID = [1, 1, 0, 1, 1, 1, 0, 0, 1, 1]
ACTIVITY = [1, 1, 1, 2, 2, 3, 3, 3, 9, 1]
RUNS = [(0, 2, "Stand/Walk"), (3, 5, "Exercise"), (5, 6, "Sit-on-chair"), (8, 9, "Unlabelled")]
RUNS += [(9, 10, "Stand/Walk")]


TS1, SEQ1 = "mpi_inf_3dhp_test_set/TS1/annot_data.mat", "S1/Seq1/annot.mat"


def convert(source: Path, *more: str) -> int:
    return prepare.main(["3dhp", "--source", str(source), "--output", str(source.parent / "out"), *more])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made.training(tmp_path / "in" / "S1" / "Seq1")
    made.test_set(tmp_path / "in" / "mpi_inf_3dhp_test_set" / "TS1", VALID, ACTIVITY)
    return tmp_path / "in"


@pytest.mark.parametrize("skeleton", ["universal", "metric"])
def test_values_of_training_and_test_set(source: Path, skeleton: str, capsys: Any) -> None:
    truths = made.training(source / "S2" / "Seq2", up=-1.0, seed=1)
    tests = made.test_set(source / "mpi_inf_3dhp_test_set" / "TS5", VALID, ACTIVITY, seed=2)
    name, scale = {"universal": ("3dhp", made.UNIVERSAL), "metric": ("3dhp_metric", 1.0)}[skeleton]
    assert convert(source, "--skeleton", skeleton) == 0
    assert "S1/Seq2, S2/Seq1" in capsys.readouterr().out
    dataset = find_dataset(name, source.parent / "out")
    poses = load(dataset, source.parent / "out")
    assert (dataset.train, dataset.test) == (("S1", "S2"), ("TS1", "TS5"))
    assert {each.group for each in poses.sequences} == {"", "studio with green screen", "outdoor"}
    found = [each for each in poses.sequences if each.subject == "S2"]
    assert [each.camera for each in found] == [0, 2, 4, 5, 6, 7, 8]
    runs = [each for each in poses.sequences if each.subject == "TS5"]
    assert [(s.first_frame, s.first_frame + len(s), s.action) for s in runs] == RUNS
    for each in found + runs:
        truth, size = (tests, (1920, 1080)) if each in runs else (truths[each.camera], (2048, 2048))
        frames, rows = slice(each.first_frame, each.first_frame + len(each)), slice(each.start, each.stop)
        assert each.image_size == size
        np.testing.assert_allclose(poses.positions[rows], truth.metric[frames] * scale, atol=1e-5)
        keypoints = normalize_pixels(truth.pixels[frames], *size)
        np.testing.assert_allclose(poses.keypoints[rows], keypoints, atol=1e-5)
        fx, fy, cx, cy = truth.lens
        lens = [fx / size[0] * 2, fy / size[0] * 2, *normalize_pixels(np.array([cx, cy]), *size)]
        np.testing.assert_allclose(each.intrinsics, lens, atol=1e-4)
        if each in found:
            world = Rotation.from_quat(each.orientation, scalar_first=True).apply(truth.metric[0])
            assert world[HEAD, 2] - world[6, 2] > 1.2  # the head is above the ankle


def test_cameras_and_name_can_be_chosen(source: Path) -> None:
    assert convert(source, "--cameras", "3,1", "--name", "two") == 0
    poses, _ = read_poses(source.parent / "out" / "two")
    assert [each.camera for each in poses.sequences if each.subject == "S1"] == [1, 3]
    assert convert(source, "--name", "two") == 2


@pytest.mark.parametrize("change", ["missing", "of other cameras"])
def test_cameras_without_calibration_are_fitted(source: Path, change: str, capsys: Any) -> None:
    path = source / "S1" / "Seq1" / "camera.calibration"
    text = path.read_text()
    path.unlink()
    if change != "missing":
        path.write_text(re.sub(r"intrinsic   1\d+", "intrinsic   900", text))
    assert convert(source) == 0
    assert ("is missing" if change == "missing" else "not used") in capsys.readouterr().out
    poses, _ = read_poses(source.parent / "out" / "3dhp")
    first = poses.sequences[0]
    np.testing.assert_allclose(first.intrinsics[0], 1497 / 1024, atol=1e-4)
    assert first.orientation is None


def test_invalid_frames_split_a_training_sequence(source: Path) -> None:
    _each("annot3", lambda cell: np.where(np.arange(6)[:, None] == 2, np.nan, cell))(source)
    assert convert(source) == 0
    poses, _ = read_poses(source.parent / "out" / "3dhp")
    pieces = [(s.first_frame, len(s)) for s in poses.sequences if (s.camera, s.subject) == (0, "S1")]
    assert pieces == [(0, 2), (3, 3)]


def test_test_set_without_activities_and_found_where_it_is(source: Path, capsys: Any) -> None:
    inner = source / "mpi_inf_3dhp_test_set"
    with h5py.File(source / TS1, "r+") as file:
        del file["activity_annotation"]
    assert convert(inner) == 0
    poses, _ = read_poses(source / "out" / "3dhp")
    assert {each.action for each in poses.sequences} == {"Unlabelled"}


def _cells(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        path = source / SEQ1
        content = {name: value for name, value in loadmat(path).items() if name[0] != "_"}
        savemat(path, change(content))

    return damage


def _each(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def changed(content: dict[str, Any]) -> dict[str, Any]:
        for number, cell in enumerate(content[name].ravel()):
            content[name][number, 0] = change(cell)
        return content

    return _cells(changed)


def _put(name: str, value: Any) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        with h5py.File(source / TS1, "r+") as file:
            del file[name]
            file[name] = value

    return damage


def _cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(source: Path) -> None:
        path = source / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return damage


DAMAGES = {
    "17 joints": _each("annot3", lambda cell: cell[:, :51]),
    "few cameras": _cells(lambda content: content | {"annot2": content["annot2"][:3]}),
    "no universal": _cells(lambda content: {name: content[name] for name in ("annot2", "annot3")}),
    "frames": _each("annot2", lambda cell: cell[:-1]),
    "metres": _each("annot3", lambda cell: cell / 1000),
    "behind": _each("annot3", lambda cell: -cell),
    "words": _each("annot2", lambda cell: np.array("words")),
    "NaN": _each("univ_annot3", lambda cell: cell * np.nan),
    "training half": _cut(SEQ1, 0.5),
    "training end": _cut(SEQ1, 0.99),
    "training empty": _cut(SEQ1, 0.0),
    "test half": _cut(TS1, 0.5),
    "test empty": _cut(TS1, 0.0),
    "calibration": _cut("S1/Seq1/camera.calibration", 0.97),
    "test joints": _put("annot2", np.ones((10, 1, 16, 2))),
    "nothing valid": _put("valid_frame", np.zeros((10, 1))),
    "test frames": _put("valid_frame", np.ones((9, 1))),
    "text": _put("annot3", "text"),
    "link": _put("annot3", h5py.ExternalLink("/etc/passwd", "x")),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_files_are_named(source: Path, case: str, capsys: Any) -> None:
    DAMAGES[case](source)
    assert convert(source) == 2
    assert str(source) in capsys.readouterr().err
    assert not [*(source.parent / "out").glob("*")]


def test_files_that_unpack_without_end_are_refused(source: Path, monkeypatch: Any) -> None:
    _each("annot2", lambda cell: np.zeros((5000, 56)))(source)
    monkeypatch.setattr(mpi_inf_3dhp, "MAX_BYTES", 10_000_000)
    assert convert(source) == 2

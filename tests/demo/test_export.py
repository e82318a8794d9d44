"""Saved data: read back as anybody would, it says what it is and gives the result's numbers."""

import csv
import json
import tracemalloc

import numpy as np
import pytest

from common.skeleton import JOINT_NAMES, PARENTS
from demo.lib import export
from demo.lib.result import Result, Track


def track(number, frames, *, raw=False, root=False):
    random = np.random.default_rng(number)
    count = len(frames)
    poses = random.normal(size=(count, 17, 3)).astype(np.float32)
    poses[:, 0] = 0
    return Track(
        id=number,
        frames=np.array(frames),
        keypoints=random.uniform(0, 600, (count, 17, 2)).astype(np.float32),
        scores=random.uniform(0, 1, (count, 17)).astype(np.float32),
        interpolated=np.arange(count) == 1,
        poses=poses,
        upright=random.normal(size=(count, 17, 3)).astype(np.float32),
        raw_poses=poses + 1 if raw else None,
        root=random.normal(size=(count, 3)) if root else None,
    )


@pytest.fixture
def film():
    people = [track(1, range(5), raw=True, root=True), track(4, [2, 3, 7])]
    return Result("walk, é.mp4", (640, 480), 9, 25.0, people, {"lifter": "cpn", "detector": "blazepose"})


@pytest.fixture
def picture():
    return Result("photo.jpg", (640, 480), 1, None, [track(1, [0])])


def saved(result, kind, folder):
    (path,) = export.save(result, folder / "out", [kind])
    assert path == folder / f"out.{kind}"
    return path


def load_npz(path):
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def load_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(rows, person, columns):
    """(T, 17, columns) of a person's cells."""
    cells = [[float(row[column]) for column in columns] for row in rows if int(row["person"]) == person]
    return np.array(cells).reshape(-1, 17, len(columns))


# Numbers


def assert_arrays(found, expected, decimals=None):
    """All arrays of a track, by the names of npz and JSON."""
    names = {
        "frames": expected.frames,
        "interpolated": expected.interpolated,
        "keypoints": expected.keypoints,
        "scores": expected.scores,
        "poses_camera": expected.poses,
        "poses_camera_raw": expected.raw_poses,
        "poses_upright_display": expected.upright,
        "root_estimate": expected.root,
    }
    for name, array in names.items():
        if array is None:
            assert name not in found
        else:
            np.testing.assert_allclose(np.array(found[name]), array, atol=10**-decimals if decimals else 0)
    np.testing.assert_allclose(found["times"], expected.frames / 25, atol=1e-6)


def test_npz_holds_every_array_exactly_and_without_pickles(film, tmp_path):
    content = load_npz(saved(film, "npz", tmp_path))
    assert content["person_ids"].tolist() == [1, 4]
    for person in film.tracks:
        start = f"person_{person.id}_"
        found = {name.removeprefix(start): value for name, value in content.items() if name.startswith(start)}
        assert_arrays(found, person)
        assert found["poses_camera"].dtype == np.float32


def test_json_holds_every_array_to_the_micrometre(film, tmp_path):
    content = json.loads(saved(film, "json", tmp_path).read_text())
    assert [person["id"] for person in content["people"]] == [1, 4]
    for found, person in zip(content["people"], film.tracks, strict=True):
        assert_arrays({**found, "keypoints": person.keypoints, "scores": person.scores}, person, decimals=6)
        np.testing.assert_allclose(found["keypoints"], person.keypoints, atol=6e-4)
        np.testing.assert_allclose(found["scores"], person.scores, atol=6e-5)


def test_csv_has_a_line_for_each_joint(film, tmp_path):
    rows = load_csv(saved(film, "csv", tmp_path))
    assert len(rows) == (5 + 3) * 17
    assert [row["joint"] for row in rows[:17]] == list(JOINT_NAMES)
    assert [int(row["frame"]) for row in rows[-51::17]] == [2, 3, 7]
    assert rows[-1]["time_s"] == "0.280000"
    assert [row["interpolated"] for row in rows[::17][:3]] == ["0", "1", "0"]
    first, second = film.tracks
    for person in (first, second):
        groups = {
            ("x_px", "y_px"): person.keypoints,
            ("score",): person.scores[..., None],
            ("x_camera_m", "y_camera_m", "z_camera_m"): person.poses,
            ("x_upright_display_m", "y_upright_display_m", "z_upright_display_m"): person.upright,
        }
        for columns, array in groups.items():
            np.testing.assert_allclose(table(rows, person.id, columns), array, atol=6e-4)
    raw = ("x_camera_raw_m", "y_camera_raw_m", "z_camera_raw_m")
    np.testing.assert_allclose(table(rows, 1, raw), first.raw_poses, atol=1e-6)
    assert np.isnan(table(rows, 4, raw)).all()
    root = ("x_root_estimate_m", "y_root_estimate_m", "z_root_estimate_m")
    np.testing.assert_allclose(table(rows, 1, root), np.repeat(first.root[:, None], 17, axis=1), atol=1e-6)


# What goes with them


def assert_described(facts):
    """Names, units and frames are in the file, and what is not measured says so."""
    assert list(facts["joint_names"]) == list(JOINT_NAMES) and list(facts["joint_parents"]) == list(PARENTS)
    assert facts["source"] == "walk, é.mp4" and list(facts["image_size"]) == [640, 480]
    assert facts["frame_count"] == 9 and facts["fps"] == 25
    frames = facts["coordinate_frames"]
    assert "pixels" in frames["image"]
    assert all(word in frames["camera"] for word in ("metres", "y down", "z away", "root-relative"))
    assert "display rotation, not a measurement" in frames["upright_display"]
    assert "estimate" in frames["root_estimate"]
    assert facts["notes"] == {"lifter": "cpn", "detector": "blazepose"}
    assert "seconds" in facts["fields"]["times"]


def test_files_describe_themselves(film, tmp_path):
    content = json.loads(saved(film, "json", tmp_path).read_text())
    assert_described(content)
    assert content["people"][0].keys() - {"id"} <= content["fields"].keys()
    content = load_npz(saved(film, "npz", tmp_path))
    texts = {name: json.loads(str(content[name])) for name in ("coordinate_frames", "fields", "notes")}
    assert_described({**content, **texts})


@pytest.mark.parametrize("kind", ["json", "npz"])
@pytest.mark.parametrize(
    ("raw", "root", "fps"), [(False, False, None), (True, False, 25.0), (False, True, None)]
)
def test_fields_list_the_arrays_that_are_there(tmp_path, kind, raw, root, fps):
    people = [track(1, [0, 1]), track(2, [1, 2], raw=raw, root=root)]
    path = saved(Result("walk.mp4", (640, 480), 3, fps, people), kind, tmp_path)
    if kind == "json":
        content = json.loads(path.read_text())
        fields, there = content["fields"], {name for person in content["people"] for name in person} - {"id"}
    else:
        content = load_npz(path)
        fields = json.loads(str(content["fields"]))
        there = {name.split("_", 2)[2] for name in content if name.startswith(("person_1_", "person_2_"))}
    assert fields.keys() == there
    assert ("poses_camera_raw" in fields, "root_estimate" in fields, "times" in fields) == (
        raw,
        root,
        bool(fps),
    )


def test_a_picture_is_at_time_0(picture, tmp_path):
    content = load_npz(saved(picture, "npz", tmp_path))
    assert "fps" not in content and content["person_1_times"].tolist() == [0]
    content = json.loads(saved(picture, "json", tmp_path).read_text())
    assert content["fps"] is None and content["people"][0]["times"] == [0]
    rows = load_csv(saved(picture, "csv", tmp_path))
    assert rows[0]["time_s"] == "0.000000" and not any("raw" in name or "root" in name for name in rows[0])


def test_frames_of_an_unknown_rate_have_no_times(film, tmp_path):
    film.fps = None
    assert "person_1_times" not in load_npz(saved(film, "npz", tmp_path))
    assert "times" not in json.loads(saved(film, "json", tmp_path).read_text())["people"][0]
    assert {row["time_s"] for row in load_csv(saved(film, "csv", tmp_path))} == {""}


def test_nobody_can_be_saved(tmp_path):
    nobody = Result("empty.jpg", (64, 48), 1, None)
    paths = export.save(nobody, tmp_path / "out", ["npz", "json", "csv", "bvh"])
    assert [path.suffix for path in paths] == [".npz", ".json", ".csv"]
    assert load_npz(paths[0])["person_ids"].tolist() == []
    assert json.loads(paths[1].read_text())["people"] == [] and load_csv(paths[2]) == []


def test_bvh_is_a_file_for_each_person(film, tmp_path):
    paths = export.save(film, tmp_path / "new" / "walk.mp4", ["bvh"])
    assert [path.name for path in paths] == ["walk.mp4_person_1.bvh", "walk.mp4_person_4.bvh"]
    assert all(path.read_text().startswith("HIERARCHY") for path in paths)


@pytest.mark.parametrize("kind", ["json", "csv", "npz"])
def test_a_failed_save_leaves_the_old_file(film, tmp_path, kind):
    path = tmp_path / f"out.{kind}"
    path.write_text("old")
    film.tracks[1].poses = film.tracks[1].poses[:, :16] * np.nan
    film.tracks[1].frames = object()
    with pytest.raises((ValueError, TypeError)):
        export.save(film, tmp_path / "out", [kind])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_long_tracks_are_turned_into_text_in_parts_that_nobody_sees(kind, tmp_path, monkeypatch):
    people = [track(1, range(2000), raw=True), track(2, range(1500, 4501), root=True), track(3, [9])]
    long = Result("night", (640, 480), 5000, 25.0, people)
    in_parts = saved(long, kind, tmp_path).read_bytes()
    if kind == "json":
        assert in_parts.decode() == json.dumps(json.loads(in_parts)) + "\n"
    tracemalloc.start()
    saved(long, kind, tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.setattr(export, "ROWS", 10_000)
    assert saved(long, kind, tmp_path).read_bytes() == in_parts
    arrays = sum(array.nbytes for each in people for array in vars(each).values() if hasattr(array, "nbytes"))
    assert most < (3 if kind == "json" else 2) * arrays, (
        "5002 poses as Python's numbers take 25 times as much"
    )

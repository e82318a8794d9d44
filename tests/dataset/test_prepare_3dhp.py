"""MPI-INF-3DHP from files in its own layouts to what ``main.py`` trains on and scores."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import mpi_inf_3dhp as made
import numpy as np
import pytest
import torch
from fill import fill
from scipy.io import loadmat

import main
from common import cache
from common.camera import rotate
from common.prepared import dataset_named
from common.skeleton import MPI_INF_3DHP_SCORED
from dataset import mat_files, prepare
from dataset.mpi_inf_3dhp import SEQUENCES, SUBJECTS, TEST_SIZES
from model import HTNet

ROOT = Path(__file__).parents[2]
NETWORK = ["--layers", "1", "--channel", "24", "--d_hid", "32"]
VALID = (0, 1, 1, 1, 0, 0, 1, 1, 1, 1)
ACTIVITY = (1, 1, 1, 2, 2, 2, 2, 2, 7, 7)
RUNS = [("Stand/Walk", 1, 2), ("Exercise", 3, 1), ("Exercise", 6, 2), ("Miscellaneous", 8, 2)]
"""Action, first frame and length of the runs of valid frames of one activity."""


@pytest.fixture(autouse=True)
def as_before():
    threads, handlers = torch.get_num_threads(), list(logging.getLogger().handlers)
    yield
    torch.set_num_threads(threads)
    logging.getLogger().handlers[:] = handlers


def build(source: Path, training=(("S1", "Seq1"),), tests=("TS1",)):
    """Writes sequences; the truth of each."""
    truths = {}
    for seed, (subject, action) in enumerate(training):
        truths[subject, action] = made.training(source / subject / action, frames=5 + seed % 3, seed=seed)
    for seed, subject in enumerate(tests):
        arrays, truth = made.test_arrays(VALID, ACTIVITY, outdoor=subject in ("TS5", "TS6"), seed=seed)
        made.write_test(source / "mpi_inf_3dhp_test_set" / subject, arrays)
        truths[subject, ""] = truth
    return truths


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with all sequences, small, their truth, and the folder that the data set was prepared in."""
    place = tmp_path_factory.mktemp("whole")
    training = [(subject, action) for subject in SUBJECTS for action in SEQUENCES]
    truths = build(place / "source", training, tuple(TEST_SIZES))
    assert convert(place / "source", place / "data") == 0
    return place / "source", truths, place / "data"


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def convert(source: Path, data: Path, *more: str) -> int:
    return prepare.main(["3dhp", "--source", str(source), "--output", str(data), *more])


def load(data: Path, name: str = "3dhp"):
    return cache.load(dataset_named(name, data), data, "gt")


def refused(capsys, source: Path, data: Path, *more: str, code: int = 2) -> str:
    capsys.readouterr()
    assert convert(source, data, *more) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


# What comes out


def check_view(poses, sequence, truth: made.Truth, positions: np.ndarray) -> None:
    rows = slice(sequence.start, sequence.stop)
    frames = slice(sequence.first_frame, sequence.first_frame + len(sequence))
    np.testing.assert_allclose(poses.positions[rows], positions[frames], atol=1e-6)
    width, height = sequence.image_size
    pixels = (poses.keypoints[rows].astype(float) + np.array([1, height / width])) * width / 2
    np.testing.assert_allclose(pixels, truth.pixels[frames], atol=1e-3)
    fx, fy, cx, cy = sequence.intrinsics
    lens = fx * width / 2, fy * width / 2, (cx + 1) * width / 2, (cy + height / width) * width / 2
    np.testing.assert_allclose(lens, truth.lens, rtol=1e-5)


def test_all_values_of_the_whole_data_set(whole):
    _, truths, data = whole
    dataset, poses = dataset_named("3dhp", data), load(data)
    assert dataset.train == SUBJECTS and dataset.test == tuple(TEST_SIZES)
    training = [sequence for sequence in poses.sequences if sequence.subject in SUBJECTS]
    expected = [(s, a, camera) for s in SUBJECTS for a in SEQUENCES for camera in (0, 2, 4, 5, 6, 7, 8)]
    assert [(each.subject, each.action, each.camera) for each in training] == expected
    for sequence in training:
        truth = truths[sequence.subject, sequence.action][sequence.camera]
        assert (sequence.first_frame, len(sequence)) == (0, len(truth.pixels))
        assert sequence.image_size == (2048, 2048)
        check_view(poses, sequence, truth, truth.universal)
    tests = [sequence for sequence in poses.sequences if sequence.subject in TEST_SIZES]
    found = [(each.subject, each.action, each.first_frame, len(each)) for each in tests]
    assert found == [(subject, *run) for subject in TEST_SIZES for run in RUNS]
    for sequence in tests:
        outdoor = sequence.subject in ("TS5", "TS6")
        assert sequence.image_size == ((1920, 1080) if outdoor else (2048, 2048))
        assert sequence.orientation is None
        truth = truths[sequence.subject, ""]
        check_view(poses, sequence, truth, truth.universal)
    groups = {each.subject: each.group for each in poses.sequences}
    assert groups["TS1"] == groups["TS2"] == "studio with green screen"
    assert groups["TS3"] == groups["TS4"] == "studio without"
    assert groups["TS5"] == groups["TS6"] == "outdoor"
    assert groups["S1"] == ""


def test_metric_skeleton_is_a_data_set_of_its_own(source, data):
    truths = build(source)
    assert convert(source, data, "--skeleton", "metric") == convert(source, data) == 0
    poses = load(data, "3dhp_metric")
    sequence = poses.sequences[0]
    truth = truths["S1", "Seq1"][0]
    check_view(poses, sequence, truth, truth.metric)
    check_view(load(data), load(data).sequences[0], truth, truth.universal)


@pytest.mark.parametrize(("given", "expected"), [("all", range(14)), ("3", [3]), ("8,1,0", [0, 1, 8])])
def test_cameras_can_be_chosen(source, data, given, expected):
    build(source)
    assert convert(source, data, "--cameras", given, "--name", "other") == 0
    poses = load(data, "other")
    assert [each.camera for each in poses.sequences if each.subject == "S1"] == list(expected)


@pytest.mark.parametrize("given", ["14", "-1", "1,1", "x", "", "1,,2"])
def test_cameras_that_there_are_not(source, data, given, capsys):
    with pytest.raises(SystemExit) as stopped:
        convert(source, data, f"--cameras={given}")
    assert stopped.value.code == 2 and "--cameras" in capsys.readouterr().err


@pytest.mark.parametrize("up", [1.0, -1.0])
def test_orientation_turns_a_camera_upright_whichever_way_the_calibration_has_it(source, data, up):
    truths = made.training(source / "S1" / "Seq1", up=up)
    assert convert(source, data) == 0
    poses = load(data)
    for sequence in poses.sequences:
        truth = truths[sequence.camera]
        turned = rotate(poses.positions[sequence.start : sequence.stop].astype(float), sequence.orientation)
        world = truth.world * made.UNIVERSAL
        height = turned[..., 2] - world[..., 1] * up
        np.testing.assert_allclose(height, height[0, 0], atol=1e-5)  # z of the one is "up" of the other
        # The floor's two axes make a rotation of the world's, not a mirror image of it.
        a, b = turned - turned[:, :1], world - world[:, :1]
        volume_a, volume_b = (np.linalg.det(each[:, [3, 10, 13]]) for each in (a, b))
        np.testing.assert_allclose(volume_a, volume_b, atol=1e-5)
        assert all(seq.orientation != sequence.orientation for seq in poses.sequences if seq is not sequence)


def test_frames_without_numbers_split_a_training_sequence(source, data):
    made.training(source / "S1" / "Seq1", frames=8)
    cells = read_cells(source / "S1/Seq1/annot.mat")
    cells["annot3"][2][3, 5 * 3] = np.nan
    made.write_training(source / "S1/Seq1/annot.mat", cells)
    assert convert(source, data, "--cameras", "0,2") == 0
    runs = [(each.camera, each.first_frame, len(each)) for each in load(data).sequences]
    assert runs == [(0, 0, 8), (2, 0, 3), (2, 4, 4)]


def read_cells(path: Path) -> dict[str, list[np.ndarray]]:
    content = loadmat(path)
    return {name: list(content[name].ravel()) for name in ("annot2", "annot3", "univ_annot3")}


def test_cameras_without_calibration_are_found_from_the_annotations(source, data, capsys):
    truths = build(source)
    (source / "S1/Seq1/camera.calibration").unlink()
    assert convert(source, data) == 0
    poses = load(data)
    assert "camera.calibration is missing" in capsys.readouterr().out
    for sequence in poses.sequences:
        if sequence.subject == "S1":
            truth = truths["S1", "Seq1"][sequence.camera]
            check_view(poses, sequence, truth, truth.universal)
            assert sequence.orientation is None


def test_a_calibration_of_other_cameras_is_not_believed(source, data, capsys):
    truths = build(source)
    path = source / "S1/Seq1/camera.calibration"
    path.write_text(
        path.read_text()
        .replace("intrinsic   15", "intrinsic   19")
        .replace("intrinsic   14", "intrinsic   19")
    )
    assert convert(source, data) == 0
    assert "misses the key points by" in capsys.readouterr().out
    poses = load(data)
    check_view(poses, poses.sequences[0], truths["S1", "Seq1"][0], truths["S1", "Seq1"][0].universal)
    assert poses.sequences[0].orientation is None


def test_a_test_set_without_activities(source, data, capsys):
    arrays, _ = made.test_arrays(VALID, ACTIVITY)
    del arrays["activity_annotation"]
    made.write_test(source / "TS1", arrays)
    assert convert(source, data) == 0
    assert "has no activity_annotation" in capsys.readouterr().out
    assert [(each.action, len(each)) for each in load(data).sequences] == [
        ("Unlabelled", 3),
        ("Unlabelled", 4),
    ]


# What is there, and what is not


def test_missing_sequences_are_named(source, data, capsys):
    build(source, [("S1", "Seq1"), ("S2", "Seq1")], ("TS2", "TS4"))
    (source / "S2/Seq1/annot.mat").unlink()
    assert convert(source, data) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith(
        "missing, and left out: S1/Seq2 (no such folder), S2/Seq1 (its folder has no annot.mat), "
    )
    assert said.endswith(
        "TS1 (no such folder), TS3 (no such folder), TS5 (no such folder), TS6 (no such folder)"
    )
    dataset = dataset_named("3dhp", data)
    assert (dataset.train, dataset.test) == (("S1",), ("TS2", "TS4"))


@pytest.mark.parametrize(
    "inside", ["", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set"]
)
def test_the_test_set_alone_wherever_it_was_unpacked(source, data, inside, capsys, tmp_path):
    arrays, _ = made.test_arrays(VALID, ACTIVITY)
    made.write_test(source / inside / "TS3", arrays)
    made.write_test(source / inside / "TS1", arrays)
    assert convert(source, data) == 0
    assert dataset_named("3dhp", data).test == ("TS1", "TS3")
    call = [
        "--train",
        "-n",
        "x",
        "--dataset",
        "3dhp",
        "--root_path",
        str(data),
        "--checkpoint_dir",
        str(tmp_path),
    ]
    capsys.readouterr()
    assert main.main(call) == 2
    assert "it was prepared without training subjects" in capsys.readouterr().err


@pytest.mark.parametrize("files", [[], ["S1/annot.mat"], ["videos/S1/Seq1/annot.mat"]])
def test_another_layout_is_refused_with_the_right_one(source, data, capsys, files):
    source.mkdir()
    for name in files:
        (source / name).parent.mkdir(parents=True)
        (source / name).touch()
    message = refused(capsys, source, data)
    assert "S1/Seq1/annot.mat" in message and "mpi_inf_3dhp_test_set/TS1/annot_data.mat" in message
    assert ("holds " + (files[0].split("/")[0] if files else "nothing")) in message
    assert not data.exists()
    assert "There is no such folder" in refused(capsys, source / "none", data)


def test_a_second_call_changes_nothing_and_other_options_are_refused(source, data, capsys):
    build(source)
    assert convert(source, data) == 0
    before = {path: path.stat().st_mtime_ns for path in (data / "3dhp").iterdir()}
    assert convert(source, data) == 0
    assert "is there already" in capsys.readouterr().out
    assert "made with other options" in refused(capsys, source, data, "--cameras", "all")
    (source / "mpi_inf_3dhp_test_set").rename(source / "gone")
    assert "of other files" in refused(capsys, source, data)
    (data / "3dhp" / "index.json").write_text("{}")
    assert "damaged" in refused(capsys, source, data)
    assert before.keys() == set((data / "3dhp").iterdir())
    assert sorted(path.name for path in data.iterdir()) == ["3dhp"]


@pytest.mark.parametrize("name", ["h36m", "sample", "a/b", "..", ".hidden"])
def test_names_that_are_taken_or_no_names(source, data, capsys, name):
    build(source)
    assert "--name" in refused(capsys, source, data, "--name", name)


# Files that are wrong


def test_a_training_file_cut_anywhere_is_refused(source, data, capsys):
    build(source, tests=())
    path = source / "S1/Seq1/annot.mat"
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 12, dtype=int):
        path.write_bytes(content[:size])
        message = refused(capsys, source, data)
        assert str(path) in message
    assert not (data / "3dhp").exists()


def test_a_test_file_cut_anywhere_is_refused(source, data, capsys):
    build(source, training=())
    path = source / "mpi_inf_3dhp_test_set/TS1/annot_data.mat"
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 12, dtype=int):
        path.write_bytes(content[:size])
        assert str(path) in refused(capsys, source, data)
    assert not (data / "3dhp").exists()


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_training_file_with_damaged_bytes_is_refused(source, data, capsys, where):
    build(source, tests=())
    path = source / "S1/Seq1/annot.mat"
    content = bytearray(path.read_bytes())
    start = int(where * len(content))
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert str(path) in refused(capsys, source, data)


def narrow(cells):
    cells["annot2"][0] = cells["annot2"][0][:, :34]


def few_cells(cells):
    for name in cells:
        del cells[name][8:]


def no_univ(cells):
    del cells["univ_annot3"]


def fewer_frames(cells):
    cells["annot3"][2] = cells["annot3"][2][:-1]


def metres(cells):
    cells["annot3"] = [cell / 1000 for cell in cells["annot3"]]


def words(cells):
    cells["annot2"][0] = np.array(["nothing"])


def empty(cells):
    cells["annot2"][0] = np.zeros((0, 56))


def only_nan(cells):
    cells["annot2"][0] = cells["annot2"][0] * np.nan


def behind(cells):
    cells["annot3"] = [cell * -1 for cell in cells["annot3"]]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (narrow, "camera 0: annot2: expected numbers of shape (frames, 56), 28 joints; found float64 of "
         "shape (5, 34), which would be 17 joints"),
        (few_cells, "expected annot2, a cell array of 14 cameras; found cell of shape (8, 1)"),
        (no_univ, "expected univ_annot3, a cell array of 14 cameras; the file holds annot2, annot3, cameras"),
        (fewer_frames, "camera 2: expected as many frames of annot2, annot3, univ_annot3; found 5, 4 and 5"),
        (metres, "expected millimetres"),
        (words, "camera 0: annot2: expected numbers"),
        (empty, "expected 1 to 100,000 frames, found 0"),
        (only_nan, "none of its 5 frames is valid"),
        (behind, "no camera makes its key points of its positions: expected positions in front of the cam"),
    ],
)  # fmt: skip
def test_wrong_training_files_are_named_with_what_was_expected(source, data, capsys, spoil, said):
    build(source, tests=())
    path = source / "S1/Seq1/annot.mat"
    cells = read_cells(path)
    spoil(cells)
    made.write_training(path, {"annot2": cells.pop("annot2"), **cells})
    message = refused(capsys, source, data)
    assert str(path) in message and said in message


def test_training_file_of_the_other_format(source, data, capsys):
    build(source)
    (source / "mpi_inf_3dhp_test_set/TS1/annot_data.mat").replace(source / "S1/Seq1/annot.mat")
    assert "save it again with -v7" in refused(capsys, source, data)


def test_a_file_that_unpacks_without_end_is_stopped(source, data, capsys, monkeypatch):
    build(source, tests=())
    monkeypatch.setattr(mat_files, "MAX_UNPACKED", 1000)
    assert "unpacks to more than 1,000 bytes" in refused(capsys, source, data)


def wrong_joints(arrays):
    arrays["annot3"] = np.concatenate([arrays["annot3"]] * 2, axis=1)


def no_valid(arrays):
    del arrays["valid_frame"]


def nothing_valid(arrays):
    arrays["valid_frame"] = arrays["valid_frame"] * 0


def other_frames(arrays):
    arrays["valid_frame"] = arrays["valid_frame"][:, 1:]


def lost(arrays):
    arrays["univ_annot3"][0, 0, 0, 1] = np.inf


def text(arrays):
    arrays["annot2"] = np.full((2, 17, 1, 10), b"x")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_joints, "expected annot3, numbers of shape (3, 17, 1, frames); found float64 of shape "
         "(3, 34, 1, 10)"),
        (no_valid, "expected valid_frame, numbers of shape (frames, frames); the file holds activity_ann"),
        (nothing_valid, "none of its 10 frames is valid"),
        (other_frames, "expected as many frames of each; found 10 of annot2"),
        (lost, "expected numbers in all valid frames"),
        (text, "expected annot2, numbers of shape (2, 17, 1, frames); found |S1"),
    ],
)  # fmt: skip
def test_wrong_test_files_are_named_with_what_was_expected(source, data, capsys, spoil, said):
    arrays, _ = made.test_arrays(VALID, ACTIVITY)
    spoil(arrays)
    path = made.write_test(source / "TS1", arrays)
    message = refused(capsys, source, data)
    assert str(path) in message and said in message


def test_absurd_sizes_of_a_test_file_are_refused_before_memory_is_taken(source, data, capsys):
    arrays, _ = made.test_arrays(VALID, ACTIVITY)
    path = made.write_test(source / "TS1", arrays)
    sizes = (("annot2", (10**11, 1, 17, 2)), ("valid_frame", (10**6, 10**6)), ("valid_frame", (10**12, 1)))
    for name, shape in sizes:
        with h5py.File(path, "r+") as file:
            del file[name]
            file.create_dataset(name, shape=shape, dtype="f8", chunks=(1000, *(1 for _ in shape[1:])))
        assert path.stat().st_size < 2**20
        assert f"expected {name}, numbers" in refused(capsys, source, data)
        made.write_test(source / "TS1", arrays)


def test_links_out_of_a_test_file_are_not_followed(source, data, capsys, tmp_path):
    arrays, _ = made.test_arrays(VALID, ACTIVITY)
    other = made.write_test(tmp_path / "other", arrays)
    path = made.write_test(source / "TS1", arrays)
    with h5py.File(path, "r+") as file:
        del file["annot2"]
        file["annot2"] = h5py.ExternalLink(str(other), "annot2")
    assert "found no plain array" in refused(capsys, source, data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("intrinsic", "inner"),
        ("extrinsic   ", "extrinsic   7 "),
        ("2048 2048", "2048"),
        ("name          ", "name x"),
    ],
)
def test_a_damaged_calibration_is_named(source, data, capsys, old, new):
    build(source, tests=())
    path = source / "S1/Seq1/camera.calibration"
    path.write_text(path.read_text().replace(old, new, 1))
    message = refused(capsys, source, data)
    assert str(path) in message and "camera 0" in message


# Runs that are stopped


def test_a_killed_run_goes_on_where_it_was(whole, data, capsys):
    source, _, finished = whole
    code = (
        "import os, signal, sys\nfrom dataset import prepare\nfrom dataset.parts import Parts\n"
        "put, done = Parts.put, []\n"
        "def kill(*args, **keywords):\n"
        "    if len(done) == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    put(*args, **keywords); done.append(1)\n"
        "Parts.put = kill\n"
        "prepare.main(['3dhp', '--source', sys.argv[1], '--output', sys.argv[2]])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(source), str(data)], cwd=ROOT, capture_output=True)
    assert run.returncode == -signal.SIGKILL
    assert not (data / "3dhp").exists()
    parts = {path: path.stat().st_mtime_ns for path in (data / ".3dhp-parts").iterdir()}
    assert len(parts) == 9
    changed = source / "S1/Seq1/annot.mat"
    stat = changed.stat()
    assert convert(source, data) == 0
    assert "9 of 22 files were converted by an earlier run" in capsys.readouterr().out
    assert changed.stat() == stat
    for name in ("index.json", "keypoints.npy", "positions.npy"):
        assert (data / "3dhp" / name).read_bytes() == (finished / "3dhp" / name).read_bytes()
    assert [path.name for path in data.iterdir()] == ["3dhp"]


def test_parts_are_not_taken_for_other_files_or_options(source, data, capsys, monkeypatch):
    truths = build(source, tests=())
    with monkeypatch.context() as patch:
        patch.setattr("dataset.mpi_inf_3dhp.write_poses", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert(source, data)
    path = source / "S1/Seq1/camera.calibration"
    path.write_text(path.read_text().replace("intrinsic   1497", "intrinsic   1499"))
    assert convert(source, data) == 0
    assert "earlier run" not in capsys.readouterr().out
    np.testing.assert_allclose(load(data).sequences[0].intrinsics[0], 1499 / 1024)
    assert truths["S1", "Seq1"][0].lens[0] == 1497


def test_a_full_disk_is_said_and_leaves_no_data_set(source, data, capsys, monkeypatch):
    build(source)

    def full(*args, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dataset.mpi_inf_3dhp.write_poses", full)
        assert "No space left on device" in refused(capsys, source, data, code=1)
    assert not (data / "3dhp").exists()
    assert convert(source, data) == 0


# Training and scoring


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model_1_100.pth"
    torch.save(fill(HTNet(layers=1, channel=24, d_hid=32), scale=0.3).state_dict(), path)
    return path


def score(data: Path, weights: Path, place: Path, *more: str) -> tuple[dict, dict]:
    """The summary and the poses of a call of main.py."""
    call = ["--reload", "--previous_dir", str(weights), *NETWORK, "--dataset", "3dhp", "--device", "cpu"]
    call += ["--root_path", str(data), "--metrics_json", str(place / "a.json")]
    call += ["--save_predictions", str(place / "a.npz"), *more]
    assert main.main(call) == 0
    return json.loads((place / "a.json").read_text()), dict(np.load(place / "a.npz"))


@pytest.mark.parametrize("joints", [17, 14])
def test_groups_and_sequences_are_scored_as_by_hand(whole, weights, tmp_path, capsys, joints):
    record, saved = score(whole[2], weights, tmp_path, "--joints", str(joints))
    counted = [joint for joint in range(17) if joints == 17 or joint not in (0, 7, 9)]
    assert joints == 17 or sorted(MPI_INF_3DHP_SCORED) == counted
    expected: dict[str, list] = {}
    groups = {
        "1": "studio with green screen",
        "2": "studio with green screen",
        "5": "outdoor",
        "6": "outdoor",
    }
    for subject, predicted, truth in zip(saved["subject"], saved["predicted"], saved["truth"], strict=True):
        errors = [float(np.sqrt(((predicted[j] - truth[j]) ** 2).sum())) for j in counted]
        pck = sum(error < 150 for error in errors) / joints
        auc = np.mean([sum(error < limit for error in errors) / joints for limit in range(0, 151, 5)])
        for part in (str(subject), groups.get(subject[2], "studio without"), "all"):
            expected.setdefault(part, []).append((pck, auc, np.mean(errors)))
    metrics = record["metrics"]
    found = {**metrics["per_group"], **metrics["per_subject"], "all": metrics["average"]["frame_wise"]}
    assert found.keys() == expected.keys() and len(found) == 10
    for part, rows in expected.items():
        values = [found[part][metric] for metric in ("PCK", "AUC", "P1")]
        np.testing.assert_allclose(values, np.mean(rows, axis=0), rtol=1e-5)
    assert set(metrics["per_action"]) == {"Stand/Walk", "Exercise", "Miscellaneous"}
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("studio with green screen"))
    row = found["studio with green screen"]
    assert line.split()[4:] == ["14", f"{row['PCK']:.4f}", f"{row['AUC']:.4f}", f"{row['P1']:.2f}"]


def test_truth_is_that_of_the_files_relative_to_the_pelvis(whole, weights, tmp_path):
    _, truths, data = whole
    _, saved = score(data, weights, tmp_path)
    for subject, frame, truth in zip(saved["subject"], saved["frame"], saved["truth"], strict=True):
        pose = truths[str(subject), ""].universal[frame]
        np.testing.assert_allclose(truth, (pose - pose[0]) * 1000, atol=1e-2)


def test_report_and_csv_have_the_groups(whole, weights, tmp_path):
    more = ["--report", str(tmp_path / "report"), "--metrics_csv", str(tmp_path / "a.csv")]
    score(whole[2], weights, tmp_path, "--actions", "Miscellaneous", *more)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Means per group" in page and "studio with green screen" in page
    assert "per_group,outdoor,4,2," in (tmp_path / "a.csv").read_text()


def test_training_on_it_and_scoring_by_the_command_that_training_names(whole, tmp_path, capsys):
    small = ["--downsample", "3", "--cache_dir", str(tmp_path), "--checkpoint_dir", str(tmp_path)]
    call = ["--train", "-n", "a", "--dataset", "3dhp", "--root_path", str(whole[2]), *NETWORK, *small]
    assert main.main([*call, "--nepoch", "1", "--batch_size", "512", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "training on S1, S2, S3, S4, S5, S6, S7, S8" in said and "on TS1, TS2, TS3, TS4, TS5, TS6" in said
    options = json.loads((tmp_path / "a" / "options.json").read_text())["options"]
    assert (options["dataset"], options["keypoints"]) == ("3dhp", "gt")
    named = next(line for line in said.splitlines() if "score it by: " in line)
    command = shlex.split(named.split("score it by: ")[1])
    assert command[:2] == ["python", "main.py"] and main.main([*command[2:], "--device", "cpu"]) == 0

"""Files in Human3.6M's layout: what is read from them, and what is said when they are wrong."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from common.camera import h36m_cameras
from common.errors import DataError
from common.h36m import DATASETS, check_files, read_takes
from common.safe_npz import read_npz
from common.skeleton import H36M_32_KEPT
from dataset.sample import make

H36M, SAMPLE = DATASETS["h36m"], DATASETS["sample"]
FILE_3D, FILE_2D = "data_3d_h36m.npz", "data_2d_h36m_gt.npz"


def faults(folder: Path) -> list[str]:
    """What is said about wrong files, a fault a line."""
    with pytest.raises(DataError) as caught:
        read_takes(H36M, folder, "gt")
    head, *lines = str(caught.value).splitlines()
    assert head == f"files in {folder} cannot be used:"
    assert lines.pop() == H36M.origin
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


# Files that are right


def test_takes_are_those_of_the_3d_file_training_subjects_first(files, folder):
    positions, pixels = files
    takes = read_takes(H36M, folder, "gt")
    expected = [(subject, action) for subject in (*H36M.train, *H36M.test) for action in positions[subject]]
    assert [(take.subject, take.action) for take in takes] == expected
    assert [subject for subject, _ in expected].index("S9") < [subject for subject, _ in expected].index(
        "S11"
    )
    for take in takes:
        np.testing.assert_array_equal(take.world, positions[take.subject][take.action])
        for array, source in zip(take.pixels, pixels[take.subject][take.action], strict=True):
            np.testing.assert_array_equal(array, source)
        assert take.cameras == h36m_cameras()[take.subject]


def test_a_take_that_the_key_points_alone_have_is_left_out(files, folder):
    positions, pixels = files
    assert "Directions" in pixels["S11"] and "Directions" not in positions["S11"]
    takes = read_takes(H36M, folder, "gt")
    assert [take.action for take in takes if take.subject == "S11"] == ["Directions 1", "Walking"]


def test_subjects_that_the_protocol_does_not_use_do_no_harm(files, write_files):
    positions, pixels = files
    positions["S2"], pixels["S3"] = {"Walking": np.zeros(3)}, {}
    subjects = {take.subject for take in read_takes(H36M, write_files(positions, pixels), "gt")}
    assert subjects == {*H36M.train, *H36M.test}


def test_order_of_subjects_in_the_files_is_of_no_account(files, write_files):
    positions, pixels = (dict(reversed(list(part.items()))) for part in files)
    takes = read_takes(H36M, write_files(positions, pixels), "gt")
    assert list(dict.fromkeys(take.subject for take in takes)) == [*H36M.train, *H36M.test]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.dtype(">f4")])
def test_arrays_of_any_float_type_and_tuples_of_cameras(files, write_files, kind):
    positions, pixels = files
    positions["S1"]["Walking"] = positions["S1"]["Walking"].astype(kind)
    pixels["S1"]["Walking"] = tuple(array.astype(kind) for array in pixels["S1"]["Walking"])
    (take,) = (
        take
        for take in read_takes(H36M, write_files(positions, pixels), "gt")
        if (take.subject, take.action) == ("S1", "Walking")
    )
    assert len(take.views()) == 4


def test_views_cut_the_tail_of_the_key_points(files, folder):
    positions, pixels = files
    for take in read_takes(H36M, folder, "gt"):
        frames = len(positions[take.subject][take.action])
        tails = [len(array) - frames for array in pixels[take.subject][take.action]]
        assert tails == [0, 1, 2, 3], "the test shows nothing unless there is a tail"
        for camera, (sequence, keypoints, points) in enumerate(take.views()):
            assert keypoints.shape == (frames, 17, 2) and points.shape == (frames, 17, 3)
            assert (sequence.subject, sequence.action, sequence.camera) == (take.subject, take.action, camera)
            assert (sequence.start, sequence.stop, sequence.first_frame, sequence.step) == (0, frames, 0, 1)
            lens = h36m_cameras()[take.subject][camera]
            assert sequence.image_size == (lens.width, lens.height)
            assert sequence.intrinsics == tuple(lens.intrinsics())


def test_views_of_the_sample_are_projections_of_each_other():
    """Key points are where the pinhole of a sequence's own ``intrinsics`` puts the positions, up to lens
    distortion: only then do key points, positions and intrinsics belong to the same camera."""
    for take in read_takes(SAMPLE, Path(make.__file__).parent, "gt"):
        for sequence, keypoints, points in take.views():
            fx, fy, cx, cy = sequence.intrinsics
            pinhole = points[..., :2] / points[..., 2:] * (fx, fy) + (cx, cy)
            away = np.abs(pinhole - keypoints).max() * sequence.image_size[0] / 2
            assert away < 30, (str(sequence), away)  # pixels; the width is 1000


def test_kept_joints_are_the_protocols(files, folder):
    positions, _ = files
    take = read_takes(H36M, folder, "gt")[0]
    _, _, points = take.views()[2]
    lens = take.cameras[2]
    pelvis_to_head = points[0, 10] - points[0, 0]
    world = positions[take.subject][take.action][0].astype(np.float64)
    length = np.linalg.norm(world[15] - world[0])  # 15 is the head of the 32, 10 that of the 17
    assert np.linalg.norm(pelvis_to_head) == pytest.approx(length, rel=1e-6)
    distances = np.linalg.norm(world[list(H36M_32_KEPT)] - lens.translation, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(points[0], axis=-1), distances, rtol=1e-6)


# Files that are missing


@pytest.mark.parametrize("gone", [[FILE_3D], [FILE_2D], [FILE_3D, FILE_2D]])
def test_missing_files_are_all_named_with_their_place_origin_and_licence(folder, gone):
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        check_files(H36M, folder, "gt")
    message = str(caught.value)
    for name in (FILE_3D, FILE_2D):
        assert (str(folder / name) in message) == (name in gone)
        assert (name in message.split("holds ")[1].split("\n")[0]) == (name not in gone)
    for words in ("--root_path", "-k", "licence", "registration", "vision.imar.ro/human3.6m", "VideoPose3D"):
        assert words in message
    assert "--dataset sample" in message, "offered, but never taken without being asked for"
    assert caught.value.exit_code == 2
    with pytest.raises(DataError, match="data files are missing"):
        read_takes(H36M, folder, "gt")


def test_other_key_points_than_those_that_are_there(folder):
    with pytest.raises(DataError) as caught:
        check_files(H36M, folder, "cpn_ft_h36m_dbb")
    assert f"{folder / 'data_2d_h36m_cpn_ft_h36m_dbb.npz'}: No such file" in str(caught.value)
    assert f"The folder {folder} holds {FILE_2D}, {FILE_3D} of that kind." in str(caught.value)


def test_a_folder_that_does_not_exist_or_is_a_file_or_is_empty(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, words in (("none", "does not exist"), ("file", "does not exist"), ("empty", "holds nothing")):
        with pytest.raises(DataError, match=f"The folder {re.escape(str(tmp_path / name))} {words}"):
            check_files(H36M, tmp_path / name, "gt")


def test_a_folder_in_place_of_a_file(folder):
    (folder / FILE_3D).unlink()
    (folder / FILE_3D).mkdir()
    with pytest.raises(DataError, match=f"{re.escape(str(folder / FILE_3D))}: Is a directory"):
        check_files(H36M, folder, "gt")


def test_the_sample_is_where_the_data_set_says():
    check_files(SAMPLE, Path(SAMPLE.root), SAMPLE.keypoints)
    with pytest.raises(DataError, match="README there"):
        check_files(SAMPLE, Path(SAMPLE.root), "cpn_ft_h36m_dbb")


def test_a_damaged_file_is_named(folder):
    content = (folder / FILE_2D).read_bytes()
    (folder / FILE_2D).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{re.escape(str(folder / FILE_2D))}.*end is missing"):
        read_takes(H36M, folder, "gt")


# Files that are wrong


def test_files_taken_for_each_other(files, write_files):
    positions, pixels = files
    folder = write_files(positions, pixels)
    (folder / FILE_3D).rename(folder / "x")
    (folder / FILE_2D).rename(folder / FILE_3D)
    (folder / "x").rename(folder / FILE_2D)
    with pytest.raises(DataError) as caught:
        read_takes(H36M, folder, "gt")
    assert str(folder / FILE_3D) in str(caught.value)
    assert "expected a dictionary named positions_3d, found positions_2d, metadata" in str(caught.value)


@pytest.mark.parametrize("empty", [{}, None])
def test_missing_subjects_are_named_with_those_that_are_there(files, write_files, empty):
    positions, pixels = files
    positions["S8"] = empty
    del pixels["S11"]
    lines = faults(write_files(positions, pixels))
    assert len(lines) == 2
    assert lines[0].startswith(f"{FILE_3D}: S8: ") and "S1, S5, S6" in lines[0]
    assert lines[1].startswith(f"{FILE_2D}: S11: ") and lines[1].endswith("S1, S5, S6, S7, S8, S9")


WRONG_3D = {
    "joints": (lambda world: world[:, :17], r"expected .*\(frames, 32, 3\), found \(\d+, 17, 3\)"),
    "axes": (lambda world: world[..., :2], r"expected .*\(frames, 32, 3\), found \(\d+, 32, 2\)"),
    "flat": (lambda world: world[0], r"found \(32, 3\)"),
    "empty": (lambda world: world[:0], r"found \(0, 32, 3\)"),
    "list": (lambda world: world.tolist(), "found list"),
    "none": (lambda world: None, "found nothing"),
    "text": (lambda world: world.astype("S4"), "found "),
    "NaN": (lambda world: with_bad(world, np.nan), "NaN or infinity in 2 frames, the first is frame 3"),
    "infinity": (lambda world: with_bad(world, -np.inf), "NaN or infinity in 2 frames, the first is frame 3"),
}


def with_bad(array, value):
    array = array.copy()
    array[3, 4, 1] = array[4, 0, 0] = value
    return array


@pytest.mark.parametrize("kind", WRONG_3D)
def test_wrong_positions_are_named_by_file_subject_and_action(files, write_files, kind):
    positions, pixels = files
    damage, words = WRONG_3D[kind]
    positions["S6"]["Directions 1"] = damage(positions["S6"]["Directions 1"])
    (line,) = faults(write_files(positions, pixels))
    assert line.startswith(f"{FILE_3D}: S6, Directions 1: ")
    assert re.search(words, line), line


WRONG_2D = {
    "joints": (lambda view: view[:, :16], r"expected .*\(frames, 17, 2\), found \(\d+, 16, 2\)"),
    "confidence": (lambda view: np.pad(view, ((0, 0), (0, 0), (0, 1))), r"found \(\d+, 17, 3\)"),
    "list": (lambda view: view.tolist(), "found list"),
    "none": (lambda view: None, "found nothing"),
    "NaN": (lambda view: with_bad(view, np.nan), "NaN or infinity in 2 frames, the first is frame 3"),
}


@pytest.mark.parametrize("camera", range(4))
@pytest.mark.parametrize("kind", WRONG_2D)
def test_wrong_key_points_are_named_by_camera_too(files, write_files, kind, camera):
    positions, pixels = files
    damage, words = WRONG_2D[kind]
    pixels["S9"]["Walking"][camera] = damage(pixels["S9"]["Walking"][camera])
    (line,) = faults(write_files(positions, pixels))
    assert line.startswith(f"{FILE_2D}: S9, Walking, camera {camera}: ")
    assert re.search(words, line), line


def test_key_points_shorter_than_the_motion_capture(files, write_files):
    positions, pixels = files
    frames = len(positions["S1"]["Walking"])
    pixels["S1"]["Walking"][2] = pixels["S1"]["Walking"][2][: frames - 1]
    (line,) = faults(write_files(positions, pixels))
    assert line == (
        f"{FILE_2D}: S1, Walking, camera 2: expected at least the {frames} frames of {FILE_3D}, "
        f"found {frames - 1}"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda views: views[:3], "expected 4 cameras, found 3"),
        (lambda views: [*views, views[0]], "expected 4 cameras, found 5"),
        (lambda views: [], "expected 4 cameras, found 0"),
        (lambda views: views[0], "expected a list of 4 cameras, found ndarray"),
    ],
)
def test_wrong_numbers_of_cameras(files, write_files, change, found):
    positions, pixels = files
    pixels["S7"]["Walking"] = change(pixels["S7"]["Walking"])
    assert faults(write_files(positions, pixels)) == [f"{FILE_2D}: S7, Walking: {found}"]


def test_a_take_that_the_key_points_lack(files, write_files):
    positions, pixels = files
    del pixels["S5"]["Directions"]
    (line,) = faults(write_files(positions, pixels))
    assert line == f"{FILE_2D}: S5, Directions: expected a list of 4 cameras, found nothing"


def test_all_faults_are_told_at_once(files, write_files):
    positions, pixels = files
    positions["S1"]["Walking"] = positions["S1"]["Walking"][:, :17]
    del positions["S5"]
    pixels["S6"]["Walking"][0][0, 0, 0] = np.nan
    pixels["S6"]["Walking"][3] = pixels["S6"]["Walking"][3][:1]
    pixels["S11"]["Walking"] = pixels["S11"]["Walking"][:2]
    starts = [
        f"{FILE_3D}: S1, Walking: ",
        f"{FILE_3D}: S5: ",
        f"{FILE_2D}: S6, Walking, camera 0: NaN",
        f"{FILE_2D}: S6, Walking, camera 3: expected at least",
        f"{FILE_2D}: S11, Walking: expected 4 cameras",
    ]
    lines = faults(write_files(positions, pixels))
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_very_many_faults_are_counted(files, write_files):
    positions, pixels = files
    for takes in pixels.values():
        for views in takes.values():
            views[0][0] = views[2][1] = np.nan
    total = 2 * sum(map(len, positions.values()))
    lines = faults(write_files(positions, pixels))
    assert len(lines) == 21 and lines[-1] == f"and {total - 20} more"


def test_a_hostile_file_is_refused_and_runs_nothing(files, write_files, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    positions, pixels = files
    positions["S1"]["Walking"] = Hostile()
    with pytest.raises(DataError, match=r"refused (posix|nt)\.mkdir"):
        read_takes(H36M, write_files(positions, pixels), "gt")
    assert not (tmp_path / "was here").exists()


def test_made_up_files_are_read_as_the_field_reads_them(files, folder):
    positions, _ = files
    with np.load(folder / FILE_3D, allow_pickle=True) as stored:
        field = stored["positions_3d"].item()
    here = read_npz(folder / FILE_3D)["positions_3d"]
    np.testing.assert_array_equal(field["S9"]["Walking"], here["S9"]["Walking"])
    np.testing.assert_array_equal(field["S9"]["Walking"], positions["S9"]["Walking"])

"""Checking data sets: each fault, written into the sample's files, is named, and it alone."""

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import mpi_inf_3dhp
import numpy as np
import pytest
from PIL import Image

from common import cache
from common.camera import h36m_cameras, normalize_pixels, project, world_to_camera
from common.h36m import DATASETS
from common.safe_npz import read_npz
from common.sequences import PoseSet, Sequence, joined
from common.skeleton import H36M_32_KEPT, MIRROR, MPI_INF_3DHP_17_KEPT, NUM_JOINTS
from dataset import check, check_samples, check_sheet, prepare
from dataset.check_counts import count_table, missing_takes
from dataset.check_findings import findings
from dataset.check_orders import COCO, ORDERS
from dataset.h36m import ACTIONS, TRAINING_FRAMES

SAMPLE = DATASETS["sample"]
KEPT = list(H36M_32_KEPT)
ARMS, LEGS = [11, 12, 13, 14, 15, 16], [1, 2, 3, 4, 5, 6]
TEST = ("S9", "S11")


@pytest.fixture(scope="module")
def sample():
    path_3d, path_2d = SAMPLE.files(Path(SAMPLE.root), "gt")
    return read_npz(path_3d)["positions_3d"], read_npz(path_2d)["positions_2d"]


@pytest.fixture
def files(sample):
    """The test subjects' takes of the sample, to damage at will: positions and pixels."""
    positions, pixels = sample
    return (
        {subject: {take: world.copy() for take, world in positions[subject].items()} for subject in TEST},
        {
            subject: {take: [view.copy() for view in views] for take, views in pixels[subject].items()}
            for subject in TEST
        },
    )


def kept(positions):
    """Each take's subject, name and (F, 17, 3) joints, to be changed in place by the caller."""
    for subject, takes in positions.items():
        for take, world in takes.items():
            yield subject, take, world


def poses_of(files, size=None):
    """What the cache makes of positions and pixels, without a cache; pixels of pictures of another size."""
    positions, pixels = files
    sets = []
    for subject, take, world in kept(positions):
        for index, camera in enumerate(h36m_cameras()[subject]):
            width, height = size or (camera.width, camera.height)
            fx, fy, cx, cy = (float(value) for value in camera.intrinsics())
            sequence = Sequence(
                subject, take, index, 0, len(world), (fx, fy, cx, cy),
                (camera.width, camera.height), orientation=camera.orientation,
            )  # fmt: skip
            seen = normalize_pixels(pixels[subject][take][index][: len(world)], width, height)
            points = world_to_camera(world[:, KEPT].astype(np.float64), camera)
            sets.append(PoseSet(seen.astype(np.float32), points.astype(np.float32), (sequence,)))
    return joined(sets)


def faults_of(files, **keywords):
    return findings(poses_of(files, **keywords)).faults


def only(faults, kind):
    """The words of the one fault that there must be."""
    assert [fault.kind for fault in faults] == [kind], faults
    return faults[0].found


def reordered(world, order):
    """Takes (F, 32, 3) with joint j where slot order[j] is read; slots of none are filled at random."""
    pose = world[:, KEPT]
    shuffled = in_order(pose, order)
    world = world.copy()
    world[:, KEPT] = shuffled
    return world


def in_order(pose, order):
    """(F, 17, C) poses in another order; slots that it has no joint for lie near the head."""
    rng = np.random.default_rng(0)
    spread = (pose[:, [9]].max(axis=1) * 0 + 1)[:, None]  # (F, 1, C)
    slots = pose[:, [10]] + rng.normal(0, 0.04 * np.ptp(pose, axis=1).max(), (1, NUM_JOINTS, 1)) * spread
    for joint, slot in enumerate(order):
        if slot >= 0:
            slots[:, slot] = pose[:, joint]
    return slots.astype(np.float32)


def each_view(pixels, change):
    for takes in pixels.values():
        for views in takes.values():
            views[:] = [change(view) for view in views]


# Sound sets


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_the_sample_is_sound(cache_dir):
    poses = cache.load(SAMPLE, Path(SAMPLE.root), "gt", cache_dir)
    found = findings(poses)
    assert found.faults == [] and len(found.takes) == len(found.samples) == 55
    assert "left_wrist       0.1" in found.figures


def test_noisy_detections_are_sound(files):
    rng = np.random.default_rng(0)
    noise = np.where(np.arange(NUM_JOINTS) % 3 == 0, 7, 3)[:, None]
    each_view(files[1], lambda view: view + noise * rng.standard_t(3, view.shape))
    assert faults_of(files) == []


# Positions


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1000), ("cm", 100), ("inch", 1 / 0.0254)])
def test_other_units(files, unit, factor):
    for _, _, world in kept(files[0]):
        world *= factor
    words = only(faults_of(files), "units")
    assert words.startswith("all 10 takes: legs are ") and words.endswith(f"that is human in {unit}")


def test_a_single_subject_in_other_units(files):
    for take in files[0]["S9"].values():
        take *= 1000
    assert only(faults_of(files), "units").startswith("S9 (all 5 takes): legs are ")


@pytest.mark.parametrize("axis", ["y", "-z"])
def test_another_axis_up(files, axis):
    for _, _, world in kept(files[0]):
        x, y, z = np.moveaxis(world.copy(), -1, 0)
        world[:] = np.stack((x, z, -y) if axis == "y" else (x, -y, -z), axis=-1)
    assert f"heads are above feet along {axis}; expected z" in only(faults_of(files), "up")


def test_camera_space_with_y_up_where_no_orientation_is_known(files):
    poses = poses_of(files)
    sequences = tuple(
        Sequence(s.subject, s.action, s.camera, s.start, s.stop, s.intrinsics, s.image_size)
        for s in poses.sequences
    )
    assert findings(PoseSet(poses.keypoints, poses.positions, sequences)).faults == []
    turned = PoseSet(poses.keypoints, poses.positions * np.float32([1, -1, 1]), sequences)
    assert "along y; expected -y" in only(findings(turned).faults, "up")


def test_left_and_right_exchanged_in_the_positions(files):
    for _, _, world in kept(files[0]):
        world[:, KEPT] = world[:, KEPT][:, MIRROR]
    words = only(faults_of(files), "left and right")
    assert words.startswith("all 10 takes: left and right are exchanged in the positions alone")


def test_mirrored_positions(files):
    for _, _, world in kept(files[0]):
        world[..., 0] *= -1
    words = only(faults_of(files), "left and right")
    assert "left and right are exchanged in the positions, or these are mirrored" in words


def test_left_and_right_exchanged_in_the_key_points(files):
    each_view(files[1], lambda view: view[:, MIRROR])
    words = only(faults_of(files), "left and right")
    assert words.startswith("all 10 takes: left and right are exchanged in the key points alone")


def test_left_and_right_exchanged_in_both(files):
    for _, _, world in kept(files[0]):
        world[:, KEPT] = world[:, KEPT][:, MIRROR]
    each_view(files[1], lambda view: view[:, MIRROR])
    words = only(faults_of(files), "left and right")
    assert words.startswith("all 10 takes: left and right are exchanged in positions and key points")


@pytest.mark.parametrize(("joints", "which"), [(ARMS, "arm"), (LEGS, "leg")])
@pytest.mark.parametrize("place", ["positions", "key points"])
def test_arms_or_legs_exchanged(files, joints, which, place):
    order = np.where(np.isin(np.arange(NUM_JOINTS), joints), MIRROR, np.arange(NUM_JOINTS))
    if place == "positions":
        for _, _, world in kept(files[0]):
            world[:, KEPT] = world[:, KEPT][:, order]
    else:
        each_view(files[1], lambda view: view[:, order])
    words = only(faults_of(files), "left and right")
    assert f"the left and the right {which} are exchanged in the {place} alone" in words


def test_one_exchanged_take_is_named(files):
    views = files[1]["S9"]["Kick"]
    views[2] = views[2][:, MIRROR]  # in one camera
    assert only(faults_of(files), "left and right").startswith("S9 (1 of 5 takes: Kick): left and right")


@pytest.mark.parametrize("name", ORDERS)
def test_positions_in_another_order(files, name):
    for takes in files[0].values():
        for take in takes:
            takes[take] = reordered(takes[take], ORDERS[name])
    words = only(faults_of(files), "joint order")
    assert f"; read as {name}, bones are sound" in words


def test_positions_in_an_unknown_order(files):
    order = np.roll(np.arange(NUM_JOINTS), 5)
    for takes in files[0].values():
        for take in takes:
            takes[take] = reordered(takes[take], order)
    assert "in no order known here bones are sound" in only(faults_of(files), "joint order")


def test_a_take_in_which_nobody_bends_follows_the_subject(files):
    positions, pixels = files
    for world in positions["S9"].values():
        world[:, KEPT] = world[:, KEPT][:, MIRROR]
    straight = positions["S9"]["Walk"]
    for root, middle, end in ((1, 2, 3), (4, 5, 6), (11, 12, 13), (14, 15, 16)):
        along = straight[:, KEPT[middle]] - straight[:, KEPT[root]]
        length = np.linalg.norm(straight[:, KEPT[end]] - straight[:, KEPT[middle]], axis=-1, keepdims=True)
        straight[:, KEPT[end]] = (
            straight[:, KEPT[middle]] + along / np.linalg.norm(along, axis=-1, keepdims=True) * length
        )
    for index, camera in enumerate(h36m_cameras()["S9"]):
        seen = project(world_to_camera(straight[:, KEPT].astype(np.float64), camera), camera)
        pixels["S9"]["Walk"][index] = seen[:, MIRROR].astype(np.float32)
    words = only(faults_of(files), "left and right")
    assert words.startswith("S9 (all 5 takes): left and right are exchanged in the positions alone")


# Motion


def test_a_frozen_take(files):
    world, views = files[0]["S9"]["Walk"], files[1]["S9"]["Walk"]
    world[20:] = world[20]
    for view in views:
        view[20:] = view[20]
    words = only(faults_of(files), "frozen")
    assert words.startswith("S9 (1 of 5 takes: Walk): up to 68% of the positions are copies")


def test_repeated_frames(files):
    for takes in files[0].values():
        for take, world in takes.items():
            takes[take] = np.repeat(world, 2, axis=0)
    each_view(files[1], lambda view: np.repeat(view, 2, axis=0))
    assert only(faults_of(files), "frozen").startswith("all 10 takes: up to 50%")


def test_frozen_key_points(files):
    view = files[1]["S9"]["Walk"][1]
    view[40:] = view[40]
    assert only(faults_of(files), "frozen key points").startswith("S9 (1 of 5 takes: Walk): up to 37%")


def test_a_joint_that_jumps(files):
    files[0]["S11"]["Kick"][50, KEPT[16]] += 1.0
    words = only(faults_of(files), "jumps")
    assert words.startswith("S11 (1 of 5 takes: Kick): right_wrist faster than 20 m/s at 50 frames")
    assert words.endswith("first at frame 50 of S11, Kick, camera 0")


def test_a_cut_is_no_fault_but_said(files):
    positions, pixels = files
    # The kicker goes on elsewhere, and is seen there.
    world = positions["S11"]["Kick"]
    world[40:] += np.float32([0.6, 0, 0])
    world[40:, KEPT[7]] += 0.9 * (world[40:, KEPT[8]] - world[40:, KEPT[7]])  # in another body
    for index, camera in enumerate(h36m_cameras()["S11"]):
        seen = project(world_to_camera(world[:, KEPT].astype(np.float64), camera), camera)
        pixels["S11"]["Kick"][index] = seen.astype(np.float32)
    found = findings(poses_of(files))
    assert found.faults == [] and "1 of 10 takes are cut together" in found.figures


def test_shuffled_frames(files):
    order = np.random.default_rng(0).permutation(len(files[0]["S11"]["DanceB"]))
    files[0]["S11"]["DanceB"] = files[0]["S11"]["DanceB"][order]
    files[1]["S11"]["DanceB"] = [view[order] for view in files[1]["S11"]["DanceB"]]
    assert only(faults_of(files), "frame rate").startswith("S11 (1 of 5 takes: DanceB)")


@pytest.mark.parametrize("part", [0, 1])
def test_not_a_number(files, part):
    array = files[0]["S9"]["Walk"] if part == 0 else files[1]["S9"]["Walk"][1]
    array[7, 0] = np.nan
    words = only(faults_of(files), "not a number")
    assert words.startswith("S9 (1 of 5 takes: Walk): " + ("4 frames" if part == 0 else "1 frames"))


# Key points and cameras


@pytest.mark.parametrize("subjects", [("S9",), TEST])
def test_cameras_in_another_order(files, subjects):
    for subject in subjects:
        for views in files[1][subject].values():
            views[:] = [views[index] for index in (2, 0, 1, 3)]
    words = only(faults_of(files), "camera order")
    assert words.startswith("S9 (all 5 takes): " if subjects == ("S9",) else "all 10 takes: ")
    assert words.endswith("what cameras 0, 1, 2, 3 see is listed as key points of cameras 1, 2, 0, 3")


def test_key_points_in_coco_order(files):
    each_view(files[1], lambda view: in_order(view, ORDERS[COCO]))
    assert only(faults_of(files), "joint order of the key points").endswith(f"in the order of {COCO}")


def test_key_points_in_the_order_of_3dhp(files):
    each_view(files[1], lambda view: in_order(view, MPI_INF_3DHP_17_KEPT))
    words = only(faults_of(files), "joint order of the key points")
    assert words.endswith("in the order of the 17 joints of MPI-INF-3DHP's test set")


def test_two_exchanged_key_points(files):
    order = np.arange(NUM_JOINTS)
    order[[9, 10]] = 10, 9
    each_view(files[1], lambda view: view[:, order])
    words = only(faults_of(files), "joint order of the key points")
    assert words.endswith("neck in the place of head, head in the place of neck")


def test_noisy_key_points_in_other_pixels_are_one_fault(files):
    rng = np.random.default_rng(0)
    each_view(files[1], lambda view: (view + 4 * rng.standard_t(3, view.shape)) * 0.8)
    words = only(faults_of(files), "picture size")
    assert words.startswith("all 10 takes") and "they fit pictures of 800 x 800 pixels" in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pixels: pixels / 2, "they fit pictures of 500 x 500 pixels"),
        (lambda pixels: pixels / 500 - 1, "normalised already"),
        (lambda pixels: pixels * [1, -1] + [0, 1000], "pictures that are upside down"),
        (lambda pixels: pixels * [-1, 1] + [1000, 0], "pictures that are mirrored"),
        (lambda pixels: pixels + np.array([200, -90]), "moved by 200 px to the right and -90 px down"),
    ],
)
def test_key_points_in_other_pixels(files, change, words):
    each_view(files[1], change)
    assert words in only(faults_of(files), "picture size")


def test_key_points_that_are_not_normalised(files):
    poses = poses_of(files)
    pixels = (poses.keypoints + 1) * 500
    raw = PoseSet(pixels.astype(np.float32), poses.positions, poses.sequences)
    assert "in pixels, and not normalised" in only(findings(raw).faults, "picture size")


def test_key_points_of_twice_the_frame_rate(files):
    for takes in files[0].values():
        for take, world in takes.items():
            takes[take] = world[::2]
    words = [fault for fault in faults_of(files) if fault.kind == "frame rate of the key points"]
    assert words and "2 frames to one of the positions" in words[0].found


def test_key_points_of_somebody_else(files):
    for views in files[1]["S9"].values():
        views[:] = [view[::-1] * 0.3 + 400 + 100 * np.sin(np.arange(17))[:, None] for view in views]
    assert "nothing known here" in only(faults_of(files), "key points")


def test_people_behind_the_camera(files):
    poses = poses_of(files)
    positions = poses.positions.copy()
    positions[: poses.sequences[0].stop, :, 2] -= 10
    behind = PoseSet(poses.keypoints, positions, poses.sequences)
    assert "behind a camera" in only(findings(behind).faults, "behind the camera")


def test_people_outside_of_the_picture(files):
    positions, pixels = files
    for take, world in positions["S9"].items():
        world += np.float32([2.5, 2.5, 0])
        for index, camera in enumerate(h36m_cameras()["S9"]):
            seen = project(world_to_camera(world[:, KEPT].astype(np.float64), camera), camera)
            pixels["S9"][take][index] = seen.astype(np.float32)
    assert "outside of the picture" in only(faults_of(files), "outside")


# What there is


def sequences(frames, *, subjects=("S1", "S5", "S6", "S7", "S8", "S9", "S11"), actions=ACTIONS, left_out=()):
    """A take of Human3.6M each, of so many frames in all training subjects, of one camera."""
    takes = [
        (subject, f"{action}{number}")
        for subject in subjects
        for action in actions
        for number in ("", " 1")
        if (subject, f"{action}{number}") not in left_out
    ]
    training = [take for take in takes if take[0] not in TEST]
    share, rest = divmod(frames, len(training))
    return [
        (Sequence(*take, 0, 0, share + (rest if take == training[0] else 0), (1, 1, 0, 0), (1000, 1000)),)
        for take in takes
    ]


def test_the_takes_of_human36m():
    h36m = DATASETS["h36m"]
    assert missing_takes(h36m, sequences(TRAINING_FRAMES, left_out=[("S11", "Directions")]), []) == []
    fewer = sequences(TRAINING_FRAMES, left_out=[("S11", "Directions"), ("S5", "Walking 1")])
    assert missing_takes(h36m, fewer, []) == [
        "missing of Human3.6M's takes: S5, Walking: 1 of 2: figures on it are not the field's"
    ]
    (thinned,) = missing_takes(h36m, sequences(TRAINING_FRAMES // 5), [])
    assert "as if one frame of 5 had been kept" in thinned
    assert missing_takes(SAMPLE, fewer, []) == []
    assert missing_takes(SAMPLE, fewer, ["a", "b"]) == ["left out when it was prepared: a, b"]


def test_tables_of_counts():
    takes = sequences(1000, subjects=("S1", "S9"), actions=("Eating", "Walking"))
    rows = [line.split("  ") for line in count_table(takes).splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["frames (takes)", "S1", "S9", "all"],
        ["Eating", "500 (2)", "500 (2)", "1,000 (4)"],
        ["Walking", "500 (2)", "500 (2)", "1,000 (4)"],
        ["all", "1,000 (4)", "1,000 (4)", "2,000 (8)"],
    ]
    many = count_table(sequences(10_000, subjects=[f"{number:03}" for number in range(100)]))
    assert "and 60 more" in many and len(many.splitlines()) < 70


def test_of_many_takes_some_are_looked_at(files, monkeypatch):
    monkeypatch.setattr(check_samples, "VIEWS", 16)
    found = findings(poses_of(files), 25.0)
    assert found.faults == [] and len(found.samples) == 4
    assert "of 4 of 10 takes" in found.figures and "at 25 frames a second" in found.figures


# The sheet


def test_poses_are_drawn_level_and_as_the_camera_sees_them(files):
    for views in findings(poses_of(files)).samples.values():
        for view in views:
            drawn = check_sheet.levelled(view, 0)
            world = files[0][view.sequence.subject][view.sequence.action][view.frames[0], KEPT]
            np.testing.assert_allclose(-np.diff(drawn[:, 1]), np.diff(world[:, 2]), atol=1e-5)
            lengths = [np.linalg.norm(np.diff(pose, axis=0), axis=1) for pose in (drawn, world)]
            np.testing.assert_allclose(*lengths, atol=1e-5)
            # What is on the right in the picture is drawn on the right, and left stays left.
            assert np.corrcoef(drawn[:, 0], view.positions[0, :, 0])[0, 1] > 0.95
            assert np.corrcoef(drawn[:, 2], view.positions[0, :, 2])[0, 1] > 0


def test_without_orientation_poses_are_drawn_in_the_cameras_axes(files):
    view = next(iter(findings(poses_of(files)).samples.values()))[0]
    plain = dataclasses.replace(view, sequence=dataclasses.replace(view.sequence, orientation=None))
    np.testing.assert_array_equal(check_sheet.levelled(plain, 0), view.positions[0])


def test_the_sheet_holds_all_that_is_drawn(files, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(check_sheet, "write_png", lambda figure, path, dpi: figures.append(figure))
    check_sheet.contact_sheet(tmp_path / "x.png", findings(poses_of(files)).samples, "a $title$")
    (figure,) = figures
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes
    )
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    flat = [axes for axes in figure.axes if axes.name != "3d"]
    assert len(flat) == 10 and len(figure.axes) == 30
    for axes in flat:
        lines = {line.get_gid(): line.get_xydata() for line in axes.lines}
        assert np.ptp(lines["picture"][:, 0]) == 1000
        # Pixels go down.
        assert axes.yaxis_inverted() and lines["head"].shape == (2, 2)
    for axes in figure.axes:
        low, high = axes.get_ylim() if axes.name != "3d" else axes.get_zlim()
        assert np.isfinite([low, high]).all()
    standing = figure.axes[1]  # of the first take, who walks
    heights = {
        line.get_gid(): line.get_data_3d()[2][0] for line in standing.lines if line.get_gid() != "floor"
    }
    assert heights["head"] > heights["pelvis" if "pelvis" in heights else "left_hip"] > heights["left_ankle"]


# The command


def call(*argv):
    return check.main([str(word) for word in argv])


def test_a_sound_set(cache_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_sheet, "ROWS", 1)
    sheet = tmp_path / "new" / "sheet.png"
    assert call("--dataset", "sample", "--cache_dir", cache_dir, "--sheet", sheet) == 0
    text = capsys.readouterr().out
    assert "5,463 frames in 55 takes of 20 actions; 4 cameras; pictures of 1000 x 1002, 1000 x 1000" in text
    assert "nothing wrong was found" in text and text.endswith(f"wrote {sheet}\n")
    with Image.open(sheet) as picture:
        assert picture.size[0] > 1000 and len(picture.getcolors(1 << 20)) > 50


def test_a_set_with_a_fault(sample, write_files, tmp_path, capsys):
    positions, pixels = sample
    swapped = {subject: {take: [view[:, MIRROR] for view in views] for take, views in takes.items()}
               for subject, takes in pixels.items()}  # fmt: skip
    folder = write_files(positions, swapped)
    # Without -k the one source of key points that is there.
    assert call("--dataset", "h36m", "--root_path", folder, "--no_sheet") == 1
    text = capsys.readouterr().out
    assert "h36m, gt key points" in text and "missing of Human3.6M's takes: S1, Directions: 0 of 2" in text
    assert (
        "one thing is wrong:\n- left and right: all 55 takes: left and right are exchanged in the key" in text
    )


def test_files_that_are_wrong_are_named_as_they_are_for_training(files, sample, write_files, capsys):
    positions, pixels = (dict(part) for part in sample)
    positions["S1"] = {"Walk": np.zeros((5, 17, 3))}
    folder = write_files(positions, pixels)
    assert call("--dataset", "h36m", "-k", "gt", "--root_path", folder) == 2
    error = capsys.readouterr().err
    assert "S1, Walk: expected an array of shape (frames, 32, 3), found (5, 17, 3)" in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--dataset", "none"], "error: --dataset none: expected one of h36m, sample"),
        (["--dataset", "sample", "-k", "cpn"], "data_2d_sample_cpn.npz: No such file"),
        (["--dataset", "sample", "--sheet", "x.png", "--no_sheet"], "give one of the two"),
        (["-k", "gt"], "go with --dataset NAME"),
        (["--data", "sample"], "unrecognized arguments"),
    ],
)
def test_wrong_calls(argv, words, capsys):
    try:
        code = call(*argv)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and words in capsys.readouterr().err


def test_a_sheet_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "sheet.png").mkdir()
    assert call("--dataset", "sample", "--cache_dir", tmp_path, "--sheet", tmp_path / "sheet.png") == 2
    said = capsys.readouterr()
    assert said.out == "" and f"--sheet {tmp_path / 'sheet.png'}: this is a folder" in said.err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a prepared 3dhp of two training and three test sequences."""
    folder = tmp_path_factory.mktemp("3dhp")
    for subject in ("S1", "S2"):
        mpi_inf_3dhp.training(folder / "source" / subject / "Seq1", frames=20)
    for seed, subject in enumerate(("TS1", "TS3", "TS5")):
        valid = [1] * 20 + [0] * 3 + [1] * 10
        arrays, _ = mpi_inf_3dhp.test_arrays(valid, [1] * 33, outdoor=subject == "TS5", seed=seed)
        mpi_inf_3dhp.write_test(folder / "source" / "mpi_inf_3dhp_test_set" / subject, arrays)
    words = ["3dhp", "--source", folder / "source", "--output", folder / "dataset"]
    assert prepare.main([str(word) for word in words]) == 0
    return folder / "dataset"


def test_a_prepared_set(prepared, capsys):
    assert call("--dataset", "3dhp", "--root_path", prepared, "--no_sheet") == 0
    text = capsys.readouterr().out
    assert "train: S1, S2; test: TS1, TS3, TS5" in text and "1 camera in 6 and 7 cameras in 2" in text
    assert "pictures of 2048 x 2048, 1920 x 1080" in text
    assert "left out when it was prepared: S1/Seq2 (no such folder)" in text


def test_overview(prepared, files, write_files, capsys):
    root = write_files(*files, folder=prepared, keypoints="gt")
    (root / "broken").mkdir()
    (root / "broken" / "index.json").write_text("{")
    (root / ".later-parts").mkdir()
    assert call("--root_path", root) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:-2]}
    assert rows["h36m"].endswith(f"python -m dataset.check --dataset h36m -k gt --root_path {root}")
    assert "ready, gt" in rows["sample"] and "ready, gt: 370 poses" in rows["3dhp"]
    assert "no whole data set" in rows["broken"]
    assert lines[-1] == "broken off; the same command as before goes on with: later"
    command = shlex.split(rows["3dhp"])[-8:]
    assert call(*command[command.index("--dataset") :], "--no_sheet") == 0


def test_overview_of_nothing(tmp_path, capsys):
    assert call("--root_path", tmp_path) == 0
    text = capsys.readouterr().out
    for name in ("h36m", "3dhp"):
        assert f"python -m dataset.prepare {name} --source DIR --output {tmp_path}" in text


def test_help_is_fast():
    code = (
        "import sys\nfrom dataset import check\ntry: check.main(['--help'])\nexcept SystemExit: pass\n"
        "print({'numpy', 'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()" and "--dataset NAME" in run.stdout

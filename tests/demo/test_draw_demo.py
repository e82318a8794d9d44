"""The floor that people are set on, the pictures painted of them, and the files these go to."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
from walkers import pictures, walkers

from common.draw import LEFT_COLOUR, RIGHT_COLOUR
from common.errors import RunError
from common.skeleton import BONES, JOINT_NAMES, ROOT
from demo.lib import video_writer
from demo.lib.draw import render_frame, rendered, write_picture
from demo.lib.result import Result, Track
from demo.lib.stage import ESTIMATED, SIDE_BY_SIDE, set_stage
from demo.lib.video_writer import VideoWriter

LEFT, RIGHT = (np.array(list(bytes.fromhex(colour[1:]))) for colour in (LEFT_COLOUR, RIGHT_COLOUR))


def share(picture: np.ndarray, colour: np.ndarray) -> int:
    """Number of pixels that have exactly this colour."""
    return int((picture == colour).all(axis=-1).sum())


def one(result: Result, index: int, **changes) -> Result:
    return replace(result, tracks=[replace(result.tracks[index], **changes)])


# ---- The stage.


def test_estimated_places_are_as_far_apart_as_people_were():
    result = walkers(placed=True)
    stage = set_stage(result)
    for frame in (12, 39):
        walker, kicker = stage.at(frame)
        rows = frame, frame - 10
        world = [track.upright[row, ROOT] for track, row in zip(result.tracks, rows, strict=True)]
        true = np.linalg.norm(world[0][:2] - world[1][:2])
        assert np.linalg.norm(walker.pose[ROOT, :2] - kicker.pose[ROOT, :2]) == pytest.approx(true, abs=1e-3)
        assert walker.pose[ROOT, 0] < kicker.pose[ROOT, 0]
    assert ESTIMATED in stage.view.captions and SIDE_BY_SIDE not in stage.view.captions


def test_the_stage_keeps_bone_lengths_and_heights_and_faces_the_camera():
    result = walkers(placed=True)
    stage = set_stage(result)
    for track, poses in zip(result.tracks, stage.poses, strict=True):
        for joint, parent in BONES:
            np.testing.assert_allclose(
                np.linalg.norm(poses[:, joint] - poses[:, parent], axis=-1),
                np.linalg.norm(track.poses[:, joint] - track.poses[:, parent], axis=-1),
                atol=1e-4,
            )
        np.testing.assert_allclose(poses[..., 2], track.upright[..., 2], atol=1e-6)
        # The camera is hardly rolled, so its right is the stage's.
        np.testing.assert_allclose(poses[..., 0] - poses[:, [ROOT], 0], track.poses[..., 0], atol=0.05)
    low, high = stage.view.low, stage.view.high
    assert all((poses >= low).all() and (poses <= high).all() for poses in stage.poses)


def test_without_roots_people_stand_in_order_and_out_of_reach():
    result = walkers(placed=False)
    crowd = [
        replace(track, id=number, keypoints=track.keypoints + np.array([60 * (7 - number), 0]))
        for number, track in enumerate([result.tracks[0]] * 7)
    ]
    for people in (crowd[:3], crowd):
        stage = set_stage(replace(result, tracks=people))
        boxes = [(poses[..., :2].min(axis=(0, 1)), poses[..., :2].max(axis=(0, 1))) for poses in stage.poses]
        for index, (low, high) in enumerate(boxes):
            for other_low, other_high in boxes[:index]:
                assert ((low > other_high) | (high < other_low)).any()
        assert SIDE_BY_SIDE in stage.view.captions
    three = set_stage(replace(result, tracks=crowd[:3])).at(0)
    assert [person.id for person in sorted(three, key=lambda person: person.pose[ROOT, 0])] == [2, 1, 0]


def test_who_follows_another_takes_that_place():
    result = walkers(placed=False)
    first, second = result.tracks[0], result.tracks[1]
    early = replace(first, **cut(first, slice(0, 10)))
    late = replace(second, **cut(second, slice(0, 10)))  # frames 10 to 19
    stage = set_stage(replace(result, tracks=[early, late]))
    np.testing.assert_allclose(stage.poses[0][0, ROOT, :2], stage.poses[1][0, ROOT, :2])


def cut(track: Track, rows: slice) -> dict:
    names = "frames", "keypoints", "scores", "interpolated", "poses", "upright"
    return {name: getattr(track, name)[rows] for name in names}


def test_a_frame_holds_those_who_are_in_it():
    stage = set_stage(walkers())
    assert [person.id for person in stage.at(0)] == [1]
    assert [(person.id, person.interpolated) for person in stage.at(22)] == [(1, False), (2, True)]
    assert stage.at(40) == []
    assert set_stage(Result("empty.png", (10, 10), 1, None)).at(0) == []


def test_nan_is_named():
    result = walkers()
    result.tracks[1].poses[3, 5] = np.nan
    with pytest.raises(ValueError, match="person 2: poses: expected finite numbers, found NaN"):
        set_stage(result)


# ---- Pictures.


@pytest.mark.parametrize("size", [(1000, 1002), (61, 45), (4000, 500), (500, 4000), (1, 1), (3, 700)])
def test_both_halves_have_even_sides_and_the_input_its_aspect(size):
    width, height = size
    result = one(walkers(), 0)
    stage = set_stage(result)
    person = stage.at(0)[0]._replace(keypoints=np.full((17, 2), -9.0))  # drawn outside of the picture
    image = np.full((height, width, 3), (200, 30, 60), np.uint8)
    picture = render_frame(image, [person], stage.view)
    assert picture.shape[0] % 2 == 0 and picture.shape[1] % 2 == 0
    input_width = share(picture[-1:], np.array([200, 30, 60]))
    assert input_width == pytest.approx(width / height * picture.shape[0], abs=2)
    assert max(input_width, picture.shape[0]) <= 1920
    panel = picture[:, input_width:]
    assert share(panel, LEFT) > 50 and share(panel, RIGHT) > 50


@pytest.mark.parametrize("scale", [0.15, 1.0, 4.0])
def test_bones_lie_on_the_key_points_in_their_sides_colours(scale):
    """From people about 70 px high to people of 2000 px."""
    result = one(walkers(), 1)
    stage = set_stage(result)
    person = stage.at(12)[0]
    person = person._replace(keypoints=person.keypoints * scale)
    side = round(1000 * scale)
    # A frame high enough not to be enlarged: pixels of the picture are pixels of the input.
    picture = render_frame(
        np.full((max(side, 480), side, 3), 128, np.uint8), [person], stage.view, longest=4000
    )
    for knee, ankle, colour in (("left_knee", "left_ankle", LEFT), ("right_elbow", "right_wrist", RIGHT)):
        middle = person.keypoints[[JOINT_NAMES.index(knee), JOINT_NAMES.index(ankle)]].mean(axis=0)
        x, y = np.rint(middle).astype(int)
        np.testing.assert_allclose(picture[y, x], colour, atol=40)


def test_low_scores_and_filled_in_frames_are_paler():
    result = one(walkers(), 1)
    stage = set_stage(result)
    person = stage.at(12)[0]
    image = np.zeros((1002, 1000, 3), np.uint8)
    sure = render_frame(image, [person], stage.view)
    unsure = render_frame(image, [person._replace(scores=person.scores * 0.2)], stage.view)
    filled = render_frame(image, [person._replace(interpolated=True)], stage.view)
    assert share(sure, LEFT) > 1000
    assert share(unsure, LEFT) < 0.2 * share(sure, LEFT)  # what is left is the legend
    np.testing.assert_array_equal(unsure, filled)


def test_the_floor_stands_still_and_frames_are_asked_for_one_by_one():
    result = walkers()
    asked = []

    def frames():
        for number, image in enumerate(pictures(result)):
            asked.append(number)
            yield image

    shown = list(islice(rendered(result, frames()), 3))
    assert asked == [0, 1, 2]
    panels = [picture[:, 1000:] for picture in shown]
    np.testing.assert_array_equal(panels[0][:200], panels[2][:200])  # the legend
    assert (panels[0] != panels[2]).any()  # the pose


def test_an_image_of_floats_is_refused():
    with pytest.raises(ValueError, match=r"uint8, found \(4, 4, 3\) of float64"):
        render_frame(np.zeros((4, 4, 3)), [], set_stage(walkers()).view)


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.JPEG"])
def test_a_picture_comes_back_in_its_colours(tmp_path, name):
    picture = np.full((32, 48, 3), (200, 100, 20), np.uint8)
    write_picture(tmp_path / "new" / name, picture)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / name)), cv2.COLOR_BGR2RGB)
    np.testing.assert_allclose(read, picture, atol=0 if name == "a.png" else 4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_another_suffix_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.png or \.jpg, found \.gif"):
        write_picture(tmp_path / "a.gif", np.zeros((2, 2, 3), np.uint8))


# ---- Videos.


def test_a_video_comes_back_frame_by_frame_in_its_colours(tmp_path):
    path = tmp_path / "new" / "film.mp4"
    with VideoWriter(path, 12.5) as video:
        for number in range(6):
            video.write(np.full((48, 64, 3), (40 * number, 100, 20), np.uint8))
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for number in range(6):
        found, frame = reader.read()
        assert found and frame.shape == (48, 64, 3)
        np.testing.assert_allclose(frame[24, 32, ::-1], (40 * number, 100, 20), atol=12)
    assert not reader.read()[0]
    assert [file.name for file in path.parent.iterdir()] == ["film.mp4"]


def test_a_broken_off_video_leaves_the_old_one(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_noticed(tmp_path):
    resource = pytest.importorskip("resource", reason="file sizes cannot be limited on this system")
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunError, match="expected 8 frames"), VideoWriter(tmp_path / "a.mp4", 25) as video:
            for _ in range(8):
                video.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_missing_codec_an_odd_side_and_a_changed_size_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="even sides, found 63 x 48"), VideoWriter(path, 25) as video:
        video.write(np.zeros((48, 63, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frames of \(64, 48\), found \(48, 64\)"):
        with VideoWriter(path, 25) as video:
            video.write(np.zeros((48, 64, 3), np.uint8))
            video.write(np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(RunError, match="expected frames"), VideoWriter(path, 25):
        pass
    monkeypatch.setattr(video_writer, "CODEC", "av01")
    with pytest.raises(RunError, match="codec av01"), VideoWriter(path, 25) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"ends in \.mp4"):
        VideoWriter("a.avi", 25)
    with pytest.raises(ValueError, match="found 0"):
        VideoWriter(path, 0)

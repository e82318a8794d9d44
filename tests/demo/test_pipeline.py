"""From frames to poses: who is kept, what is interpolated, smoothed, placed and noted."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from demo_people import Scripted, numbered, person

from demo.lib.inputs import InputError
from demo.lib.keypoint_files import KeypointInput, KeypointTrack
from demo.lib.keypoints import coco_to_h36m
from demo.lib.lifting import lift_keypoints, stature
from demo.lib.pipeline import Lifter, Stages, from_frames, from_keypoints, from_picture
from demo.lib.result import Result
from demo.lib.summary import keep_people, report, warnings
from model import HTNet


@pytest.fixture(scope="module")
def lifter():
    torch.manual_seed(0)
    model = HTNet(layers=1, channel=24, d_hid=24).eval()
    return Lifter(model, torch.device("cpu"), "a small one")


def video(lifter, *people, fps=25.0, **options):
    frames = numbered(len(people))
    return from_frames(frames, "film.mp4", fps, Scripted(*people), lifter, Stages(), **options)


def test_a_picture_gives_every_person_the_pose_of_their_key_points(lifter):
    people = [person(80, 220), person(220, 200, 120)]
    result = from_picture(numbered(1)[0], "a.png", lambda _: people, lifter, Stages())
    assert result.image_size == (320, 240) and result.fps is None and result.frame_count == 1
    assert [track.id for track in result.tracks] == [1, 2]
    for track, found in zip(result.tracks, people, strict=True):
        joints, scores = coco_to_h36m(found.keypoints[None], found.scores[None])
        pose = lift_keypoints(lifter.model, joints, (320, 240), device=lifter.device, window=True)
        np.testing.assert_allclose(track.poses, pose, atol=1e-5)
        np.testing.assert_array_equal(track.keypoints, joints)
        np.testing.assert_array_equal(track.scores, scores)
    in_image = replace(lifter, window=False)
    other = from_picture(numbered(1)[0], "a.png", lambda _: people, in_image, Stages())
    assert np.abs(other.tracks[0].poses - result.tracks[0].poses).max() > 1e-3
    assert "window" in result.notes["lifter sees"] and "window" not in other.notes["lifter sees"]


def test_nobody_anywhere_is_a_result_too(lifter):
    result = video(lifter, [], [], [])
    assert result.frame_count == 3 and result.tracks == [] and result.image_size == (320, 240)
    assert "nobody found" in report(result, Stages())


def test_empty_first_frames_a_gap_and_an_empty_end(lifter):
    steps = [[]] * 5 + [[person(60 + 2 * n, 220)] for n in range(12)]
    steps[9] = steps[10] = []
    result = video(lifter, *steps, [], [])
    (track,) = result.tracks
    assert track.frames.tolist() == list(range(5, 17))
    assert np.flatnonzero(track.interpolated).tolist() == [4, 5]
    # Between its neighbours: 2 px a frame, as before and after.
    np.testing.assert_allclose(np.diff(track.keypoints[:, 0, 0]), 2, atol=1e-3)
    assert np.all(track.scores[[4, 5]] == 0) and np.all(track.scores[3] > 0.8)
    assert "2 poses interpolated" in report(result, Stages())


def test_who_is_seen_in_passing_is_left_out_and_counted(lifter):
    steps = [[person(60, 220)] for _ in range(30)]
    for step in steps[4:9]:
        step.append(person(250, 220))
    result = video(lifter, *steps)
    assert [track.id for track in result.tracks] == [1]
    assert "left out 1 seen in fewer than 10 frames" in report(result, Stages())
    assert len(video(lifter, [person(60, 220)]).tracks) == 1  # a video of one frame


def test_frames_and_what_is_not_key_points_are_let_go(lifter):
    """Memory must not grow by more than key points: neither frames nor the detector's own poses stay."""
    frames, worlds = [], []

    def detect(image):
        found = person(100, 220)
        worlds.append(weakref.ref(found.world))
        return [found]

    def stream():
        for number in range(8):
            gc.collect()
            alive = sum(frame() is not None for frame in frames)
            assert alive <= 1 and sum(world() is not None for world in worlds) <= 1
            frame = np.full((48, 64, 3), number, np.uint8)
            frames.append(weakref.ref(frame))
            yield frame
            del frame

    result = from_frames(stream(), "film.mp4", 25.0, detect, lifter, Stages())
    assert result.frame_count == 8


def test_smoothing_keeps_the_raw_poses(lifter):
    rng = np.random.default_rng(0)
    steps = [[person(100 + rng.normal(0, 3), 220 + rng.normal(0, 3))] for _ in range(20)]
    for step in steps:
        step[0].keypoints[:] += rng.normal(0, 2, (17, 2))
    raw = video(lifter, *steps).tracks[0]
    smooth = video(replace(lifter, smooth=True), *steps).tracks[0]
    assert raw.raw_poses is None
    np.testing.assert_array_equal(smooth.raw_poses, raw.poses)
    jitter = [np.abs(np.diff(poses, axis=0)).mean() for poses in (smooth.poses, raw.poses)]
    assert jitter[0] < 0.7 * jitter[1] and np.all(smooth.poses[:, 0] == 0)
    picture = from_picture(
        numbered(1)[0], "a.png", lambda _: steps[0], replace(lifter, smooth=True), Stages()
    )
    assert picture.tracks[0].raw_poses is None


def test_a_stature_scales_poses_and_places_alike(lifter):
    people = [person(80, 220), person(220, 200, 120)]
    given = replace(lifter, place=True, focal=300.0)
    plain, tall = (
        from_picture(numbered(1)[0], "a.png", lambda _: people, lifter, Stages())
        for lifter in (given, replace(given, height_m=1.8))
    )
    for before, after in zip(plain.tracks, tall.tracks, strict=True):
        assert stature(after.poses) == pytest.approx(1.8, rel=1e-4)
        factor = 1.8 / stature(before.poses)
        np.testing.assert_allclose(after.poses, before.poses * factor, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(after.root, before.root * factor, rtol=1e-3, atol=1e-4)
        assert f"{factor:.3f}" in tall.notes[f"size of person {after.id}"]
    assert "estimate" in plain.notes["root"] and "300 px, as given" in plain.notes["root"]
    assert "1.8 m" in tall.notes["root"]
    assumed = from_picture(numbered(1)[0], "a.png", lambda _: people, replace(lifter, place=True), Stages())
    assert "368 px, assumed" in assumed.notes["root"]


def test_key_points_from_elsewhere_keep_their_ids_frames_and_rate(lifter):
    joints = coco_to_h36m(person(80, 220).keypoints[None], person(80, 220).scores[None])[0].repeat(3, axis=0)
    track = KeypointTrack(7, np.array([2, 3, 9]), joints, np.ones((3, 17), np.float32), np.zeros(3, bool))
    given = KeypointInput("points.npz", (320, 240), 12, None, [track])
    for fps in (None, 50.0):
        result = from_keypoints(replace(given, fps=fps), replace(lifter, smooth=True), Stages())
        assert result.fps == fps and result.frame_count == 12
        assert result.tracks[0].id == 7 and result.tracks[0].frames.tolist() == [2, 3, 9]
        assert (result.tracks[0].raw_poses is None) == (fps is None)


# Who is kept, and what is said


@pytest.fixture
def three(lifter):
    steps = [[person(40, 220, score=0.5), person(150, 220, score=0.9)] for _ in range(12)]
    for step in steps[:11]:
        step.append(person(270, 220, score=0.95))
    return video(lifter, *steps)


def test_the_people_seen_longest_are_kept_and_among_them_the_surest(three):
    keep_people(three, most=5)
    assert [track.id for track in three.tracks] == [1, 2, 3]
    keep_people(three, most=2)
    assert [track.id for track in three.tracks] == [1, 2]
    keep_people(three, most=1)
    assert [track.id for track in three.tracks] == [2]


def test_one_person_is_kept_by_id_or_refused_with_the_ids_there_are(three):
    with pytest.raises(InputError, match=r"film\.mp4: --person 4: no such person, found 1, 2, 3"):
        keep_people(three, person=4)


def test_nobody_is_no_missing_person():
    empty = Result("a.png", (10, 10), 1, None)
    keep_people(empty, person=4, most=1)
    assert empty.tracks == []


def test_the_report_names_what_speaks_against_a_pose(lifter):
    def said(*people):
        result = from_picture(numbered(1)[0], "a.png", lambda _: people, lifter, Stages())
        line = report(result, Stages({"2D": 0.5, "write": 1}))
        assert all(f"warning: {warning}" in line for warning in warnings(result))
        return line

    good = said(person(100, 220))
    assert good == (
        "a.png: 1 person, mean key point score 0.90, 0 of 17 joints below 0.3 (2D 0.50 s, write 1.00 s)"
    )
    assert "person 2 under 60 px high" in said(person(100, 220), person(250, 220, 50))
    assert "person 1 only half seen" in said(person(100, 320))
    hidden = person(100, 220)
    hidden.scores[-6:] = 0.1  # hips and legs
    assert "of 17 joints below 0.3" in said(hidden) and "person 1 only half seen" in said(hidden)
    lying = person(100, 220, 50)
    lying.keypoints[:] = 100 + 2 * (lying.keypoints - 100)[:, ::-1]
    assert "under 60 px" not in said(lying)

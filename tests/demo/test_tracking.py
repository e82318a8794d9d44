"""Tracking: IDs that follow people, not the order of detections, and gaps that are filled and marked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.lib.person import Person
from demo.lib.tracking import Tracker, distances, distinct, fill_gaps, tracks

SHAPE = np.random.default_rng(5).uniform((-20, -50), (20, 50), (17, 2))


def person(x: float, y: float, scale: float = 1.0, score: float = 0.9) -> Person:
    """Someone about 100 px high round (x, y)."""
    points = (SHAPE * scale + (x, y)).astype(np.float32)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return Person(points, np.full(17, score, np.float32), box, score)


def test_ids_do_not_depend_on_the_order_of_detections() -> None:
    tracker, random = Tracker(), np.random.default_rng(0)
    starts = np.array([[100, 100], [300, 120], [500, 90], [700, 300]])
    steps = np.array([[6, 0], [-5, 2], [0, 4], [-8, -3]])
    first = tracker.update([person(*place) for place in starts], 0)
    assert first == [1, 2, 3, 4]
    for frame in range(1, 30):
        order = random.permutation(4)
        places = starts + steps * frame + random.normal(0, 2, (4, 2))
        found = tracker.update([person(*places[index]) for index in order], frame)
        assert found == [first[index] for index in order]


def test_people_who_pass_each_other_keep_their_ids() -> None:
    tracker = Tracker()
    for frame in range(41):
        left, right = person(100 + 10 * frame, 200), person(500 - 10 * frame, 215)
        assert tracker.update([left, right], frame) == [1, 2]


def test_an_id_lasts_through_a_gap_while_the_person_walks_on() -> None:
    tracker = Tracker(max_gap=12)
    for frame in range(20):
        tracker.update([person(100 + 8 * frame, 200)], frame)
    # After 12 frames unseen, about a height further on than last seen.
    assert tracker.update([person(100 + 8 * 32, 200)], 32) == [1]


def test_after_a_longer_gap_a_person_is_new() -> None:
    tracker = Tracker(max_gap=5)
    tracker.update([person(100, 200)], 0)
    assert tracker.update([person(100, 200)], 6) == [1]
    assert tracker.update([person(100, 200)], 13) == [2]


def test_whoever_appears_far_off_is_somebody_else() -> None:
    tracker = Tracker()
    tracker.update([person(100, 200)], 0)
    assert tracker.update([person(400, 200)], 1) == [2]


def test_the_best_total_wins_over_the_nearest_pair() -> None:
    tracker = Tracker()
    tracker.update([person(100, 200), person(120, 200)], 0)
    # The first of these is nearest to the second person, yet only together do both matches hold.
    assert tracker.update([person(116, 200), person(140, 200)], 1) == [1, 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 600)), max_size=6), max_size=15))
def test_ids_of_a_frame_differ_and_count_up(frames: list[list[tuple[int, int]]]) -> None:
    tracker, seen = Tracker(), 0
    for frame, places in enumerate(frames):
        found = tracker.update([person(*place) for place in places], frame)
        assert len(set(found)) == len(found) == len(places)
        new = [identity for identity in found if identity > seen]
        assert new == list(range(seen + 1, seen + 1 + len(new)))
        seen += len(new)


def test_memory_does_not_grow_with_the_video() -> None:
    tracker = Tracker(max_gap=3)
    for frame in range(300):
        tracker.update([person(1000 * frame, 0)], frame)
    assert len(tracker._targets) <= 5


def test_frames_must_come_in_order() -> None:
    tracker = Tracker()
    tracker.update([person(0, 0)], 4)
    with pytest.raises(ValueError, match="after 4, found 4"):
        tracker.update([person(0, 0)], 4)


def test_the_size_of_people_does_not_matter() -> None:
    one, other = [person(100, 100), person(130, 100)], [person(110, 100)]
    large = distances([person(200, 200, 2), person(260, 200, 2)], [person(220, 200, 2)])
    assert np.allclose(distances(one, other), large, atol=1e-4)
    assert np.argmin(distances(one, other)) == 0


def test_unseen_joints_do_not_count() -> None:
    seen, lost = person(100, 100), person(100, 100)
    lost.keypoints[3], lost.scores[3] = (0, 0), 0
    assert distances([seen], [lost])[0, 0] == pytest.approx(0, abs=1e-6)
    lost.scores[:] = 0
    assert np.isinf(distances([seen], [lost])[0, 0])
    assert Tracker().update([lost, lost], 0) == [1, 2]


def test_one_person_found_twice_is_one() -> None:
    people = [person(100, 100), person(103, 100), person(150, 100), person(101, 97, 1.05)]
    assert distinct(people) == [0, 2]
    same_head = person(100, 100, 0.6)
    same_head.keypoints[:5] = people[0].keypoints[:5]
    assert distinct([people[0], same_head]) == [0]
    assert distinct([]) == []


def test_gaps_are_interpolated_and_marked() -> None:
    frames = [[person(100 + 4 * frame, 50)] if frame not in (3, 4, 5) else [] for frame in range(2, 10)]
    found = tracks([[], [], *frames])
    assert len(found) == 1
    track = found[0]
    assert track.identity == 1 and track.frames.tolist() == list(range(2, 10))
    assert np.flatnonzero(track.interpolated).tolist() == [1, 2, 3]
    expected = np.stack([person(100 + 4 * frame, 50).keypoints for frame in range(2, 10)])
    assert np.allclose(track.keypoints, expected, atol=1e-3)
    assert np.all(track.scores[1:4] == 0) and np.all(track.scores[[0, 4]] > 0)
    assert track.keypoints.dtype == track.scores.dtype == np.float32


def test_no_gap_is_longer_than_asked_for() -> None:
    frames = [[person(100, 50)] if frame not in (3, 4, 5) else [] for frame in range(8)]
    assert [track.frames.tolist() for track in tracks(frames, max_gap=2)] == [[0, 1, 2], [6, 7]]
    assert [len(track.frames) for track in tracks(frames, max_gap=3)] == [8]


def test_short_tracks_can_be_left_out() -> None:
    frames = [[person(100, 50), *([person(600, 50)] if frame == 2 else [])] for frame in range(5)]
    assert [track.identity for track in tracks(frames, min_frames=2)] == [1]
    assert tracks([[], [], []]) == [] and tracks([]) == []


@given(st.sets(st.integers(0, 60), min_size=1))
def test_filling_keeps_what_was_measured(numbers: set[int]) -> None:
    frames = np.array(sorted(numbers))
    keypoints = np.random.default_rng(1).normal(size=(len(frames), 17, 2))
    filled, scores = fill_gaps(frames, keypoints, np.ones((len(frames), 17)))
    assert len(filled) == frames[-1] - frames[0] + 1
    assert np.allclose(filled[frames - frames[0]], keypoints, atol=1e-6)
    assert scores.sum() == 17 * len(frames)
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    assert np.all(filled >= low - 1e-6) and np.all(filled <= high + 1e-6)

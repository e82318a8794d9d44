import numpy as np
import pytest
from demo_people import person

from demo.lib.result import Person
from demo.lib.tracking import Tracker, follow, keep_people


def walk(speed: float, start: float, frames: int, **options: float) -> list[Person]:
    """Somebody who walks along, with legs that swing."""
    people = []
    for frame in range(frames):
        each = person(start + speed * frame, 400, **options)
        each.keypoints[[15, 16]] += [[20 * np.sin(frame / 3), 0], [-20 * np.sin(frame / 3), 0]]
        people.append(each)
    return people


def test_ids_last_while_two_people_cross() -> None:
    frames = [list(pair) for pair in zip(walk(4, 100, 60), walk(-4, 340, 60))]
    first, second = follow(frames)
    assert len(first.frames) == len(second.frames) == 60
    assert np.diff(first.keypoints[:, 0, 0]).mean() == pytest.approx(4, abs=0.1)
    assert np.diff(second.keypoints[:, 0, 0]).mean() == pytest.approx(-4, abs=0.1)


def test_gap_is_interpolated_and_marked_and_a_longer_one_gets_a_new_id() -> None:
    people = walk(2, 100, 80)
    frames = [[] if 20 <= frame < 30 or 45 <= frame < 70 else [each] for frame, each in enumerate(people)]
    first, second = follow(frames)
    assert first.frames.tolist() == list(range(45))
    assert np.flatnonzero(first.interpolated).tolist() == list(range(20, 30))
    assert (first.scores[20:30] == 0).all()
    np.testing.assert_allclose(first.keypoints[25, 11], first.keypoints[24, 11] + [2, 0], atol=0.5)
    assert (second.id, second.frames[0]) == (2, 70)


def test_people_are_matched_by_their_expected_place() -> None:
    tracker = Tracker()
    assert tracker.update([person(100, 300), person(400, 300)], 0) == [1, 2]
    assert tracker.update([person(405, 300), person(105, 300)], 1) == [2, 1]
    assert tracker.update([person(800, 300)], 2) == [3]
    assert tracker.update([], 3) == []


def test_somebody_who_turns_over_while_unseen_keeps_the_id() -> None:
    tracker, upright = Tracker(), person(100, 300)
    middle = (upright.box[1] + upright.box[3]) / 2
    turned = Person(upright.keypoints * [1, -1] + [0, 2 * middle], upright.scores, upright.box, upright.score)
    assert tracker.update([upright, person(500, 300)], 0) == [1, 2]
    assert tracker.update([person(500, 300)], 1) == [2]
    assert tracker.update([person(500, 300), turned], 2) == [2, 1]


def test_keep_people_drops_furniture_duplicates_and_glimpses() -> None:
    man = walk(3, 100, 60)
    post = [person(500, 300)] * 60  # never moves
    twin = [Person(each.keypoints + 4, each.scores, each.box + 4, each.score) for each in man[:40]]
    glimpse = [person(800, 300)] * 5
    jumping = [person(300, 500, 100 + 30 * (frame % 2)) for frame in range(60)]
    pale = [Person(each.keypoints + 300, each.scores * 0.1, each.box + 300, 0.5) for each in man]
    frames = []
    for frame in range(60):
        parts = [man, post, twin, glimpse, jumping, pale]
        frames.append([part[frame] for part in parts if frame < len(part)])
    tracks = follow(frames)
    assert len(tracks) >= 6
    (kept,) = keep_people(tracks, 60)
    assert kept.id == 1


def test_keep_people_of_a_still_image_keeps_all() -> None:
    tracks = follow([[person(100, 300), person(300, 300)]])
    assert keep_people(tracks, 1) == tracks

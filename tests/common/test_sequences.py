"""Poses in memory: which rows a selection keeps, and which frames of the files they are."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.sequences import PoseSet, Sequence, thinned

TAKES = (("S1", "Walking", 11), ("S1", "Walking 1", 7), ("S5", "Sitting", 1), ("S9", "Walking", 300))
CAMERAS = 4


def made_up(takes=TAKES) -> PoseSet:
    """A set whose every row says where it comes from: the first joint is (take, camera, frame)."""
    rows, sequences = [], []
    for number, (subject, action, frames) in enumerate(takes):
        for camera in range(CAMERAS):
            start, size = len(rows), (1000, 1000 + camera)
            rows += [(number, camera, frame) for frame in range(frames)]
            intrinsics = (2.0, 2.1, 0.01 * camera, 0.02)
            sequence = Sequence(subject, action, camera, start, start + frames, intrinsics, image_size=size)
            sequences.append(sequence)
    positions = np.zeros((len(rows), 17, 3), np.float32)
    positions[:, 0] = rows
    keypoints = np.zeros((len(rows), 17, 2), np.float32)
    keypoints[:, 0] = positions[:, 0, 1:]
    return PoseSet(keypoints, positions, tuple(sequences))


def check(poses: PoseSet, takes=TAKES) -> None:
    """Every row is the frame that its sequence says, sequences are in order and without gaps."""
    row = 0
    for sequence in poses.sequences:
        assert sequence.start == row and len(sequence) == sequence.stop - row > 0
        subject, action, frames = takes[int(poses.positions[row, 0, 0])]
        assert (subject, action) == (sequence.subject, sequence.action)
        expected = sequence.first_frame + sequence.step * np.arange(len(sequence))
        assert 0 <= expected[0] and expected[-1] < frames
        np.testing.assert_array_equal(poses.positions[row : sequence.stop, 0, 2], expected)
        np.testing.assert_array_equal(poses.keypoints[row : sequence.stop, 0, 1], expected)
        assert np.all(poses.positions[row : sequence.stop, 0, 1] == sequence.camera)
        assert sequence.image_size == (1000, 1000 + sequence.camera)
        row = sequence.stop
    assert row == len(poses) == len(poses.keypoints) == len(poses.positions)


def stretches(poses: PoseSet) -> dict[tuple[str, str], set]:
    """For each take, the frames that are kept, over all cameras: one member if all have the same."""
    kept: dict[tuple[str, str], set] = {}
    for sequence in poses.sequences:
        frames = tuple(poses.positions[sequence.start : sequence.stop, 0, 2].astype(int))
        kept.setdefault((sequence.subject, sequence.action), set()).add(frames)
    return kept


def test_a_sequence_tells_what_it_is():
    sequence = made_up().sequences[5]
    assert str(sequence) == "S1, Walking 1, camera 1"
    assert sequence.action_name == "Walking" and len(sequence) == 7
    assert "S1, S5, S9 (1276 poses in 16 sequences)" in str(made_up())


def test_nothing_asked_for_is_the_whole_set_untouched():
    poses = made_up()
    whole = thinned(poses)
    assert whole.sequences == poses.sequences
    assert np.shares_memory(whole.positions, poses.positions)
    np.testing.assert_array_equal(whole.positions, poses.positions)


@settings(max_examples=60, deadline=None)
@given(subset=st.floats(0.001, 1), downsample=st.integers(1, 400))
def test_thinned_rows_are_the_frames_that_the_sequences_say(subset, downsample):
    poses = thinned(made_up(), subset=subset, downsample=downsample)
    check(poses)
    for (subject, action), kept in stretches(poses).items():
        assert len(kept) == 1, "all cameras show the same frames"
        (frames,) = kept
        whole = next(length for *names, length in TAKES if tuple(names) == (subject, action))
        length = max(1, round(whole * subset))
        assert len(frames) == -(-length // downsample)
        assert frames[-1] - frames[0] < length
        assert set(np.diff(frames)) <= {downsample}


def test_a_stretch_follows_from_the_take_alone():
    poses = made_up()
    first = stretches(thinned(poses, subset=0.2))
    random.seed(1)
    np.random.seed(1)
    assert stretches(thinned(poses, subset=0.2)) == first
    turned = made_up(TAKES[::-1])
    assert stretches(thinned(turned, subset=0.2)) == first
    alone = stretches(thinned(poses.subjects(["S9"]), subset=0.2))
    assert alone == {("S9", "Walking"): first["S9", "Walking"]}


def test_stretches_lie_here_and_there():
    takes = [("S1", f"Take{number}", 100) for number in range(40)]
    kept = stretches(thinned(made_up(takes), subset=0.2)).values()
    starts = [frames[0] for (frames,) in kept]
    assert len(set(starts)) > 20 and min(starts) < 20 and max(starts) > 60


def test_a_known_stretch_stays_where_it_is():
    """The frames that published figures of a ``--subset`` were measured on may not move."""
    kept = stretches(thinned(made_up(), subset=0.2, downsample=7))
    assert kept == {
        ("S1", "Walking"): {(3,)},
        ("S1", "Walking 1"): {(3,)},
        ("S5", "Sitting"): {(0,)},
        ("S9", "Walking"): {tuple(range(229, 289, 7))},
    }


def test_a_take_is_never_thinned_to_nothing():
    poses = thinned(made_up(), subset=1e-9, downsample=1000)
    assert [len(sequence) for sequence in poses.sequences] == [1] * len(poses.sequences)
    check(poses)


def test_downsampling_keeps_the_first_of_every_few_frames():
    poses = thinned(made_up(), downsample=5)
    check(poses)
    assert stretches(poses)["S1", "Walking"] == {(0, 5, 10)}
    assert stretches(poses)["S1", "Walking 1"] == {(0, 5)}
    assert {sequence.step for sequence in poses.sequences} == {5}


def test_thinning_twice_still_leads_back_to_the_frames_of_the_file():
    once = thinned(made_up(), subset=0.6, downsample=3)
    twice = thinned(once, subset=0.5, downsample=2)
    check(once)
    check(twice)
    assert {sequence.step for sequence in twice.sequences} == {6}
    assert any(
        after.first_frame > before.first_frame
        for after, before in zip(twice.sequences, once.sequences, strict=True)
    )


def test_actions_take_both_takes_and_no_others():
    poses = thinned(made_up(), actions=["Walking"])
    check(poses)
    assert {(s.subject, s.action) for s in poses.sequences} == {
        ("S1", "Walking"),
        ("S1", "Walking 1"),
        ("S9", "Walking"),
    }
    assert len(thinned(made_up(), actions=["Walk"])) == 0, "no part of a name"
    assert len(thinned(made_up(), actions=iter(["Walking", "Sitting"]))) == len(made_up()), "any iterable"


def test_subjects_side_by_side_are_a_view():
    poses = made_up()
    for names in (["S1"], ["S9"], ["S5", "S9"], ["S9", "S5"]):
        part = poses.subjects(names)
        check(part)
        assert {sequence.subject for sequence in part.sequences} == set(names)
        assert np.shares_memory(part.positions, poses.positions)
        assert np.shares_memory(part.keypoints, poses.keypoints)


def test_rows_that_are_apart_are_copied():
    poses = made_up()
    part = poses.subjects(["S1", "S9"])
    check(part)
    assert len(part) == 4 * (11 + 7 + 300)
    assert not np.shares_memory(part.positions, poses.positions)


@pytest.mark.parametrize("order", [[3, 1], [1, 0], [0, 0], [15, 0], [2, 4], [0, 2, 1, 3]])
def test_sequences_can_be_selected_in_any_order(order):
    poses = made_up()
    part = poses.select([poses.sequences[number] for number in order])
    check(part)
    assert [(s.action, s.camera) for s in part.sequences] == [
        (poses.sequences[number].action, poses.sequences[number].camera) for number in order
    ]


def test_nothing_selected_is_an_empty_set():
    poses = made_up().select([])
    assert len(poses) == 0 and poses.sequences == ()
    assert poses.keypoints.shape == (0, 17, 2) and poses.positions.shape == (0, 17, 3)
    assert poses.positions.dtype == np.float32
    assert len(made_up().subjects(["S11"])) == 0

"""Averages of per-pose values: by hand where it can be done, by simulation for the intervals."""

import csv
import json

import numpy as np
import pytest

from common import metrics, summary, tables
from common.files import write_json
from common.sequences import Sequence
from common.skeleton import JOINT_NAMES


def make_sequences(*takes):
    """Sequences one after another from (subject, action, camera, number of poses)."""
    sequences, row = [], 0
    for subject, action, camera, size in takes:
        stop = row + size
        sequences.append(Sequence(subject, action, camera, row, stop, (1.0, 1.0, 0.0, 0.0), (1000, 1000)))
        row = stop
    return sequences


SMALL = make_sequences(("S9", "Walking", 0, 2), ("S9", "Walking 1", 1, 1), ("S11", "Eating", 0, 1))


@pytest.fixture
def small_scores():
    """P1 of 10, 20, 60 (Walking) and 70 (Eating); MPJVE known for the second pose alone."""
    p1 = np.array([10.0, 20.0, 60.0, 70.0])
    return {
        "P1": p1,
        "MPJVE": np.array([np.nan, 4.0, np.nan, np.nan]),
        "joint_errors": np.outer(p1, np.arange(17)),
    }


@pytest.fixture
def scored():
    """Scores of random poses and their 24 sequences."""
    rng = np.random.default_rng(3)
    actions = ("Sitting", "Sitting 2", "Photo")
    takes = [(s, a, c, 5 + c) for s in ("S9", "S11") for a in actions for c in range(4)]
    sequences = make_sequences(*takes)
    target = rng.normal(scale=300, size=(sequences[-1].stop, 17, 3))
    predicted = target + rng.normal(scale=50, size=target.shape)
    return metrics.score(predicted, target, sequences), sequences


def test_averages_by_hand(small_scores):
    found = summary.summarize(small_scores, SMALL)
    assert found["average"]["frame_wise"]["P1"] == pytest.approx(40)
    assert found["average"]["action_wise"]["P1"] == pytest.approx(50)  # Walking 30, Eating 70
    assert list(found["per_action"]) == ["Eating", "Walking"]
    assert found["per_action"]["Walking"] == {"poses": 3, "sequences": 2, "P1": pytest.approx(30), "MPJVE": 4}
    assert found["per_subject"]["S9"]["P1"] == pytest.approx(30)
    assert found["per_camera"]["0"]["P1"] == pytest.approx(100 / 3)
    assert (found["poses"], found["sequences"]) == (4, 3)
    assert found["metric units"]["P1"] == "mm"


def test_velocity_leaves_out_first_poses(small_scores):
    found = summary.summarize(small_scores, SMALL)
    assert found["average"] == {
        "action_wise": {"P1": pytest.approx(50), "MPJVE": 4},
        "frame_wise": {"P1": pytest.approx(40), "MPJVE": 4},
    }
    assert found["per_action"]["Eating"]["MPJVE"] is None


def test_joints_and_their_groups(small_scores):
    found = summary.summarize(small_scores, SMALL)
    assert tuple(found["per_joint"]) == JOINT_NAMES
    assert found["per_joint"]["right_ankle"] == pytest.approx(3 * 40)
    assert found["per_pdof"] == {
        "torso": pytest.approx(40 * np.mean([0, 7, 8, 9, 10])),
        "PDoF 1": pytest.approx(40 * np.mean([1, 4, 11, 14])),
        "PDoF 2": pytest.approx(40 * np.mean([2, 5, 12, 15])),
        "PDoF 3 (end joints)": pytest.approx(40 * np.mean([3, 6, 13, 16])),
    }


def test_averages_equal_plain_means(scored):
    scores, sequences = scored
    found = summary.summarize(scores, sequences)
    action = np.concatenate([[s.action_name] * len(s) for s in sequences])
    for name in found["metric units"]:
        per_action = [np.nanmean(scores[name][action == own]) for own in ("Photo", "Sitting")]
        assert found["average"]["action_wise"][name] == pytest.approx(np.mean(per_action))
        assert found["average"]["frame_wise"][name] == pytest.approx(np.nanmean(scores[name]))


def test_the_same_seed_draws_the_same(scored):
    first, again = summary.summarize(*scored, seed=1), summary.summarize(*scored, seed=1)
    assert first == again
    assert first["interval_95"] != summary.summarize(*scored, seed=2)["interval_95"]


def test_one_take_has_no_interval_however_many_cameras_see_it(small_scores):
    sequences = make_sequences(*(("S9", "Walking", camera, 1) for camera in range(4)))
    found = summary.summarize(small_scores, sequences)
    assert found["average"]["frame_wise"]["P1"] == pytest.approx(40)
    assert found["interval_95"] == {kind: {"P1": None, "MPJVE": None} for kind in found["interval_95"]}


def test_one_sequence_has_no_interval(small_scores):
    one = {name: values[:2] for name, values in small_scores.items()}
    found = summary.summarize(one, SMALL[:1])
    assert found["average"]["frame_wise"]["P1"] == pytest.approx(15)
    assert found["interval_95"]["frame_wise"]["P1"] is None


def simulated(rng, count, mean):
    """One value for each pose of ``count`` sequences: poses of a sequence go up and down together."""
    sequences = make_sequences(*(("S9", f"Walking {i}", 0, 10) for i in range(count)))
    level = np.repeat(rng.normal(mean, 5, size=count), 10)
    return level + rng.normal(size=10 * count), sequences


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        values, sequences = simulated(rng, 40, mean=-3)
        found = summary.paired_difference(values, np.zeros_like(values), sequences, resamples=400)
        low, high = found["interval_95"]["frame_wise"]
        hits += low < -3 < high
        assert low < found["difference"]["frame_wise"] < high
    # An interval over poses instead of sequences would be three times too narrow and hit about half the time.
    assert 85 <= hits <= 100


ACTION_LEVELS = dict(zip(("Eating", "Photo", "Sitting", "Walking"), (30.0, 45.0, 60.0, 110.0)))


def seen_by_four_cameras(rng, subjects, takes=2):
    """Values of takes of actions with different levels; the cameras of a take go up and down together."""
    names = [(s, f"{action} {n}") for s in subjects for action in ACTION_LEVELS for n in range(takes)]
    sequences = make_sequences(*((*name, camera, 3) for name in names for camera in range(4)))
    level = np.array([ACTION_LEVELS[action.split()[0]] for _, action in names]) + rng.normal(0, 5, len(names))
    return np.repeat(level, 12) + rng.normal(size=12 * len(names)), sequences


def scores_of(values):
    return {"P1": values, "joint_errors": np.zeros((len(values), 17))}


def test_cameras_of_a_take_are_not_taken_for_independent():
    rng, subjects, truth = np.random.default_rng(1), ("S9", "S11"), np.mean(list(ACTION_LEVELS.values()))
    hits, widths = {"action_wise": 0, "frame_wise": 0}, []
    for _ in range(100):
        values, sequences = seen_by_four_cameras(rng, subjects)
        found = summary.summarize(scores_of(values), sequences, resamples=300)["interval_95"]
        other = summary.paired_difference(values, 0 * values, sequences, resamples=300)["interval_95"]
        for kind in hits:
            low, high = found[kind]["P1"]
            hits[kind] += low < truth < high
            assert other[kind] == pytest.approx([low, high])
            widths.append(high - low)
    # Over sequences instead of takes they would be half as wide and hit about two times in three; with draws
    # that lack an action, or have it more often than the data, they would be several times too wide.
    assert all(85 <= count <= 99 for count in hits.values()), hits
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 5 / np.sqrt(16), rel=0.12)


def test_more_cameras_tell_no_more_of_the_motion():
    values, sequences = seen_by_four_cameras(np.random.default_rng(2), ("S9", "S11"))
    one_camera = values.reshape(-1, 4, 3)[:, 0]  # (takes x cameras x poses) -> (takes, poses)
    names = [(s.subject, s.action, 0, 3) for s in sequences[::4]]
    every = summary.paired_difference(np.repeat(one_camera, 4, axis=0).ravel(), 0 * values, sequences)
    alone = summary.paired_difference(one_camera.ravel(), 0 * one_camera.ravel(), make_sequences(*names))
    assert every["interval_95"]["action_wise"] == pytest.approx(alone["interval_95"]["action_wise"])


def test_an_action_with_a_single_take_still_has_its_share_of_the_spread():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(50):
        values, sequences = seen_by_four_cameras(rng, ("S9",), takes=1)
        low, high = summary.paired_difference(values, 0 * values, sequences)["interval_95"]["action_wise"]
        hits += low < np.mean(list(ACTION_LEVELS.values())) < high
    assert hits >= 45


def test_intervals_shrink_with_more_sequences():
    rng = np.random.default_rng(0)
    widths = []
    for count in (25, 400):
        values, sequences = simulated(rng, count, mean=0)
        low, high = summary.paired_difference(values, 0 * values, sequences)["interval_95"]["action_wise"]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)


def test_paired_difference_by_hand(small_scores):
    worse = small_scores["P1"] + [1, 2, 3, 8]
    found = summary.paired_difference(small_scores["P1"], worse, SMALL)
    assert found["difference"] == {"action_wise": pytest.approx(-5), "frame_wise": pytest.approx(-3.5)}
    assert found["interval_95"]["frame_wise"][1] <= 0
    assert (found["poses"], found["sequences"]) == (4, 3)


def test_paired_difference_sees_what_separate_intervals_do_not():
    rng = np.random.default_rng(0)
    values, sequences = simulated(rng, 40, mean=50)
    better = values - 0.2 + rng.normal(scale=0.1, size=values.shape)
    low, high = summary.paired_difference(better, values, sequences)["interval_95"]["frame_wise"]
    assert -0.25 < low < high < -0.15


def test_paired_difference_leaves_out_nan(small_scores):
    found = summary.paired_difference(small_scores["MPJVE"], np.ones(4), SMALL)
    assert found["difference"]["frame_wise"] == 3 and found["poses"] == 1


def test_mismatches_are_refused(small_scores):
    with pytest.raises(ValueError, match=r"found \(4,\) and \(3,\)"):
        summary.paired_difference(np.ones(4), np.ones(3), SMALL)
    with pytest.raises(ValueError, match="all 4 poses, found 2 sequences of 3 poses"):
        summary.summarize(small_scores, SMALL[:2])
    with pytest.raises(ValueError, match="all 4 poses, found 0 sequences"):
        summary.summarize(small_scores, [])
    with pytest.raises(ValueError, match=r"errors of 17 joints, found \(16,\)"):
        summary.summarize({**small_scores, "joint_errors": np.ones((4, 16))}, SMALL)


def test_action_table(scored):
    found = summary.summarize(*scored)
    lines = tables.action_table(found).splitlines()
    assert lines[0].split() == ["action", "P1", "(mm)", "P2", "(mm)"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "Photo",
        "Sitting",
        "average (action-wise)",
        "average (frame-wise)",
    ]
    for line, kind in zip(lines[3:], ("action_wise", "frame_wise")):
        means = found["average"][kind]
        assert line.split()[2:] == [f"{means['P1']:.2f}", f"{means['P2']:.2f}"]


def test_tables_show_what_is_not_known_as_a_dash(small_scores):
    found = summary.summarize(small_scores, SMALL)
    assert tables.action_table(found, ("MPJVE",)).splitlines()[1].split() == ["Eating", "-"]
    one = summary.summarize({name: values[:2] for name, values in small_scores.items()}, SMALL[:1])
    assert "- to -" in tables.average_table(one)


def test_json_reads_back(tmp_path, small_scores):
    found = summary.summarize(small_scores, SMALL)
    write_json(tmp_path / "summary.json", found)  # refuses NaN
    assert json.loads((tmp_path / "summary.json").read_text()) == found


def test_csv_has_every_figure(tmp_path, scored):
    found = summary.summarize(*scored)
    other = summary.summarize({name: values * 2 for name, values in scored[0].items()}, scored[1])
    tables.write_csv(tmp_path / "summary.csv", {"lifted": found, "refined": other})
    with open(tmp_path / "summary.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) % 2 == 0
    rows = {(row["group"], row["name"]): row for row in listed if row["poses are"] == "lifted"}
    doubled = {(row["group"], row["name"]): row for row in listed if row["poses are"] == "refined"}
    assert float(doubled["average", "frame_wise"]["P1"]) == other["average"]["frame_wise"]["P1"]
    assert float(rows["average", "action_wise"]["P2"]) == found["average"]["action_wise"]["P2"]
    high = found["interval_95"]["frame_wise"]["AUC"][1]
    assert float(rows["interval_95 high", "frame_wise"]["AUC"]) == high
    assert float(rows["per_action", "Photo"]["MPJVE"]) == found["per_action"]["Photo"]["MPJVE"]
    assert int(rows["per_camera", "2"]["sequences"]) == 6
    assert float(rows["per_joint", "head"]["P1"]) == found["per_joint"]["head"]
    assert rows["per_pdof", "torso"]["P2"] == ""

"""Metrics against independent formulas, their invariances, and the means and intervals made of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from common import metrics
from common.poses import Sequence
from common.skeleton import JOINT_NAMES, MIRROR, PARENTS

N = 40


def sequence(
    start: int, stop: int, subject: str = "S9", action: str = "Walking", camera: int = 0, step: int = 1
):
    lens = (1.0, 1.0, 0.0, 0.0)
    return Sequence(subject, action, camera, start, stop, lens, (1000, 1000), step=step)


def consecutive(*takes: tuple[str, str, int, int]) -> list[Sequence]:
    """Sequences one after another from (subject, action, camera, number of poses)."""
    stops = np.cumsum([size for *_, size in takes])
    return [
        sequence(stop - take[3], stop, *take[:3]) for take, stop in zip(takes, stops.tolist(), strict=True)
    ]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def poses(rng):
    """Predicted and true poses (N, 17, 3), mm."""
    target = rng.normal(scale=300, size=(N, 17, 3))
    predicted = target + rng.normal(scale=60, size=target.shape)
    return predicted - predicted[:, :1], target - target[:, :1]


# A value per pose


def test_mpjpe_equals_plain_loops(poses):
    predicted, target = poses
    expected = [
        np.mean(
            [sum((p - t) ** 2 for p, t in zip(a, b, strict=True)) ** 0.5 for a, b in zip(*pair, strict=True)]
        )
        for pair in zip(predicted, target, strict=True)
    ]
    assert metrics.mpjpe(predicted, target) == pytest.approx(expected)


def test_p_mpjpe_equals_scipy_procrustes_and_kabsch(poses):
    predicted, target = poses
    # SciPy's own alignment may reflect, which is allowed where the best fit is no reflection.
    found = metrics.align_similarity(predicted, target)
    for pose, true, aligned in zip(predicted, target, found, strict=True):
        center, a, b = true.mean(axis=0), pose - pose.mean(axis=0), true - true.mean(axis=0)
        rotated = Rotation.align_vectors(b, a)[0].apply(a)
        expected = rotated * (rotated * b).sum() / (rotated**2).sum() + center
        np.testing.assert_allclose(aligned, expected, atol=1e-6)
        _, _, disparity = procrustes(true, pose)  # of poses scaled to norm 1
        assert ((aligned - true) ** 2).sum() / (b**2).sum() == pytest.approx(disparity)
    assert metrics.p_mpjpe(predicted, target) == pytest.approx(metrics.mpjpe(found, target))


def test_p_mpjpe_ignores_a_similarity_but_no_reflection(poses, rng):
    predicted, target = poses
    rotation = Rotation.random(N, random_state=3).as_matrix()
    moved = rng.uniform(0.1, 10, (N, 1, 1)) * predicted @ rotation + rng.normal(scale=500, size=(N, 1, 3))
    assert metrics.p_mpjpe(moved, target) == pytest.approx(metrics.p_mpjpe(predicted, target))
    assert metrics.p_mpjpe(target, target) == pytest.approx(np.zeros(N), abs=1e-8)
    assert (metrics.p_mpjpe(target * [-1, 1, 1], target) > 30).all()


def test_n_mpjpe_ignores_the_scale_only(poses, rng):
    predicted, target = poses
    scaled = predicted * rng.uniform(0.1, 10, (N, 1, 1))
    assert metrics.n_mpjpe(scaled, target) == pytest.approx(metrics.n_mpjpe(predicted, target))
    best = (predicted * target).sum(axis=(1, 2)) / (predicted**2).sum(axis=(1, 2))
    expected = metrics.mpjpe(predicted * best[:, None, None], target)
    assert metrics.n_mpjpe(predicted, target) == pytest.approx(expected)
    assert (metrics.n_mpjpe(target @ Rotation.random(N, random_state=3).as_matrix(), target) > 30).all()


def test_velocity_is_per_frame_and_stays_in_its_sequence(poses):
    predicted, target = poses
    two = [sequence(0, 10), sequence(10, 35, step=2)]
    jump = predicted.copy()
    jump[10:] += [0, 1000, 0]
    found = metrics.velocity_errors(jump, target, two)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 10, *range(35, 40)]
    for row, step in ((5, 1), (20, 2)):
        difference = (predicted[row] - predicted[row - 1]) - (target[row] - target[row - 1])
        assert found[row] == pytest.approx(np.linalg.norm(difference, axis=1).mean() / step)


def test_pck_and_auc_are_percentages_of_joints_below_thresholds(poses):
    errors = np.array([[0.0, 149.0, 150.0, 151.0]])
    assert metrics.pck(errors) == [50.0]
    errors = metrics.joint_errors(*poses)
    errors[0] = 5.0  # exactly a threshold
    curve = [100 * (errors < threshold).mean(axis=1) for threshold in range(0, 151, 5)]
    assert metrics.auc(errors) == pytest.approx(np.mean(curve, axis=0))
    assert metrics.auc(np.zeros((1, 17))) == pytest.approx([100 * 30 / 31])


def test_bone_lengths_and_symmetry(poses):
    target = poses[1]
    longer = target.copy()
    bone = target[:, 3] - target[:, 2]
    longer[:, 3] += 25 * bone / np.linalg.norm(bone, axis=1, keepdims=True)
    assert metrics.bone_length_errors(longer, target) == pytest.approx(np.full(N, 25 / 16))
    lengths = np.linalg.norm(
        target[:, 1:] - target[:, list(PARENTS[1:])], axis=2
    )  # (N, 16), of joints 1 to 16
    pairs = [(4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16)]
    expected = np.mean(
        [np.abs(lengths[:, left - 1] - lengths[:, right - 1]) for left, right in pairs], axis=0
    )
    assert metrics.symmetry_errors(target) == pytest.approx(expected)
    assert metrics.symmetry_errors(target[:, MIRROR] * [-1, 1, 1]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "pose",
    [
        np.zeros((17, 3)),
        np.full((17, 3), 0.1),
        np.linspace(-1, 1, 17)[:, None] * [100, 200, 50],
        np.eye(17, 3) * 1e-160,
        np.eye(17, 3) * 1e8,
    ],
    ids=["zero", "point", "line", "tiny", "huge"],
)
def test_degenerate_poses_have_finite_errors(pose, poses):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for predicted, target in ((pose, poses[1][0]), (poses[1][0], pose), (pose, pose)):
            found = metrics.score(predicted[None], target[None], [sequence(0, 1)])
            assert all(np.isfinite(values).all() for name, values in found.items() if name != "MPJVE")


def test_score_is_over_the_chosen_joints(poses):
    joints, sequences = (1, 2, 3, 16), [sequence(0, 15), sequence(15, N)]
    found = metrics.score(*poses, sequences, joints=joints, fps=50)
    part = [pose[:, list(joints)] for pose in poses]
    assert found["P1"] == pytest.approx(metrics.mpjpe(*part))
    assert found["P2"] == pytest.approx(metrics.p_mpjpe(*part))
    assert found["P3"] == pytest.approx(metrics.n_mpjpe(*part))
    assert found["PCK"] == pytest.approx(metrics.pck(metrics.joint_errors(*part)))
    assert found["MPJVE_s"] == pytest.approx(50 * found["MPJVE"], nan_ok=True)
    assert found["joint_errors"] == pytest.approx(metrics.joint_errors(*poses))
    assert found["bone_length"] == pytest.approx(metrics.bone_length_errors(*poses))
    assert found.keys() - {"joint_errors"} == metrics.UNITS.keys()


# Means and intervals

SMALL = consecutive(("S9", "Walking", 0, 2), ("S9", "Walking 1", 1, 1), ("S11", "Eating", 0, 1))


@pytest.fixture
def scores():
    """P1 of 10, 20, 60 (Walking) and 70 (Eating); MPJVE known for the second pose only."""
    p1 = np.array([10.0, 20.0, 60.0, 70.0])
    return {"P1": p1, "MPJVE": np.array([np.nan, 4, np.nan, np.nan]), "joint_errors": np.outer(p1, range(17))}


def test_summary_by_hand(scores):
    found = metrics.summarize(scores, SMALL)
    assert found["average"] == {
        "action_wise": {"P1": pytest.approx((30 + 70) / 2), "MPJVE": 4},
        "frame_wise": {"P1": pytest.approx(40), "MPJVE": 4},
    }
    walking = {"poses": 3, "sequences": 2, "P1": pytest.approx(30), "MPJVE": 4}
    assert found["per_action"] == {
        "Eating": {"poses": 1, "sequences": 1, "P1": pytest.approx(70), "MPJVE": None},
        "Walking": walking,
    }
    assert found["per_subject"]["S9"]["P1"] == pytest.approx(30)
    assert found["per_camera"]["0"]["P1"] == pytest.approx(100 / 3)
    assert tuple(found["per_joint"]) == JOINT_NAMES
    assert found["per_pdof"]["PDoF 3 (end joints)"] == pytest.approx(40 * np.mean([3, 6, 13, 16]))
    assert found["per_pdof"]["torso"] == pytest.approx(40 * np.mean([0, 7, 8, 9, 10]))


def test_actions_are_in_the_order_of_papers(scores):
    names = ["Zebra", "WalkTogether", "Sitting", "Aerobics"]
    sequences = consecutive(*(("S9", name, 0, 1) for name in names))
    found = metrics.summarize(scores, sequences)["per_action"]
    assert list(found) == ["Sitting", "WalkTogether", "Aerobics", "Zebra"]


def test_one_take_has_no_interval(scores):
    sequences = consecutive(*(("S9", "Walking", camera, 1) for camera in range(4)))
    found = metrics.summarize(scores, sequences)["interval_95"]
    assert found == {kind: {"P1": None, "MPJVE": None} for kind in ("action_wise", "frame_wise")}


def four_cameras(rng, subjects=("S9", "S11")):
    """Values of 2 takes of 4 actions; the cameras of a take vary together, with a deviation of 5."""
    levels = {"Eating": 30, "Photo": 45, "Sitting": 60, "Walking": 110}
    takes = [(subject, f"{name} {n}") for subject in subjects for name in levels for n in range(2)]
    sequences = consecutive(*((*take, camera, 3) for take in takes for camera in range(4)))
    level = np.array([levels[action.split()[0]] for _, action in takes]) + rng.normal(0, 5, len(takes))
    return np.repeat(level, 12) + rng.normal(size=12 * len(takes)), sequences


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, hits, widths = np.random.default_rng(1), {"action_wise": 0, "frame_wise": 0}, []
    for _ in range(100):
        values, sequences = four_cameras(rng)
        intervals = metrics.averages({"P1": values}, sequences)["interval_95"]
        for kind, found in intervals.items():
            low, high = found["P1"]
            hits[kind] += low < 61.25 < high
            widths.append(high - low)
    # Over sequences instead of takes they would be half as wide, and cover it two times in three.
    assert all(85 <= count <= 99 for count in hits.values()), hits
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 5 / np.sqrt(16), rel=0.12)


def test_paired_difference_is_narrower_than_the_averages(rng):
    values, sequences = four_cameras(rng)
    better = values - 0.2 + rng.normal(scale=0.1, size=values.shape)
    found = metrics.paired_difference({"P1": better}, {"P1": values}, sequences)
    assert list(found) == ["Eating", "Photo", "Sitting", "Walking", "average"]
    low, high = found["average"]["interval_95"]["frame_wise"]["P1"]
    assert -0.25 < low < found["average"]["average"]["frame_wise"]["P1"] < high < -0.15
    action = np.concatenate([[each.action_name] * len(each) for each in sequences])
    expected = (better - values)[action == "Photo"].mean()
    assert found["Photo"]["average"]["action_wise"]["P1"] == pytest.approx(expected)

"""Metrics per pose: what they must not notice, what they must, and independent formulas of the same thing."""

import warnings

import numpy as np
import pytest

from common import metrics
from common.sequences import Sequence
from common.skeleton import MIRROR

PAIRED = (
    metrics.mpjpe,
    metrics.p_mpjpe,
    metrics.n_mpjpe,
    metrics.bone_length_errors,
    metrics.pck,
    metrics.auc,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def poses(rng):
    """Predicted and true poses, root-relative, mm."""
    target = rng.normal(scale=300, size=(40, 17, 3))
    predicted = target + rng.normal(scale=60, size=target.shape)
    return predicted - predicted[:, :1], target - target[:, :1]


def rotations(rng, count):
    """Random rotation matrices (count, 3, 3), none of them a reflection."""
    q, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    q[:, :, 0] *= np.linalg.det(q)[:, None]
    return q


def run(start, stop):
    return Sequence("S9", "Walking", 0, start, stop, (1.0, 1.0, 0.0, 0.0), (1000, 1000))


def horn(predicted, target):
    """Best similarity of one pose by Horn's quaternion method (JOSA A 1987), which cannot reflect."""
    a, b = predicted - predicted.mean(axis=0), target - target.mean(axis=0)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = a.T @ b
    n = np.array(
        [
            [xx + yy + zz, yz - zy, zx - xz, xy - yx],
            [yz - zy, xx - yy - zz, xy + yx, zx + xz],
            [zx - xz, xy + yx, yy - xx - zz, yz + zy],
            [xy - yx, zx + xz, yz + zy, zz - xx - yy],
        ]
    )
    w, *v = np.linalg.eigh(n)[1][:, -1]
    v = np.array(v)
    turned = a + 2 * np.cross(v, np.cross(v, a) + w * a)
    return turned * (np.sum(turned * b) / np.sum(a**2)) + target.mean(axis=0)


def test_hand_computed_errors():
    target = np.zeros((2, 3, 3))
    predicted = target.copy()
    predicted[0, 1] = 3, 4, 0
    predicted[1, 2] = 0, 0, -7
    assert metrics.joint_errors(predicted, target).tolist() == [[0, 5, 0], [0, 0, 7]]
    assert metrics.mpjpe(predicted, target) == pytest.approx([5 / 3, 7 / 3])


def test_a_right_pose_has_no_error(poses):
    target = poses[1]
    for metric in (metrics.mpjpe, metrics.p_mpjpe, metrics.n_mpjpe, metrics.bone_length_errors):
        assert metric(target, target) == pytest.approx(np.zeros(40), abs=1e-9)
    assert metrics.velocity_errors(target, target, [run(0, 40)])[1:] == pytest.approx(np.zeros(39))
    assert (metrics.pck(target, target) == 1).all()
    assert metrics.auc(target, target) == pytest.approx(np.full(40, 30 / 31))


def test_p1_is_the_same_after_one_motion_of_both(poses, rng):
    turn, shift = rotations(rng, 40), rng.normal(scale=500, size=(40, 1, 3))
    predicted, target = poses
    moved = metrics.mpjpe(predicted @ turn + shift, target @ turn + shift)
    assert moved == pytest.approx(metrics.mpjpe(predicted, target))


def test_p1_notices_a_motion_of_one(poses):
    target = poses[1]
    assert metrics.mpjpe(target + np.array([0, 0, 10]), target) == pytest.approx(np.full(40, 10))


def test_p2_ignores_a_similarity_of_the_prediction(poses, rng):
    predicted, target = poses
    scale, shift = rng.uniform(0.1, 10, size=(40, 1, 1)), rng.normal(scale=500, size=(40, 1, 3))
    moved = scale * predicted @ rotations(rng, 40) + shift
    assert metrics.p_mpjpe(moved, target) == pytest.approx(metrics.p_mpjpe(predicted, target))
    moved = scale * target @ rotations(rng, 40) + shift
    assert metrics.p_mpjpe(moved, target) == pytest.approx(np.zeros(40), abs=1e-8)


def test_p2_equals_an_independent_formula(poses):
    predicted, target = poses
    predicted[::2] *= [1, 1, -1]  # half of them nearly a mirror image, where the reflection matters
    expected = np.stack([horn(p, t) for p, t in zip(predicted, target)])
    assert np.allclose(metrics.align_similarity(predicted, target), expected)
    distances = np.linalg.norm(expected - target, axis=2)
    assert metrics.p_mpjpe(predicted, target) == pytest.approx(distances.mean(axis=1))


def test_a_mirrored_pose_does_not_align(poses):
    target = poses[1]
    assert (metrics.p_mpjpe(target * [-1, 1, 1], target) > 30).all()


def test_p3_ignores_only_the_scale_of_the_prediction(poses, rng):
    predicted, target = poses
    scaled = metrics.n_mpjpe(predicted * rng.uniform(0.1, 10, size=(40, 1, 1)), target)
    assert scaled == pytest.approx(metrics.n_mpjpe(predicted, target))
    assert (metrics.n_mpjpe(target @ rotations(rng, 40), target) > 30).all()


def test_each_alignment_leaves_less_squared_error(poses):
    predicted, target = poses
    scale = (predicted * target).sum(axis=(1, 2)) / (predicted**2).sum(axis=(1, 2))
    scaled = predicted * scale[:, None, None]
    assert metrics.n_mpjpe(predicted, target) == pytest.approx(metrics.mpjpe(scaled, target))

    def squared(pose):
        return ((pose - target) ** 2).sum(axis=(1, 2))

    for factor in (0.99, 1.01):  # the best scale: any other is worse
        assert (squared(scaled * factor) > squared(scaled)).all()
    assert (squared(metrics.align_similarity(predicted, target)) <= squared(scaled)).all()
    assert (squared(scaled) <= squared(predicted)).all()


def test_velocity_equals_the_difference_of_steps(poses):
    predicted, target = poses
    found = metrics.velocity_errors(predicted, target, [run(0, 40)])
    steps = np.diff(predicted, axis=0) - np.diff(target, axis=0)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx(np.linalg.norm(steps, axis=2).mean(axis=1))


def test_velocity_does_not_cross_sequences(poses):
    predicted, target = poses
    jump = predicted.copy()
    jump[10:] += [0, 1000, 0]
    two = [run(0, 10), run(10, 35)]
    found = metrics.velocity_errors(jump, target, two)
    assert found == pytest.approx(metrics.velocity_errors(predicted, target, two), nan_ok=True)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 10, *range(35, 40)]
    assert np.nanmax(metrics.velocity_errors(jump, target, [run(0, 40)])) > 500


def test_velocity_refuses_sequences_of_another_set(poses):
    with pytest.raises(ValueError, match=r"within 40 poses, found rows 30 to 41 \(S9, Walking, camera 0\)"):
        metrics.velocity_errors(*poses, [run(0, 30), run(30, 41)])


def test_pck_counts_joints_nearer_than_the_threshold():
    predicted = np.zeros((1, 4, 3))
    predicted[0, :, 2] = 0, 149, 150, 151
    assert metrics.pck(predicted, np.zeros((1, 4, 3))) == [0.5]
    assert metrics.pck(predicted, np.zeros((1, 4, 3)), threshold=150.5) == [0.75]


def test_auc_is_the_mean_pck_of_its_thresholds(poses):
    predicted, target = poses
    predicted[0] = target[0] + [0, 0, 5]  # just on a threshold
    curve = [metrics.pck(predicted, target, threshold) for threshold in range(0, 151, 5)]
    found = metrics.auc(predicted, target)
    assert found == pytest.approx(np.mean(curve, axis=0))
    assert (found <= metrics.pck(predicted, target)).all() and (found > 0).all()
    assert metrics.auc(predicted, target, (150.0,)) == pytest.approx(metrics.pck(predicted, target))


def direction(poses, start, end):
    bone = poses[:, end] - poses[:, start]
    return bone / np.linalg.norm(bone, axis=1, keepdims=True)


def test_bone_lengths(poses):
    target = poses[1]
    longer = target.copy()
    longer[:, 3] += 25 * direction(target, 2, 3)
    assert metrics.bone_length_errors(longer, target) == pytest.approx(np.full(40, 25 / 16))
    mirrored = target[:, MIRROR] * [-1, 1, 1]
    even = np.where(np.isin(np.arange(17), (1, 2, 3, 14, 15, 16))[:, None], mirrored, target)
    even[:, [0, 7, 8, 9, 10], 0] = 0  # the trunk in the plane of symmetry: left and right are alike
    assert metrics.symmetry_errors(even) == pytest.approx(np.zeros(40), abs=1e-9)
    even[:, 3] += 25 * direction(even, 2, 3)
    assert metrics.symmetry_errors(even) == pytest.approx(np.full(40, 25 / 6))


def test_units_in_are_units_out(poses):
    predicted, target = poses
    for metric in (metrics.mpjpe, metrics.p_mpjpe, metrics.n_mpjpe, metrics.bone_length_errors):
        assert metric(predicted / 1000, target / 1000) == pytest.approx(metric(predicted, target) / 1000)


DEGENERATE = {
    "zero": np.zeros((17, 3)),
    "one point": np.full((17, 3), 0.1),
    "a line": np.linspace(-1, 1, 17)[:, None] * [100, 200, 50],
    "depth only": np.linspace(-1, 1, 17)[:, None] * [0, 0, 100],
    "tiny": np.eye(17, 3) * 1e-160,
    "huge": np.eye(17, 3) * 1e8,
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_poses_have_finite_errors(name, poses):
    pose, true = DEGENERATE[name], poses[1][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for predicted, target in ((pose, true), (true, pose), (pose, pose)):
            found = metrics.score(predicted[None], target[None], [run(0, 1)])
            assert all(np.isfinite(found[key]).all() for key in found if key != "MPJVE")


def test_a_point_aligns_to_the_centre(poses, rng):
    target = poses[1]
    points = np.repeat(rng.normal(size=(40, 1, 3)), 17, axis=1)  # whose mean may differ in the last digit
    aligned = metrics.align_similarity(points, target)
    assert np.allclose(aligned, target.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("metric", PAIRED)
def test_misshapen_poses_are_refused(metric, poses):
    predicted, target = poses
    with pytest.raises(ValueError, match=r"\(N, J, 3\), found \(17, 3\) and \(17, 3\)"):
        metric(predicted[0], target[0])
    with pytest.raises(ValueError, match=r"found \(39, 17, 3\) and \(40, 17, 3\)"):
        metric(predicted[1:], target)
    target[5, 2, 1] = np.nan
    with pytest.raises(ValueError, match="in 1 of 40 true poses, first in row 5"):
        metric(predicted, target)


def test_bone_metrics_need_the_whole_skeleton(poses):
    with pytest.raises(ValueError, match="all 17 joints for bone lengths, found 16"):
        metrics.symmetry_errors(poses[0][:, :16])


@pytest.mark.parametrize("joints", [None, tuple(j for j in range(17) if j != 9)])
def test_score_agrees_with_the_single_metrics(poses, joints):
    predicted, target = (pose.astype(np.float32) for pose in poses)
    sequences = [run(0, 15), run(15, 40)]
    chosen = slice(None) if joints is None else list(joints)
    pair = predicted[:, chosen], target[:, chosen]
    found = metrics.score(predicted, target, sequences, joints)
    expected = {
        "P1": metrics.mpjpe(*pair),
        "P2": metrics.p_mpjpe(*pair),
        "P3": metrics.n_mpjpe(*pair),
        "MPJVE": metrics.velocity_errors(*pair, sequences),
        "PCK": metrics.pck(*pair),
        "AUC": metrics.auc(*pair),
        "bone_length": metrics.bone_length_errors(predicted, target),
        "symmetry": metrics.symmetry_errors(predicted),
        "joint_errors": metrics.joint_errors(predicted, target),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        assert np.allclose(found[name], values, equal_nan=True), name


def test_no_poses_have_no_errors():
    empty = np.zeros((0, 17, 3))
    assert all(len(values) == 0 for values in metrics.score(empty, empty, []).values())

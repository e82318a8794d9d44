"""Errors of 3D poses: a value per pose, and the means and intervals that are reported.

Poses are (N, J, 3) arrays in camera space, root-relative, mm: N poses of J joints. They are finite, which
``common.evaluate`` checks. All given joints count, also the root, whose error is 0 by construction. Two
means are in use: the frame-wise one is over all poses; the action-wise one, the protocol's, is the mean of
the means of actions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from common.skeleton import BONES, JOINT_NAMES, LEFT, PDOF, RIGHT

if TYPE_CHECKING:
    from common.data import Sequence

PCK_THRESHOLD = 150.0  # mm, as in MPI-INF-3DHP
AUC_THRESHOLDS = tuple(range(0, 151, 5))  # mm, as in MPI-INF-3DHP
RESAMPLES, SEED = 1000, 0  # of the bootstrap

UNITS = {
    "P1": "mm",
    "P2": "mm",
    "P3": "mm",
    "MPJVE": "mm/frame",
    "MPJVE_s": "mm/s",
    "PCK": "%",
    "AUC": "%",
    "bone_length": "mm",
    "symmetry": "mm",
}
_LONG = (
    "Directions Discussion Eating Greeting Phoning Photo Posing Purchases Sitting SittingDown Smoking "
    "Waiting WalkDog Walking WalkTogether"
)
_SHORT = "Dir. Disc. Eat Greet Phone Photo Pose Purch. Sit SitD. Smoke Wait WalkD. Walk WalkT."
ACTIONS = dict(zip(_LONG.split(), _SHORT.split(), strict=True))
"""Human3.6M's actions in the order of the tables in papers, and their names there."""
PDOF_GROUPS = ("torso", "PDoF 1", "PDoF 2", "PDoF 3 (end joints)")
GROUPINGS = dict(per_action="action_name", per_group="group", per_subject="subject", per_camera="camera")
"""Groupings of sequences, and the attribute that the members of a group have in common."""

Means = dict[str, np.ndarray]
"""(M,) means of M metrics, or (R, M) of R resamples, by "action_wise" and "frame_wise"."""


def joint_errors(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance of each joint to its true position: (N, J)."""
    return _norm(np.subtract(predicted, target, dtype=np.float64))


def mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean per-joint position error, protocol 1 (P1): (N,)."""
    return joint_errors(predicted, target).mean(axis=1)


def align_similarity(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Each predicted pose rotated, scaled and translated to fit its target best (least squares): (N, J, 3).

    There is no reflection (Umeyama, PAMI 1991). A pose whose joints coincide becomes its target's centre.
    """
    predicted, target = (pose.astype(np.float64) for pose in (predicted, target))
    source = predicted - predicted.mean(axis=1, keepdims=True)
    center = target.mean(axis=1, keepdims=True)
    covariance = np.swapaxes(source, 1, 2) @ (target - center)  # (N, 3, J) @ (N, J, 3) -> (N, 3, 3)
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)  # -1: the best fit is a reflection
    u[:, :, 2] *= sign[:, None]
    singular[:, 2] *= sign
    scale = _ratio(singular.sum(axis=1), _dot(source, source))
    return source @ (u @ vt * scale[:, None, None]) + center  # (N, J, 3) @ (N, 3, 3) -> (N, J, 3)


def p_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after ``align_similarity``, protocol 2 (P2): (N,)."""
    return mpjpe(align_similarity(predicted, target), target)


def n_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after each prediction is scaled with the least squared error, protocol 3 (P3): (N,).

    See Rhodin et al., CVPR 2018.
    """
    predicted, target = (pose.astype(np.float64) for pose in (predicted, target))
    scale = _ratio(_dot(predicted, target), _dot(predicted, predicted))
    return mpjpe(predicted * scale[:, None, None], target)


def velocity_errors(predicted: np.ndarray, target: np.ndarray, sequences: Iterable[Sequence]) -> np.ndarray:
    """Mean per-joint velocity error (MPJVE; Pavllo et al., CVPR 2019), mm per frame of the recording: (N,).

    The first row of a sequence has no velocity: it is NaN, and means leave it out.
    """
    offset = np.subtract(predicted, target, dtype=np.float64)
    errors = np.full(len(offset), np.nan)
    for each in sequences:
        # The difference of the velocities is the velocity of the difference.
        velocity = np.diff(offset[each.start : each.stop], axis=0) / each.step  # (n - 1, J, 3)
        errors[each.start + 1 : each.stop] = _norm(velocity).mean(axis=1)
    return errors


def pck(errors: np.ndarray, threshold: float = PCK_THRESHOLD) -> np.ndarray:
    """Percentage of joint errors (N, J) below a threshold (Mehta et al., 3DV 2017): (N,)."""
    return 100 * (errors < threshold).mean(axis=1)


def auc(errors: np.ndarray) -> np.ndarray:
    """Area under the PCK curve of joint errors (N, J): mean PCK over 0, 5, ... 150 mm, percent: (N,).

    No error is below 0 mm, so a perfect pose has 30 / 31, as in MPI-INF-3DHP.
    """
    # How many thresholds each joint misses, looked up at once instead of one PCK per threshold.
    missed = np.searchsorted(AUC_THRESHOLDS, errors, side="right")  # (N, J)
    return 100 * (1 - missed.mean(axis=1) / len(AUC_THRESHOLDS))


def bone_length_errors(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean absolute error of the 16 bone lengths of (N, 17, 3) poses: (N,)."""
    return np.abs(_bone_lengths(predicted) - _bone_lengths(target)).mean(axis=1)


def symmetry_errors(predicted: np.ndarray) -> np.ndarray:
    """Mean difference of left and right bone lengths (6 pairs) of (N, 17, 3) poses: (N,)."""
    lengths = _bone_lengths(predicted)  # (N, 16)
    bone_of = {child: index for index, (child, _) in enumerate(BONES)}
    left, right = [bone_of[joint] for joint in LEFT], [bone_of[joint] for joint in RIGHT]
    return np.abs(lengths[:, left] - lengths[:, right]).mean(axis=1)


def score(
    predicted: np.ndarray,
    target: np.ndarray,
    sequences: Iterable[Sequence],
    *,
    joints: tuple[int, ...] | None = None,
    fps: float | None = None,
) -> dict[str, np.ndarray]:
    """Every metric of every pose, in the units of ``UNITS``.

    Args:
        predicted: (N, 17, 3) poses.
        target: (N, 17, 3) true poses.
        sequences: Rows that follow each other in time.
        joints: Joints of P1, P2, P3, MPJVE, PCK and AUC; all 17 if None.
        fps: Frames per second of the recordings, if known: adds "MPJVE_s".

    Returns:
        (N,) arrays by the names of ``UNITS``, and (N, 17) "joint_errors". The last three are of all joints.
    """
    every = joint_errors(predicted, target)
    chosen = slice(None) if joints is None else list(joints)
    errors, pair = every[:, chosen], (predicted[:, chosen], target[:, chosen])
    velocity = velocity_errors(*pair, sequences)
    scores = {"P1": errors.mean(axis=1), "P2": p_mpjpe(*pair), "P3": n_mpjpe(*pair), "MPJVE": velocity}
    if fps:
        scores["MPJVE_s"] = velocity * fps
    return scores | {
        "PCK": pck(errors),
        "AUC": auc(errors),
        "bone_length": bone_length_errors(predicted, target),
        "symmetry": symmetry_errors(predicted),
        "joint_errors": every,
    }


def averages(scores: dict[str, np.ndarray], sequences: Iterable[Sequence]) -> dict[str, Any]:
    """Means of the values per pose (N,), by metric; NaN is left out.

    Args:
        scores: Values of each pose, by metric.
        sequences: The runs of rows; together they are all N.

    Returns:
        "average": the action-wise and the frame-wise mean of each metric; and "interval_95": [low, high] of
        each, by a percentile bootstrap over takes, None for a single take. It covers other takes of the same
        subjects, and is too narrow for few takes.
    """
    sequences = list(sequences)
    means, intervals = _bootstrap(*_per_sequence(np.stack([*scores.values()], axis=1), sequences), sequences)
    return {
        "average": {kind: _named(scores, mean) for kind, mean in means.items()},
        "interval_95": {kind: dict(zip(scores, bounds, strict=True)) for kind, bounds in intervals.items()},
    }


def summarize(scores: dict[str, np.ndarray], sequences: Iterable[Sequence]) -> dict[str, Any]:
    """Everything that is reported of the ``score`` of poses, plain values for JSON; None where unknown.

    - "average" and "interval_95": see ``averages``.
    - "per_action" (both takes as one), "per_subject", "per_camera", and "per_group" where the data have
      groups of subjects: means over the poses of each.
    - "per_joint": mean error of each joint over all poses, and "per_pdof", the means over groups of joints;
      "torso" contains the root, whose error is 0.
    """
    sequences = list(sequences)
    names = [name for name in scores if name != "joint_errors"]
    sums, counts = _per_sequence(np.stack([scores[name] for name in names], axis=1), sequences)
    grouped: dict[str, dict[str, Any]] = {}
    for grouping in GROUPINGS:
        if grouping != "per_group" or any(each.group for each in sequences):
            grouped[grouping] = {}
            for name, own in _members(grouping, sequences).items():
                size = {"poses": sum(len(sequences[index]) for index in own), "sequences": len(own)}
                means = _means(sums[own].sum(axis=0), counts[own].sum(axis=0))
                grouped[grouping][name] = size | _named(names, means)
    joints = scores["joint_errors"].mean(axis=0)  # (17,)
    pdof = [joints[np.equal(PDOF, group)].mean() for group in range(len(PDOF_GROUPS))]
    return {
        "metric units": {name: UNITS[name] for name in names},
        "poses": sum(map(len, sequences)),
        "sequences": len(sequences),
        **averages({name: scores[name] for name in names}, sequences),
        **grouped,
        "per_joint": _named(JOINT_NAMES, joints),
        "per_pdof": _named(PDOF_GROUPS, pdof),
    }


def paired_difference(
    scores: dict[str, np.ndarray], others: dict[str, np.ndarray], sequences: Iterable[Sequence]
) -> dict[str, dict[str, Any]]:
    """Means of ``scores - others`` over the same poses: below 0, the first run has the lower values.

    Args:
        scores: (N,) values of the poses of one run, by metric.
        others: The same of another run.
        sequences: The runs of rows; together they are all N.

    Returns:
        ``averages`` of the differences, by action; and "average", those over all actions.
    """
    sequences = list(sequences)
    differences = {metric: values - others[metric] for metric, values in scores.items()}
    groups = _members("per_action", sequences) | {"average": list(range(len(sequences)))}
    return {name: averages(differences, [sequences[index] for index in own]) for name, own in groups.items()}


def action_order(name: str) -> tuple[int, str]:
    """Key that sorts actions as papers do; others follow by name."""
    return ([*ACTIONS, name].index(name), name)


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...c,...c->...", vectors, vectors))  # (N, J, 3) -> (N, J)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("njc,njc->n", a, b)  # 2 x (N, J, 3) -> (N,)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _bone_lengths(poses: np.ndarray) -> np.ndarray:
    children, parents = np.transpose(BONES)
    return _norm(np.subtract(poses[:, children], poses[:, parents], dtype=np.float64))  # (N, 16)


def _per_sequence(values: np.ndarray, sequences: list[Sequence]) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts (S, M) of M metrics (N, M) in each of S sequences; NaN is left out."""
    runs = [values[each.start : each.stop] for each in sequences]
    counts = np.stack([np.sum(~np.isnan(run), axis=0) for run in runs])
    return np.stack([np.nansum(run, axis=0) for run in runs]), counts


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)


def _members(grouping: str, sequences: list[Sequence]) -> dict[str, list[int]]:
    keys = [getattr(each, GROUPINGS[grouping]) for each in sequences]
    order = sorted(set(keys), key=action_order if grouping == "per_action" else None)
    return {str(key): [index for index, own in enumerate(keys) if own == key] for key in order}


def _both_means(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray, actions: list[list[int]]) -> Means:
    """Means (R, M) for R weights (R, S) of the S sequences."""
    per_action = [_means(weights[:, own] @ sums[own], weights[:, own] @ counts[own]) for own in actions]
    # A metric may be unknown for an action, and a resample may lack an action that has a single take.
    known = ~np.isnan(per_action)  # (A, R, M)
    return {
        "action_wise": _means(np.where(known, per_action, 0).sum(axis=0), known.sum(axis=0)),
        "frame_wise": _means(weights @ sums, weights @ counts),
    }


def _bootstrap(
    sums: np.ndarray, counts: np.ndarray, sequences: list[Sequence]
) -> tuple[Means, dict[str, list[list[float] | None]]]:
    """Both means (M,), and their 95 % intervals from whole takes drawn with replacement."""
    actions = list(_members("per_action", sequences).values())
    means = _both_means(np.ones((1, len(sequences))), sums, counts, actions)
    weights, takes = _resampled(sequences)
    intervals = {}
    for kind, resampled in _both_means(weights, sums, counts, actions).items():
        known = [column[~np.isnan(column)] if takes > 1 else () for column in resampled.T]
        intervals[kind] = [np.percentile(each, [2.5, 97.5]).tolist() if len(each) else None for each in known]
    return {kind: mean[0] for kind, mean in means.items()}, intervals


def _resampled(sequences: list[Sequence]) -> tuple[np.ndarray, int]:
    """Weight of each sequence in each resample (R, S), and the number of takes.

    A take is one recording of a subject; its sequences are the views of its cameras. Takes are drawn within
    each action, since the actions are the same whoever is recorded: resamples without one of them would add
    the differences between actions to the spread. Of n takes, n - 1 are drawn and weighted by n / (n - 1),
    which keeps the variance correct for the few takes of an action (Rao and Wu, JASA 1988). If an action has
    a single take, takes are drawn from all of them, and action-wise intervals are too wide.
    """
    takes = sorted({(each.subject, each.action): each.action_name for each in sequences}.items())
    action_of = np.array([action for _, action in takes])
    strata = [np.flatnonzero(action_of == action) for action in sorted(set(action_of))]
    if min(map(len, strata)) == 1:
        strata = [np.arange(len(takes))]
    rng = np.random.default_rng(SEED)
    weights = np.ones((RESAMPLES, len(takes)))
    for own in strata:
        if (size := len(own)) > 1:
            drawn = rng.multinomial(size - 1, np.full(size, 1 / size), size=RESAMPLES)
            weights[:, own] = drawn * size / (size - 1)
    index = {take: number for number, (take, _) in enumerate(takes)}
    return weights[:, [index[each.subject, each.action] for each in sequences]], len(takes)


def _named(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    pairs = zip(names, values, strict=True)
    return {name: None if np.isnan(value) else float(value) for name, value in pairs}

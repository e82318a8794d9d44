"""Averages of the metrics that ``common/metrics.py`` gives per pose, in a dictionary of plain values.

Two averages are in use, and people mix them. The frame-wise one is the mean over all poses. The action-wise
one, the protocol's, is the mean over the poses of each action first, then over the actions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from common.sequences import Sequence
from common.skeleton import JOINT_NAMES, NUM_JOINTS, PDOF

METRIC_UNITS = {
    "P1": "mm",
    "P2": "mm",
    "P3": "mm",
    "MPJVE": "mm from one row to the next",
    "PCK": "share of joints nearer than 150 mm, 0 to 1",
    "AUC": "mean PCK of 0 to 150 mm, 0 to 1",
    "bone_length": "mm",
    "symmetry": "mm",
}
PDOF_GROUPS = ("torso", "PDoF 1", "PDoF 2", "PDoF 3 (end joints)")
GROUPINGS = {
    "per_action": "action_name",
    "per_group": "group",
    "per_subject": "subject",
    "per_camera": "camera",
}
"""Which attribute the sequences of a group have in common."""


def summarize(
    scores: dict[str, np.ndarray], sequences: Iterable[Sequence], *, seed: int = 0, resamples: int = 1000
) -> dict[str, Any]:
    """Averages of per-pose values, ready for JSON; None where there is nothing to average.

    - "average": the action-wise and the frame-wise mean of every metric.
    - "interval_95": [low, high] of each of them, from a percentile bootstrap over whole takes, all cameras of
      a take together, since they see the same motion; None for a single take. See ``_weights``. With few
      takes it is too narrow, and it knows of no other subjects.
    - "per_action" (both takes as one), "per_subject", "per_camera": means over the poses that each has; and
      "per_group", where the data set has groups of test subjects.
    - "per_joint": mean error of each joint (as P1) over all poses. "per_pdof": their means over groups of
      joints; all 17 belong to one, so that "torso" includes the root, whose error is always 0.

    NaN is left out: the MPJVE of the first pose of a sequence.

    Args:
        scores: What ``common.metrics.score`` returns: (N,) arrays, and (N, 17) "joint_errors"; mm.
        sequences: The runs of rows; together they cover all N.
        seed: Seed of the bootstrap.
        resamples: Number of times that the bootstrap draws.

    Raises:
        ValueError: If the sequences do not cover the rows of ``scores``.
    """
    sequences = list(sequences)
    names = [name for name in scores if name != "joint_errors"]
    sums, counts = _per_sequence(np.stack([scores[name] for name in names], axis=1), sequences)
    average, interval = _bootstrap(sums, counts, sequences, seed, resamples)
    joints = np.mean(scores["joint_errors"], axis=0)
    if joints.shape != (NUM_JOINTS,):
        raise ValueError(f"expected errors of {NUM_JOINTS} joints, found {joints.shape}: see metrics.score")
    pdof = [joints[np.equal(PDOF, group)].mean() for group in range(len(PDOF_GROUPS))]
    return {
        "metric units": {name: METRIC_UNITS.get(name, "not stated") for name in names},
        "poses": sum(map(len, sequences)),
        "sequences": len(sequences),
        "average": {kind: _named(names, means) for kind, means in average.items()},
        "interval_95": {kind: dict(zip(names, bounds)) for kind, bounds in interval.items()},
        **{
            grouping: _grouped(grouping, names, sums, counts, sequences)
            for grouping in GROUPINGS
            if grouping != "per_group" or any(sequence.group for sequence in sequences)
        },
        "per_joint": _named(JOINT_NAMES, joints),
        "per_pdof": _named(PDOF_GROUPS, pdof),
    }


def paired_difference(
    values_a: np.ndarray,
    values_b: np.ndarray,
    sequences: Iterable[Sequence],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Mean of a - b over the same poses, with its interval: below 0, a has the lower values.

    The interval is made as that of ``summarize``: whole takes are drawn, all cameras of a take together.

    Args:
        values_a: (N,) one metric of one run; a pose that is NaN in either is left out.
        values_b: (N,) the same metric of another run.
        sequences: The runs of rows; together they cover all N.
        seed: Seed of the bootstrap.
        resamples: Number of times that the bootstrap draws.

    Returns:
        "difference" and "interval_95" ([low, high]), both action-wise and frame-wise, and the number of
        "poses" and "sequences".

    Raises:
        ValueError: If the values are not of the same poses.
    """
    sequences = list(sequences)
    if np.ndim(values_a) != 1 or np.shape(values_a) != np.shape(values_b):
        raise ValueError(
            f"expected one value per pose for the same poses, found {np.shape(values_a)} and "
            f"{np.shape(values_b)}: score both runs on the same rows"
        )
    sums, counts = _per_sequence(np.subtract(values_a, values_b)[:, None], sequences)
    average, interval = _bootstrap(sums, counts, sequences, seed, resamples)
    return {
        "difference": {kind: _number(means[0]) for kind, means in average.items()},
        "interval_95": {kind: bounds[0] for kind, bounds in interval.items()},
        "poses": int(counts.sum()),
        "sequences": len(sequences),
    }


def _per_sequence(values: np.ndarray, sequences: list[Sequence]) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts (S, M) of the M metrics (N, M) in each of the S sequences, NaN left out."""
    rows = sum(map(len, sequences))
    if not sequences or rows != len(values) or max(sequence.stop for sequence in sequences) > rows:
        raise ValueError(
            f"expected sequences that cover all {len(values)} poses, found {len(sequences)} sequences "
            f"of {rows} poses: pass the sequences of the set that was scored"
        )
    runs = [values[sequence.start : sequence.stop] for sequence in sequences]
    counts = np.stack([np.sum(~np.isnan(run), axis=0) for run in runs])
    return np.stack([np.nansum(run, axis=0) for run in runs]), counts


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums over counts, NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)


def _members(grouping: str, sequences: list[Sequence]) -> dict[str, list[int]]:
    """Which sequences belong to each group of a grouping, the groups in order."""
    keys = [getattr(sequence, GROUPINGS[grouping]) for sequence in sequences]
    return {str(key): [i for i, own in enumerate(keys) if own == key] for key in sorted(set(keys))}


def _grouped(
    grouping: str, names: list[str], sums: np.ndarray, counts: np.ndarray, sequences: list[Sequence]
) -> dict[str, dict[str, Any]]:
    return {
        group: {
            "poses": sum(len(sequences[i]) for i in own),
            "sequences": len(own),
            **_named(names, _means(sums[own].sum(axis=0), counts[own].sum(axis=0))),
        }
        for group, own in _members(grouping, sequences).items()
    }


def _averages(
    weights: np.ndarray, sums: np.ndarray, counts: np.ndarray, actions: list[list[int]]
) -> dict[str, np.ndarray]:
    """Both means (R, M) for R ways (R, S) to count each of the S sequences."""
    per_action = [_means(weights[:, own] @ sums[own], weights[:, own] @ counts[own]) for own in actions]
    # A metric may be unknown for an action, and a draw may miss one that has a single take.
    present = ~np.isnan(per_action)  # (A, R, M)
    return {
        "action_wise": _means(np.where(present, per_action, 0).sum(axis=0), present.sum(axis=0)),
        "frame_wise": _means(weights @ sums, weights @ counts),
    }


def _bootstrap(
    sums: np.ndarray, counts: np.ndarray, sequences: list[Sequence], seed: int, resamples: int
) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """Both means (M,), and their 95 % intervals from whole takes drawn with replacement."""
    actions = list(_members("per_action", sequences).values())
    weights, takes = _weights(sequences, seed, resamples)
    means = _averages(np.ones((1, len(sequences))), sums, counts, actions)
    spread = _averages(weights, sums, counts, actions)
    intervals = {kind: [_interval(column, takes) for column in spread[kind].T] for kind in spread}
    return {kind: mean[0] for kind, mean in means.items()}, intervals


def _weights(sequences: list[Sequence], seed: int, resamples: int) -> tuple[np.ndarray, int]:
    """How much each sequence counts in each draw of takes (R, S), and how many takes there are.

    A take is a subject's recording of an action, its sequences those of its cameras. The actions are the same
    whoever is recorded, so takes are drawn within each action: draws without one of the actions would add the
    differences between actions to the spread. Of n takes, n - 1 are drawn and count n / (n - 1) times, which
    keeps the variance right where n is small, as it is here: Human3.6M has four takes for an action in its
    test set (Rao and Wu, Resampling inference with complex survey data, JASA 1988).

    A single take of an action tells nothing of the spread in it. If any action has but one, takes are drawn
    from all of them at once, and the action-wise intervals come out rather too wide.
    """
    takes = sorted(
        {(sequence.subject, sequence.action): sequence.action_name for sequence in sequences}.items()
    )
    action_of = np.array([action for _, action in takes])
    strata = [np.flatnonzero(action_of == action) for action in sorted(set(action_of))]
    if min(map(len, strata)) == 1:
        strata = [np.arange(len(takes))]
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples, len(takes)))
    for own in strata:
        if (size := len(own)) > 1:
            drawn = rng.multinomial(size - 1, np.full(size, 1 / size), size=resamples)
            weights[:, own] = drawn * size / (size - 1)
    place = {take: number for number, (take, _) in enumerate(takes)}
    return weights[:, [place[sequence.subject, sequence.action] for sequence in sequences]], len(takes)


def _interval(values: np.ndarray, takes: int) -> list[float] | None:
    values = values[~np.isnan(values)]
    return np.percentile(values, [2.5, 97.5]).tolist() if takes > 1 and len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _named(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    return dict(zip(names, map(_number, values)))

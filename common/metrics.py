"""Errors of 3D poses, one value per pose; averages of them are made in ``common/summary.py``.

Poses are (N, J, 3) arrays in camera space, root-relative: N poses of J joints. Lengths come out in the unit
that goes in; the defaults of ``pck`` and ``auc`` mean millimetres. All joints given count, the root too,
whose error is 0 by construction: whoever wants fewer joints passes fewer. Sums are made in float64.

Every function raises a ValueError unless its poses are finite (N, J, 3) arrays of one shape.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from common.sequences import Sequence
from common.skeleton import BONES, LEFT, NUM_JOINTS, RIGHT

PCK_THRESHOLD = 150.0
AUC_THRESHOLDS = tuple(range(0, 151, 5))


def joint_errors(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance of each joint to its true place: (N, J)."""
    return _norm(np.subtract(*_checked(predicted, target)))


def mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean per-joint position error, protocol 1 (P1): (N,)."""
    return joint_errors(predicted, target).mean(axis=1)


def align_similarity(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Each predicted pose turned, scaled and shifted to fit its target best: (N, J, 3).

    The fit has the least squared error, without reflection (Umeyama, PAMI 1991), so the mean distance of a
    pose may, rarely, grow by it. A pose without extent fits best as a point at the target's centre.
    """
    predicted, target = _checked(predicted, target)
    source = predicted - predicted.mean(axis=1, keepdims=True)
    center = target.mean(axis=1, keepdims=True)
    covariance = np.swapaxes(source, 1, 2) @ (target - center)  # (N, 3, J) @ (N, J, 3) -> (N, 3, 3)
    u, singular, vt = np.linalg.svd(covariance)
    # The weakest axis is turned around where the best fit would be a mirror image.
    sign = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    u[:, :, 2] *= sign[:, None]
    singular[:, 2] *= sign
    scale = _ratio(singular.sum(axis=1), _dot(source, source))
    return source @ (u @ vt * scale[:, None, None]) + center  # (N, J, 3) @ (N, 3, 3) -> (N, J, 3)


def p_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after ``align_similarity``, protocol 2 (P2): (N,)."""
    return _norm(align_similarity(predicted, target) - target).mean(axis=1)


def n_mpjpe(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """MPJPE after the prediction is scaled, protocol 3 (P3; Rhodin et al., CVPR 2018): (N,).

    The scale of each pose is the one with the least squared error; nothing is moved or turned.
    """
    predicted, target = _checked(predicted, target)
    scale = _ratio(_dot(predicted, target), _dot(predicted, predicted))
    return _norm(predicted * scale[:, None, None] - target).mean(axis=1)


def velocity_errors(predicted: np.ndarray, target: np.ndarray, sequences: Iterable[Sequence]) -> np.ndarray:
    """Mean per-joint velocity error (MPJVE; Pavllo et al., CVPR 2019), length per row: (N,).

    It is the distance between the predicted and the true step from the row before. The first row of a
    sequence has none: it is NaN, as are rows outside all sequences. Averages leave NaN out (``np.nanmean``).

    Args:
        predicted: (N, J, 3) poses.
        target: (N, J, 3) true poses.
        sequences: Which rows follow each other in time.

    Raises:
        ValueError: If a sequence has rows that the arrays lack.
    """
    predicted, target = _checked(predicted, target)
    offset = predicted - target
    moving = np.zeros(len(offset), dtype=bool)
    for sequence in sequences:
        if not 0 <= sequence.start <= sequence.stop <= len(offset):
            raise ValueError(
                f"expected sequences within {len(offset)} poses, found rows {sequence.start} to "
                f"{sequence.stop} ({sequence}): pass the sequences of the set that was predicted"
            )
        moving[sequence.start + 1 : sequence.stop] = True
    errors = np.full(len(offset), np.nan)
    # The difference of the steps is the step of the difference.
    errors[1:] = _norm(np.diff(offset, axis=0)).mean(axis=1)
    errors[~moving] = np.nan
    return errors


def pck(predicted: np.ndarray, target: np.ndarray, threshold: float = PCK_THRESHOLD) -> np.ndarray:
    """Share of the joints nearer to their true place than the threshold, 0 to 1: (N,).

    Nearer, not as near, as in MPI-INF-3DHP (Mehta et al., 3DV 2017), whose threshold is 150 mm.
    """
    return _pck(joint_errors(predicted, target), threshold)


def auc(
    predicted: np.ndarray, target: np.ndarray, thresholds: tuple[float, ...] = AUC_THRESHOLDS
) -> np.ndarray:
    """Area under the PCK curve: mean PCK over thresholds, 0 to 150 mm in steps of 5 mm by default: (N,).

    No joint is nearer than 0, so that a perfect pose has 30/31, as in MPI-INF-3DHP.
    """
    return _auc(joint_errors(predicted, target), thresholds)


def bone_length_errors(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean absolute error of the 16 bone lengths, for poses of all 17 joints: (N,)."""
    predicted, target = _checked(predicted, target)
    return np.abs(_bone_lengths(predicted) - _bone_lengths(target)).mean(axis=1)


def symmetry_errors(predicted: np.ndarray) -> np.ndarray:
    """Mean difference of left and right bone lengths (6 pairs) of (N, 17, 3) poses: (N,)."""
    lengths = _bone_lengths(*_checked(predicted))
    place = {child: index for index, (child, _) in enumerate(BONES)}
    left, right = [place[joint] for joint in LEFT], [place[joint] for joint in RIGHT]
    return np.abs(lengths[:, left] - lengths[:, right]).mean(axis=1)  # from (N, 16) lengths


def score(
    predicted: np.ndarray,
    target: np.ndarray,
    sequences: Iterable[Sequence],
    joints: tuple[int, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Every metric of every pose.

    Args:
        predicted: (N, 17, 3) poses, root-relative, mm.
        target: (N, 17, 3) true poses.
        sequences: Which rows follow each other in time.
        joints: Joints that P1, P2, P3, MPJVE, PCK and AUC are taken over; all 17 when None.

    Returns:
        (N,) arrays "P1", "P2", "P3", "MPJVE" (NaN where a sequence starts), "PCK", "AUC", "bone_length"
        and "symmetry"; and (N, 17) "joint_errors". The last three are of all 17 joints always.
    """
    predicted, target = _checked(predicted, target)
    predicted, target = _checked(predicted, target)
    every = joint_errors(predicted, target)
    chosen = slice(None) if joints is None else list(joints)
    errors, pair = every[:, chosen], (predicted[:, chosen], target[:, chosen])
    return {
        "P1": errors.mean(axis=1),
        "P2": p_mpjpe(*pair),
        "P3": n_mpjpe(*pair),
        "MPJVE": velocity_errors(*pair, sequences),
        "PCK": _pck(errors, PCK_THRESHOLD),
        "AUC": _auc(errors, AUC_THRESHOLDS),
        "bone_length": bone_length_errors(predicted, target),
        "symmetry": symmetry_errors(predicted),
        "joint_errors": every,
    }


def _checked(*poses: np.ndarray) -> list[np.ndarray]:
    """The same poses in float64, after a look at their shapes and values."""
    shapes = [np.shape(pose) for pose in poses]
    found = " and ".join(str(shape) for shape in shapes)
    if any(len(shape) != 3 or shape[1] == 0 or shape[2] != 3 for shape in shapes):
        raise ValueError(f"expected poses of shape (N, J, 3), found {found}: add the axis that is missing")
    if len(set(shapes)) > 1:
        raise ValueError(f"expected predicted and true poses alike, found {found}: score the same rows")
    arrays = [np.asarray(pose, dtype=np.float64) for pose in poses]
    for name, array in zip(("predicted", "true"), arrays):
        if not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
            raise ValueError(
                f"expected finite positions, found NaN or infinity in {len(bad)} of {len(array)} {name} "
                f"poses, first in row {bad[0]}: look for lost joints in the data or a network that diverged"
            )
    return arrays


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...c,...c->...", vectors, vectors))  # (N, J, 3) -> (N, J)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("njc,njc->n", a, b)  # 2 x (N, J, 3) -> (N,)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """(N,) ratio, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _pck(errors: np.ndarray, threshold: float) -> np.ndarray:
    return (errors < threshold).mean(axis=1)


def _auc(errors: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    # How many thresholds a joint has passed, looked up at once instead of one PCK for each threshold.
    missed = np.searchsorted(np.sort(thresholds), errors, side="right")  # (N, J)
    return 1 - missed.mean(axis=1) / len(thresholds)


def _bone_lengths(poses: np.ndarray) -> np.ndarray:
    """(N, 16) lengths of the bones, in the order of ``BONES``."""
    if poses.shape[1] != NUM_JOINTS:
        raise ValueError(f"expected all {NUM_JOINTS} joints for bone lengths, found {poses.shape[1]}")
    children, parents = np.transpose(BONES)
    return _norm(poses[:, children] - poses[:, parents])

"""One body through a video: swapped sides are found, then one skeleton is fitted to all frames of a track.

The fit follows projective dynamics (Bouaziz et al., SIGGRAPH 2014): each iteration moves every bone to its
length and lifted direction, every joint to its camera ray and every resting foot to one place, then solves
one linear system that also penalises acceleration. Positions are in camera space (x right, y down, z away),
metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d
from scipy.sparse.linalg import splu

from common.skeleton import (
    BONES,
    BONES_M,
    JOINT_NAMES,
    LEFT,
    LEFT_ARM,
    LEFT_LEG,
    NUM_JOINTS,
    RIGHT,
    RIGHT_ARM,
    RIGHT_LEG,
)

Array = NDArray[np.floating]

# Weights of the terms, relative to a joint's squared distance from its camera ray.
W_LENGTH, W_DIRECTION, W_REST = 3.0, 2.0, 20.0
W_ACCELERATION = 2e-5  # s^4: a squared acceleration times this is a squared distance

ROBUST_M = 0.06  # distance from its ray at which a keypoint counts half
REST_SPEED = 0.5  # metres per second: ankles that move less in the image plane rest
REST_S = 0.1  # shortest rest, seconds
SMOOTH_S = 0.05  # standard deviation of the smoothing before speeds are taken, seconds
SWAP_COST, SWAPPED_COST = 0.05, 0.25  # of the person's size: of each change, and of each second swapped
SOLVES, REWEIGHTINGS = 14, 3
WINDOW, OVERLAP = 600, 60  # frames fitted at once and shared by neighbours: bounds the memory
LOWEST = 0.1  # quantile of the resting feet's heights that is the floor: some rest on steps and chairs
ANKLE_M = 0.08  # height of a standing ankle above the floor, metres
FEET = (RIGHT_LEG[2], LEFT_LEG[2])
THORAX = JOINT_NAMES.index("thorax")

JOINT, PARENT = (np.array(column) for column in zip(*BONES, strict=True))
_ROW = {joint: row for row, joint in enumerate(JOINT)}
PAIRS = [(_ROW[left], _ROW[right]) for left, right in zip(LEFT, RIGHT, strict=True)]


@dataclass(frozen=True)
class Motion:
    """One person's fitted motion over T frames.

    Attributes:
        joints: (T, 17, 3) joint positions in camera space, metres; bone lengths are the same in every frame.
        resting: (T, 2) bool, whether the right and the left foot rest on something.
        up: (3,) unit vector against gravity in camera space; None where nobody stands.
    """

    joints: Array
    resting: NDArray[np.bool_]
    up: Array | None

    def spots(self) -> Array:
        """(N, 3) points where an ankle rested, camera space, metres."""
        spots = [
            self.joints[run, foot].mean(axis=0)
            for column, foot in enumerate(FEET)
            for run in _runs(self.resting[:, column])
        ]
        return np.array(spots).reshape(-1, 3)

    def upright(self, up: Array) -> Array:
        """(T, 17, 3) joints, metres: x right, y away from the camera, z up from the floor.

        The first pelvis is above the origin. Without a resting foot the lowest joint is on the floor.
        """
        away = np.array([0.0, 0.0, 1.0]) - up[2] * up
        away /= np.linalg.norm(away)
        points = self.joints @ np.stack([np.cross(away, up), away, up], axis=1)
        spots = self.spots() @ up
        floor = np.quantile(spots, LOWEST) - ANKLE_M if len(spots) else points[..., 2].min()
        return points - [*points[0, 0, :2], floor]


def common_up(motions: Sequence[Motion]) -> Array | None:
    """(3,) mean direction against gravity of people in front of one camera; None where nobody stands."""
    ups = [motion.up * len(motion.spots()) for motion in motions if motion.up is not None]
    return _unit(np.sum(ups, axis=0)) if ups else None


def side_order(keypoints: Array, times: Array) -> NDArray[np.int_]:
    """Finds swaps of left and right arms and legs over time (Viterbi over swapped and not swapped).

    Args:
        keypoints: (T, 17, 2) Human3.6M joints, pixels.
        times: (T,) seconds.

    Returns:
        (T, 17) the joint whose keypoint belongs in each place: 0 to 16 where nothing was swapped.
    """
    order = np.tile(np.arange(NUM_JOINTS), (len(keypoints), 1))
    size = float(np.median(np.ptp(keypoints, axis=1).max(axis=-1)))
    swapped = np.array([0.0, SWAPPED_COST * size * float(np.ptp(times)) / len(times)])  # of each frame
    for right, left in ((RIGHT_LEG, LEFT_LEG), (RIGHT_ARM, LEFT_ARM)):
        a, b = keypoints[:, right], keypoints[:, left]  # (T, 3, 2)
        stay = _travel(a, a) + _travel(b, b)  # (T - 1,)
        change = _travel(a, b) + _travel(b, a) + SWAP_COST * size
        cost, previous = swapped, []
        for step in np.stack([stay, change], axis=1):
            paths = cost[:, None] + [[step[0], step[1]], [step[1], step[0]]]  # (from, to)
            previous.append(paths.argmin(axis=0))
            cost = paths.min(axis=0) + swapped
        states = [int(cost.argmin())]
        for choice in reversed(previous):
            states.append(int(choice[states[-1]]))
        rows = np.flatnonzero(states[::-1])[:, None]
        order[rows, right], order[rows, left] = left, right
    return order


def _travel(one: Array, other: Array) -> Array:
    return np.linalg.norm(one[1:] - other[:-1], axis=-1).sum(axis=1)


def fit_motion(
    keypoints: Array, scores: Array, poses: Array, root: Array, times: Array, focal: float
) -> Motion:
    """Fits one skeleton of constant bone lengths and a smooth path to the frames of a person.

    Args:
        keypoints: (T, 17, 2) pixels relative to the principal point.
        scores: (T, 17) confidence, 0 to 1.
        poses: (T, 17, 3) lifted poses, camera space, metres, root at 0.
        root: (T, 3) first estimate of the root's position, metres.
        times: (T,) seconds; times that do not rise are spread evenly.
        focal: Focal length, pixels.
    """
    poses, times = np.asarray(poses, np.float64), _rising(np.asarray(times, np.float64))
    lengths = _bone_lengths(poses, scores)
    resting = _resting(keypoints, times)
    joints, weight = np.zeros(poses.shape), np.zeros(len(poses))
    for start in range(0, max(len(poses) - OVERLAP, 1), WINDOW - OVERLAP):
        part = slice(start, min(start + WINDOW, len(poses)))
        fitted = _fit_window(
            keypoints[part], scores[part], poses[part], root[part], times[part], focal, lengths, resting[part]
        )
        ramp = np.minimum(np.arange(1, len(fitted) + 1), np.arange(len(fitted), 0, -1)).clip(max=OVERLAP)
        joints[part] += fitted * ramp[:, None, None]
        weight[part] += ramp
    exact = _with_lengths(joints / weight[:, None, None], lengths)
    return Motion(exact, resting, _up(exact, resting))


def _bone_lengths(poses: Array, scores: Array) -> Array:
    """(16,) median bone lengths over the frames in which both ends were seen, left equal to right."""
    lengths = np.linalg.norm(poses[:, JOINT] - poses[:, PARENT], axis=-1)  # (T, 16)
    seen = np.minimum(scores[:, JOINT], scores[:, PARENT]) > 0
    seen |= ~seen.any(axis=0)
    median = np.nanmedian(np.where(seen, lengths, np.nan), axis=0)
    for left, right in PAIRS:
        median[left] = median[right] = (median[left] + median[right]) / 2
    return median


def _rising(times: Array) -> Array:
    if len(times) > 1 and (np.diff(times) <= 0).any():
        return np.linspace(times[0], max(times[-1], times[0] + len(times) / 30), len(times))
    return times


def _resting(keypoints: Array, times: Array) -> NDArray[np.bool_]:
    """(T, 2) whether each ankle moves less than REST_SPEED in the image plane, for REST_S at least."""
    if len(times) < 3:
        return np.zeros((len(times), 2), dtype=bool)
    step = float(np.median(np.diff(times)))
    bones = np.linalg.norm(keypoints[:, JOINT] - keypoints[:, PARENT], axis=-1)
    pixels_per_m = np.median(bones.sum(axis=1)) / BONES_M
    ankles = gaussian_filter1d(keypoints[:, FEET], SMOOTH_S / step, axis=0)  # (T, 2, 2)
    speed = np.linalg.norm(np.gradient(ankles, times, axis=0), axis=-1) / max(pixels_per_m, 1e-9)  # (T, 2)
    least = np.ones(max(1, round(REST_S / step)))
    return np.stack([binary_opening(binary_closing(slow), least) for slow in (speed < REST_SPEED).T], axis=1)


def _fit_window(
    keypoints: Array,
    scores: Array,
    poses: Array,
    root: Array,
    times: Array,
    focal: float,
    lengths: Array,
    resting: NDArray[np.bool_],
) -> Array:
    """(T, 17, 3) joints of a window of frames; bone lengths hold only nearly."""
    T = len(poses)
    rays = np.concatenate([keypoints / focal, np.ones((T, NUM_JOINTS, 1))], axis=-1)
    rays = _unit(rays)
    directions = _unit(poses[:, JOINT] - poses[:, PARENT])  # (T, 16, 3)
    bones = sparse.kron(sparse.identity(T), _differences(), format="csr")  # (T * 16, T * 17)
    acceleration = sparse.kron(_second_derivative(times), sparse.identity(NUM_JOINTS), format="csr")
    fixed = (W_LENGTH + W_DIRECTION) * (bones.T @ bones) + W_ACCELERATION * (acceleration.T @ acceleration)
    rests = [(foot, run) for column, foot in enumerate(FEET) for run in _runs(resting[:, column])]
    held = np.zeros((T, NUM_JOINTS))
    held[:, FEET] = W_REST * resting

    joints, weight = poses + root[:, None], scores.clip(min=1e-3)
    for _ in range(REWEIGHTINGS):
        solve = splu((fixed + sparse.diags_array((weight + held).ravel())).tocsc()).solve
        for _ in range(SOLVES):
            vectors = W_LENGTH * _unit(joints[:, JOINT] - joints[:, PARENT]) + W_DIRECTION * directions
            at_rest = np.zeros_like(joints)
            for foot, run in rests:
                at_rest[run, foot] = joints[run, foot].mean(axis=0)
            target = _on_rays(joints, rays) * weight[..., None] + at_rest * held[..., None]  # (T, 17, 3)
            right = target.reshape(-1, 3) + bones.T @ (vectors * lengths[:, None]).reshape(-1, 3)
            joints = solve(right).reshape(T, NUM_JOINTS, 3)
        distance = np.linalg.norm(joints - _on_rays(joints, rays), axis=-1)
        weight = scores.clip(min=1e-3) / (1 + (distance / ROBUST_M) ** 2)
    return joints


def _on_rays(points: Array, rays: Array) -> Array:
    return (points * rays).sum(axis=-1, keepdims=True) * rays  # (T, 17, 3)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-9)


def _differences() -> sparse.csr_array:
    """(16, 17) operator from joints to bone vectors."""
    rows = np.arange(len(JOINT))
    values = np.concatenate([np.ones(len(rows)), -np.ones(len(rows))])
    return sparse.csr_array((values, (np.tile(rows, 2), np.concatenate([JOINT, PARENT]))))


def _second_derivative(times: Array) -> sparse.csr_array:
    """(T - 2, T) operator from positions at any times to accelerations; empty for fewer than three frames."""
    if len(times) < 3:
        return sparse.csr_array((1, len(times)))
    before, after = np.diff(times)[:-1], np.diff(times)[1:]
    bands = [2 / (before * (before + after)), -2 / (before * after), 2 / (after * (before + after))]
    return sparse.diags_array(bands, offsets=(0, 1, 2), shape=(len(times) - 2, len(times))).tocsr()


def _runs(mask: NDArray[np.bool_]) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]


def _with_lengths(joints: Array, lengths: Array) -> Array:
    """The same bone directions at exact lengths, from the pelvis outwards."""
    directions = _unit(joints[:, JOINT] - joints[:, PARENT])
    exact = joints.copy()
    for row, (joint, parent) in enumerate(BONES):
        exact[:, joint] = exact[:, parent] + directions[:, row] * lengths[row]
    return exact


def _up(joints: Array, resting: NDArray[np.bool_]) -> Array | None:
    """Direction against gravity: the median axis of the body where it stands."""
    body = joints[:, THORAX] - joints[:, FEET].mean(axis=1)
    length = np.linalg.norm(body, axis=1)
    standing = resting.any(axis=1) & (length > 0.9 * np.percentile(length, 90))
    standing &= -body[:, 1] > 0.5 * length  # within 60 degrees of the image's vertical: not somebody who lies
    return _unit(np.median(_unit(body[standing]), axis=0)) if standing.any() else None

"""Unit quaternions (w, x, y, z) as arrays (..., 4): what forward kinematics and resampling need."""

from __future__ import annotations

import numpy as np

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of quaternions (..., 4): the turn ``b``, then the turn ``a``."""
    w = a[..., :1] * b[..., :1] - np.sum(a[..., 1:] * b[..., 1:], axis=-1, keepdims=True)
    xyz = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, xyz], axis=-1)


def inverse(turn: np.ndarray) -> np.ndarray:
    """The opposite turns of unit quaternions (..., 4)."""
    return turn * [1, -1, -1, -1]


def rotate(turn: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turns points (..., 3), each by its own unit quaternion (..., 4); the leading axes broadcast."""
    axis = turn[..., 1:]
    side = 2 * np.cross(axis, points)
    return points + turn[..., :1] * side + np.cross(axis, side)


def slerp(a: np.ndarray, b: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Quaternions (F, J, 4) that lie ``part`` (F, 1), 0 to 1, of the way from ``a`` to ``b`` (F, J, 4)."""
    dot = np.sum(a * b, axis=-1)  # (F, J)
    angle = np.arccos(np.clip(np.abs(dot), 0, 1))
    # Below this angle the sines are noise, and a straight line is as good.
    line, sine = angle < 1e-6, np.sin(angle)
    safe = np.where(line, 1, sine)
    weight_a = np.where(line, 1 - part, np.sin((1 - part) * angle) / safe)
    weight_b = np.where(line, part, np.sin(part * angle) / safe) * np.where(dot < 0, -1, 1)
    mixed = weight_a[..., None] * a + weight_b[..., None] * b
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Quaternions (F, 4) of turns by ``angle`` (F,) radians about x (0), y (1) or z (2)."""
    turn = np.zeros((*np.shape(angle), 4))
    turn[..., 0], turn[..., 1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    return turn


def euler(axes: list[int], angles: np.ndarray) -> np.ndarray:
    """Quaternions (F, 4) of turns one after another about axes of the body itself, the first one first.

    Args:
        axes: For each turn 0, 1 or 2 for x, y or z; none is the identity.
        angles: (F, len(axes)) radians.
    """
    turn = np.broadcast_to(IDENTITY, (len(angles), 4))
    for column, axis in enumerate(axes):
        turn = multiply(turn, about(axis, angles[:, column]))
    return turn

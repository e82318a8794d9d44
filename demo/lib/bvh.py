"""BVH: the motion of one person as a skeleton of constant bones that turn, for animation programs.

Axes: x to the camera's right, y up, z toward the camera, so that a person who faces it faces z; this is
camera space after half a turn about x. Centimetres and degrees; rotations in the order Z X Y. At rest the
skeleton stands upright with its arms to the sides, facing z.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from common.files import write_bytes
from common.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS, ROOT
from demo.lib.result import Track

CENTIMETRES = 100.0
FROM_CAMERA = np.array([1.0, -1.0, -1.0])
TIP_CM = 5.0
"""Length of the mark beyond head, wrists and ankles, whose own length is not known."""
UNKNOWN_FPS = 30.0
"""What is claimed for a picture's only frame, and where nobody knows; BVH must name some rate."""

_SIDEWAYS = {"left": (1, 0, 0), "right": (-1, 0, 0)}


def _at_rest(name: str) -> tuple[int, int, int]:
    side, _, part = name.partition("_")
    return (0, -1, 0) if part in ("knee", "ankle") else _SIDEWAYS.get(side, (0, 1, 0))


REST = np.array([_at_rest(name) for name in JOINT_NAMES], dtype=np.float64)
"""(17, 3) unit direction from each joint's parent to it at rest; the root's means nothing."""
CHILDREN = [[child for child, parent in enumerate(PARENTS) if parent == joint] for joint in range(NUM_JOINTS)]


class _Node(NamedTuple):
    """A joint of the file: its name, place under its parent (centimetres), turn in space and children."""

    name: str
    offset: np.ndarray
    turn: np.ndarray  # (T, 3, 3), from rest to space
    children: list[_Node]


def save_bvh(track: Track, path: str | os.PathLike[str], fps: float | None) -> None:
    """Writes one person's motion, from the first frame with them to the last.

    Bones have their median length over the track; the direction of every bone is kept. The root moves if
    ``track.root`` is estimated and rests at the origin otherwise. Where the track skips frames, the last pose
    holds.

    Pelvis and thorax have three children each. A lifted pose need not keep the angles between those, but a
    single rotation would; so every one of them hangs on a joint of its own at the same place, such as
    pelvis_to_spine.

    Args:
        track: The person; its ``poses`` are written.
        path: File to write.
        fps: Frames per second; None for a picture, or where it is not known.
    """
    every = np.arange(track.frames[0], track.frames[-1] + 1)
    rows = np.searchsorted(track.frames, every, side="right") - 1
    poses = track.poses[rows].astype(np.float64) * FROM_CAMERA * CENTIMETRES
    root = np.zeros((len(poses), 3))
    if track.root is not None:
        root = track.root[rows] * FROM_CAMERA * CENTIMETRES
    bones = poses - poses[:, np.maximum(PARENTS, 0)]  # (T, 17, 3) from each joint's parent to it
    lengths = np.linalg.norm(bones, axis=-1)
    directions = bones / np.maximum(lengths, 1e-9)[..., None]

    identity = np.broadcast_to(np.eye(3), (len(poses), 3, 3))
    skeleton = _joint(ROOT, directions, np.median(lengths, axis=0), identity)
    motion = [root, *_rotations(skeleton, identity)]
    head = ["HIERARCHY", *_hierarchy(skeleton, "ROOT", "", 6), "MOTION", f"Frames: {len(poses)}"]
    head.append(f"Frame Time: {1 / (fps or UNKNOWN_FPS):.9f}")
    lines = [" ".join(f"{value:.6f}" for value in row) for row in np.concatenate(motion, axis=1).tolist()]
    write_bytes(path, ("\n".join(head + lines) + "\n").encode())


# The skeleton and its turns


def _joint(joint: int, directions: np.ndarray, lengths: np.ndarray, before: np.ndarray) -> _Node:
    """A joint and all below it, so that every bone points where the pose has it.

    Args:
        joint: Number in ``common.skeleton``.
        directions: (T, 17, 3) unit vectors from each joint's parent to it.
        lengths: (17,) of these bones, centimetres.
        before: (T, 3, 3) turn of the node above.
    """
    below = CHILDREN[joint]
    nodes = []
    turn = before
    if len(below) == 1:
        turn = _bend(before, REST[below[0]], directions[:, below[0]])
        nodes = [_joint(below[0], directions, lengths, turn)]
    elif below:
        turn = _best_turn(REST[below], directions[:, below])
        for child in below:
            own = _bend(turn, REST[child], directions[:, child])
            bone = f"{JOINT_NAMES[joint]}_to_{JOINT_NAMES[child]}"
            nodes.append(_Node(bone, np.zeros(3), own, [_joint(child, directions, lengths, own)]))
    offset = np.zeros(3) if joint == ROOT else REST[joint] * lengths[joint]
    return _Node(JOINT_NAMES[joint], offset, turn, nodes)


def _bend(before: np.ndarray, rest: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(T, 3, 3) turns that bring a direction at rest to the wanted ones (T, 3), the shortest way from before.

    Positions of joints do not tell how a bone is twisted about itself; the shortest way adds no twist.
    """
    start = before @ rest  # (T, 3)
    axis = np.cross(start, wanted)
    cosine = np.sum(start * wanted, axis=-1)[:, None, None]
    cross = np.cross(np.eye(3), axis[:, None])  # (T, 3, 3): cross @ v is axis x v
    arc = np.eye(3) + cross + cross @ cross / np.maximum(1 + cosine, 1e-12)
    # Straight back, the way is not defined: half a turn about anything perpendicular.
    aside = np.cross(start, np.eye(3)[np.argmin(np.abs(start), axis=-1)])
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-12)
    back = 2 * aside[:, :, None] * aside[:, None, :] - np.eye(3)
    return np.where(1 + cosine < 1e-9, back, arc) @ before


def _best_turn(rest: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(T, 3, 3) turns that bring directions at rest (K, 3) nearest to the wanted (T, K, 3), in least squares.

    Kabsch, Acta Crystallographica A32, 1976.
    """
    u, _, vt = np.linalg.svd(np.einsum("ki,tkj->tij", rest, wanted))  # (K, 3), (T, K, 3) -> (T, 3, 3)
    v, ut = vt.swapaxes(1, 2), u.swapaxes(1, 2)
    v[..., 2] *= np.sign(np.linalg.det(v @ ut))[:, None]
    return v @ ut


# The file


def _rotations(node: _Node, before: np.ndarray) -> list[np.ndarray]:
    """(T, 3) angles Z, X, Y in degrees of a node relative to the one above, then those of all below."""
    own = _zxy(before.swapaxes(1, 2) @ node.turn)
    return [own, *(angles for child in node.children for angles in _rotations(child, node.turn))]


def _zxy(turn: np.ndarray) -> np.ndarray:
    """(T, 3) angles z, x, y in degrees with turn = Rz Rx Ry; they run on over 180 instead of jumping."""
    level = np.hypot(turn[:, 2, 0], turn[:, 2, 2])
    locked = level < 1e-7  # z and y turn about the same line then, and z does it alone.
    z = np.where(locked, np.arctan2(turn[:, 1, 0], turn[:, 0, 0]), np.arctan2(-turn[:, 0, 1], turn[:, 1, 1]))
    x = np.arctan2(turn[:, 2, 1], level)
    y = np.where(locked, 0.0, np.arctan2(-turn[:, 2, 0], turn[:, 2, 2]))
    return np.degrees(np.unwrap(np.stack([z, x, y], axis=-1), axis=0))


def _hierarchy(node: _Node, kind: str, indent: str, channels: int = 3) -> list[str]:
    position = "Xposition Yposition Zposition " if channels == 6 else ""
    inner = indent + "  "
    lines = [f"{indent}{kind} {node.name}", indent + "{", f"{inner}OFFSET {_three(node.offset)}"]
    lines.append(f"{inner}CHANNELS {channels} {position}Zrotation Xrotation Yrotation")
    for child in node.children:
        lines += _hierarchy(child, "JOINT", inner)
    if not node.children:
        tip = REST[JOINT_NAMES.index(node.name)] * TIP_CM
        lines += [inner + "End Site", inner + "{", f"{inner}  OFFSET {_three(tip)}", inner + "}"]
    return [*lines, indent + "}"]


def _three(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector)

"""BVH: the motion of one person as a skeleton of constant bones that rotate, for animation programs.

Axes: x to the camera's right, y up, z towards the camera, so that a person who faces it faces z. Centimetres
and degrees; rotations in the order Z X Y. At rest the skeleton stands upright with its arms to the sides,
facing z.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from common.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS, ROOT

Array = NDArray[np.float64]

FROM_CAMERA = np.array([100.0, -100.0, -100.0])  # metres of camera space to centimetres, y up
TIP_CM = 5.0  # length beyond head, wrists and ankles, which is unknown
_SIDEWAYS = {"left": (1, 0, 0), "right": (-1, 0, 0)}


def _at_rest(name: str) -> tuple[int, int, int]:
    side, _, part = name.partition("_")
    return (0, -1, 0) if part in ("knee", "ankle") else _SIDEWAYS.get(side, (0, 1, 0))


REST = np.array([_at_rest(name) for name in JOINT_NAMES], dtype=np.float64)
"""(17, 3) unit direction from each joint's parent to it at rest; the root's is unused."""
CHILDREN = [[child for child, parent in enumerate(PARENTS) if parent == joint] for joint in range(NUM_JOINTS)]


@dataclass
class Node:
    """A joint of the rig: offset from its parent in centimetres, rotation in space for each frame."""

    name: str
    offset: Array
    rotation: Rotation
    children: list[Node]


def rig(poses: NDArray[Any]) -> Node:
    """The skeleton that reproduces poses (T, 17, 3) in camera space: median lengths, every direction kept.

    Pelvis and thorax have three children each. A lifted pose need not keep the angles between those, but a
    single rotation would; so each child hangs on a joint of its own at the same place, such as
    pelvis_to_spine.
    """
    joints = poses.astype(np.float64) * FROM_CAMERA
    bones = joints - joints[:, np.maximum(PARENTS, 0)]  # (T, 17, 3) from each joint's parent to it
    lengths = np.linalg.norm(bones, axis=-1)
    directions = bones / np.maximum(lengths, 1e-9)[..., None]
    return _node(ROOT, directions, np.median(lengths, axis=0), Rotation.identity(len(poses)))


def _node(joint: int, directions: Array, lengths: Array, above: Rotation) -> Node:
    below = CHILDREN[joint]
    nodes = []
    rotation = above
    if len(below) == 1:
        rotation = _shortest(above, REST[below[0]], directions[:, below[0]])
        nodes = [_node(below[0], directions, lengths, rotation)]
    elif below:
        rotation = _best(REST[below], directions[:, below])
        for child in below:
            own = _shortest(rotation, REST[child], directions[:, child])
            name = f"{JOINT_NAMES[joint]}_to_{JOINT_NAMES[child]}"
            nodes.append(Node(name, np.zeros(3), own, [_node(child, directions, lengths, own)]))
    offset = np.zeros(3) if joint == ROOT else REST[joint] * lengths[joint]
    return Node(JOINT_NAMES[joint], offset, rotation, nodes)


def _shortest(before: Rotation, rest: Array, wanted: Array) -> Rotation:
    """Rotations that bring a rest direction to the wanted ones (T, 3), the shortest way: it adds no twist."""
    start = before.apply(rest)  # (T, 3)
    axis = np.cross(start, wanted)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    # Where the directions are opposite any perpendicular axis does.
    other = np.cross(start, np.eye(3)[np.argmin(np.abs(start), axis=-1)])
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    axis = np.where(sine > 1e-9, axis / np.maximum(sine, 1e-12), other)
    angle = np.arctan2(sine, (start * wanted).sum(axis=-1, keepdims=True))
    return Rotation.from_rotvec(axis * angle) * before


def _best(rest: Array, wanted: Array) -> Rotation:
    """Rotations of K rest directions nearest to the wanted (T, K, 3), in least squares (Kabsch, 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("ki,tkj->tij", rest, wanted))  # (K, 3), (T, K, 3) -> (T, 3, 3)
    v = vt.swapaxes(1, 2)
    v[..., 2] *= np.sign(np.linalg.det(v @ u.swapaxes(1, 2)))[:, None]
    return Rotation.from_matrix(v @ u.swapaxes(1, 2))


def root_path(poses: NDArray[Any], root: NDArray[Any] | None) -> Array:
    """(T, 3) path of the root of poses (T, 17, 3), y up, centimetres; the origin where it is None."""
    return np.zeros((len(poses), 3)) if root is None else root * FROM_CAMERA


def bvh_lines(poses: NDArray[Any], root: NDArray[Any] | None, fps: float) -> Iterator[str]:
    """Lines of a BVH file.

    Args:
        poses: (T, 17, 3) camera space, metres, root at 0.
        root: (T, 3) position of the root, metres; the root rests at the origin when None.
        fps: Frames per second.
    """
    skeleton = rig(poses)
    motion = [root_path(poses, root), *_angles(skeleton, Rotation.identity(len(poses)))]
    yield from ("HIERARCHY", *_hierarchy(skeleton, "ROOT", "", 6))
    yield from ("MOTION", f"Frames: {len(poses)}", f"Frame Time: {1 / fps:.9f}")
    for row in np.concatenate(motion, axis=1):
        yield " ".join(f"{value:.6f}" for value in row)


def _angles(node: Node, above: Rotation) -> list[Array]:
    """(T, 3) angles Z, X, Y in degrees of a node relative to the one above, then those of all below."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gimbal lock: SciPy sets the third angle to 0
        angles = (above.inv() * node.rotation).as_euler("ZXY")
    own = np.degrees(np.unwrap(angles, axis=0))  # runs on over 180 degrees
    return [own, *(each for child in node.children for each in _angles(child, node.rotation))]


def _hierarchy(node: Node, kind: str, indent: str, channels: int = 3) -> list[str]:
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


def _three(vector: Array) -> str:
    return " ".join(f"{value:.6f}" for value in vector)

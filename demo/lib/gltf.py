"""glTF 2.0: the motion of a person as a skinned skeleton with node animation (Blender, Unity, three.js).

Axes of BVH, metres. Each frame keeps its own time. Bones are drawn as octahedra, so that importers
that make armatures of skins find one.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from demo.lib.bvh import Node, rig, root_path

Nodes = list[tuple[Node, int | None, Rotation, NDArray[Any]]]

CENTIMETRE = 0.01
FLOAT, USHORT, ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 5126, 5123, 34962, 34963  # of the specification
WIDTH = 0.1  # of an octahedron, relative to its bone's length
FACES = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (5, 2, 1), (5, 3, 2), (5, 4, 3), (5, 1, 4)]


def gltf(poses: NDArray[Any], root: NDArray[Any] | None, times: NDArray[Any]) -> str:
    """A glTF file with embedded data.

    Args:
        poses: (T, 17, 3) camera space, metres, root at 0.
        root: (T, 3) position of the root, metres; the root rests at the origin when None.
        times: (T,) seconds.
    """
    nodes: Nodes = []
    _flatten(rig(poses), None, Rotation.identity(len(poses)), np.zeros(3), nodes)
    file = _File()
    points: list[NDArray[Any]] = []
    faces: list[NDArray[Any]] = []
    joints: list[NDArray[Any]] = []
    for node, parent, _, place in nodes:
        if parent is not None and node.offset.any():
            faces.append(np.array(FACES) + 6 * len(points))
            points.append(_octahedron(place - node.offset * CENTIMETRE, place))
            joints.append(np.full(6, parent))
    count = 6 * len(points)
    joint_rows = np.zeros((count, 4), np.uint16)
    joint_rows[:, 0] = np.concatenate(joints)
    attributes = {
        "POSITION": file.add(np.concatenate(points), "VEC3", bounds=True, target=ARRAY_BUFFER),
        "JOINTS_0": file.add(joint_rows, "VEC4", target=ARRAY_BUFFER),
        "WEIGHTS_0": file.add(np.tile([1.0, 0, 0, 0], (count, 1)), "VEC4", target=ARRAY_BUFFER),
    }
    indices = file.add(np.concatenate(faces).astype(np.uint16).ravel(), "SCALAR", target=ELEMENT_ARRAY_BUFFER)
    inverse = np.tile(np.eye(4), (len(nodes), 1, 1))  # column-major in the file
    inverse[:, 3, :3] = [-place for *_, place in nodes]
    skin: dict[str, Any] = {"joints": list(range(len(nodes))), "skeleton": 0}
    skin["inverseBindMatrices"] = file.add(inverse.reshape(-1, 16), "MAT4")
    times = times - times[0]
    inputs = file.add(times, "SCALAR", bounds=True)
    samplers: list[dict[str, Any]] = [
        {"input": inputs, "output": file.add(root_path(poses, root) * CENTIMETRE, "VEC3")}
    ]
    targets = [{"node": 0, "path": "translation"}]
    for index, (*_, relative, _) in enumerate(nodes):
        quaternions = relative.as_quat()  # (T, 4) x, y, z, w
        flips = np.cumprod(np.sign((quaternions[1:] * quaternions[:-1]).sum(axis=1) + 1e-12))
        quaternions[1:] *= flips[:, None]  # the short way between frames
        samplers.append({"input": inputs, "output": file.add(quaternions, "VEC4")})
        targets.append({"node": index, "path": "rotation"})
    children: list[list[int]] = [[] for _ in nodes]
    for index, (_, parent, *_) in enumerate(nodes):
        if parent is not None:
            children[parent].append(index)
    described = [
        {"name": node.name, "translation": (node.offset * CENTIMETRE).tolist()}
        | ({"children": children[index]} if children[index] else {})
        for index, (node, *_) in enumerate(nodes)
    ]
    channels = [{"sampler": index, "target": target} for index, target in enumerate(targets)]
    content = {
        "asset": {"version": "2.0", "generator": "HTNet demo"},
        "scene": 0,
        "scenes": [{"nodes": [0, len(nodes)]}],
        "nodes": [*described, {"name": "body", "mesh": 0, "skin": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices}]}],
        "skins": [skin],
        "animations": [{"name": "motion", "samplers": samplers, "channels": channels}],
        **file.described(),
    }
    return json.dumps(content)


def _flatten(node: Node, parent: int | None, above: Rotation, place: NDArray[Any], nodes: Nodes) -> None:
    """Adds a node and all below it: parent, rotations relative to it, and place at rest, metres."""
    index, place = len(nodes), place + node.offset * CENTIMETRE
    nodes.append((node, parent, above.inv() * node.rotation, place))
    for child in node.children:
        _flatten(child, index, node.rotation, place, nodes)


def _octahedron(start: NDArray[Any], end: NDArray[Any]) -> NDArray[Any]:
    """(6, 3) corners of a bone."""
    axis = end - start
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    side *= WIDTH * np.linalg.norm(axis) / np.linalg.norm(side)
    other = np.cross(axis, side) / np.linalg.norm(axis)
    ring = start + 0.2 * axis + np.array([side, other, -side, -other])
    return np.array([start, *ring, end])


class _File:
    """Arrays of a glTF file in one buffer."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: NDArray[Any], kind: str, *, bounds: bool = False, target: int | None = None) -> int:
        """Index of the accessor of an array (N,) or (N, components)."""
        array = array if array.dtype == np.uint16 else array.astype(np.float32)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        self.data += array.tobytes() + b"\0" * (-array.nbytes % 4)
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1, "count": len(array), "type": kind}
        accessor["componentType"] = USHORT if array.dtype == np.uint16 else FLOAT
        if bounds:
            rows = array.reshape(len(array), -1)
            accessor |= {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def described(self) -> dict[str, Any]:
        """The file's parts that hold the arrays."""
        text = base64.b64encode(self.data).decode()
        buffer = {"byteLength": len(self.data), "uri": f"data:application/octet-stream;base64,{text}"}
        return {"buffers": [buffer], "bufferViews": self.views, "accessors": self.accessors}

"""Motion capture files: BVH, and ASF with AMC (Acclaim), as a skeleton's nodes and their motion.

A bone of an ASF file turns about its start. Here it becomes a node at its start, so that "ltibia" is the left
knee; the end of a limb's last bone becomes a tip, as BVH's "End Site" does. Readers raise a ValueError or a
LookupError on damaged files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

END = "/end"  # what follows a joint's name in the name of its tip
AMC_RATE = 120.0  # frames per second of CMU's and HDM05's AMC files, which do not state it
RATES = (20.0, 2000.0)  # frames per second, accepted range: fewer do not show what lies between
FASTEST_TURN = np.radians(1500)  # per second, of any joint between the first two frames
MAX_BYTES = 2**29  # of a file; 20 minutes at 120 frames per second have a third
MAX_NODES = 2000
MAX_VALUE = 1e9  # of an angle or a length in any unit; NaN and infinity are refused with it
AXES = "xyz"


@dataclass(eq=False)
class Node:
    """A joint or the tip of a bone, and its F frames of motion in its parent's frame."""

    name: str
    parent: Node | None
    offset: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))  # (3,) at rest, in the file's unit
    channels: list[str] = field(default_factory=list)  # such as "rx", a rotation about x, or "tz"
    rotation: Rotation = field(default_factory=Rotation.identity)
    position: np.ndarray | None = None  # (F, 3) in place of the offset, if it moves

    def line(self) -> list[Node]:
        """The node, its parent, and so on up to the root."""
        line = [self]
        while line[-1].parent:
            line.append(line[-1].parent)
        return line


def read_bvh(path: str | os.PathLike[str], rate: float | None = None) -> tuple[list[Node], float, str]:
    """Reads a BVH file (Biovision hierarchy); ``rate``, frames per second, replaces what the file states.

    Returns:
        The nodes, parents first; frames per second; what is unusual in the file.
    """
    head, *rest = re.split(r"^[ \t]*MOTION[ \t]*$", _text(path), maxsplit=1, flags=re.M | re.I)
    nodes = _hierarchy(head)
    found = re.match(r"\s*Frames\s*:\s*(\d{1,18})\s*Frame\s+Time\s*:\s*(\S+)", "".join(rest), re.I | re.A)
    if not found:
        raise ValueError("no MOTION with Frames and Frame Time; is it cut off?")
    rate = _checked_rate(rate or 1 / max(float(found[2]), 1e-9))
    rows = [row for row in rest[0][found.end() :].splitlines() if row.strip()]
    columns = sum(len(node.channels) for node in nodes)
    values = np.loadtxt(rows, comments=None, ndmin=2) if rows else np.empty((0, columns))
    stated = int(found[1])
    if values.shape[1] != columns or len(values) == 0 or abs(len(values) - stated) > 1:
        raise ValueError(f"{stated} frames of {columns} numbers stated, found {values.shape}; is it cut off?")
    if invalid := int((~(np.abs(values) < MAX_VALUE).all(axis=1)).sum()):
        raise ValueError(f"NaN or huge numbers in {invalid} frames")
    column = 0
    for node in nodes:
        _move(node, values[:, column : column + len(node.channels)], fixed_axes=False)
        column += len(node.channels)
    # Rokoko writes a row more than it states.
    return nodes, rate, "" if len(values) == stated else f"{len(values)} frames, {stated} stated"


def _hierarchy(text: str) -> list[Node]:
    nodes: list[Node] = []
    unclosed: list[Node] = []
    for line in text.splitlines():
        word, *words = line.split() or [""]
        word = word.upper()
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") == bool(nodes) or len(nodes) >= MAX_NODES:
                raise ValueError(f"expected one ROOT and at most {MAX_NODES} joints, found another {word}")
            name = " ".join(words).removesuffix("{").strip() if word != "END" else unclosed[-1].name + END
            unclosed.append(Node(name, unclosed[-1] if nodes else None))
            nodes.append(unclosed[-1])
        elif word == "OFFSET":
            unclosed[-1].offset = _numbers(words, 3)
        elif word == "CHANNELS":
            names = [(each[1] + each[0]).lower().replace("p", "t") for each in words[1:]]
            if int(words[0]) != len(names):
                raise ValueError(f"{words[0]} channels stated, found {len(names)}")
            unclosed[-1].channels = names
        elif word == "}":
            unclosed.pop()
        elif word not in ("", "{", "HIERARCHY"):
            raise ValueError(f"not expected in a hierarchy: {line.strip()[:60]!r}")
    if not nodes or unclosed or np.isnan([node.offset for node in nodes]).any():
        raise ValueError("no HIERARCHY with an OFFSET in every { }; is it cut off?")
    return nodes


def read_amc(
    path: str | os.PathLike[str], skeleton: str | os.PathLike[str], rate: float | None = None
) -> tuple[list[Node], float, str]:
    """Reads an AMC file, the motion, on the skeleton of an ASF file; see ``read_bvh``."""
    bones, degrees = _skeleton(_text(skeleton))
    frames: list[dict[str, np.ndarray]] = []
    first = 0
    for line in _text(path).splitlines():
        word, *words = line.split("#")[0].split() or [""]
        if word.upper() in (":DEGREES", ":RADIANS"):
            degrees = word.upper() == ":DEGREES"
        elif word.isdecimal() and not words:
            first = first if frames else int(word)
            if int(word) != first + len(frames):
                raise ValueError(f"frame {word} instead of {first + len(frames)}")
            frames.append({})
        elif word and not word.startswith(":"):
            frames[-1][word] = _numbers(words, len(bones[word].channels))
    if not frames or "root" not in frames[0] or any(each.keys() != frames[0].keys() for each in frames):
        raise ValueError("no frames of an AMC file with the same bones in each; is it cut off?")
    for name, bone in bones.items():
        axis = bone.rotation
        if name not in frames[0]:
            bone.channels = []
        values = [frame.get(name, np.empty(0)) for frame in frames]
        _move(bone, np.stack(values), fixed_axes=True, degrees=degrees)
        bone.rotation = axis * bone.rotation * axis.inv()
    return [*bones.values()], _checked_rate(rate or AMC_RATE), ""


def _skeleton(text: str) -> tuple[dict[str, Node], bool]:
    """Bones of an ASF file, parents first, rotated as their axes are; whether its angles are in degrees."""
    sections: dict[str, list[list[str]]] = {}
    for part in re.split(r"^\s*:", re.sub("#.*", "", text), flags=re.M)[1:]:
        title, *lines = (line.split() for line in part.splitlines() if line.strip())
        sections[title[0].lower()] = lines
    degrees = ["angle", "rad"] not in [[line[0], line[-1][:3].lower()] for line in sections.get("units", [])]
    root = {word.lower(): words for word, *words in sections["root"]}
    axis = root.get("orientation", ["0"] * 3) + root.get("axis", ["XYZ"])
    order = root.get("order", "TX TY TZ RX RY RZ".split())
    entries = {"root": {"direction": ["0"] * 3, "length": ["0"], "axis": axis, "dof": order}}
    entry: dict[str, list[str]] = {}
    for word, *words in sections["bonedata"]:
        if word.lower() == "begin":
            entry = {}
        elif word.lower() == "end":
            entries[entry["name"][0]] = entry
        else:
            entry.setdefault(word.lower(), words)
    parents = {
        child: parent for parent, *below in sections["hierarchy"] for child in below if child != "root"
    }
    reach = {name: _numbers(e["direction"], 3) * _numbers(e["length"], 1) for name, e in entries.items()}
    bones: dict[str, Node] = {}
    pending = ["root"]
    while pending:
        name = pending.pop(0)
        parent, entry = bones.get(parents.get(name, "")), entries[name]
        *angles, turn = entry.get("axis", ["0", "0", "0", "XYZ"])
        rotation = Rotation.from_euler(turn.lower(), _numbers(angles, 3), degrees=degrees)
        channels = [word.lower() for word in entry.get("dof", [])]
        bones[name] = Node(name, parent, reach[parent.name] if parent else np.zeros(3), channels, rotation)
        pending += [child for child, above in parents.items() if above == name]
    if len(bones) != len(entries) or len(bones) > MAX_NODES:
        raise ValueError(f"not connected to the root: {', '.join([*entries.keys() - bones.keys()][:5])}")
    tips = [name for name in bones if name not in parents.values()]
    return bones | {name + END: Node(name + END, bones[name], reach[name]) for name in tips}, degrees


def resample(nodes: Sequence[Node], rate: float, to: float) -> bool:
    """Brings nodes to another frame rate, in place: positions linearly, rotations by slerp.

    Returns:
        Whether a first frame was dropped from which no body gets to the second, a T-pose.
    """
    count, dropped = len(nodes[0].rotation), 0
    if count > 2:
        steps = [(node.rotation[:2].inv() * node.rotation[1:3]).magnitude() for node in nodes]
        first, second = np.max(steps, axis=0)
        dropped = int(first * rate >= FASTEST_TURN and first >= 5 * second)
    last = count - dropped - 1
    # A frame time that the file rounded (0.0083333) must not cost the last frame.
    at = np.minimum(np.arange(int(last / rate * to + 0.01) + 1) / to * rate, last) + dropped
    for node in nodes:
        node.rotation = Slerp(np.arange(count), node.rotation)(at)
        if node.position is not None:
            columns = [np.interp(at, np.arange(count), column) for column in node.position.T]
            node.position = np.stack(columns, axis=1)
    return bool(dropped)


def forward(nodes: Sequence[Node]) -> dict[Node, tuple[np.ndarray, Rotation]]:
    """Forward kinematics: F positions (F, 3) in the file's axes and unit, and F rotations, of each node."""
    placed: dict[Node, tuple[np.ndarray, Rotation]] = {}
    for node in nodes:
        local = node.offset if node.position is None else node.position
        if node.parent:
            point, rotation = placed[node.parent]
            placed[node] = point + rotation.apply(local), rotation * node.rotation
        else:
            placed[node] = np.broadcast_to(local, (len(node.rotation), 3)), node.rotation
    return placed


def _checked_rate(rate: float) -> float:
    if not RATES[0] <= rate <= RATES[1]:
        accepted = f"{RATES[0]:g} to {RATES[1]:g}"
        raise ValueError(f"expected {accepted} frames per second, found {rate:.3g}; see --source_fps")
    return rate


def _text(path: str | os.PathLike[str]) -> str:
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MB")
    return Path(path).read_text(encoding="utf-8-sig", errors="replace")


def _numbers(words: Sequence[str], count: int) -> np.ndarray:
    values = np.array(words, dtype=np.float64)
    if values.shape != (count,) or not (np.abs(values) < MAX_VALUE).all():
        raise ValueError(f"{count} numbers expected, found {' '.join(words)[:60]!r}; is it cut off?")
    return values


def _move(node: Node, values: np.ndarray, *, fixed_axes: bool, degrees: bool = True) -> None:
    """Sets rotation and position of a node from the values (F, channels) of its channels.

    Rotations follow one another in the order of the channels, about the node's axes or about fixed ones.
    Position channels replace the offset or are added to it, whichever keeps the bone's length nearer to its.
    """
    own = dict(zip(node.channels, values.T, strict=True))
    if len(own) < len(node.channels) or not own.keys() <= {kind + axis for kind in "rt" for axis in AXES}:
        raise ValueError(f"{node.name}: unknown channels {node.channels}")
    node.rotation = Rotation.identity(len(values))
    if order := "".join(channel[1] for channel in own if channel[0] == "r"):
        angles = np.stack([own["r" + axis] for axis in order], axis=1)  # (F, axes)
        node.rotation = Rotation.from_euler(order if fixed_axes else order.upper(), angles, degrees=degrees)
    if any(channel[0] == "t" for channel in own):
        pairs = [*zip(AXES, node.offset, strict=True)]
        fixed = np.zeros(len(values))
        replaced = np.stack([own.get("t" + axis, fixed + rest) for axis, rest in pairs], axis=1)  # (F, 3)
        added = np.stack([own.get("t" + axis, fixed) + rest for axis, rest in pairs], axis=1)
        lengths = np.median(np.linalg.norm([replaced, added], axis=-1), axis=-1)  # (2,)
        stretch = np.abs(lengths - np.linalg.norm(node.offset))
        node.position = replaced if stretch[0] <= stretch[1] else added

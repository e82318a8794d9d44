"""Reads BVH files (Biovision hierarchy), whoever wrote them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, TextIO

import numpy as np

from common.errors import DataError
from dataset.motion import END, LARGEST, Motion, Rig, Select, checked_rate, part, still, with_ancestors
from dataset.quaternions import euler

MAX_BYTES = 2**30
MAX_NODES = 2000
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass
class _Node:
    name: str
    parent: int
    offset: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    first: int = 0  # column of the first channel


def read_bvh(path: str | os.PathLike[str], select: Select, *, rate: float | None = None) -> Motion:
    """Reads the motion of some nodes of a BVH file.

    Turns are made one after another in the order of a node's channels. The position channels of a node stand
    in place of its OFFSET, or are added to it, whichever keeps the bone's length nearer to that of OFFSET:
    programs do not agree on it.

    Args:
        path: The file.
        select: Is given the skeleton, and may raise a DataError, before the frames are read.
        rate: Frames per second, in place of what the file says.

    Raises:
        DataError: The file is damaged, cut off or no BVH file. The message does not name the file.
        OSError: The file cannot be read.
    """
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES >> 20} MB, which no take needs")
        lines = _Lines(file)
        nodes = _read_hierarchy(lines)
        rig = Rig(
            tuple(node.name for node in nodes),
            tuple(node.parent for node in nodes),
            np.array([node.offset for node in nodes]),
        )
        chosen = with_ancestors(rig, select(rig))
        frames = _whole(lines, _header(lines, "frames"))
        stated = _number(lines, _header(lines, "frame time"))
        rate = (
            checked_rate(1 / stated if stated else 0.0, f"Frame Time: {stated:g}") if rate is None else rate
        )
        columns = sum(len(node.channels) for node in nodes)
        values = _read_frames(lines, frames, columns)
    turns = np.empty((len(values), len(chosen), 4))
    places = {}
    for number, node in enumerate(nodes[index] for index in chosen):
        turns[:, number], place = _moved(node, values)
        if place is not None:
            places[number] = place
    return Motion(part(rig, chosen), turns, places, rate)


class _Lines:
    """The lines of a file that are not empty, with their numbers for messages."""

    def __init__(self, file: TextIO) -> None:
        self.number = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.number += 1
            if stripped := line.strip():
                yield stripped

    def next(self) -> str:
        line = next(iter(self), None)
        if line is None:
            raise DataError(f"cut off: it ends after line {self.number}, before the first frame")
        return line

    def fault(self, expected: str, found: str) -> NoReturn:
        number = self.number
        end = "; the file ends there" if next(iter(self), None) is None else ""
        raise DataError(f"line {number}: expected {expected}, found {found[:60]!r}{end}")


def _read_hierarchy(lines: _Lines) -> list[_Node]:
    first = next(iter(lines), "")
    if first.upper() != "HIERARCHY":
        lines.fault("HIERARCHY, as BVH files begin", first)
    nodes: list[_Node] = []
    open_nodes: list[int] = []
    columns = 0
    while (line := lines.next()).upper() != "MOTION":
        word, rest = [*line.split(maxsplit=1), ""][:2]
        word = word.upper()
        if word in ("ROOT", "JOINT", "END"):
            if (word == "ROOT") != (not nodes):
                lines.fault("one ROOT, and all JOINTs below it", line)
            if word != "ROOT" and not open_nodes:
                lines.fault("MOTION", line)
            _open(nodes, open_nodes, word, rest.removesuffix("{").strip(), lines)
        elif word == "}" and open_nodes:
            open_nodes.pop()
        elif word == "OFFSET" and open_nodes:
            nodes[open_nodes[-1]].offset = [_number(lines, value) for value in rest.split()]
            if len(nodes[open_nodes[-1]].offset) != 3:
                lines.fault("OFFSET and three numbers", line)
        elif word == "CHANNELS" and open_nodes:
            node = nodes[open_nodes[-1]]
            node.channels, node.first = _channels(lines, line, rest), columns
            columns += len(node.channels)
        elif word != "{":
            lines.fault("ROOT, JOINT, End Site, OFFSET, CHANNELS or MOTION", line)
    if not nodes or open_nodes or not all(node.offset for node in nodes):
        lines.fault("a skeleton whose every { has its } and an OFFSET behind it, before MOTION", line)
    return nodes


def _open(nodes: list[_Node], open_nodes: list[int], word: str, name: str, lines: _Lines) -> None:
    if len(nodes) == MAX_NODES:
        lines.fault(f"at most {MAX_NODES} joints", name)
    parent = open_nodes[-1] if open_nodes else -1
    nodes.append(_Node(nodes[parent].name + END if word == "END" else name, parent))
    open_nodes.append(len(nodes) - 1)


def _channels(lines: _Lines, line: str, rest: str) -> list[str]:
    count, *channels = rest.lower().split() or [""]
    known = {f"{axis}{kind}" for axis in AXES for kind in ("rotation", "position")}
    if count != str(len(channels)) or not known.issuperset(channels) or len(set(channels)) < len(channels):
        lines.fault("CHANNELS, their number, and names like Xposition or Zrotation", line)
    return channels


def _header(lines: _Lines, name: str) -> str:
    line = lines.next()
    found, _, value = line.partition(":")
    if " ".join(found.lower().split()) != name:
        lines.fault(f"{name.title()}: and a number", line)
    return value.strip()


def _number(lines: _Lines, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) < LARGEST:
        lines.fault("a number", text)
    return value


def _whole(lines: _Lines, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        lines.fault("Frames: and a whole number", text)
    return int(text[:20])


def _read_frames(lines: _Lines, frames: int, columns: int) -> np.ndarray:
    """(F, columns) the numbers of all frames; memory is taken as lines come, never on the header's word."""
    count, last = 0, ""

    def rows() -> Iterator[str]:
        nonlocal count, last
        for line in lines:
            count, last = count + 1, line
            yield line

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no frames is said below
            values = np.loadtxt(rows(), dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape[1] != columns and last:
        found = last.split()
        strange = next((word for word in found if not _is_number(word)), None)
        words = f"{len(found)}" if strange is None else f"{strange[:20]!r}"
        end = "; the file is cut off there" if count < frames and next(iter(lines), None) is None else ""
        raise DataError(f"line {lines.number}, frame {count}: expected {columns} numbers, found {words}{end}")
    if len(values) != frames or frames == 0:
        words = "; the file is cut off" if len(values) < frames else ""
        raise DataError(f"expected {frames:,} frames, as its header says, found {len(values):,}{words}")
    good = (np.abs(values) < LARGEST).all(axis=1)
    if not good.all():
        bad = np.flatnonzero(~good)
        words = f"NaN, infinity or numbers above {LARGEST:g}"
        raise DataError(f"{words} in {len(bad)} frames, the first is frame {bad[0] + 1}")
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def _moved(node: _Node, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(F, 4) turns of a node in its parent's frame, and its places (F, 3) there if it moves."""
    columns = {channel: node.first + number for number, channel in enumerate(node.channels)}
    turns = [name for name in node.channels if name.endswith("rotation")]
    turn = still(len(values))
    if turns:
        angles = np.radians(values[:, [columns[name] for name in turns]])
        turn = euler([AXES[name[0]] for name in turns], angles)
    moves = {AXES[name[0]]: column for name, column in columns.items() if name.endswith("position")}
    if not moves:
        return turn, None
    offset = np.array(node.offset)
    stated, added = np.tile(offset, (len(values), 1)), np.tile(offset, (len(values), 1))
    for axis, column in moves.items():
        stated[:, axis] = values[:, column]
        added[:, axis] += values[:, column]
    stretch = [abs(np.median(np.linalg.norm(p, axis=1)) - np.linalg.norm(offset)) for p in (stated, added)]
    return turn, stated if stretch[0] <= stretch[1] else added

"""Reads ASF and AMC files (Acclaim), in which the CMU and HDM05 motion capture databases are distributed.

A bone of an ASF file goes from where its parent bone ends to its own end, and turns about its start. Here
it becomes a node at its start, so that the node "ltibia" is the left knee; a limb's last bone gets a tip.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import DataError
from dataset.motion import END, LARGEST, Motion, Rig, Select, checked_rate, part, with_ancestors
from dataset.quaternions import euler, inverse, multiply

AMC_RATE = 120.0
"""Frames per second of CMU's and HDM05's files: AMC files do not say."""
MAX_BYTES = 2**30
MAX_BONES = 2000
ROOT = "root"
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass
class _Bone:
    """A bone, or the root.

    Attributes:
        reach: (3,) from its start to its end at rest, in the file's unit and axes.
        axis: (4,) turn of the frame that its angles are given in.
        channels: Its values in a frame, such as "rx" and "tz", in order.
    """

    reach: np.ndarray = field(default_factory=lambda: np.zeros(3))
    axis: np.ndarray = field(default_factory=lambda: euler([], np.zeros((1, 0)))[0])
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Skeleton:
    bones: dict[str, _Bone]  # parents first
    parents: dict[str, str]
    radians: bool


def read_amc(
    amc: str | os.PathLike[str], asf: str | os.PathLike[str], select: Select, *, rate: float | None = None
) -> Motion:
    """Reads the motion of some nodes of an AMC file on the skeleton of an ASF file.

    Args:
        amc: The motion.
        asf: The skeleton.
        select: Is given the skeleton, and may raise a DataError, before the frames are read.
        rate: Frames per second; ``AMC_RATE`` when None.

    Raises:
        DataError: A file is damaged, cut off, or no such file; the AMC file is not named in the message.
        OSError: A file cannot be read.
    """
    try:
        skeleton = _read_skeleton(_text(asf))
    except DataError as error:
        raise DataError(f"its skeleton {Path(asf).name}: {error}") from error
    rig = _rig(skeleton)
    chosen = with_ancestors(rig, select(rig))
    rate = checked_rate(AMC_RATE if rate is None else rate, "--source_fps")
    values = _read_frames(_text(amc), skeleton)
    frames = len(values[ROOT])
    turns = np.zeros((frames, len(chosen), 4))
    turns[..., 0] = 1
    for number, name in enumerate(rig.names[node] for node in chosen):
        if name in values:
            turns[:, number] = _turned(skeleton.bones[name], values[name])
    return Motion(part(rig, chosen), turns, {0: _places(skeleton.bones[ROOT], values[ROOT])}, rate)


def _text(path: str | os.PathLike[str]) -> str:
    if os.path.getsize(path) > MAX_BYTES:
        raise DataError(f"more than {MAX_BYTES >> 20} MB, which no take needs")
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read()


# The skeleton


def _read_skeleton(text: str) -> _Skeleton:
    sections = _sections(text)
    missing = [name for name in ("root", "bonedata", "hierarchy") if name not in sections]
    if missing:
        raise DataError(f"expected an ASF file, found no section :{missing[0]}; is it cut off?")
    units = {line[0]: line[-1].lower() for line in sections.get("units", [])}
    radians = units.get("angle", "deg").startswith("rad")
    root = {line[0].lower(): line[1:] for line in sections["root"]}
    bones = {ROOT: _root(root, radians)}
    entry: dict[str, list[str]] = {}
    for words in sections["bonedata"]:
        word = words[0].lower()
        if word == "begin":
            entry = {}
        elif word == "end":
            name, bone = _bone(entry, radians)
            if name in bones or len(bones) == MAX_BONES:
                raise DataError(f"bone {name}: a second one of that name, or too many")
            bones[name] = bone
            entry = {}
        else:
            entry.setdefault(word, words[1:])
    if entry:
        raise DataError(f"bone {entry.get('name', ['?'])[0]} has no end: the file is cut off")
    parents = {child: line[0] for line in sections["hierarchy"] for child in line[1:]}
    return _in_order(bones, parents, radians)


def _sections(text: str) -> dict[str, list[list[str]]]:
    """By the name of a section (":name"): the words of its lines."""
    sections: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words and words[0].startswith(":"):
            lines = sections.setdefault(words[0][1:].lower(), [])
        elif words:
            lines.append(words)
    return sections


def _root(entry: dict[str, list[str]], radians: bool) -> _Bone:
    order = tuple(word.lower() for word in entry.get("order", ["TX", "TY", "TZ", "RX", "RY", "RZ"]))
    orientation = _numbers(entry.get("orientation", ["0"] * 3), "root, orientation")
    axis = _fixed_turn("".join(entry.get("axis", ["XYZ"])), orientation, ROOT, radians)
    return _Bone(axis=axis, channels=_checked_channels(order, ROOT))


def _bone(entry: dict[str, list[str]], radians: bool) -> tuple[str, _Bone]:
    [name] = entry.get("name", [])[:1] or ["?"]
    reach = _numbers(entry.get("direction", []), f"bone {name}, direction") * _numbers(
        entry.get("length", []), f"bone {name}, length", count=1
    )
    *angles, order = entry.get("axis") or ["0", "0", "0", "XYZ"]
    axis = _fixed_turn(order, _numbers(angles, f"bone {name}, axis"), name, radians)
    dof = tuple(word.lower() for word in entry.get("dof", []))
    return name, _Bone(reach, axis, _checked_channels(dof, name))


def _checked_channels(channels: tuple[str, ...], name: str) -> tuple[str, ...]:
    known = {kind + axis for kind in "rt" for axis in AXES}
    if not known.issuperset(channels) or len(set(channels)) < len(channels):
        raise DataError(f"{name}: expected degrees of freedom like rx or tz, found {' '.join(channels)[:60]}")
    return channels


def _numbers(words: list[str], where: str, count: int = 3) -> np.ndarray:
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        values = np.empty(0)
    if values.shape != (count,) or not np.all(np.abs(values) < LARGEST):
        raise DataError(f"{where}: expected {count} numbers, found {' '.join(words)[:60]!r}")
    return values


def _fixed_turn(order: str, angles: np.ndarray, name: str, radians: bool) -> np.ndarray:
    """(4,) turns about axes that stay in space: the first letter of ``order`` turns first."""
    axes = [AXES.get(letter, -1) for letter in order.lower()]
    if sorted(axes) != [0, 1, 2]:
        raise DataError(f"{name}: expected an axis order like XYZ, found {order[:10]!r}")
    angles = angles if radians else np.radians(angles)
    return euler(axes[::-1], angles[None, ::-1])[0]


def _in_order(bones: dict[str, _Bone], parents: dict[str, str], radians: bool) -> _Skeleton:
    """The skeleton with its bones sorted, parents first."""
    unknown = (set(parents) | set(parents.values())) - set(bones)
    if unknown:
        raise DataError(f":hierarchy names bones that :bonedata lacks: {', '.join(sorted(unknown)[:5])}")
    ordered = [ROOT]
    for name in ordered:  # grows as it goes
        ordered += [child for child in bones if parents.get(child) == name and child not in ordered]
    if loose := [name for name in bones if name not in ordered]:
        raise DataError(f"bones that do not hang on the root: {', '.join(loose[:5])}; is it cut off?")
    return _Skeleton({name: bones[name] for name in ordered}, parents, radians)


def _rig(skeleton: _Skeleton) -> Rig:
    names = list(skeleton.bones)
    place = {name: number for number, name in enumerate(names)}
    parents = [-1, *(place[skeleton.parents[name]] for name in names[1:])]
    offsets = [np.zeros(3), *(skeleton.bones[names[parent]].reach for parent in parents[1:])]
    for number, name in enumerate(tuple(names)):
        if number and number not in parents:
            names.append(name + END)
            parents.append(number)
            offsets.append(skeleton.bones[name].reach)
    return Rig(tuple(names), tuple(parents), np.array(offsets))


# The motion


def _read_frames(text: str, skeleton: _Skeleton) -> dict[str, np.ndarray]:
    """By bone: (F, channels) values, angles in radians."""
    lines, degrees = [], not skeleton.radians
    for line in text.splitlines():
        stripped = line.split("#")[0].strip() if "#" in line else line.strip()
        if stripped.upper() in (":DEGREES", ":RADIANS"):
            degrees = stripped.upper() == ":DEGREES"
        elif stripped and not stripped.startswith(":"):
            lines.append(stripped)
    first = next((n for n, line in enumerate(lines) if n and line.isdigit()), len(lines))
    names = [line.split()[0] for line in lines[1:first]]
    unknown = [name for name in names if name not in skeleton.bones]
    if not names or not lines[0].isdigit() or unknown or ROOT not in names:
        found = f"bone {unknown[0][:30]!r}, which the skeleton lacks" if unknown else repr(lines[:2])[:60]
        raise DataError(f"expected frames of an AMC file, each a number and its bones' values, found {found}")
    _check_frames(lines, first)
    values = {}
    for row, name in enumerate(names, start=1):
        values[name] = _values(lines[row::first], name, skeleton.bones[name], degrees)
    return values


def _check_frames(lines: list[str], period: int) -> None:
    """That every frame has as many lines as the first, and their numbers go up by one."""
    start = int(lines[0][:9])
    for frame, line in enumerate(lines[::period]):
        if line != str(start + frame):
            raise DataError(
                f"frame {start + frame}: expected its number after the {period - 1} bones of the frame "
                f"before, found {line[:60]!r}"
            )
    if len(lines) % period:
        raise DataError(
            f"frame {start + len(lines) // period}: expected {period - 1} bones, found "
            f"{len(lines) % period - 1}; the file is cut off there"
        )


def _values(lines: list[str], name: str, bone: _Bone, degrees: bool) -> np.ndarray:
    rows = [line.split() for line in lines]
    wanted = 1 + len(bone.channels)
    for frame, words in enumerate(rows, start=1):
        if len(words) != wanted or words[0] != name:
            found = repr(" ".join(words)[:60]) + ("; the file is cut off there" if frame == len(rows) else "")
            raise DataError(f"frame {frame}: expected {name} and {wanted - 1} numbers, found {found}")
    try:
        values = np.array([words[1:] for words in rows], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{name}: {str(error)[:100]}") from error
    good = (np.abs(values) < LARGEST).all(axis=1)
    if not good.all():
        raise DataError(
            f"frame {int(good.argmin()) + 1}: NaN, infinity or numbers above {LARGEST:g} at {name}"
        )
    turns = [number for number, channel in enumerate(bone.channels) if channel[0] == "r"]
    values[:, turns] = np.radians(values[:, turns]) if degrees else values[:, turns]
    return values


def _turned(bone: _Bone, values: np.ndarray) -> np.ndarray:
    """(F, 4) turns of a bone's frame in its parent's: about axes that stay, the first channel first."""
    turns = [number for number, channel in enumerate(bone.channels) if channel[0] == "r"]
    axes = [AXES[bone.channels[number][1]] for number in turns]
    own = euler(axes[::-1], values[:, turns[::-1]])
    return multiply(multiply(bone.axis, own), inverse(bone.axis))


def _places(bone: _Bone, values: np.ndarray) -> np.ndarray:
    places = np.zeros((len(values), 3))
    for number, channel in enumerate(bone.channels):
        if channel[0] == "t":
            places[:, AXES[channel[1]]] = values[:, number]
    return places

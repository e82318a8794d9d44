"""Converts motion capture files one by one, each to a part on disk: 17 joints, metres, one frame rate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import DataError
from common.files import sha256
from dataset.asf_amc import read_amc
from dataset.bvh import read_bvh
from dataset.mocap_files import BVH, Source
from dataset.mocap_joints import JointMap, Joints, match
from dataset.mocap_poses import captured
from dataset.motion import Motion, Rig, resample, with_ancestors, without_false_start
from dataset.parts import Parts

FORMAT = 1
"""To be raised with every change of what a file is converted to."""


@dataclass(frozen=True)
class Options:
    """All that changes what a file is converted to: see the options of those names."""

    joint_map: JointMap
    fps: float
    source_fps: float | None
    unit: str | None

    def settings(self) -> str:
        return json.dumps([FORMAT, asdict(self)], sort_keys=True)


@dataclass(frozen=True)
class Take:
    """A converted file, but for its pose, which stays in its part.

    Attributes:
        source: The file.
        digest: SHA-256 of the file, and of its skeleton.
        rate: Frames per second in the file.
        unit: What was taken for its unit.
        up: Its axis along which the body stands; "" where it does not stand.
        mirrored: Whether left and right must be exchanged; None where the take does not tell.
        false_start: Whether its first frame was left out.
        rig: Digest of its joints' names.
    """

    source: Source
    digest: str
    rate: float
    unit: str
    up: str
    mirrored: bool | None
    false_start: bool
    rig: str

    def facts(self) -> dict[str, Any]:
        """What the index of the data set says of the file."""
        return {"file": self.source.name + self.source.path.suffix} | {
            name: value for name, value in vars(self).items() if name != "source"
        }


def convert(sources: Sequence[Source], parts: Parts, options: Options) -> tuple[list[Take], list[str]]:
    """Converts all files that have no part yet.

    Returns:
        The takes, and what is wrong with the files that cannot be used, a sentence each.

    Raises:
        RunError: The disk is full.
    """
    takes, faults = [], []
    for source in tqdm(sources, desc="reading", unit="file", disable=None, leave=False):
        try:
            part = parts.get(source.path, _skeleton_identity(source))
            if part is None:
                part = _converted(source, options)
                parts.put(source.path, _skeleton_identity(source), **part)
        except (DataError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            faults.append(f"{source.name}{source.path.suffix}: {reason}")
            continue
        takes.append(Take(source, **json.loads(str(part["facts"]))))
    return takes, faults


def pose_of(take: Take, parts: Parts) -> np.ndarray:
    """(F, 17, 3) float64 positions of a take, in the file's axes, metres.

    Raises:
        DataError: The file has changed since it was converted.
    """
    try:
        part = parts.get(take.source.path, _skeleton_identity(take.source))
    except OSError:  # it is not there any more
        part = None
    if part is None:
        raise DataError(f"{take.source.path} has changed meanwhile; give the same command again")
    return part["pose"].astype(np.float64)


def without_copies(takes: Sequence[Take]) -> tuple[list[Take], list[str]]:
    """The takes but for those that are another one's copy, which could be trained and tested on at once.

    Returns:
        The takes, and a sentence on each copy.
    """
    first: dict[str, Take] = {}
    copies = []
    for take in takes:
        if first.setdefault(take.digest, take) is not take:
            same = first[take.digest].facts()["file"]
            copies.append(f"{take.facts()['file']}: the same, byte for byte, as {same}")
    return list(first.values()), copies


def _skeleton_identity(source: Source) -> str:
    if source.skeleton is None:
        return ""
    stat = source.skeleton.stat()
    return f"{source.skeleton.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def _converted(source: Source, options: Options) -> dict[str, np.ndarray]:
    """The part of a file: its pose, and as JSON the fields of its ``Take``."""
    joints: Joints = {}
    names: list[str] = []

    def select(rig: Rig) -> list[int]:
        found = match(rig, options.joint_map)
        wanted = [node for nodes in found.values() for node in nodes]
        place = {node: number for number, node in enumerate(with_ancestors(rig, wanted))}
        names.extend(rig.names)
        joints.update({name: [place[node] for node in nodes] for name, nodes in found.items()})
        return wanted

    motion = _read(source, select, options.source_fps)
    started = without_false_start(motion)
    take = captured(resample(started, options.fps), joints, unit=options.unit)
    facts = {
        "digest": "".join(sha256(path) for path in (source.path, source.skeleton) if path),
        "rate": round(motion.rate, 2),
        "unit": take.unit,
        "up": take.up,
        "mirrored": take.mirrored,
        "false_start": len(started) < len(motion),
        "rig": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
    }
    return {"pose": take.pose, "facts": np.array(json.dumps(facts))}


def _read(source: Source, select: Callable[[Rig], list[int]], rate: float | None) -> Motion:
    if source.path.suffix.lower() == BVH:
        return read_bvh(source.path, select, rate=rate)
    if source.skeleton is None:
        raise DataError(
            "no skeleton: expected one .asf file beside it, or one whose name its own begins with"
        )
    return read_amc(source.path, source.skeleton, select, rate=rate)

"""Motion capture files to a prepared data set: 17 joints in metres, seen by Human3.6M's cameras."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from common.camera import Camera, h36m_cameras, normalize_pixels
from common.console import UserError, printable, progress
from common.files import read_json, sha256
from common.poses import Sequence, write_poses
from common.skeleton import JOINT_NAMES, MIRROR, ROOT
from dataset.motion import read_amc, read_bvh, resample
from dataset.rigs import ANKLES, LEG, OPTIONAL, UP_AXES, leg_length, match, to_joints, up_axis, z_up
from dataset.sources import files_below

HEADING_STEP = np.pi * (3 - 5**0.5)  # radians, golden angle: spreads any number of headings evenly
HEADINGS_TRIED = 8  # before a take is cut in two
MIN_FRAMES = 10  # of a piece of a longer take
MARGIN = 15  # pixels between any joint and the edge of the image
ANKLE_HEIGHT = 0.06  # metres of the lowest ankle above the floor, for legs of 0.85 m
SETUPS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}  # whose cameras see which part
NO_ACTION = "motion"
SUMMARY = {
    "rate": "frames per second of the files",
    "unit": "unit (--unit)",
    "up": "up (--up)",
    "mirrored": "left and right swapped, as knees and toes pointed back",
    "false_start": "first frame dropped, as no body gets from it to the second",
    "frames_out_of_view": "frames left out that not all cameras see",
    "note": "note",
}
View = tuple[np.ndarray, np.ndarray]
"""Camera-space positions (F, 17, 3) in metres, and pixels (F, 17, 2)."""

log = logging.getLogger(__name__)


@dataclass
class Take:
    """A converted file."""

    path: Path
    name: str  # its path below the source folder, with "/" and without its ending
    pose: np.ndarray  # (F, 17, 3) float32 positions in the file's axes, metres
    metadata: dict[str, Any]  # for the index of the data set
    subject: str = ""


def prepare(
    *, source: Path, folder: Path, origin: str | None, up: str | None, skip_bad: bool, **options: Any
) -> None:
    """Converts all files below ``source`` and writes the data set ``folder``: see the options of the command.

    Raises:
        UserError: Options or files cannot be used; every such file is named.
    """
    read = {name: options.pop(name) for name in ("fps", "source_fps", "unit")}
    given = options.pop("joint_map")
    joint_map = read_joint_map(given) if given else {}
    takes: dict[str, Take] = {}  # by digest
    left_out, copies = [], []
    files = find(source)
    for name, path in progress(files.items(), desc="reading", unit="file"):
        try:
            take = convert(path, name, joint_map, **read)
        except (UserError, OSError, ValueError, LookupError) as error:
            reason = error if isinstance(error, UserError) else f"damaged or of another kind ({error})"
            left_out.append(f"{name}{path.suffix}: {reason}")
            continue
        first = takes.setdefault(take.metadata["digest"], take)
        if first is not take:
            copies.append(f"{name}{path.suffix}: the same, byte for byte, as {first.metadata['file']}")
    if left_out and not (skip_bad and takes):
        hint = "" if skip_bad or not takes else "; fix or remove them, or give --skip_bad"
        more = f"\n  and {len(left_out) - 20} more" if left_out[20:] else ""
        listed = "\n  ".join(left_out[:20])
        raise UserError(f"{len(left_out)} of {len(files)} files cannot be used{hint}:\n  {listed}{more}")
    for line in left_out + copies:
        log.info("left out: %s", line)
    split = _split(list(takes.values()), source, **options)
    ordered = sorted(takes.values(), key=lambda t: (t.subject in split["test"], t.subject, t.name))
    unknown = f"motion capture files of the folder {source.resolve().name}; licence not stated (--origin)"
    index: list[dict[str, Any]] = []
    metadata = {"name": folder.name, "keypoints": "gt", "origin": origin or unknown, "fps": read["fps"]}
    metadata |= {**split, "left_out": left_out + copies, "sources": index}
    write_poses(folder, _views(ordered, split, up, index), metadata)
    frames = sum(entry["frames"] for entry in index)
    log.info("%s: %d frames x 4 cameras of %d files", folder, frames, len(index))
    log.info("train: %s; test: %s", ", ".join(split["train"]) or "nobody", ", ".join(split["test"]))
    for key, title in SUMMARY.items():
        for value, count in Counter(entry[key] for entry in index if entry[key]).most_common():
            some = [entry["file"] for entry in index if entry[key] == value][:5] if count < len(index) else []
            log.info("%s: %s, %d files %s", title, value, count, ", ".join(some))


def read_joint_map(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Reads a file of ``--joint_map``: by our joint's name the rig's, or a list whose middle is meant."""
    content, known = read_json(path), dict.fromkeys((*JOINT_NAMES, *OPTIONAL))
    entries = content.items() if isinstance(content, dict) else ()
    joints = {name: [given] if isinstance(given, str) else given for name, given in entries}
    named = all(isinstance(each, list) and {*map(type, each)} == {str} for each in joints.values())
    if not joints or not named or not joints.keys() <= known.keys():
        example = '{"left_hip": "LeftThigh", "head": "Head/end", "thorax": ["LeftArm", "RightArm"]}'
        raise UserError(f"{path}: expected JSON like {example}, with names of {', '.join(known)}")
    return joints


def find(folder: Path) -> dict[str, Path]:
    """The BVH and AMC files below a folder, by name; a BVH file beside its AMC file is left out."""
    found: dict[str, Path] = {}
    for path in files_below(folder):
        name, kind = printable(path.relative_to(folder).with_suffix("").as_posix()), path.suffix.lower()
        if not path.name.startswith(".") and (kind == ".amc" or (kind == ".bvh" and name not in found)):
            found[name] = path
    if not found:
        raise UserError(f"--source {folder}: expected a folder with .bvh, or .amc and .asf files; found none")
    return dict(sorted(found.items()))


def convert(path: Path, name: str, joint_map: Mapping[str, list[str]], **options: Any) -> Take:
    """Converts a file by the options ``fps``, ``source_fps`` and ``unit``.

    Raises:
        UserError, OSError, ValueError, LookupError: It cannot be used; the message does not name it.
    """
    used, given = [path], options["source_fps"]
    if path.suffix.lower() == ".amc":
        there = [each for each in path.parent.iterdir() if each.suffix.lower() == ".asf"]
        fitting = [each for each in there if path.stem.lower().startswith(each.stem.lower())]
        if not fitting and len(there) != 1:
            raise UserError("expected one .asf file beside it, or one whose name its own begins with")
        used.append(max(fitting or there, key=lambda each: len(each.stem)))
    whole, rate, note = read_amc(path, used[1], given) if used[1:] else read_bvh(path, given)
    joints = match(whole, joint_map)
    needed = {above for found in joints.values() for node in found for above in node.line()}
    nodes = [node for node in whole if node in needed]
    false_start = resample(nodes, rate, options["fps"])
    pose, taken, mirrored = to_joints(nodes, joints, options["fps"], options["unit"])
    rig = hashlib.sha256("\n".join(node.name for node in whole).encode()).hexdigest()[:16]
    metadata = {"file": name + path.suffix, "digest": "".join(map(sha256, used)), "rate": round(rate, 2)}
    up = up_axis(pose)
    metadata |= {
        "unit": taken,
        "up": up if up in UP_AXES else "",
        "mirrored": mirrored,
        "false_start": false_start,
    }
    return Take(path, name, pose.astype(np.float32), metadata | {"rig": rig, "note": note})


def _split(
    takes: list[Take], source: Path, *, subject: str, subjects_test: str | None, test_share: float
) -> dict[str, list[str]]:
    """Sets the subject of each take; the subjects of both parts.

    Where the split is by file, the files held out have subjects of their own: "01-test" beside "01".
    """
    for take in takes:
        take.subject = subject_of(take.name, source.resolve().name, subject)
    test = {name.strip() for name in (subjects_test or "").split(",")}
    if subjects_test is None:
        if len(takes) < 2:
            raise UserError(f"--source {source}: expected two usable files at least, found one")
        ranked = sorted(takes, key=lambda take: hashlib.sha256(take.name.encode()).digest())
        held_out = ranked[: min(max(round(test_share * len(ranked)), 1), len(ranked) - 1)]
        for take in held_out:
            take.subject += "-test"
        test = {take.subject for take in held_out}
    there = sorted({take.subject for take in takes})
    if unknown := sorted(test - {*there}):
        raise UserError(f"--subjects_test: found no {', '.join(unknown)}; the files have {', '.join(there)}")
    return {"train": [name for name in there if name not in test], "test": sorted(test)}


def subject_of(name: str, folder: str, by: str) -> str:
    """Who moves in a file, by the rules of ``--subject``: see dataset/README.md."""
    *parents, stem = name.split("/")
    found = parents[-1] if parents else folder
    if by == "prefix":
        found = re.split(r"[_\s]", stem)[0]
    elif by == "auto":
        trial = re.fullmatch(r"(\d+)_\d+", stem) or re.match(r"HDM_([a-z]+)_", stem, re.I)
        person = r"(subject|subj|actor|person|performer)-?\d+|s\d+"
        found = trial[1] if trial else next((w for w in _words(stem) if re.fullmatch(person, w, re.I)), found)
    return re.sub(r"[\s,]+", "-", found) or NO_ACTION


def action_of(name: str, subject: str) -> str:
    """What is done: the first word of a file's name that is neither a number nor of the subject's name."""
    others = {"hdm", "dataset", *(word.lower() for word in _words(subject)), subject.lower()}
    for word in _words(name.rpartition("/")[2]):
        plain = word.rstrip("0123456789")
        if len(plain) >= 3 and not {word.lower(), plain.lower()} & others:
            return plain
    return NO_ACTION


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[_\s.\-()\[\]]+", text) if word]


def _views(
    takes: list[Take], split: dict[str, list[str]], up: str | None, index: list[dict[str, Any]]
) -> Iterator[tuple[Sequence, np.ndarray, np.ndarray]]:
    """What the cameras see of all takes, as ``write_poses`` takes it; appends their metadata to ``index``."""
    setups = {
        person: h36m_cameras()[names[number % len(names)]]
        for part, names in SETUPS.items()
        for number, person in enumerate(split[part])
    }
    headings = (number * HEADING_STEP for number in itertools.count())
    _agree(takes, "up", "y")
    _agree(takes, "mirrored", False)
    for take in progress(takes, desc="placing", unit="file"):
        take.metadata["up"] = up or take.metadata["up"]
        pose = z_up(take.pose.astype(np.float64), take.metadata["up"])
        pose = pose[:, MIRROR] if take.metadata["mirrored"] else pose
        ankle = float(np.percentile(pose[:, ANKLES, 2].min(axis=1), 1))  # the lowest, but for glitches
        floor = ankle - ANKLE_HEIGHT * leg_length(pose) / LEG
        action, frames = f"{action_of(take.name, take.subject)} {take.name}", 0
        for start, seen in placed(pose, setups[take.subject], headings, floor):
            frames += len(seen[0][0])
            for number, (points, pixels) in enumerate(seen):
                camera = setups[take.subject][number]
                size = camera.width, camera.height
                view = Sequence(
                    take.subject,
                    action,
                    camera=number,
                    start=0,
                    stop=len(points),
                    intrinsics=tuple(camera.intrinsics().tolist()),
                    image_size=size,
                    first_frame=start,
                    orientation=camera.orientation,
                )
                yield view, normalize_pixels(pixels, *size), points
        about = {"subject": take.subject, "frames": frames, "frames_out_of_view": len(pose) - frames}
        index.append(take.metadata | about)
    if not any(entry["frames"] for entry in index):
        raise UserError("no frame of any file can be brought into view; check --up and --unit")


def _agree(takes: list[Take], key: str, default: Any) -> None:
    """Sets a value of every take to what most takes of its folder and rig say, since one program wrote them.

    A single take can mislead: who only crawls seems to stand along another axis.
    """
    votes: dict[Any, Counter] = {}
    groups = [(take.path.parent, take.metadata["rig"]) for take in takes]
    for take, group in zip(takes, groups, strict=True):
        for voters in (group, None):
            votes.setdefault(voters, Counter()).update({take.metadata[key]} - {None, ""})
    for take, group in zip(takes, groups, strict=True):
        counts = votes[group] or votes[None] or Counter([default])
        own = take.metadata[key]
        take.metadata[key] = own if counts[own] == max(counts.values()) else counts.most_common(1)[0][0]


def placed(
    pose: np.ndarray, cameras: Iterable[Camera], headings: Iterator[float], floor: float
) -> Iterator[tuple[int, list[View]]]:
    """Brings a take (F, 17, 3), metres, z up, into view, in halves of halves where it roams out of it.

    Yields the first frame of a piece, and what each camera sees of it.
    """
    pieces = [(0, len(pose))]
    while pieces:
        start, stop = pieces.pop()
        if stop - start < min(MIN_FRAMES, len(pose)):
            continue
        tries = (place(pose[start:stop], next(headings), floor) for _ in range(HEADINGS_TRIED))
        if seen := next((found for each in tries if (found := seen_by(each, cameras))), None):
            yield start, seen
        else:
            middle = (start + stop) // 2
            pieces += [(middle, stop), (start, middle)]


def place(pose: np.ndarray, heading: float, floor: float) -> np.ndarray:
    """Moves a take (F, 17, 3), metres, z up, to the cameras' room: rotated by ``heading`` radians about the
    vertical, centred, and its floor, at the height ``floor``, at z = 0."""
    rotated = pose @ Rotation.from_euler("z", heading).as_matrix().T
    path = rotated[:, ROOT, :2]
    return rotated - np.append((path.min(axis=0) + path.max(axis=0)) / 2, floor)


def seen_by(pose: np.ndarray, cameras: Iterable[Camera]) -> list[View] | None:
    """What cameras see of a take (F, 17, 3), world metres; None if a joint is near or beyond an edge."""
    seen = []
    for camera in cameras:
        points = camera.to_camera(pose)
        pixels = camera.project(points) if points[..., 2].min() > 0 else np.zeros(2)
        if pixels.min() <= MARGIN or np.any(pixels >= np.array([camera.width, camera.height]) - MARGIN):
            return None
        seen.append((points, pixels))
    return seen

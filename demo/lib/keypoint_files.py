"""2D key points made elsewhere, read into tracks of Human3.6M joints.

Three formats are read: COCO results, a folder of OpenPose BODY_25 files, and npz; docs/formats.md describes
them. What is not as described there is refused by name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.safe_npz import read_npz
from demo.lib import checks
from demo.lib.inputs import InputError
from demo.lib.keypoints import COCO_NAMES, coco_to_h36m
from demo.lib.missing_joints import LAYOUTS, fill_missing
from demo.lib.person import Person
from demo.lib.tracking import tracks as follow

BODY_25 = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist pelvis "
    "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear "
    "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"
).split()
FORMATS = {"h36m17": 17, "coco17": 17, "body25": len(BODY_25)}
"""Number of key points in each order that ``to_h36m`` knows."""
_COCO_IN_BODY_25 = [BODY_25.index(name) for name in COCO_NAMES]

MAX_NPZ = 2**30
MAX_FRAMES = 1_000_000
MAX_PEOPLE = 1_000_000  # In all frames together.
MAX_FPS = 10_000
SPARSE = 10
"""Integer image IDs that span more than so many times their number do not number the frames of a video: as
where IDs are text, the images are unrelated pictures."""
LISTED = 20
"""Images that a note names, at most."""


@dataclass(frozen=True)
class KeypointTrack:
    """One person in a file of key points.

    Attributes:
        id: Number of the person, from 1 on.
        frames: (T,) int frame numbers in rising order, counted from 0.
        keypoints: (T, 17, 2) float32 Human3.6M joints, pixels.
        scores: (T, 17) float32 confidence of each, 0 to 1; 0 where a joint was not in the file.
        interpolated: (T,) bool, where the person was not in the file and is filled in between neighbours.
    """

    id: int
    frames: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    interpolated: np.ndarray


@dataclass(frozen=True)
class KeypointInput:
    """What a file of key points holds.

    Attributes:
        source: The file or folder.
        image_size: Width and height of the image that the key points lie in, pixels.
        frame_count: Frames, those without people included.
        fps: Frames per second; None where neither the file nor the caller says.
        tracks: The people; empty where there are none.
        notes: What was left out or assumed, and which images the frames are, for the user.
    """

    source: str
    image_size: tuple[int, int]
    frame_count: int
    fps: float | None
    tracks: list[KeypointTrack]
    notes: list[str] = field(default_factory=list)


def read_keypoints(
    path: str | os.PathLike[str], *, image_size: tuple[int, int] | None = None, fps: float | None = None
) -> KeypointInput:
    """Reads key points made elsewhere.

    Args:
        path: A folder of OpenPose BODY_25 files, a COCO results file (.json) or an npz file.
        image_size: Width and height of the image, pixels. COCO results and OpenPose's files do not hold it,
            but the lifter's input depends on it. An npz file may hold it, but no other one.
        fps: Frames per second, for files that do not hold it; without it, frames have no times.

    Raises:
        InputError: The file is not there, of no known format, damaged, or holds what cannot be, which is
            named; or the image's size is neither in the file nor given.
        UnsafeFileError: An npz file is damaged or holds anything but arrays.
    """
    path = Path(path)
    if path.is_dir():
        result = _from_openpose(path, image_size)
    elif path.suffix.lower() == ".json":
        result = _from_coco(path, image_size)
    elif path.suffix.lower() == ".npz":
        result = _from_npz(path, image_size)
    else:
        raise InputError(f"{path}: expected key points as .json, as .npz or as a folder of OpenPose's files")
    checks.pixels(str(path), (track.keypoints for track in result.tracks), result.image_size)
    return result if result.fps else replace(result, fps=fps)


def assumed_scores(points: np.ndarray) -> np.ndarray:
    """(..., J) scores of key points (..., J, 2) that came without: 0 for those at exactly (0, 0), else 1."""
    # The corner itself, exactly, is how detectors write "not found".
    return (points != 0).any(axis=-1).astype(float)


def to_h36m(points: np.ndarray, scores: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Human3.6M's joints from key points in another order, with those that are missing put beside others.

    Args:
        points: (..., J, 2) pixels.
        scores: (..., J) confidence of each, 0 to 1; 0 for those that are missing (see ``fill_missing``).
        layout: Which key points they are, a name of ``FORMATS``.

    Returns:
        (..., 17, 2) float32 joints, the same pixels, (..., 17) float32 scores, and (...,) bool: False where
        too few were found to lift; the joints there mean nothing.
    """
    if layout == "body25":
        points, scores, layout = points[..., _COCO_IN_BODY_25, :], scores[..., _COCO_IN_BODY_25], "coco17"
    joints, liftable = fill_missing(points, scores, LAYOUTS[layout])
    if layout == "coco17":
        joints, scores = coco_to_h36m(joints, scores)
    return joints.astype(np.float32), scores.astype(np.float32), liftable


# COCO results


def _from_coco(path: Path, image_size: tuple[int, int] | None) -> KeypointInput:
    entries = checks.load_json(path)
    if not isinstance(entries, list):
        hint = "annotations are not results, and of OpenPose's files the folder is named"
        raise InputError(f"{path}: expected a list of COCO results, found {checks.kind(entries)}; {hint}")
    size = checks.image_size(path, image_size)
    checks.at_most(f"{path}: entries", len(entries), MAX_PEOPLE)
    people: dict[int | str, list[Person | None]] = {}
    others = 0
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: expected an object, found {checks.kind(entry)}")
        image = entry.get("image_id")
        if not (type(image) is int or type(image) is str):
            raise InputError(f"{where}: image_id: expected an integer or text, found {checks.kind(image)}")
        found = people.setdefault(image, [])
        if entry.get("category_id", 1) == 1:
            found.append(_coco_person(where, entry))
        else:
            others += 1
    notes = [f"{others} entries of other categories than 1, person, were left out"] if others else []
    frames = _numbered(path, people)
    if frames is not None:
        return _followed(path, size, frames, notes)
    images = sorted(people, key=_image_order)
    return _apart(path, size, [people[image] for image in images], [*notes, _listed(images)])


def _coco_person(where: str, entry: dict[str, Any]) -> Person | None:
    points = checks.numbers(f"{where}: keypoints", entry.get("keypoints"), 3 * len(COCO_NAMES))
    score = checks.numbers(f"{where}: score", [entry.get("score", 1.0)], 1)[0]
    # x, y and score of one key point after another: (51,) -> (17, 3)
    return _person(points.reshape(-1, 3), score)


def _numbered(path: Path, people: dict[int | str, list[Person | None]]) -> list[list[Person | None]] | None:
    """The people of each frame if the images' IDs number those of a video, else None."""
    numbers = [image for image in people if isinstance(image, int)]
    if not people:
        return []
    if len(numbers) < len(people):
        return None
    first, span = min(numbers), max(numbers) - min(numbers) + 1
    if span > SPARSE * len(numbers):
        return None
    checks.at_most(f"{path}: frames", span, MAX_FRAMES)
    return [people.get(first + frame, []) for frame in range(span)]


def _image_order(image: int | str) -> tuple[bool, Any]:
    """Integers by value, negative ones included, before texts."""
    return (True, _natural(image)) if isinstance(image, str) else (False, image)


def _listed(images: list[int | str]) -> str:
    """Which image each frame number stands for, of the first ones."""
    listed = ", ".join(f"{frame} = {checks.short(image)}" for frame, image in enumerate(images[:LISTED]))
    more = f" and {len(images) - LISTED} more in the order of their IDs" if len(images) > LISTED else ""
    return f"frames are images, people are not followed: {listed}{more}"


# OpenPose


def _from_openpose(folder: Path, image_size: tuple[int, int] | None) -> KeypointInput:
    files = sorted(folder.glob("*_keypoints.json"), key=lambda path: _natural(path.name))
    if not files:
        raise InputError(f"{folder}: expected *_keypoints.json, OpenPose's file for each frame; found none")
    size = checks.image_size(folder, image_size)
    checks.at_most(f"{folder}: files", len(files), MAX_FRAMES)
    frames: list[list[Person | None]] = []
    total = 0
    for file in files:
        content = checks.load_json(file)
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list):
            raise InputError(f"{file}: people: expected a list, found {checks.kind(people)}")
        total += len(people)
        checks.at_most(f"{folder}: people in all frames", total, MAX_PEOPLE)
        frames.append([_openpose_person(f"{file}: person {i}", entry) for i, entry in enumerate(people)])
    return _followed(folder, size, frames, [])


def _openpose_person(where: str, entry: Any) -> Person | None:
    points = entry.get("pose_keypoints_2d") if isinstance(entry, dict) else None
    found = checks.numbers(f"{where}: pose_keypoints_2d, BODY_25", points, 3 * len(BODY_25))
    # x, y and score of one key point after another: (75,) -> (25, 3)
    chosen = found.reshape(-1, 3)[_COCO_IN_BODY_25]
    return _person(chosen, chosen[:, 2].mean())


# npz


def _from_npz(path: Path, image_size: tuple[int, int] | None) -> KeypointInput:
    try:
        content = read_npz(path, max_total=MAX_NPZ)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    layout = str(content.get("format", "nothing"))
    if layout not in LAYOUTS:
        raise InputError(f"{path}: format: expected {' or '.join(LAYOUTS)}, found {checks.short(layout)}")
    points = _npz_points(path, content.get("keypoints"))
    size = checks.image_size(path, image_size, content.get("image_size"))
    fps = _npz_fps(path, content.get("fps"))

    # P people: (P, F, 17, 2 or 3)
    scored = points.shape[-1] == 3
    scores = points[..., 2].clip(0, 1) if scored else assumed_scores(points)
    joints, sure, there = to_h36m(points[..., :2], scores, layout)
    tracks = []
    for person in np.flatnonzero(there.any(axis=1)):
        frames = np.flatnonzero(there[person])
        unfilled = np.zeros(len(frames), bool)
        tracks.append(
            KeypointTrack(int(person) + 1, frames, joints[person, frames], sure[person, frames], unfilled)
        )
    notes = [] if scored else ["it holds no scores: 1 is assumed"]
    notes += _left_out(int(np.sum(~there & (scores > 0).any(axis=-1))))
    return KeypointInput(str(path), size, there.shape[1], fps, tracks, notes)


def _npz_points(path: Path, points: Any) -> np.ndarray:
    """(P, F, 17, 2 or 3) float64, checked."""
    where = f"{path}: keypoints"
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "iuf":
        raise InputError(f"{where}: expected an array of numbers, found {checks.kind(points)}")
    if points.ndim not in (3, 4) or points.shape[-2] != 17 or points.shape[-1] not in (2, 3):
        expected = "(F, 17, 2), (F, 17, 3), (P, F, 17, 2) or (P, F, 17, 3)"
        raise InputError(f"{where}: expected the shape {expected}, found {points.shape}")
    points = points if points.ndim == 4 else points[None]  # (F, 17, C) -> (1, F, 17, C)
    people, frames = points.shape[:2]
    checks.at_most(f"{where}: frames", frames, MAX_FRAMES)
    checks.at_most(f"{where}: people in all frames", people * frames, MAX_PEOPLE)
    checks.finite(where, points, " (person, frame)")
    return points.astype(np.float64)


def _npz_fps(path: Path, fps: Any) -> float | None:
    if fps is None:
        return None
    value = np.asarray(fps)
    if not (value.shape == () and value.dtype.kind in "iuf" and 0 < value <= MAX_FPS):
        raise InputError(
            f"{path}: fps: expected a number over 0 and up to {MAX_FPS:,}, found {checks.short(fps)}"
        )
    return float(value)


# People


def _person(points: np.ndarray, score: float) -> Person | None:
    """A person of COCO key points (17, 3), x, y and score; None if too few were found to lift."""
    scores = points[:, 2].clip(0, 1).astype(np.float32)
    keypoints, liftable = fill_missing(points[:, :2].astype(np.float32), scores, LAYOUTS["coco17"])
    if not liftable:
        return None
    box = np.concatenate([keypoints.min(axis=0), keypoints.max(axis=0)])
    return Person(keypoints, scores, box, float(np.clip(score, 0, 1)))


def _followed(
    path: Path, size: tuple[int, int], frames: list[list[Person | None]], notes: list[str]
) -> KeypointInput:
    """People without IDs, followed from frame to frame as those of the demo's own detectors are."""
    liftable = [[person for person in people if person] for people in frames]
    tracks = [
        _track(each.identity, each.frames, each.keypoints, each.scores, each.interpolated)
        for each in follow(liftable)
    ]
    notes += _left_out(sum(map(len, frames)) - sum(map(len, liftable)))
    return KeypointInput(str(path), size, len(frames), None, tracks, notes)


def _apart(
    path: Path, size: tuple[int, int], frames: list[list[Person | None]], notes: list[str]
) -> KeypointInput:
    """The people of unrelated pictures, each a track of one frame."""
    liftable = [(frame, person) for frame, people in enumerate(frames) for person in people if person]
    tracks = []
    for number, (frame, person) in enumerate(liftable, 1):
        joints, sure = person.keypoints[None], person.scores[None]  # (1, 17, 2), (1, 17)
        tracks.append(_track(number, np.array([frame]), joints, sure, np.zeros(1, bool)))
    notes += _left_out(sum(map(len, frames)) - len(liftable))
    return KeypointInput(str(path), size, len(frames), None, tracks, notes)


def _left_out(count: int) -> list[str]:
    return [f"{count} times a person without shoulders or without hips was left out"] if count else []


def _track(
    number: int, frames: np.ndarray, points: np.ndarray, found: np.ndarray, gaps: np.ndarray
) -> KeypointTrack:
    joints, scores = coco_to_h36m(points, found)
    return KeypointTrack(number, frames, joints.astype(np.float32), scores.astype(np.float32), gaps)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts img10 after img2."""
    parts = re.split(r"([0-9]+)", name)
    # By length and then as text, as Python makes no number of thousands of digits.
    digits = [part.lstrip("0") if part[:1].isdigit() else "" for part in parts]
    return [
        (0, len(number), number) if part[:1].isdigit() else (1, 0, part)
        for part, number in zip(parts, digits, strict=True)
        if part
    ]

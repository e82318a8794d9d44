"""2D keypoints in the files of other tools: one table of formats, read into tracks (docs/formats.md)."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.console import UserError
from common.files import read_json, read_npz
from common.skeleton import COCO17
from demo.lib import keypoints as kp
from demo.lib.result import Person, Result, Track
from demo.lib.tracking import follow

MAX_FRAMES = 1_000_000
MAX_NPZ = 2**30  # bytes unpacked
SPARSE = 10  # frame numbers per image, beyond which images are unrelated
MIN_VIDEO = 3  # numbered images that make a video where there are others too
LISTED = 20  # names that a message lists
FRAME_NAME = re.compile(r"(.*?)[-_. /]*(\d{1,18})(_keypoints)?(\.0)?(\.[A-Za-z]\w*)?", re.DOTALL)


class Format(NamedTuple):
    """Where the files of one tool hold what: keys of JSON objects, or members of an npz file."""

    name: str  # as --format spells it
    mark: str  # keys of which any tells the format
    points: str  # keys of a person's keypoints, or the member that holds all
    scores: str = ""  # keys of the scores where they do not follow each x and y
    lists: str = ""  # keys of lists of frames or people
    frame: str = ""  # key of the frame; else its position in the list, or the file's name
    order: str | None = None  # joint order; else metadata or the number of joints tells it
    size: str = "image_size"  # member that holds the image's width and height
    scaled: bool = False  # whether the tool also writes fractions of width and height


PERSON = "track_id person_id idx instance_id"  # keys of a person's ID, of all tools
MARKS = "landmarks pose_landmarks poseLandmarks"
FORMATS = (
    Format("openpose", "people bodies", "pose_keypoints_2d joints", lists="people bodies"),
    Format("coco", "image_id", "keypoints", lists="annotations", frame="image_id"),
    Format("mmpose", "instances bbox_score", "keypoints", "keypoint_scores", lists="instance_info instances",
           frame="frame_id"),
    Format("ultralytics", "box", "keypoints", lists="frames", frame="frame", scaled=True),
    Format("mediapipe", f"{MARKS} x", f"{MARKS} keypoints", lists="frames", frame="frame", scaled=True),
    Format("videopose3d", "positions_2d", "positions_2d", size="metadata"),
    Format("detectron2", "segments", "keypoints", order="coco17", size="metadata"),
    Format("mhformer", "reconstruction", "reconstruction", order="h36m17"),
    Format("npz", "format", "keypoints", "scores"),
    Format("rtmlib", "keypoints", "keypoints", "scores keypoint_scores"),  # and other plain arrays
)  # fmt: skip
PEOPLE_FIRST = ("npz", "mhformer")  # formats whose arrays are (people, frames, joints, columns)
NAMES = (*(row.name for row in FORMATS), *kp.ORDERS)
"""What ``--format`` accepts: a format, or an order of joints, for a file whose format is recognised."""


def read_keypoints(
    path: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    fps: float | None = None,
    format: str | None = None,  # noqa: A002 -- the option's name
) -> Result:
    """Reads 2D keypoints made elsewhere.

    Args:
        path: A JSON, npz or npy file, or a folder of JSON files. Where it holds several videos, one is chosen
            by a path that goes on with its name: ``folder/a``, ``data_2d_custom_x.npz/walk.mp4``.
        image_size: Width and height, pixels, where the file does not hold them.
        fps: Frames per second, where the file does not hold them.
        format: A name of ``NAMES``; by default it is recognised.

    Returns:
        The people, not lifted yet. Frame numbers and IDs are the file's; people without IDs are followed.

    Raises:
        UserError: The file is missing, damaged, of an unknown format, or holds invalid values; or the image's
            size is unknown.
    """
    if format not in (None, *NAMES):
        raise UserError(f"--format {format}: expected {', '.join(NAMES)}")
    path, video = _split(Path(path))
    poses = _Poses(str(path), order=format if format in kp.ORDERS else None)
    if path.is_dir() or path.suffix.lower() == ".json":
        files = [file for file in path.glob("*.json") if not file.name.startswith(".")] or [path]
        for file in sorted(files, key=lambda file: _natural(file.name)):
            content = read_json(file)
            _walk(content, _row(file, format, content), poses, None if file == path else file.name)
    elif path.suffix.lower() in (".npz", ".npy"):
        _read_arrays(path, format, poses, video)
    else:
        raise UserError(f"{path}: expected keypoints as .json, .npz, .npy or a folder of .json files")
    rate = fps if poses.fps is None else poses.fps
    if rate is not None and not (np.ndim(rate) == 0 and 0.01 <= rate <= 10_000):
        raise UserError(f"{path}: fps: expected a number from 0.01 to 10,000, found {rate}")
    result = Result(str(path), _image_size(poses, image_size), 0, None if rate is None else float(rate))
    _add_tracks(result, poses, video, path.is_dir())
    result.notes["2D pose"] = "; ".join([f"keypoints of {path}", *poses.notes])
    return result


@dataclass
class _Poses:
    """What a file holds, pose by pose; frames as they are spelled there."""

    source: str
    order: str | None
    frames: list[Any] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)  # -1 where there is none
    points: list[np.ndarray] = field(default_factory=list)  # (J, C): x, y, score or x, y, z, score
    images: dict[Any, None] = field(default_factory=dict)  # all frames, also those without people
    scaled: bool = False
    size: Any = None
    fps: Any = None
    notes: list[str] = field(default_factory=list)

    def add(self, frame: Any, person: Any, points: Any, scores: Any = None) -> None:
        """Adds a person; see ``_is_person`` for ``points``."""
        try:
            if isinstance(points, dict):
                points = np.transpose([points[key] for key in ("x", "y", "visible") if points.get(key)])
            elif isinstance(points[0], dict):
                keys = ["x", "y", *(key for key in ("visibility", "score") if key in points[0])][:3]
                points = [[joint[key] for key in keys] for joint in points]
            array = np.array(points, np.float64)  # None becomes NaN
            if array.ndim == 1:
                array = array.reshape(-1, 3 if array.size / 3 in kp.ORDERS.values() else 2)
            if scores is not None:
                array = np.column_stack([array[:, :2], np.array(scores, np.float64)])
            first = self.points[0] if self.points else array
            known = len(array) == kp.ORDERS[self.order] if self.order else len(array) in kp.ORDERS.values()
            if array.ndim != 2 or array.shape != first.shape or not known:
                counts = ", ".join(map(str, sorted(set(kp.ORDERS.values()))))
                raise ValueError(f"{self.order or counts} joints, the same in all poses; found {array.shape}")
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            where = f"{self.source}: frame {frame}: expected x, y and score of each joint"
            raise UserError(f"{where}: {error}") from None
        person = person[0] if isinstance(person, list) and person else person
        self.ids.append(int(person) if isinstance(person, int | float) and person >= 0 else -1)
        self.images.setdefault(frame)
        self.frames.append(frame)
        self.points.append(array)


def _split(path: Path) -> tuple[Path, str | None]:
    """A file or folder, and the video in it that the path names."""
    inside = path.parent.is_file() or any(path.parent.glob(f"{glob.escape(path.name)}*.json"))
    return (path.parent, path.name) if inside and not path.exists() else (path, None)


def _row(path: Path, name: str | None, content: Any) -> Format:
    """The format that was named, or the first whose mark is among the keys."""
    keys = _keys(content)
    for row in FORMATS:
        if name == row.name or ((name is None or name in kp.ORDERS) and keys.intersection(row.mark.split())):
            return row
    if content == []:
        return FORMATS[1]
    found = _listed(sorted(keys)) or "none"
    raise UserError(f"{path}: expected keypoints in a format of docs/formats.md, found the keys {found}")


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def _image_size(poses: _Poses, given: tuple[int, int] | None) -> tuple[int, int]:
    if poses.size is None and given is None:
        raise UserError(f"{poses.source}: the image's size is not in it; add --image_size WIDTH HEIGHT")
    try:
        sizes = [kp.image_size_of(size) for size in (poses.size, given) if size is not None]
    except (ValueError, TypeError) as error:
        raise UserError(f"{poses.source}: {error}") from None
    if sizes[0] != sizes[-1]:
        raise UserError(f"{poses.source}: image_size: the file has {sizes[0]}, the command line {sizes[1]}")
    return sizes[0]


# JSON


def _walk(value: Any, row: Format, poses: _Poses, frame: Any, person: Any = None) -> None:
    """Adds the people of a JSON value: a person, or a list of frames or people."""
    poses.scaled, poses.order = row.scaled, poses.order or row.order
    scores = None
    if isinstance(value, dict):
        if value.get("category_id", 1) != 1:
            poses.notes = ["entries of other categories than 1, person, were left out"]
            return
        frame, person = _first(value, row.frame, frame), _first(value, PERSON, person)
        scores, inner = _first(value, row.scores), _first(value, row.points)
        if inner is not None:
            frame = 0 if frame is None else frame
        elif (inner := _first(value, row.lists)) is None and frame is None:  # images by name
            inner = [{row.frame: name, **item} for name, item in value.items() if isinstance(item, dict)]
        value = inner
    if _is_person(value):
        poses.add(0 if frame is None else frame, person, value, scores)
    elif isinstance(value, list):
        # A list at the top holds frames, or the people of one image.
        people = all(isinstance(item, dict) and _is_person(_first(item, row.points)) for item in value)
        if frame is not None:
            poses.images.setdefault(frame)
        for position, item in enumerate(value):
            _walk(item, row, poses, position if frame is None and not people else frame, person)
    else:
        raise UserError(f"{poses.source}: frame {frame}: expected {row.points}, found {type(value).__name__}")


def _first(value: dict, keys: str, default: Any = None) -> Any:
    return next((value[key] for key in keys.split() if value.get(key) is not None), default)


def _is_person(value: Any) -> bool:
    """Whether it is [x, y, score, x, ...], [[x, y, ...], ...], [{"x", "y"}, ...] or {"x": [...], ...}."""
    if isinstance(value, dict):
        return isinstance(value.get("x"), list)
    if not isinstance(value, list) or not value or isinstance(value[0], str):
        return False
    if isinstance(value[0], list):
        return 2 <= len(value[0]) <= 5 and not isinstance(value[0][0], list | dict)
    return "x" in value[0] if isinstance(value[0], dict) else True


# Arrays


def _read_arrays(path: Path, name: str | None, poses: _Poses, video: str | None) -> None:
    if not path.is_file() or path.stat().st_size > MAX_NPZ:
        raise UserError(f"{path}: expected a regular file of at most {MAX_NPZ:,} bytes")
    try:
        content = (
            read_npz(path, MAX_NPZ) if path.suffix.lower() == ".npz" else {"keypoints": np.load(path, "r")}
        )
        row = _row(path, name, dict.fromkeys(content))
        points, scores = _first(content, row.points), _first(content, row.scores)
        order, metadata = content.get("format", row.order), content.get("metadata", {})
        poses.size, poses.fps = content.get("image_size"), content.get("fps")
        videos = {"": points}
        if row.name == "videopose3d":  # {video: {action: [views]}}
            order = {"coco": "coco17", "h36m": "h36m17"}.get(metadata["layout_name"])
            first = video if video in points else next(iter(points))
            metadata = metadata.get("video_metadata", {}).get(first, {})
            videos = {
                name if len(actions) == len(views) == 1 else f"{name} {action} {number}": view
                for name, actions in points.items()
                for action, views in actions.items()
                for number, view in enumerate(views)
            }
        elif row.name == "detectron2":  # for each frame [[], (P, 4, 17)]: x, y, logit, probability
            videos[""] = [np.moveaxis(people, 1, -1) if len(people) else [] for _, people in points]
        if "w" in metadata:
            poses.size, poses.fps = (metadata["w"], metadata["h"]), metadata.get("fps")
        poses.order = poses.order or (None if order is None else str(order))
        if poses.order not in (None, *kp.ORDERS):
            raise UserError(f"{path}: format: expected {' or '.join(kp.ORDERS)}, found {poses.order}")
        for name, points in videos.items():
            if scores is not None:
                columns = [np.asarray(frame)[..., None] for frame in scores]
                points = [np.concatenate(pair, axis=-1) for pair in zip(points, columns, strict=True)]
            if len({np.shape(people) for people in points}) == 1:
                points = np.stack(list(points))
            axes = getattr(points, "ndim", 0)  # 0: another number of people in each frame
            same_people = axes == 3 or (axes == 4 and row.name in PEOPLE_FIRST)
            frames = points[:, None] if axes == 3 else np.swapaxes(points, 0, 1) if same_people else points
            for number, people in enumerate(frames):
                frame = f"{name}/{number}" if name else number
                poses.images.setdefault(frame)
                for person, joints in enumerate(people):
                    poses.add(frame, person + 1 if same_people else -1, joints)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: expected arrays as docs/formats.md describes them: {error}") from None


# Frames and people


def _natural(name: Any) -> list[str]:
    """Sorting key that puts img10 after img2."""
    return [part.zfill(20) if part.isdigit() else part for part in re.split(r"(\d+)", str(name))]


def _listed(names: Iterable[Any]) -> str:
    names = [str(name)[:100] for name in names]
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _frame_numbers(poses: _Poses, video: str | None) -> tuple[dict[Any, int], bool]:
    """The number of each frame by its name in the file, and whether they are frames of a video.

    Images that are no video are numbered in the order of their names.
    """
    images = sorted(poses.images, key=_natural)
    groups: dict[str, dict[Any, int]] = {}
    for image in images:
        name = FRAME_NAME.fullmatch(str(image))
        groups.setdefault(name[1] if name else "", {})[image] = int(name[2]) if name else -1
    videos = {
        prefix: numbers
        for prefix, numbers in groups.items()
        if max(numbers.values()) - min(numbers.values()) < SPARSE * len(numbers)
        and min(numbers.values()) >= 0
    }
    several = [prefix for prefix, numbers in videos.items() if len(numbers) >= MIN_VIDEO]
    if video in videos:
        return videos[video], True
    if len(several) > 1 or video is not None:
        source = poses.source
        raise UserError(f"{source}: expected one video, found {_listed(several)}; choose one: {source}/NAME")
    if len(groups) == len(videos) == 1:
        return next(iter(videos.values())), True
    return {image: number for number, image in enumerate(images)}, False


def _add_tracks(result: Result, poses: _Poses, video: str | None, folder: bool) -> None:
    """Adds a track for each person."""
    numbers, moving = _frame_numbers(poses, video)
    result.frame_count = max(numbers.values(), default=-1) + 1
    if result.frame_count > MAX_FRAMES:
        raise UserError(
            f"{result.source}: expected at most {MAX_FRAMES:,} frames, found {result.frame_count:,}"
        )
    if not moving and len(numbers) > 1:
        poses.notes.append(f"unrelated images, not followed: {_listed(numbers)}")
    kept = [index for index, frame in enumerate(poses.frames) if frame in numbers]
    if not kept:
        return
    points, scores = _checked(poses, kept, result.image_size)
    order = poses.order or next(name for name, count in kp.ORDERS.items() if count == points.shape[1])
    joints, confidence, liftable = kp.to_h36m(points, scores, order)
    if left_out := int(((scores > 0).any(axis=-1) & ~liftable).sum()):
        poses.notes.append(f"{left_out} times a person without shoulders or without hips was left out")
    frames = np.array([numbers[poses.frames[index]] for index in kept])
    ids = np.array(poses.ids)[kept] if moving else np.arange(1, len(kept) + 1)
    known = list(zip(frames[ids >= 0], ids[ids >= 0], strict=True))
    if (ids > 0).any() and len(set(known)) == len(known):  # IDs that repeat in a frame are no IDs
        for person in np.unique(ids[liftable & (ids >= 0)]):
            rows = np.flatnonzero(liftable & (ids == person))
            rows = rows[np.argsort(frames[rows], kind="stable")]
            interpolated = np.zeros(len(rows), bool)
            result.tracks.append(
                Track(int(person), frames[rows], joints[rows], confidence[rows], interpolated)
            )
        return
    if order == "h36m17":
        raise UserError(
            f"{result.source}: expected IDs of the people, as Human3.6M's joints are not followed"
        )
    coco, found = points[:, kp.COCO_IN[order]], scores[:, kp.COCO_IN[order]].astype(np.float32)
    coco = kp.fill_missing(coco, found, COCO17)[0].astype(np.float32)
    people: list[list[Person]] = [[] for _ in range(result.frame_count)]
    for row in np.flatnonzero(liftable):
        box = np.concatenate([coco[row].min(axis=0), coco[row].max(axis=0)])
        people[frames[row]].append(Person(coco[row], found[row], box, float(found[row].mean())))
    for track in follow(people):
        if folder:  # a frame without a file is a gap; one without the person is interpolated
            there = np.isin(track.frames, list(numbers.values()))
            names = ("frames", "keypoints", "scores", "interpolated")
            track = replace(track, **{name: getattr(track, name)[there] for name in names})
        result.tracks.append(track)


def _checked(poses: _Poses, kept: list[int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, J, 2) pixels and (N, J) scores of the poses that are kept; 0 where a joint was not found."""
    values = np.stack([poses.points[index] for index in kept])  # (N, J, 2 to 5)
    points, columns = values[..., :2].copy(), values.shape[2]
    invalid = np.argwhere((np.abs(points) > kp.MAX_COORDINATE).any(axis=-1))
    if len(invalid):
        pose, joint = invalid[0]
        raise UserError(
            f"{poses.source}: frame {poses.frames[kept[pose]]}, joint {joint}: expected finite numbers of "
            f"at most {kp.MAX_COORDINATE:,}, found {points[pose, joint]} (half precision ends at 65,504)"
        )
    depth = columns == 3 and values.shape[1] == kp.ORDERS["mediapipe33"] and (values[..., 2] < 0).any()
    if columns == 2 or depth:
        scores = kp.assumed_scores(points)
        poses.notes.append("it holds no scores: 1 is assumed")
    else:
        scores = values[..., 2 if columns == 3 else 3].clip(0, 1)
    missing = np.isnan(points).any(axis=-1) | np.isnan(scores)
    points[missing], scores[missing] = 0, 0
    if kp.is_normalized(points, scores, size):
        if not (poses.scaled or values.shape[1] == kp.ORDERS["mediapipe33"]):
            raise UserError(f"{poses.source}: expected pixels, found normalised coordinates; scale them back")
        points *= size
        poses.notes.append("normalised coordinates, taken as fractions of the image's width and height")
    return points, scores

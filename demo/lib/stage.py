"""The people of an input on one floor, for the 3D views: a display, not a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.plots import FLOOR_CELL
from common.skeleton import ROOT
from demo.lib.result import Result, Track

CAUTION = "Upright view: an estimate, not a measurement."
SIDE_BY_SIDE = "People are placed side by side; where they stood is unknown."
ESTIMATED = "Positions of people are estimates."

GAP_M = 0.2  # between neighbours
ROW = 4  # people side by side in one row
DEEP_M = 3.0  # a deeper stage is seen from higher up, so that nobody hides behind another
HEADROOM_M = 0.15  # over the highest joint
MAX_STAGE_M = 40.0  # largest side of the floor that is drawn
ALWAYS_SHOWN = np.array([[-0.7, -0.7, 0.0], [0.7, 0.7, 1.0]])  # so that there is floor around people


class Standing(NamedTuple):
    """One person in one frame.

    Attributes:
        id: Number of the person.
        keypoints: (17, 2) pixels of the input.
        scores: (17,) 0 to 1.
        pose: (17, 3) on the stage: metres, x right and y away as the camera sees it, z up from the floor.
        interpolated: Whether nobody was detected here and the pose is filled in.
    """

    id: int
    keypoints: np.ndarray
    scores: np.ndarray
    pose: np.ndarray
    interpolated: bool


class View(NamedTuple):
    """The part of the stage that a 3D view shows.

    Attributes:
        low: Lowest corner (x, y, z), metres; x and y on a grid line.
        high: Highest corner, likewise.
        elevation: Viewing angle above the horizon, degrees.
        captions: Sentences that must stand beside the view.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    elevation: float = 10.0
    captions: tuple[str, ...] = (CAUTION,)


@dataclass(frozen=True)
class Stage:
    """The people of a result on one floor.

    Attributes:
        tracks: The result's tracks.
        poses: For each track its (T, 17, 3) poses on the stage; see ``Standing.pose``.
        view: A view of all of them in all frames.
    """

    tracks: list[Track]
    poses: list[np.ndarray]
    view: View

    def at(self, frame: int) -> list[Standing]:
        """The people in a frame of the input, counted from 0."""
        people = []
        for track, poses in zip(self.tracks, self.poses, strict=True):
            row = int(np.searchsorted(track.frames, frame))
            if row < len(track.frames) and track.frames[row] == frame:
                filled = bool(track.interpolated[row])
                people.append(Standing(track.id, track.keypoints[row], track.scores[row], poses[row], filled))
        return people


def set_stage(result: Result) -> Stage:
    """Sets all people of a result on one floor, oriented as the camera saw them.

    Where every track has an estimated root, people stand there. Otherwise they stand side by side, in the
    order in which they appear; one may follow another in the same place.

    Args:
        result: Its upright poses are shown.
    """
    axes = _axes(result.tracks)
    centred = [_on_floor(track.upright, axes) for track in result.tracks]
    roots = [track.root for track in result.tracks if track.root is not None]
    estimated = bool(roots) and len(roots) == len(result.tracks)
    places = _estimated(roots, axes) if estimated else _side_by_side(result.tracks, centred)
    poses = []
    for pose, place in zip(centred, places, strict=True):
        pose[..., :2] += place[:, None]  # (T, 2) or (1, 2) -> (T, 1, 2), the same for all joints
        poses.append(pose)
    return Stage(result.tracks, poses, _view(poses, estimated))


def _axes(tracks: list[Track]) -> np.ndarray:
    """(3, 3) rotation of row vectors of camera space to upright, from the poses before and after."""
    if not tracks:
        return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    camera = np.concatenate([track.poses - track.poses[:, [ROOT]] for track in tracks])
    upright = np.concatenate([track.upright - track.upright[:, [ROOT]] for track in tracks])
    # N poses of all tracks: (N, 17, 3) -> (17 N, 3)
    return np.linalg.lstsq(camera.reshape(-1, 3), upright.reshape(-1, 3), rcond=None)[0]


def _level(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Horizontal upright coordinates (..., 2 or 3) to right and away (..., 2) as the camera sees them."""
    right = axes[0, :2] / max(float(np.linalg.norm(axes[0, :2])), 1e-6)
    away = np.array([-right[1], right[0]])
    return points[..., :2] @ np.stack([right, away], axis=-1)


def _on_floor(upright: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Poses (T, 17, 3) with the root over the origin, x right, y away, z as it was."""
    level = _level(upright - upright[:, [ROOT]], axes)  # (T, 17, 2)
    return np.concatenate([level, upright[..., 2:]], axis=-1)


def _estimated(roots: list[np.ndarray], axes: np.ndarray) -> list[np.ndarray]:
    """(T, 2) places for each track, the middle of all at the origin."""
    places = [_level(root @ axes, axes) for root in roots]
    everywhere = np.concatenate(places)
    middle = (everywhere.min(axis=0) + everywhere.max(axis=0)) / 2
    return [place - middle for place in places]


def _side_by_side(tracks: list[Track], poses: list[np.ndarray]) -> list[np.ndarray]:
    """(1, 2) places for each track: nobody's reach touches the neighbour's; rows are staggered."""
    slots, last = _slots(tracks)
    columns = len(last) if len(last) <= ROW else int(np.ceil(np.sqrt(2 * len(last))))
    reach = np.ptp(np.concatenate(poses)[..., :2], axis=(0, 1)).max() if poses else 0.0
    pitch = float(reach) + GAP_M
    rows, places = np.divmod(slots, max(columns, 1))
    x = places - (columns - 1) / 2 + rows % 2 * 0.5
    return list((np.stack([x, rows], axis=-1) * pitch)[:, None])


def _slots(tracks: list[Track]) -> tuple[list[int], list[int]]:
    """A slot for each track, free while the track lasts, and the last frame of each slot."""
    last: list[int] = []
    slots = [0] * len(tracks)
    order = sorted(
        range(len(tracks)), key=lambda i: (tracks[i].frames[0], tracks[i].keypoints[0, :, 0].mean())
    )
    for index in order:
        first, end = int(tracks[index].frames[0]), int(tracks[index].frames[-1])
        free = [slot for slot, until in enumerate(last) if until < first]
        slots[index] = free[0] if free else len(last)
        last[slots[index] : slots[index] + 1] = [end]
    return slots, last


def _view(poses: list[np.ndarray], estimated: bool) -> View:
    # T frames of each track: (T, 17, 3) -> (17 T, 3)
    points = np.concatenate([ALWAYS_SHOWN, *(pose.reshape(-1, 3) for pose in poses)])
    low, high = points.min(axis=0).clip(-MAX_STAGE_M / 2), points.max(axis=0).clip(None, MAX_STAGE_M / 2)
    x0, y0 = np.floor(low[:2] / FLOOR_CELL) * FLOOR_CELL
    x1, y1 = np.ceil(high[:2] / FLOOR_CELL) * FLOOR_CELL
    placing = [ESTIMATED] if estimated else [SIDE_BY_SIDE] if len(poses) > 1 else []
    return View(
        (float(x0), float(y0), min(float(low[2]), 0.0)),
        (float(x1), float(y1), float(high[2]) + HEADROOM_M),
        10.0 if y1 - y0 < DEEP_M else 25.0,
        (CAUTION, *placing),
    )

"""From the people of each frame to tracks: IDs over time, gaps filled, false and duplicate tracks removed."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from demo.lib.keypoints import coco_to_h36m
from demo.lib.regions import overlaps
from demo.lib.result import Person, Track

REACH, REACH_GROWTH, REACH_LIMIT = 0.35, 0.05, 0.8
"""Largest distance from the expected place, heights of a person: after a frame, more per frame, at most."""
TURNED = 0.15  # heights of a person: what a distance of the middles counts more than one of keypoints
STEADINESS = 0.7  # weight of the old velocity in the new one: keypoints jitter, people turn slowly
MIN_FRAMES = 10  # frames in which a person must be seen; fewer are enough in shorter inputs
MIN_SCORE = 0.25  # mean score of a person's joints
STILL, MIN_MOVING = 0.01, 25  # movement in the skeleton over its size, frames from which it is required
MAX_JUMP = 0.15  # change of a skeleton's size from frame to frame, median
SAME, SHARED = 0.12, 0.5  # distance in heights at which two people are one, for this fraction of the frames


def follow(frames: Iterable[Sequence[Person]], *, max_gap: int = 20) -> list[Track]:
    """Turns the people of the frames of a video into a track for each person.

    Args:
        frames: The people of each frame, from frame 0.
        max_gap: Longest run of frames that is interpolated; after a longer one a person gets a new ID.

    Returns:
        Tracks of Human3.6M's joints by ID, not lifted yet.
    """
    tracker = Tracker(max_gap)
    # Packed, since a long video has many people and nothing else of it is kept: 204 bytes per pose.
    numbers: dict[int, array[int]] = {}
    packed: dict[int, bytearray] = {}
    for frame, people in enumerate(frames):
        for identity, person in zip(tracker.update(people, frame), people, strict=True):
            numbers.setdefault(identity, array("q")).append(frame)
            row = np.column_stack([person.keypoints, person.scores]).astype(np.float32)  # (17, 3)
            packed.setdefault(identity, bytearray()).extend(row.tobytes())
    return [
        _track(
            identity, np.array(rows), np.frombuffer(packed[identity], np.float32).reshape(len(rows), 17, 3)
        )
        for identity, rows in sorted(numbers.items())
    ]


def keep_people(tracks: Sequence[Track], frame_count: int) -> list[Track]:
    """Drops tracks that are nobody: rarely seen, unsure, jumping, never moving, or duplicates."""
    kept: list[Track] = []
    least = min(MIN_FRAMES, frame_count)
    for track in sorted(tracks, key=lambda one: -len(one.frames)):
        if np.count_nonzero(~track.interpolated) >= least and _is_body(track, frame_count):
            if not any(_is_duplicate(track, other) for other in kept):
                kept.append(track)
    return sorted(kept, key=lambda one: one.id)


def distances(people: Sequence[Person], others: Sequence[Person]) -> NDArray[np.float64]:
    """(P, Q) mean distance of the keypoints that both see, in heights of a person; infinite without any."""
    points, scores, size = _stack(people)
    other_points, other_scores, other_size = _stack(others)
    gap = np.linalg.norm(points[:, None] - other_points, axis=-1)  # (P, Q, 17)
    weight = scores[:, None] * other_scores
    total = weight.sum(axis=-1)
    height = np.maximum((size[:, None] + other_size) / 2, 1.0)
    return np.where(total > 1e-6, (gap * weight).sum(axis=-1) / np.maximum(total, 1e-9) / height, np.inf)


def _stack(people: Sequence[Person]) -> tuple[NDArray, NDArray, NDArray]:
    """(P, 17, 2) keypoints, (P, 17) scores and (P,) heights of people."""
    boxes = np.array([person.box for person in people]).reshape(-1, 4)
    points = np.array([person.keypoints for person in people]).reshape(-1, 17, 2)
    scores = np.array([person.scores for person in people]).reshape(-1, 17)
    return points, scores, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)


@dataclass
class _Target:
    """A followed person: as last seen, when, and how fast they move (pixels per frame)."""

    identity: int
    person: Person
    frame: int
    velocity: NDArray

    def expected(self, frame: int) -> Person:
        """The person moved on to a frame at constant velocity."""
        shift = self.velocity * (frame - self.frame)
        last = self.person
        return Person(last.keypoints + shift, last.scores, last.box + np.tile(shift, 2), last.score)

    def see(self, person: Person, frame: int) -> None:
        """Updates the person with a later frame."""
        weight = person.scores * self.person.scores
        moved = np.average(person.keypoints - self.person.keypoints, axis=0, weights=weight + 1e-9)
        self.velocity = STEADINESS * self.velocity + (1 - STEADINESS) * moved / (frame - self.frame)
        self.person, self.frame = person, frame


class Tracker:
    """Gives the people of each frame lasting IDs.

    People are matched with those of earlier frames, moved on at constant velocity, so that keypoint distance
    and box overlap are best over all of them together (Kuhn's Hungarian method).

    Args:
        max_gap: Frames for which a person may be unseen and keep the ID.
    """

    def __init__(self, max_gap: int = 20) -> None:
        self.max_gap = max_gap
        self.targets: list[_Target] = []
        self.given = 0

    def update(self, people: Sequence[Person], frame: int) -> list[int]:
        """IDs of the people of a frame, in their order, from 1 on."""
        self.targets = [target for target in self.targets if frame - target.frame <= self.max_gap + 1]
        identities = [0] * len(people)
        for row, column in self._match(people, frame):
            self.targets[row].see(people[column], frame)
            identities[column] = self.targets[row].identity
        for column, person in enumerate(people):
            if not identities[column]:
                self.given += 1
                identities[column] = self.given
                self.targets.append(_Target(self.given, person, frame, np.zeros(2)))
        return identities

    def _match(self, people: Sequence[Person], frame: int) -> list[tuple[int, int]]:
        """Pairs of target and person."""
        if not people or not self.targets:
            return []
        expected = [target.expected(frame) for target in self.targets]
        away = distances(expected, people)
        boxes, others = (np.stack([person.box for person in some]) for some in (expected, people))
        unseen = np.array([frame - target.frame - 1 for target in self.targets])[:, None]
        # The middle of somebody who turned over while unseen is nearer than their limbs.
        middle = (
            np.linalg.norm(boxes[:, None, :2] + boxes[:, None, 2:] - others[:, :2] - others[:, 2:], axis=-1)
            / 2
        )
        middle = middle / np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True), 1) + TURNED
        away = np.where(unseen > 0, np.minimum(away, middle), away)
        possible = away < np.minimum(REACH + REACH_GROWTH * unseen, REACH_LIMIT)
        # An impossible pair costs more than all possible ones together, so it never displaces one.
        cost = np.where(possible, away + 0.5 * (1 - overlaps(boxes, others)), 1e3)
        rows, columns = linear_sum_assignment(cost)
        return [(row, column) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def _is_body(track: Track, frame_count: int) -> bool:
    """Whether the joints are sure enough, keep their size, and move within the skeleton as a body does."""
    points = track.keypoints[~track.interpolated]
    if frame_count > 1 and track.scores[~track.interpolated].mean() < MIN_SCORE:
        return False
    sizes = np.maximum(np.ptp(points, axis=1).max(axis=-1), 1)  # (T,) pixels
    if len(points) > 1 and np.median(np.abs(np.diff(np.log(sizes)))) > MAX_JUMP:
        return False
    if len(points) < MIN_MOVING:
        return True
    centred = points - points.mean(axis=1, keepdims=True)
    steps = np.linalg.norm(centred[5:] - centred[:-5], axis=-1)  # over 5 frames: jitter counts less
    return bool(np.percentile(steps.max(axis=1), 90) > STILL * np.median(sizes))


def _is_duplicate(track: Track, other: Track) -> bool:
    """Whether a track lies on another one for half of its frames."""
    _, mine, theirs = np.intersect1d(track.frames, other.frames, return_indices=True)
    gap = np.linalg.norm(track.keypoints[mine] - other.keypoints[theirs], axis=-1).mean(axis=1)
    size = np.ptp(track.keypoints[mine], axis=1).max(axis=-1)
    return bool((gap < SAME * np.maximum(size, 1)).sum() > SHARED * len(track.frames))


def _track(identity: int, frames: NDArray, points: NDArray) -> Track:
    """A track without holes, from the frames (N,) of a person and their (N, 17, 3) COCO keypoints."""
    every = np.arange(frames[0], frames[-1] + 1)
    before = np.searchsorted(frames, every, side="right") - 1
    after = np.minimum(before + 1, len(frames) - 1)
    share = (every - frames[before]) / np.maximum(frames[after] - frames[before], 1)  # (T,)
    places = points[..., :2]
    filled = places[before] + share[:, None, None] * (places[after] - places[before])
    scores = np.zeros((len(every), points.shape[1]), np.float32)
    scores[frames - frames[0]] = points[..., 2]
    keypoints, scores = coco_to_h36m(filled.astype(np.float32), scores)
    return Track(identity, every, keypoints, scores, ~np.isin(every, frames))

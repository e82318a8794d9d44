"""Who is who over the frames of a video: IDs by Hungarian matching, and gaps filled in."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from demo.lib.person import Person
from demo.lib.tiles import overlaps

SAME, SAME_HEAD = 0.12, 0.08
"""People of a picture whose key points, or those of the head, lie this close, in heights of a person, are one
found twice."""
HEAD = slice(0, 5)
"""COCO's nose, eyes and ears."""
REACH, REACH_GROWTH, REACH_LIMIT = 0.35, 0.03, 0.8
"""Farthest a person may be from where they were expected, in heights: after one frame, more for each frame
unseen, at most."""
STEADINESS = 0.7
"""Share of the old velocity in the new one; key points jitter, people turn slowly."""


def distances(people: Sequence[Person], others: Sequence[Person], joints: slice = slice(None)) -> np.ndarray:
    """(P, Q) mean distance of the key points that both see, in heights of a person, infinite where none is.

    Joints count by the product of their scores. A height is the longer side of the box, the mean of both.
    """
    if not people or not others:
        return np.empty((len(people), len(others)))
    points, scores, size = _stack(people)
    other_points, other_scores, other_size = _stack(others)
    gap = np.linalg.norm(points[:, None, joints] - other_points[:, joints], axis=-1)  # (P, Q, J)
    weight = scores[:, None, joints] * other_scores[:, joints]  # (P, Q, J)
    total = weight.sum(axis=-1)
    mean = (gap * weight).sum(axis=-1) / np.maximum(total, 1e-9)
    height = np.maximum((size[:, None] + other_size) / 2, 1.0)
    return np.where(total > 1e-6, mean / height, np.inf)


def _stack(people: Sequence[Person]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P, J, 2) key points, (P, J) scores and (P,) heights of people."""
    boxes = np.stack([person.box for person in people])
    size = np.max(boxes[:, 2:] - boxes[:, :2], axis=1)
    return (
        np.stack([person.keypoints for person in people]),
        np.stack([person.scores for person in people]),
        size,
    )


def distinct(people: Sequence[Person]) -> list[int]:
    """Indices of the people that do not lie on one earlier in the list."""
    near = (distances(people, people) < SAME) | (distances(people, people, HEAD) < SAME_HEAD)
    kept: list[int] = []
    for index in range(len(people)):
        if not near[index, kept].any():
            kept.append(index)
    return kept


@dataclass
class _Target:
    """A person who is followed: as last seen, when, and how fast they go (pixels a frame)."""

    identity: int
    person: Person
    frame: int
    velocity: np.ndarray

    def expected(self, frame: int) -> Person:
        """The person moved on to a frame at constant velocity."""
        shift = self.velocity * (frame - self.frame)
        moved = self.person
        return Person(moved.keypoints + shift, moved.scores, moved.box + np.tile(shift, 2), moved.score)

    def see(self, person: Person, frame: int) -> None:
        """Takes the person as found in a later frame."""
        weight = person.scores * self.person.scores
        moved = np.average(person.keypoints - self.person.keypoints, axis=0, weights=weight + 1e-9)
        speed = moved / (frame - self.frame)
        self.velocity = STEADINESS * self.velocity + (1 - STEADINESS) * speed
        self.person, self.frame = person, frame


class Tracker:
    """Gives the people of each frame IDs that last, in memory that does not grow with the video.

    People are matched with those of earlier frames, moved on at constant velocity, so that key point distance
    and box overlap are best over all of them together (Kuhn's Hungarian method).

    Args:
        max_gap: Frames for which a person may be unseen and keep the ID.
    """

    def __init__(self, *, max_gap: int = 20) -> None:
        self.max_gap = max_gap
        self._targets: list[_Target] = []
        self._given = 0

    def update(self, people: Sequence[Person], frame: int) -> list[int]:
        """IDs of the people of a frame, in their order, counted from 1.

        Args:
            people: The people found.
            frame: Number of the frame, larger than in the last call.

        Raises:
            ValueError: The frame is not later than one already seen.
        """
        late = [target.frame for target in self._targets if target.frame >= frame]
        if late:
            raise ValueError(f"frames must come in order: expected one after {max(late)}, found {frame}")
        self._targets = [target for target in self._targets if frame - target.frame <= self.max_gap + 1]
        identities = [0] * len(people)
        for row, column in self._match(people, frame):
            self._targets[row].see(people[column], frame)
            identities[column] = self._targets[row].identity
        for column, person in enumerate(people):
            if not identities[column]:
                self._given += 1
                identities[column] = self._given
                self._targets.append(_Target(self._given, person, frame, np.zeros(2)))
        return identities

    def _match(self, people: Sequence[Person], frame: int) -> list[tuple[int, int]]:
        """Pairs of target and person that belong together."""
        from scipy.optimize import linear_sum_assignment

        if not people or not self._targets:
            return []
        expected = [target.expected(frame) for target in self._targets]
        away = distances(expected, people)
        boxes = (np.stack([person.box for person in some]) for some in (expected, people))
        unseen = np.array([frame - target.frame - 1 for target in self._targets])
        reach = np.minimum(REACH + REACH_GROWTH * unseen, REACH_LIMIT)
        possible = away < reach[:, None]
        # An impossible pair costs more than all possible ones together, so it never displaces one.
        cost = np.where(possible, away + 0.5 * (1 - overlaps(*boxes)), 1e3)
        rows, columns = linear_sum_assignment(cost)
        return [(row, column) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


@dataclass(frozen=True)
class Track:
    """One person over a video, from the first frame with them to the last, without holes.

    Attributes:
        identity: The ID, from 1.
        frames: (F,) frame numbers.
        keypoints: (F, 17, 2) float32 COCO key points, pixels.
        scores: (F, 17) float32, 0 where the frame is interpolated.
        interpolated: (F,) True where the person was not found and lies between the frames before and after.
    """

    identity: int
    frames: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    interpolated: np.ndarray


def tracks(frames: Iterable[Sequence[Person]], *, max_gap: int = 20, min_frames: int = 1) -> list[Track]:
    """Turns the people of the frames of a video into a track for each.

    Args:
        frames: The people of each frame, from frame 0.
        max_gap: Longest run of frames that is interpolated; after a longer one a person is a new one.
        min_frames: Tracks in which the person was found less often are left out.

    Returns:
        Tracks by ID.
    """
    tracker = Tracker(max_gap=max_gap)
    # Packed, since a long video holds many people and nothing else of it is kept: 212 bytes a pose.
    numbers: dict[int, array[int]] = {}
    packed: dict[int, bytearray] = {}
    for frame, people in enumerate(frames):
        for identity, person in zip(tracker.update(people, frame), people, strict=True):
            numbers.setdefault(identity, array("q")).append(frame)
            row = np.column_stack([person.keypoints, person.scores]).astype(np.float32)  # (J, 3)
            packed.setdefault(identity, bytearray()).extend(row.tobytes())
    return [
        _track(identity, found, np.frombuffer(packed[identity], np.float32).reshape(len(found), -1, 3))
        for identity, found in sorted(numbers.items())
        if len(found) >= min_frames
    ]


def _track(identity: int, numbers: Sequence[int], points: np.ndarray) -> Track:
    """A track from the frames where a person was found, with (N, J, 3) key points and scores."""
    found = np.array(numbers)
    keypoints, scores = fill_gaps(found, points[..., :2], points[..., 2])
    frames = np.arange(found[0], found[-1] + 1)
    return Track(identity, frames, keypoints, scores, ~np.isin(frames, found))


def fill_gaps(frames: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Key points and scores of every frame from the first to the last, interpolated linearly between.

    Args:
        frames: (N,) rising frame numbers.
        keypoints: (N, J, 2) key points of these frames.
        scores: (N, J) their scores.

    Returns:
        (F, J, 2) float32 key points and (F, J) float32 scores, 0 where interpolated.
    """
    every = np.arange(frames[0], frames[-1] + 1)
    before = np.searchsorted(frames, every, side="right") - 1
    after = np.minimum(before + 1, len(frames) - 1)
    share = (every - frames[before]) / np.maximum(frames[after] - frames[before], 1)  # (F,)
    filled = keypoints[before] + share[:, None, None] * (keypoints[after] - keypoints[before])
    seen = np.zeros((len(every), scores.shape[1]))
    seen[frames - frames[0]] = scores
    return filled.astype(np.float32), seen.astype(np.float32)

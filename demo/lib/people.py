"""People of one image: what is seen of them, who is the same person, and whose limbs are whose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.lib.nanodet import SEEN, Pose
from demo.lib.regions import Image, Region, overlaps
from demo.lib.result import MIN_CONFIDENCE, Person

SAME_OKS = 0.5  # keypoint similarity from which two skeletons are one person
MARGIN = 0.1  # of a box's shorter side: what else stays visible where people are close together
NEAR = 0.08  # of the person's size: keypoints of two people this close are the same point
OUTSIDE = 0.02  # of the person's size: keypoints this far outside of the image are unseen
HIPS_BELOW, THIGH, SHANK = 1.3, 0.9, 0.85  # hips below the shoulders over their width; legs over the trunk

SIGMAS = 2 * np.array(  # COCO's keypoint similarity: spread of annotators, over the person's size
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
) / 1000  # fmt: skip


def to_person(pose: Pose, box: NDArray[Any], found: float, image: Image) -> Person:
    """A person of a pose; keypoints outside of the image are guesses and score 0."""
    size = np.array(image.shape[1::-1])
    points, scores = _complete(pose.points, pose.scores, size)
    margin = OUTSIDE * float((box[2:] - box[:2]).max())
    inside = ((points > -margin) & (points < size + margin)).all(axis=1)
    scores = np.where(inside, scores, 0)
    return Person(
        keypoints=points.astype(np.float32),
        scores=scores.astype(np.float32),
        box=box.clip(0, np.tile(size, 2)).astype(np.float32),
        score=float(np.sqrt(found * scores.mean())),
        world=None if pose.world is None else pose.world.astype(np.float32),
    )


def _complete(
    points: NDArray[Any], scores: NDArray[Any], size: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Hips and legs that nobody can see since the image ends above them, as those of somebody who stands.

    Networks place them anywhere near the image's border, where the lifter would take them for a crouch.
    """
    points, scores = points.copy(), scores.copy()
    shoulders, across = points[5:7].mean(axis=0), points[5] - points[6]
    trunk = points[11:13].mean(axis=0) - shoulders
    if scores[11:13].max() < SEEN:
        trunk = np.array([0, HIPS_BELOW * np.linalg.norm(across)])

    def replace(joint: int, guess: NDArray[Any]) -> None:
        if scores[joint] < MIN_CONFIDENCE and ((guess < 0) | (guess >= size)).any():
            points[joint], scores[joint] = guess, 0

    for side, hip in ((0.3, 11), (-0.3, 12)):
        replace(hip, shoulders + trunk + side * across)
        replace(hip + 2, points[hip] + THIGH * trunk)
        replace(hip + 4, points[hip + 2] + SHANK * trunk)
    return points, scores


def is_visible(person: Person) -> bool:
    """Whether enough of a person is in the image."""
    return bool((person.scores >= SEEN).sum() >= 4)


def extent(pose: Pose, box: NDArray[Any]) -> NDArray[Any]:
    """Box around the keypoints seen, which lie inside of the body; the given one where they are few."""
    seen = pose.points[pose.scores >= SEEN]
    if len(seen) < 4:
        return box
    low, high = seen.min(axis=0), seen.max(axis=0)
    pad = 0.1 * (high - low).max()
    return np.concatenate([low - pad, high + pad])


def boxes_of(people: list[Person]) -> NDArray[np.float32]:
    """(P, 4) boxes of people."""
    return np.array([person.box for person in people], np.float32).reshape(-1, 4)


def mask(box: NDArray[Any], boxes: NDArray[Any]) -> NDArray[Any] | None:
    """What a keypoint network may see of a person to whom others are close: the box and a margin.

    Args:
        box: (4,) of the person.
        boxes: (N, 4) of everybody.
    """
    x, y, width, height, _ = Region.of_box(box)
    region = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    if np.count_nonzero(overlaps(region, boxes)) < 2:
        return None
    margin = MARGIN * (box[2:] - box[:2]).min()
    return box + margin * np.array([-1, -1, 1, 1])


def similarity(people: list[Person], others: list[Person]) -> NDArray[np.float64]:
    """(P, Q) object keypoint similarity (COCO), 0 to 1, weighted by the keypoints' scores."""
    (points, scores, area), (other, other_scores, other_area) = (
        (
            np.array([each.keypoints for each in some]).reshape(-1, 17, 2),
            np.array([each.scores for each in some]).reshape(-1, 17),
            np.array([np.prod(each.box[2:] - each.box[:2]) for each in some]),
        )
        for some in (people, others)
    )
    gap = ((points[:, None] - other) ** 2).sum(-1)  # (P, Q, 17)
    size = np.maximum(np.maximum(area[:, None], other_area), 1)[..., None]
    both = scores[:, None] * other_scores + 1e-6
    return (np.exp(-gap / (2 * size * SIGMAS**2)) * both).sum(-1) / both.sum(-1)


def distinct(people: list[Person]) -> list[int]:
    """Indices of the people that are not a duplicate of one earlier in the list."""
    same = similarity(people, people) > SAME_OKS
    kept: list[int] = []
    for index in range(len(people)):
        if not same[index, kept].any():
            kept.append(index)
    return kept


def separate(people: list[Person]) -> list[Person]:
    """Lowers the score of a keypoint that somebody else has at the same place with a higher score."""
    separated = []
    for index, person in enumerate(people):
        size, factor = max((person.box[2:] - person.box[:2]).max(), 1), np.ones(17, np.float32)
        for other in people[:index] + people[index + 1 :]:
            near = np.linalg.norm(person.keypoints - other.keypoints, axis=1) < NEAR * size
            factor[near & (other.scores > person.scores)] = 0.3
        scores = person.scores * factor
        separated.append(Person(person.keypoints, scores, person.box, person.score, person.world))
    return separated

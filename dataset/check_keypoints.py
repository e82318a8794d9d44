"""Whether key points lie where the cameras see the joints, and what is wrong if they do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.sequences import PoseSet
from common.skeleton import JOINT_NAMES, NUM_JOINTS
from dataset.check_explanations import (
    NOTHING,
    ORDER,
    SIZE,
    UNKNOWN,
    Seen,
    distance,
    explanation_of,
    fitting_size,
    moved_joints,
    seen_by_camera,
)
from dataset.check_samples import Fault, Take, View, where

REMEDIES = {
    "camera order": "bring the key points of each take into the order of the cameras, and make the set again",
    ORDER: "reorder the key points as common/skeleton.py has the joints",
    SIZE: "see in which pixels the key points are, and make the set again",
    "frame rate of the key points": "take the key points of those frames that the positions are of",
    UNKNOWN: "see whether key points and positions are of the same takes, subjects and cameras",
}


class Fits(NamedTuple):
    """How key points fit.

    Attributes:
        faults: What is wrong.
        exchanged: Takes whose key points fit if left and right of the positions are exchanged, and how.
        fitting: Takes whose key points fit.
        residuals: (N, 17) distances in pixels of key points that fit.
    """

    faults: list[Fault]
    exchanged: dict[Take, str]
    fitting: set[Take]
    residuals: np.ndarray


def keypoint_fits(
    poses: PoseSet, samples: dict[Take, list[View]], spoilt: set[Take], sides: dict[Take, str | None]
) -> Fits:
    """Compares key points with projected joints, take by take.

    Args:
        poses: All poses.
        samples: What is compared.
        spoilt: Takes whose positions are wrong in a way that makes the comparison pointless.
        sides: What of the takes' positions is exchanged, left and right, which alone explains a misfit.
    """
    found: dict[tuple[str, str], list[tuple[Take, list[Seen]]]] = {}
    exchanged: dict[Take, str] = {}
    fitting: list[tuple[Take, list[Seen]]] = []
    for take, views in tqdm(samples.items(), desc="comparing", unit="take", disable=None, leave=False):
        if take in spoilt:
            continue
        seen = [seen_by_camera(view) for view in views]
        before = [distance(each.view.keypoints, each) for each in seen]
        kind, words = explanation_of(poses, seen, before)
        if kind == "left and right":
            exchanged[take] = words
        elif kind and not sides.get(take):
            found.setdefault((kind, words), []).append((take, seen))
        elif not kind:
            fitting.append((take, seen))
    faults = []
    for (kind, words), group in [*found.items(), ((ORDER, ""), fitting)]:
        if fault := _fault(kind, words, [each for _, views in group for each in views]):
            at = where((take for take, _ in group), samples)
            faults.append(fault._replace(found=f"{at}: {fault.found}"))
    distances = [
        np.linalg.norm(each.view.keypoints - each.projected, axis=-1)
        for _, views in fitting
        for each in views
    ]
    residuals = np.concatenate([np.empty((0, NUM_JOINTS)), *distances])  # (N, 17)
    return Fits(faults, exchanged, {take for take, _ in fitting}, residuals)


def _fault(kind: str, words: str, seen: list[Seen]) -> Fault | None:
    """The fault of views with one explanation, without where it is.

    What is told by all of them together: the size of their pictures, and, where they fit but for some joints,
    or nothing is known, whether another order would be better.
    """
    if words in ("", NOTHING) and kind != SIZE and (moved := moved_joints(seen)):
        return Fault(ORDER, moved, REMEDIES[ORDER])
    if not words and kind != SIZE:
        return None
    worst = max(distance(each.view.keypoints, each) for each in seen)
    off = f"key points are up to {worst:.0%} of a person's size off the joints as projected"
    return Fault(kind, f"{off}; {words or fitting_size(seen)}", REMEDIES[kind])


def residual_table(residuals: np.ndarray) -> list[str]:
    """Median and 90th percentile of distances (N, 17) in pixels, as text: of each joint, and of all."""
    columns = {name: residuals[:, joint] for joint, name in enumerate(JOINT_NAMES)} | {"all": residuals}
    return [
        f"{name:<14}{np.median(column):6.1f}; {np.percentile(column, 90):6.1f}"
        for name, column in columns.items()
    ]

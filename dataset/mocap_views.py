"""What Human3.6M's cameras see of converted motion capture takes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from common.camera import Camera, h36m_cameras, normalize_pixels
from common.errors import DataError
from common.sequences import Sequence
from common.skeleton import MIRROR
from dataset.mocap_files import action
from dataset.mocap_poses import LEG, leg_length, z_up
from dataset.mocap_takes import Take, pose_of
from dataset.parts import Parts
from dataset.placing import ANKLE_HEIGHT, ANKLES, HEADING_STEP, View, placed

FLOOR_PERCENTILE = 1
"""Of the ankles' heights in a take: the lowest, but for glitches, stand on the floor."""
SETUPS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
"""Subjects of Human3.6M whose cameras see the subjects of either part, one after another."""


def views(
    takes: list[Take],
    people: dict[Take, str],
    split: dict[str, list[str]],
    up: str | None,
    parts: Parts,
    sources: list[dict[str, Any]],
) -> Iterator[tuple[Sequence, np.ndarray, np.ndarray]]:
    """What the cameras see of all takes, one after another, as ``common.pose_files.write_poses`` takes it.

    Args:
        takes: The takes, in the order wanted.
        people: The subject of each take.
        split: The subjects of both parts.
        up: Axis of the files that points up; None for what most takes of a folder and rig tell.
        parts: Where the poses are.
        sources: Gets a dictionary for each take: what became of it.

    Raises:
        DataError: Nothing can be brought into view.
    """
    setups = {
        person: h36m_cameras()[names[number % len(names)]]
        for part, names in SETUPS.items()
        for number, person in enumerate(split[part])
    }
    headings = (number * HEADING_STEP for number in itertools.count())
    ups = _agreed(takes, lambda take: take.up or None, "y")
    mirrored = _agreed(takes, lambda take: take.mirrored, False)
    for take in tqdm(takes, desc="placing", unit="file", disable=None, leave=False):
        person, cameras = people[take], setups[people[take]]
        name = f"{action(take.source, person)} {take.source.name}"
        facts = take.facts() | {"subject": person, "up": up or ups[take], "mirrored": mirrored[take]}
        pose = z_up(pose_of(take, parts), facts["up"])
        pose = pose[:, MIRROR] if mirrored[take] else pose
        used = 0
        for start, seen in placed(pose, cameras, headings, floor=_floor(pose)):
            used += len(seen[0][0])
            for index, (camera, view) in enumerate(zip(cameras, seen, strict=True)):
                yield _view(camera, view, subject=person, action=name, camera_index=index, first_frame=start)
        sources.append(facts | {"frames": used, "frames_out_of_view": len(pose) - used})
    if not any(source["frames"] for source in sources):
        raise DataError("no frame of any file can be brought before the cameras; is --up or --unit wrong?")


def _agreed(takes: list[Take], told: Callable[[Take], Any], otherwise: Any) -> dict[Take, Any]:
    """For each take what most takes of its folder and rig tell, since one program wrote them.

    A single take can deceive: who only crawls seems to stand along another axis.

    Args:
        takes: All takes.
        told: What a take tells; None for nothing.
        otherwise: What holds where no take tells anything.
    """
    groups = {take: (take.source.path.parent, take.rig) for take in takes}
    counts: dict[Any, Counter] = {}
    for take in takes:
        if told(take) is not None:
            counts.setdefault(groups[take], Counter())[told(take)] += 1
            counts.setdefault(None, Counter())[told(take)] += 1

    def best(take: Take) -> Any:
        votes = counts.get(groups[take]) or counts.get(None) or Counter({otherwise: 1})
        return max(votes, key=lambda value: (votes[value], value == told(take)))

    return {take: best(take) for take in takes}


def _floor(pose: np.ndarray) -> float:
    """Height of the floor in a take (F, 17, 3), z up: as far below the lowest ankle as ankles are high."""
    ankle = np.percentile(pose[:, ANKLES, 2].min(axis=1), FLOOR_PERCENTILE)
    return float(ankle) - ANKLE_HEIGHT * leg_length(pose) / LEG


def _view(
    camera: Camera, view: View, *, subject: str, action: str, camera_index: int, first_frame: int
) -> tuple[Sequence, np.ndarray, np.ndarray]:
    points, pixels = view
    fx, fy, cx, cy = (float(value) for value in camera.intrinsics())
    size = camera.width, camera.height
    sequence = Sequence(
        subject, action, camera_index, 0, len(points), (fx, fy, cx, cy), size, first_frame,
        orientation=camera.orientation,
    )  # fmt: skip
    return sequence, normalize_pixels(pixels, *size), points

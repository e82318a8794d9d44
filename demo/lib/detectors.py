"""2D detectors by name: finder -> boxes -> keypoints per box -> one skeleton per person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.console import UserError
from demo.lib.blazepose import BlazeFinder, Landmarks, of_keypoints
from demo.lib.nanodet import NanoDet, Pose, Thunder
from demo.lib.people import boxes_of, distinct, extent, is_visible, mask, separate, to_person
from demo.lib.regions import Finder, Image, Region, in_tiles, overlaps
from demo.lib.result import Person

CHECKPOINT = Path(__file__).with_name("checkpoint")
NAMES = ("auto", "blazepose", "nanodet", "hrnet", "rtmpose")
MODES = ("fast", "balanced", "accurate")

FOUND = 0.3  # lowest score of a box; half of it is enough where somebody was lost
NEW, KEPT = 0.5, 0.4  # presence from which a person is accepted at first, and in the next frame
ACCEPTED = 0.54  # geometric mean of a box's score and the presence from which a person is accepted
FIND_EVERY, RECOVER_EVERY = 8, 2  # frames of a video between searches for new people, for those just lost
MEMORY = 20  # frames for which places of lost people, and of boxes with nobody in them, are remembered
MISSES, CERTAIN = 3, 0.6  # searches in a row that may miss a person of a lower score than this
SAME_PERSON, SAME_BOX = 0.3, 0.4  # overlaps (intersection over union)


class Followed(NamedTuple):
    """A person of the last frame, the finder's score, and its searches in a row that missed them."""

    person: Person
    pose: Pose
    found: float
    misses: int = 0


class TopDown:
    """Finds people as boxes, and reads the keypoints in each.

    Args:
        folder: Folder of the networks; ``python -m demo.fetch`` fills it.
        mode: "fast": BlazePose; "balanced": MoveNet Thunder; "accurate": the mean of both.
        blazepose: Use BlazePose's networks alone.
        small: Also search overlapping tiles of every image, for small people.
        threads: Threads of each network; 0 for two, where there are so many processors.

    Attributes:
        name: What it is made of.
        passes: How often the finder and the keypoint networks ran.

    Raises:
        UserError: A network is missing or damaged.
    """

    def __init__(
        self,
        folder: Path,
        mode: str = "balanced",
        *,
        blazepose: bool = False,
        small: bool = False,
        threads: int = 0,
    ) -> None:
        threads = threads or min(2, os.cpu_count() or 1)
        finder: Finder = BlazeFinder(folder, threads) if blazepose else NanoDet(folder, threads, FOUND / 2)
        self.find = in_tiles(finder, always=small or blazepose)
        self.thunder = None if blazepose else Thunder(folder, threads)
        self.landmarks, self.alone = None, blazepose or mode == "fast"
        names = [] if self.alone else ["MoveNet Thunder"]
        if self.alone or mode == "accurate":
            files = [folder / f"pose_landmark_{kind}.tflite" for kind in ("heavy", "full")]
            files = files[::-1] if mode == "fast" else files
            path = next((path for path in files if path.is_file()), files[0])
            self.landmarks = Landmarks(path, threads)
            names.append(f"BlazePose {path.stem.rsplit('_', 1)[1]}")
        self.name = f"{' and '.join(names)}, people found by {'its detector' if blazepose else 'NanoDet'}"
        self.passes = {"finder": 0, "keypoints": 0}
        self.reset()

    def reset(self) -> None:
        """Forgets the people of the last frame: call it between videos."""
        self.followed: list[Followed] = []
        self.lost: list[tuple[int, NDArray[Any]]] = []  # frame and box of people lost
        self.rejected: list[tuple[int, NDArray[Any]]] = []  # and of boxes with nobody in them
        self.frame = 0

    def __call__(self, image: Image) -> list[Person]:
        """The people in an image (H, W, 3) uint8 RGB, the highest score first."""
        self.reset()
        people = [each.person for each in self._search(image, [])]
        people.sort(key=lambda person: -person.score)
        return separate([people[index] for index in distinct(people)])

    def track(self, image: Image) -> list[Person]:
        """The people in the next frame of a video.

        The keypoints of a person give their region in the next frame. The finder looks for new people every
        ``FIND_EVERY`` frames, and more often for somebody lost.
        """
        recent = self.frame - MEMORY
        self.lost = [each for each in self.lost if each[0] >= recent]
        self.rejected = [each for each in self.rejected if each[0] >= recent]
        boxes, followed = boxes_of([each.person for each in self.followed]), []
        for (_, pose, found, misses), box in zip(self.followed, boxes, strict=True):
            pose = self._read(image, pose.region, mask(box, boxes))
            person = to_person(pose, extent(pose, box), found, image)
            if pose.presence >= KEPT and is_visible(person):
                followed.append(Followed(person, pose, found, misses))
            elif (box[:2] >= 2).all() and (box[2:] <= np.array(image.shape[1::-1]) - 2).all():
                self.lost.append((self.frame, box))  # others walked out of the image
        lost_now = len(followed) < len(self.followed)
        recover = any((self.frame - frame) % RECOVER_EVERY == 0 for frame, _ in self.lost)
        if lost_now or recover or self.frame % FIND_EVERY == 0:
            followed = self._search(image, followed)
        self.frame += 1
        self.followed = [followed[index] for index in distinct([each.person for each in followed])]
        return separate([each.person for each in self.followed])

    def _search(self, image: Image, followed: list[Followed]) -> list[Followed]:
        """The people followed, without unsure ones whom the finder keeps missing, and those found anew."""
        self.passes["finder"] += 1
        boxes, scores = self.find(image)
        same = overlaps(boxes_of([each.person for each in followed]), boxes) > SAME_PERSON
        kept = []
        for each, found in zip(followed, same, strict=True):
            each = each._replace(misses=0 if found.any() else each.misses + 1)
            if each.misses < MISSES or each.person.score >= CERTAIN:
                kept.append(each)
        new = scores * ~same.any(axis=0) * ~(overlaps(_boxes(self.rejected), boxes) > SAME_BOX).any(axis=0)
        near_lost = new * (overlaps(_boxes(self.lost), boxes) > 0)  # (people lost, boxes)
        candidates = {*np.flatnonzero(new >= FOUND), *(int(row.argmax()) for row in near_lost if row.any())}
        for index in sorted(candidates):
            only = mask(boxes[index], boxes[scores >= FOUND])
            if person := self._new(image, boxes[index], max(float(scores[index]), FOUND), only):
                kept.append(person)
            else:
                self.rejected.append((self.frame, boxes[index]))
        return kept

    def _new(
        self, image: Image, box: NDArray[Any], found: float, only: NDArray[Any] | None
    ) -> Followed | None:
        """The person in a box, at a second look; None where the networks see nobody."""
        region = Region.of_box(box)
        if self.thunder is None:
            first = self._read(image, region, only)
        else:
            self.passes["keypoints"] += 1
            first = self.thunder(image, region, only)
        if first.presence < NEW:
            return None
        pose = self._read(image, of_keypoints(first) if self.alone and self.thunder else first.region, only)
        pose = pose._replace(presence=(pose.presence + first.presence) / 2)
        person = to_person(pose, box, found, image)
        valid = found * pose.presence >= ACCEPTED**2 and is_visible(person)
        return Followed(person, pose, found) if valid else None

    def _read(self, image: Image, region: Region, only: NDArray[Any] | None) -> Pose:
        """Keypoints of the person in a region."""
        self.passes["keypoints"] += 1
        if self.alone or self.thunder is None:
            assert self.landmarks is not None
            return self.landmarks(image, region, only)
        pose = self.thunder(image, region, only)
        if self.landmarks is None or pose.presence < KEPT:
            return pose
        self.passes["keypoints"] += 1
        return average(pose, self.landmarks(image, of_keypoints(pose), only))


def average(pose: Pose, other: Pose) -> Pose:
    """The first pose with its keypoints averaged with another's, weighted by their scores."""
    weights = np.stack([pose.scores, other.scores * other.presence]) + 1e-6  # (2, 17)
    weights /= weights.sum(axis=0)
    points = (weights[..., None] * [pose.points, other.points]).sum(axis=0)
    return pose._replace(
        points=points, scores=(weights * [pose.scores, other.scores]).sum(axis=0), world=other.world
    )


def _boxes(places: list[tuple[int, NDArray[Any]]]) -> NDArray[np.float32]:
    return np.array([box for _, box in places], np.float32).reshape(-1, 4)


def load_detector(
    name: str, folder: Path, device: torch.device, mode: str = "balanced", *, small: bool = False
) -> Any:
    """The 2D detector of a name.

    Args:
        name: One of ``NAMES``; "auto" takes the first of hrnet, nanodet and blazepose whose files lie in the
            folder.
        folder: Folder of the networks; for "rtmpose" of the user's ONNX files.
        device: Where YOLOv3 and HRNet compute; the others use the CPU.
        mode: One of ``MODES``.
        small: Also search tiles, for small people.

    Raises:
        UserError: A network is missing or damaged.
    """
    from demo.lib.hrnet import HRNetDetector
    from demo.lib.rtmpose import RTMPose

    if name == "auto":
        nanodet = (folder / "nanodet.json").is_file() and (folder / "movenet-thunder.json").is_file()
        name = "hrnet" if HRNetDetector.is_there(folder) else "nanodet" if nanodet else "blazepose"
    if name == "hrnet":
        return HRNetDetector(folder, device)
    if name == "rtmpose":
        return RTMPose(folder)
    if name in NAMES:
        return TopDown(folder, mode, blazepose=name == "blazepose", small=small)
    raise UserError(f"--detector {name}: expected one of {', '.join(NAMES)}")

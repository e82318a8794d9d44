"""What the demo knows of one input: ``Person`` in an image, ``Track`` through frames, ``Result`` of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MIN_CONFIDENCE = 0.3
"""Joints with a lower score are drawn pale and count as hardly seen."""


@dataclass(frozen=True)
class Person:
    """One person found in one image.

    Attributes:
        keypoints: (17, 2) float32 COCO keypoints, pixels (x right, y down).
        scores: (17,) float32 confidence of each keypoint, 0 to 1.
        box: (4,) float32 left, top, right, bottom in pixels.
        score: Confidence that this is a person, 0 to 1.
        world: (17, 3) float32 the detector's own 3D estimate, metres, hip-centred, x right, y down, z away;
            None where it has none. For comparison only, never an input of the lifter.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    box: NDArray[np.float32]
    score: float
    world: NDArray[np.float32] | None = None


Detector = Callable[[NDArray[np.uint8]], list[Person]]
"""From an image (H, W, 3) uint8 RGB to the people in it.

A detector with a method ``track`` gets the frames of a video through that, after ``reset()``."""


def _no_poses() -> NDArray[np.float32]:
    return np.empty((0, 17, 3), np.float32)


@dataclass
class Track:
    """One person through the frames of one input; an image has one frame.

    Attributes:
        id: Number of the person, from 1 on, stable through the video.
        frames: (T,) frame numbers in rising order, from 0 on.
        keypoints: (T, 17, 2) float32 Human3.6M joints, pixels.
        scores: (T, 17) float32 confidence of each, 0 to 1.
        interpolated: (T,) bool, where nobody was detected and the keypoints are filled in.
        poses: (T, 17, 3) float32 lifted poses in camera space (x right, y down, z away), metres, root at 0;
            empty before lifting.
        upright: (T, 17, 3) float32 poses, z up: on the floor with the person's path where a floor was found
            (notes "motion"), else rotated for display, not measured.
        raw_poses: The poses as lifted; None where no motion was fitted.
        root: (T, 3) float32 estimated position of the root in camera space, metres; None where not asked for.
    """

    id: int
    frames: NDArray[np.int_]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    interpolated: NDArray[np.bool_]
    poses: NDArray[np.float32] = field(default_factory=_no_poses)
    upright: NDArray[np.float32] = field(default_factory=_no_poses)
    raw_poses: NDArray[np.float32] | None = None
    root: NDArray[np.float32] | None = None


@dataclass
class Result:
    """One input and the people in it.

    Attributes:
        source: Name of the file, or of the webcam.
        image_size: Width and height, pixels.
        frame_count: Frames of the input, 1 for an image.
        fps: Frames per second (the mean, where the rate varies); None for an image, or where it is unknown.
        frame_times: (frame_count,) seconds of each frame; None where the rate is constant or unknown.
        tracks: The people; empty where there are none.
        notes: Metadata that must stay with the data: lifter, detector, warnings; name -> text.
    """

    source: str
    image_size: tuple[int, int]
    frame_count: int
    fps: float | None
    frame_times: NDArray[np.float64] | None = None
    tracks: list[Track] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def times(self, track: Track) -> NDArray[np.float64] | None:
        """(T,) seconds of a track's frames since the start of the input; None where the rate is unknown.

        An image's only frame is at 0.
        """
        if self.frame_times is not None:
            return self.frame_times[track.frames]
        if self.fps is None and self.frame_count > 1:
            return None
        return track.frames / (self.fps or 1.0)

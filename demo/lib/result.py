"""What the demo knows of one picture or video when it is done: people, their key points and their poses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Track:
    """One person through the frames of one input; a picture has one frame.

    Attributes:
        id: Number of the person, from 1 on, stable through the video.
        frames: (T,) int frame numbers in rising order, counted from 0.
        keypoints: (T, 17, 2) float32 Human3.6M joints, pixels of the input.
        scores: (T, 17) float32 confidence of each, 0 to 1.
        interpolated: (T,) bool, where nobody was detected and the key points are filled in.
        poses: (T, 17, 3) float32 lifted poses in camera space (x right, y down, z away), metres, root at 0.
        raw_poses: The same before smoothing; None where nothing was smoothed.
        upright: (T, 17, 3) float32 poses turned z up and set on the floor: for display, not measured.
        root: (T, 3) float32 estimated position of the root in camera space, metres; None where not asked for.
    """

    id: int
    frames: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    interpolated: np.ndarray
    poses: np.ndarray
    upright: np.ndarray
    raw_poses: np.ndarray | None = None
    root: np.ndarray | None = None


@dataclass
class Result:
    """One input and the people in it.

    Attributes:
        source: Name of the file, or of the webcam.
        image_size: Width and height, pixels.
        frame_count: Frames of the input, 1 for a picture.
        fps: Frames per second; None for a picture.
        tracks: The people; empty where there are none.
        notes: Facts that must go with the data: lifter, detector, warnings; name -> text.
    """

    source: str
    image_size: tuple[int, int]
    frame_count: int
    fps: float | None
    tracks: list[Track] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

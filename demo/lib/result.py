"""What the demo knows of one picture or video when it is done: people, their key points and their poses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LOW_SCORE = 0.3
"""Joints that the detector is less sure of than this are drawn faint, and count as hardly seen."""


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
    frames: npt.NDArray[np.int_]
    keypoints: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    interpolated: npt.NDArray[np.bool_]
    poses: npt.NDArray[np.float32]
    upright: npt.NDArray[np.float32]
    raw_poses: npt.NDArray[np.float32] | None = None
    root: npt.NDArray[np.float32] | None = None


@dataclass
class Result:
    """One input and the people in it.

    Attributes:
        source: Name of the file, or of the webcam.
        image_size: Width and height, pixels.
        frame_count: Frames of the input, 1 for a picture.
        fps: Frames per second; None for a picture, or where it is not known.
        tracks: The people; empty where there are none.
        notes: Facts that must go with the data: lifter, detector, warnings; name -> text.
    """

    source: str
    image_size: tuple[int, int]
    frame_count: int
    fps: float | None
    tracks: list[Track] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def times(self, track: Track) -> npt.NDArray[np.float64] | None:
        """(T,) seconds of a track's frames from the first of the input; None where nobody knows the rate.

        A picture's only frame is at 0.
        """
        if self.fps is None and self.frame_count > 1:
            return None
        return track.frames / (self.fps or 1.0)

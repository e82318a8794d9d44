"""The way of one input through the demo: frames, key points, tracks, poses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from demo.lib.keypoint_files import KeypointInput, KeypointTrack
from demo.lib.keypoints import coco_to_h36m
from demo.lib.lifting import focal_length, lift_keypoints, one_euro, place, stature, upright
from demo.lib.person import Detector, Person
from demo.lib.result import Result, Track
from demo.lib.tracking import tracks as follow


@dataclass
class Stages:
    """Seconds that each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())


@dataclass(frozen=True)
class Lifter:
    """The network and how its poses are treated.

    Attributes:
        model: HTNet in evaluation mode, or what lifts a batch by itself: see ``lifting.lift_keypoints``.
        device: Where HTNet is.
        name: Which weights these are, for the notes beside saved data.
        window: See each person in a window of their own: ``lifting.in_window``.
        one_thread: Lift in one of PyTorch's threads: ``lifting.lift_keypoints``.
        smooth: Smooth the poses of videos, and keep the raw ones beside them.
        place: Estimate where people stand in camera space.
        focal: Focal length in pixels for that; None for an assumed one.
        height_m: Stature of the people in metres, which their poses are scaled to; None to leave them.
    """

    model: nn.Module | Callable[[np.ndarray], np.ndarray]
    device: torch.device
    name: str = "unnamed"
    window: bool = True
    one_thread: bool = True
    smooth: bool = False
    place: bool = False
    focal: float | None = None
    height_m: float | None = None


def from_keypoints(given: KeypointInput, lifter: Lifter, stages: Stages) -> Result:
    """Lifts key points that were made elsewhere."""
    result = Result(given.source, given.image_size, given.frame_count, given.fps)
    return _lifted(result, given.tracks, lifter, stages)


def from_picture(image: np.ndarray, source: str, detect: Detector, lifter: Lifter, stages: Stages) -> Result:
    """Finds and lifts the people in a picture (H, W, 3) uint8 RGB."""
    with stages.timed("2D"):
        people = detect(image)
    result = Result(source, (image.shape[1], image.shape[0]), 1, None)
    return _lifted(result, _followed([people]), lifter, stages)


def from_frames(
    frames: Iterable[np.ndarray],
    source: str,
    fps: float | None,
    detect: Detector,
    lifter: Lifter,
    stages: Stages,
    *,
    max_gap: int = 20,
    min_frames: int = 10,
) -> Result:
    """Finds, follows and lifts the people in a video.

    Of the frames one is held at a time; of the people only their key points are kept.

    Args:
        frames: (H, W, 3) uint8 RGB frames in order, all of one size.
        source: Name of the video.
        fps: Frames per second; None where nobody knows: there are no times then, and nothing is smoothed.
        detect: Finds the people of a frame; it may remember the last one.
        lifter: What lifts them.
        stages: Gets the time of each stage.
        max_gap: Longest run of frames in which a person may be unseen, and is filled in.
        min_frames: People seen in fewer frames are left out as false finds.
    """
    result = Result(source, (0, 0), 0, fps)
    frames = iter(frames)

    def people() -> Iterator[list[Person]]:
        while True:
            with stages.timed("read"):
                frame = next(frames, None)
            if frame is None:
                return
            result.image_size = frame.shape[1], frame.shape[0]
            result.frame_count += 1
            with stages.timed("2D"):
                found = detect(frame)
            yield [replace(person, world=None) for person in found]

    with stages.timed("tracks"):
        tracks = _followed(people(), max_gap=max_gap)
    stages.seconds["tracks"] -= stages.seconds["read"] + stages.seconds.get("2D", 0.0)
    # A single frame is a short video, not a false find.
    least = min(min_frames, result.frame_count)
    kept = [track for track in tracks if np.count_nonzero(~track.interpolated) >= least]
    if len(kept) < len(tracks):
        result.notes["left out"] = f"{len(tracks) - len(kept)} seen in fewer than {least} frames"
    return _lifted(result, kept, lifter, stages)


def _followed(frames: Iterable[list[Person]], *, max_gap: int = 0) -> list[KeypointTrack]:
    tracks = []
    for track in follow(frames, max_gap=max_gap):
        keypoints, scores = coco_to_h36m(track.keypoints, track.scores)
        tracks.append(KeypointTrack(track.identity, track.frames, keypoints, scores, track.interpolated))
    return tracks


def _lifted(result: Result, tracks: list[KeypointTrack], lifter: Lifter, stages: Stages) -> Result:
    """Adds the lifted tracks to a result: all people and frames in common batches."""
    result.notes |= _notes(result, lifter)
    if not tracks:
        return result
    with stages.timed("3D"):
        keypoints = np.concatenate([track.keypoints for track in tracks])
        poses = lift_keypoints(
            lifter.model,
            keypoints,
            result.image_size,
            device=lifter.device,
            window=lifter.window,
            one_thread=lifter.one_thread,
        )
        ends = np.cumsum([len(track.frames) for track in tracks])[:-1]
        for track, raw in zip(tracks, np.split(poses, ends), strict=True):
            result.tracks.append(_finished(result, track, raw, lifter))
    return result


def _finished(result: Result, track: KeypointTrack, raw: np.ndarray, lifter: Lifter) -> Track:
    """One person's poses (T, 17, 3) scaled, smoothed, placed and turned upright."""
    if lifter.height_m is not None:
        factor = lifter.height_m / max(stature(raw), 1e-3)
        raw = raw * np.float32(factor)
        result.notes[f"size of person {track.id}"] = (
            f"poses and root are scaled by {factor:.3f}, to a stature of {lifter.height_m:g} m"
        )
    times = track.frames / result.fps if lifter.smooth and result.fps else None
    poses = raw if times is None else one_euro(raw, times)
    done = Track(
        track.id, track.frames, track.keypoints, track.scores, track.interpolated, poses, upright(poses)
    )
    if times is not None:
        done.raw_poses = raw
    if lifter.place:
        root = place(poses, track.keypoints, result.image_size, focal=lifter.focal)
        done.root = (root if times is None else one_euro(root, times)).astype(np.float32)
    return done


def _notes(result: Result, lifter: Lifter) -> dict[str, str]:
    """How the poses came about, for whoever reads them later."""
    seen = "each person in a window of their own" if lifter.window else "people where they are in the image"
    notes = {"lifter": lifter.name, "lifter sees": f"{seen}, averaged with the mirror image"}
    if lifter.smooth and result.fps:
        notes["smoothing"] = "One Euro filter; poses_camera_raw are not smoothed"
    if lifter.place:
        focal = lifter.focal or focal_length(result.image_size)
        origin = "as given" if lifter.focal else "assumed"
        size = f"{lifter.height_m:g} m tall, as given" if lifter.height_m else "as large as they were lifted"
        notes["root"] = (
            f"an estimate: focal length {focal:.0f} px, {origin}; centre of the image; people {size}"
        )
    return notes

"""The demo for other programs: people in images, videos and frames, and poses from keypoints (docs/api.md).

Nothing here prints or changes settings of the calling program, and everything can be called from several
threads at once. Joints are Human3.6M's 17 (``common.skeleton.JOINT_NAMES``); poses are in camera space (x
right, y down, z away), metres, with the pelvis at 0. Invalid arguments raise a ``ValueError``; missing or
damaged files and missing devices a ``UserError``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common import checkpoint
from common.console import UserError
from common.device import choose_device
from common.skeleton import ROOT
from demo.lib import detectors, lifting, media, videos
from demo.lib import keypoints as kp
from demo.lib.motion import Motion, common_up, side_order
from demo.lib.motion import fit_motion as fit
from demo.lib.result import MIN_CONFIDENCE, Detector, Person, Result, Track
from demo.lib.tracking import follow, keep_people
from model import HTNet

__all__ = ["Estimator", "Lifter", "Person", "Result", "Track", "estimate", "fit_motion", "lift"]

Weights = str | os.PathLike[str] | HTNet
Image = NDArray[np.uint8]
Source = str | os.PathLike[str] | Image | Iterable[Image]

DETECTORS = Path(__file__).parent / "lib" / "checkpoint"
SMALL_PERSON = 60  # pixels; keypoints of smaller people are too coarse to lift well
HALF_BODY = 4  # joints of low score or outside the image, from which on a person counts as half seen


class Lifter:
    """HTNet (Cai et al., ICASSP 2023), loaded once for any number of calls.

    Poses are averaged with those of the mirrored input, as in evaluation.

    Args:
        weights: A folder under ``ckpt/``, any folder or file of weights (.pth), an exported lifter (.onnx, on
            the CPU), or a network, which is copied. By default the first of
            ``demo.lib.lifting.DEFAULT_WEIGHTS`` that is there.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "mps", "cuda" or "cuda:N".
        window: What normalises the keypoints: "person", a window around each person, or "image", as in
            published demos. docs/demo.md compares them.

    Raises:
        UserError: The weights are missing, damaged or of another network, or there is no such device.
    """

    def __init__(
        self, weights: Weights | None = None, *, device: str = "auto", window: str = "person"
    ) -> None:
        _expect(window in ("person", "image"), "window", "person or image", window)
        found = re.fullmatch(r"(auto|cpu|mps|cuda)(?:(?<=cuda):(\d+))?", device)
        if found is None:
            raise ValueError(f"device: expected auto, cpu, mps, cuda or cuda:N, found {device!r}")
        self.device = choose_device(found[1], int(found[2] or 0))
        self.window = window == "person"
        self.name = "a network of the calling program"
        if not isinstance(weights, HTNet):
            weights = lifting.find_lifter(weights)
            # Without the folders above, which saved data should not depend on.
            self.name = checkpoint.describe(weights).replace(f"{weights.parent.parent}{os.sep}", "", 1)
        self.run = lifting.load_lifter(weights, self.device)

    def __call__(
        self,
        keypoints: ArrayLike,
        image_size: tuple[int, int],
        *,
        format: str = "h36m17",  # noqa: A002 -- the word that keypoint files use too
        scores: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Lifts keypoints, each pose on its own: see ``lift``."""
        _expect(format in kp.ORDERS, "format", " or ".join(kp.ORDERS), format)
        size, joints = kp.image_size_of(image_size), kp.ORDERS[format]
        given = np.asarray(keypoints)
        shapes = [(joints, 2), (joints, 3)] if scores is None else [(joints, 2)]
        valid = given.dtype.kind in "iuf" and given.shape[-2:] in shapes
        _expect(valid, "keypoints", f"numbers (..., {' or '.join(map(str, shapes))})", given.shape)
        finite = bool((np.abs(given) <= kp.MAX_COORDINATE).all())
        _expect(finite, "keypoints", f"finite numbers of at most {kp.MAX_COORDINATE:,}", "others")
        pixels = given[..., :2].astype(np.float64)
        if scores is None:
            scores = given[..., 2] if given.shape[-1] == 3 else kp.assumed_scores(pixels)
        sure = np.asarray(scores, np.float64)
        valid = sure.shape == pixels.shape[:-1] and bool(np.isfinite(sure).all())
        _expect(valid, "scores", f"finite numbers {pixels.shape[:-1]}", sure.shape)
        flat = pixels.reshape(-1, joints, 2), sure.reshape(-1, joints)
        _expect(not kp.is_normalized(*flat, size), "keypoints", "pixels", "normalised coordinates")
        found, _, liftable = kp.to_h36m(pixels, sure.clip(0, 1), format)
        poses = np.full((*liftable.shape, 17, 3), np.nan, np.float32)
        poses[liftable] = lifting.lift_keypoints(self.run, found[liftable], size, window=self.window)
        return poses


def lift(
    keypoints: ArrayLike,
    image_size: tuple[int, int],
    *,
    format: str = "h36m17",  # noqa: A002 -- the word that keypoint files use too
    scores: ArrayLike | None = None,
    **options: Any,
) -> NDArray[np.float32]:
    """Lifts 2D keypoints to 3D, each pose on its own; the weights are loaded in each call.

    Args:
        keypoints: (..., J, 2) pixels of the image, x right, y down, or (..., J, 3) with the scores.
        image_size: Width and height of the image, pixels.
        format: Order of the joints; docs/formats.md lists them.
        scores: (..., J) confidence of each keypoint, 0 to 1. One of 0 was not found, and takes the place of
            the nearest joint found along the body. Without scores, keypoints at (0, 0) were not found.
        options: The arguments of ``Lifter``.

    Returns:
        (..., 17, 3) float32 poses, metres; NaN where neither shoulder or neither hip was found.
    """
    return Lifter(**options)(keypoints, image_size, format=format, scores=scores)


class Estimator:
    """Finds, follows and lifts people; the networks are loaded once for any number of calls.

    Args:
        detector: "blazepose"; "nanodet", with MoveNet and BlazePose; "hrnet", YOLOv3 with HRNet-W48; "auto",
            the last of these whose files are there; "rtmpose", ONNX files in ``models``; a function from an
            image (H, W, 3) uint8 RGB to a list of ``Person``; or None where only ``lift`` is called.
        weights, device, window: See ``Lifter``. BlazePose uses the CPU.
        motion: Fit one skeleton to all frames of each person (``demo.lib.motion``), and keep the lifted poses
            too. Images, and frames without times, are not fitted.
        focal: Focal length: pixels, "26mm" (35 mm equivalent) or "70deg" (horizontal field of view). With it
            or ``height_m``, positions are estimated for images too.
        height_m: Stature of the people, metres; their poses are scaled to it.
        mode: "fast", "balanced" or "accurate": the detector's speed against its quality.
        small: Also search parts of the image, for small people.
        models: Folder of the detector's models; by default ``demo/lib/checkpoint``.

    Raises:
        UserError: See ``Lifter``; or the detector's models are missing or damaged.
    """

    def __init__(
        self,
        *,
        detector: str | Detector | None = "auto",
        weights: Weights | None = None,
        device: str = "auto",
        window: str = "person",
        motion: bool = True,
        focal: float | str | None = None,
        height_m: float | None = None,
        mode: str = "balanced",
        small: bool = False,
        models: str | os.PathLike[str] | None = None,
    ) -> None:
        lifting.focal_length((1920, 1080), focal)  # raises where it is invalid
        _expect(height_m is None or 0.3 <= height_m <= 3, "height_m", "0.3 to 3 metres", height_m)
        _expect(mode in detectors.MODES, "mode", " or ".join(detectors.MODES), mode)
        known = not isinstance(detector, str) or detector in detectors.NAMES
        _expect(known, "detector", f"{', '.join(detectors.NAMES)} or a function", detector)
        self.lifter = Lifter(weights, device=device, window=window)
        self.motion, self.focal, self.height_m = motion, focal, height_m

        def load() -> Any:
            if not isinstance(detector, str):
                return detector
            folder = Path(models or DETECTORS)
            return detectors.load_detector(detector, folder, self.lifter.device, mode, small=small)

        first = load()
        self.detector_name = getattr(first, "name", "a detector of the calling program")
        # A detector that follows people, which has `reset`, serves one call at a time; others are shared.
        self._load = load if hasattr(first, "reset") else lambda: first
        self._idle = [first]

    def __call__(self, source: Source, *, fps: float | None = None, max_people: int | None = None) -> Result:
        """Finds the people in an image, a video or frames: see ``estimate``."""
        _expect(fps is None or 0.01 <= fps <= 10_000, "fps", "0.01 to 10,000", fps)
        _expect(max_people is None or max_people >= 1, "max_people", "1 or more", max_people)
        path = Path(source) if isinstance(source, str | os.PathLike) else None
        frames = path is None and getattr(source, "ndim", 4) == 4 and isinstance(source, Iterable)
        _expect(frames or fps is None, "fps", "none: an image has none, a video its own", fps)
        if path is not None and media.is_video(path):
            with videos.Video(path) as video:
                result = self.find_video(video, video, str(path))
        elif frames:
            result = self.find(_images(source), Result("frames", (0, 0), 0, fps))
        else:
            image = _image("image", source) if path is None else media.read_image(path)
            result = self.find([image], Result(str(path or "image"), (0, 0), 0, None), still=True)
        return self.lift(result, max_people=max_people)

    def find_video(self, video: videos.Video, frames: Iterable[Image], name: str) -> Result:
        """The people in ``frames`` of a video, with its times and notes: tracks without poses."""
        result = self.find(frames, Result(name, video.size, 0, None))
        result.fps, times = video.fps, video.times
        steps = np.diff(times)
        if len(steps) and (times[0] > 0 or np.ptp(steps) > 0.1 * np.median(steps)):
            result.frame_times = times
        if video.notes:
            result.notes["video"] = "; ".join(video.notes)
        return result

    def find(self, frames: Iterable[Image], result: Result, *, still: bool = False) -> Result:
        """Adds the people of frames to a result: their tracks, without poses.

        Args:
            frames: (H, W, 3) uint8 RGB of one size, in order; one is held at a time.
            result: Gets the image's size, the number of frames, and the tracks.
            still: It is one image, with no frames before it.
        """
        with self.borrowed() as detector:
            detect = detector if still else getattr(detector, "track", detector)

            def people() -> Iterator[list[Person]]:
                for frame in frames:
                    result.image_size = frame.shape[1], frame.shape[0]
                    result.frame_count += 1
                    yield [replace(person, world=None) for person in detect(frame)]

            tracks = follow(people())
        result.tracks = tracks if still else keep_people(tracks, result.frame_count)
        if left_out := len(tracks) - len(result.tracks):
            result.notes["left out"] = f"{left_out} seen too shortly or with low scores, or unmoving"
        result.notes["2D pose"] = self.detector_name
        return result

    def lift(self, result: Result, *, max_people: int | None = None, person: int | None = None) -> Result:
        """Lifts the tracks of a result, which ``find`` or ``read_keypoints`` gave.

        Args:
            result: Its tracks get poses, its notes how these came about and what speaks against them.
            max_people: Keep so many people, those seen in most frames, then those of the highest scores.
            person: Keep the person of this ID.

        Raises:
            UserError: People were found, but not this one.
        """
        _keep(result, max_people, person)
        window = "a window around each person" if self.lifter.window else "the image"
        result.notes |= {"lifter": self.lifter.name, "normalised by": f"{window}, mirror-averaged"}
        timed = bool(result.fps) or result.frame_times is not None
        fitted = self.motion and result.frame_count > 1 and timed
        placed = bool(fitted or self.focal or self.height_m)
        if placed:
            focal = f"{lifting.focal_length(result.image_size, self.focal):.0f} px"
            focal += " as given" if self.focal else " assumed"
            size = f"{self.height_m:g} m, as given" if self.height_m else "as lifted"
            result.notes["root"] = f"an estimate: focal length {focal}, centre of the image, stature {size}"
        if fitted:
            result.notes["motion"] = _fix_sides(result)
        if result.tracks:
            joints, run = np.concatenate([track.keypoints for track in result.tracks]), self.lifter.run
            poses = lifting.lift_keypoints(
                run, joints, result.image_size, window=self.lifter.window, focal=self.focal
            )
            ends = np.cumsum([len(track.frames) for track in result.tracks])[:-1]
            for track, raw in zip(result.tracks, np.split(poses, ends), strict=True):
                self._finish(result, track, raw, placed)
            if fitted:
                self._fit(result)
        release = next((found.version for found in metadata.distributions(name="htnet")), "(not installed)")
        result.notes["made by"] = f"HTNet demo {release}"
        if found := warnings(result):
            result.notes["warnings"] = "; ".join(found)
        return result

    def _finish(self, result: Result, track: Track, raw: NDArray, placed: bool) -> None:
        """Sets one person's poses from the lifted ones (T, 17, 3): scaled, upright, maybe placed."""
        if self.height_m:
            factor = self.height_m / max(lifting.stature(raw), 1e-3)
            raw = raw * np.float32(factor)
            result.notes[f"size of person {track.id}"] = f"poses and root are scaled by {factor:.3f}"
        track.poses, track.upright = raw, lifting.upright(raw)
        if placed:
            root = lifting.place(raw, track.keypoints, result.image_size, focal=self.focal)
            track.root = root.astype(np.float32)

    def _fit(self, result: Result) -> None:
        """Replaces the poses of all tracks by fitted motions, upright on the floor where one is found."""
        motions = [fit_motion(result, track, self.focal) for track in result.tracks]
        up = common_up(motions)
        floor = "no foot rests on a floor: its direction is assumed" if up is None else "floor under the feet"
        result.notes["motion"] += f"; {floor}"
        for track, motion in zip(result.tracks, motions, strict=True):
            joints = motion.joints.astype(np.float32)
            track.raw_poses, track.root = track.poses, joints[:, ROOT]
            track.poses = joints - joints[:, [ROOT]]
            upright = lifting.upright(track.poses) if up is None else motion.upright(up)
            track.upright = upright.astype(np.float32)

    @contextmanager
    def borrowed(self) -> Iterator[Any]:
        """Lends a detector that remembers nobody."""
        try:
            detector = self._idle.pop()
        except IndexError:
            detector = self._load()
        if hasattr(detector, "reset"):
            detector.reset()
        try:
            yield detector
        finally:
            self._idle.append(detector)


def estimate(
    source: Source, *, fps: float | None = None, max_people: int | None = None, **options: Any
) -> Result:
    """Finds the people in an image, a video or frames, and lifts them; it loads all networks in each call.

    Args:
        source: An image, (H, W, 3) uint8 RGB (of OpenCV's BGR give ``image[..., ::-1]``), or its path; the
            path of a video; or frames of one size in order: an array (F, H, W, 3) or any iterable.
        fps: Frames per second of frames; without it they have no times.
        max_people: Keep so many people, those seen in most frames, then those of the highest scores.
        options: The arguments of ``Estimator``.

    Returns:
        A ``Track`` for each person. In videos and frames people are followed, gaps of up to 20 frames are
        interpolated, and people found in fewer than 10 frames or with low scores are left out.
    """
    return Estimator(**options)(source, fps=fps, max_people=max_people)


def fit_motion(result: Result, track: Track, focal: float | str | None = None) -> Motion:
    """Fits one skeleton to all frames of a lifted track with times: see ``demo.lib.motion.fit_motion``.

    Args:
        result: Where the track is from: its image size and times.
        track: Its poses as lifted; ``root`` is the first estimate of its position.
        focal: See ``Estimator``.
    """
    size, times = result.image_size, result.times(track)
    if times is None:
        raise ValueError(f"{result.source}: expected frames with times; give fps")
    root = track.root
    if root is None:
        root = lifting.place(track.poses, track.keypoints, size, focal=focal).astype(np.float32)
    centred = track.keypoints - np.array(size) / 2
    scores = np.where(track.interpolated[:, None], 0, track.scores)
    inside = ((track.keypoints >= 0) & (track.keypoints < size)).all(axis=2)
    return fit(centred, scores * inside, track.poses, root, times, lifting.focal_length(size, focal))


def _fix_sides(result: Result) -> str:
    swapped = 0
    for track in result.tracks:
        times = result.times(track)
        assert times is not None
        order = side_order(track.keypoints, times)
        swapped += int((order != np.arange(order.shape[1])).any(axis=1).sum())
        track.keypoints = np.take_along_axis(track.keypoints, order[..., None], axis=1)
        track.scores = np.take_along_axis(track.scores, order, axis=1)
    return f"one skeleton fitted to each person; left and right swapped in {swapped} poses"


def warnings(result: Result) -> list[str]:
    """What speaks against the poses, a phrase each."""
    small, half = [], []
    for track in result.tracks:
        spans = np.ptp(track.keypoints, axis=1).max(axis=1)  # (T,), the longer side, for people who lie
        outside = ((track.keypoints < 0) | (track.keypoints >= result.image_size)).any(axis=2)  # (T, J)
        unseen = (outside | (track.scores < MIN_CONFIDENCE))[~track.interpolated].sum(axis=1)
        small += [str(track.id)] * bool(np.median(spans) < SMALL_PERSON)
        half += [str(track.id)] * bool(unseen.mean() >= HALF_BODY)
    found = [f"person {', '.join(small)} under {SMALL_PERSON} px high, poses are coarse"] if small else []
    return found + ([f"person {', '.join(half)} half seen, hidden joints are guessed"] if half else [])


def _keep(result: Result, most: int | None, person: int | None) -> None:
    everybody = result.tracks
    kept = [track for track in everybody if person is None or track.id == person]
    if everybody and not kept:
        found = ", ".join(str(track.id) for track in everybody)
        raise UserError(f"{result.source}: expected person {person}, found {found}")
    kept = sorted(kept, key=lambda track: (-len(track.frames), -float(track.scores.mean())))[:most]
    result.tracks = sorted(kept, key=lambda track: track.id)
    if len(kept) < len(everybody):
        result.notes["people kept"] = f"{len(kept)} of {len(everybody)}"


def _expect(valid: bool, what: str, expected: str, found: Any) -> None:
    if not valid:
        raise ValueError(f"{what}: expected {expected}, found {found!r}")


def _image(what: str, value: Any) -> Image:
    image = np.asarray(value)
    valid = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size > 0
    _expect(valid, what, "(H, W, 3) uint8 RGB", f"{image.shape} {image.dtype}")
    kp.image_size_of((image.shape[1], image.shape[0]))
    return np.ascontiguousarray(image)


def _images(frames: Any) -> Iterator[Image]:
    shape = None
    for number, frame in enumerate(frames):
        image = _image(f"frame {number}", frame)
        shape = shape or image.shape
        _expect(image.shape == shape, f"frame {number}", f"{shape} like the first", image.shape)
        yield image

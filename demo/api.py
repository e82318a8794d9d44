"""The demo for other programs: people in pictures and frames, and poses from key points.

Nothing here prints, reads the command line or changes settings of the program that it is part of, and
everything can be called from several threads at once, with the results of one. Weights stay in memory as long
as the object that loaded them. All joints are Human3.6M's 17, ``common.skeleton.JOINT_NAMES``; poses are in
camera space (x right, y down, z away), metres, with the pelvis at 0.

Wrong arguments are a ``ValueError``; files that are missing, damaged or of another kind, and a device that is
not there, are a ``common.errors.UserError`` (``CheckpointError`` for weights and models, ``InputError`` for
pictures and videos). Both say what was expected and what was found.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch

from common import checkpoint
from common.errors import CheckpointError
from common.skeleton import NUM_JOINTS
from demo.lib import checks, detectors, given, lifters, pipeline
from demo.lib.blazepose import CHECKPOINT as DETECTORS
from demo.lib.inputs import is_video, read_picture
from demo.lib.keypoint_files import FORMATS, to_h36m
from demo.lib.lifting import lift_keypoints
from demo.lib.person import Detector, Person
from demo.lib.result import Result, Track
from demo.lib.summary import finish
from demo.lib.video import Video
from model import HTNet

__all__ = ["Estimator", "Lifter", "Person", "Result", "Track", "estimate", "lift"]

Format = Literal["h36m17", "coco17", "body25"]
Window = Literal["person", "image"]
Weights = str | os.PathLike[str] | HTNet
Source = str | os.PathLike[str] | npt.NDArray[np.uint8] | Iterable[npt.NDArray[np.uint8]]

CHECKPOINTS = Path(__file__).parents[1] / "ckpt"

_READING = threading.Lock()
"""Held while a file is read: the readers set Python's warning filters, which are the whole program's."""


class Lifter:
    """A lifter that is loaded once, for any number of calls.

    HTNet (Cai et al., *HTNet: Human Topology Aware Network for 3D Human Pose Estimation*, ICASSP 2023), its
    poses averaged with those of the mirrored input, as in evaluation.

    Args:
        weights: The name of a folder under ``ckpt/``, a folder, a file of weights (``.pth``), an exported
            lifter (``.onnx``, run by ONNX Runtime on the CPU), or a network, which is copied as it is now.
            By default the first of ``ckpt/cpn``, ``ckpt/open`` and ``ckpt/sample`` that is there.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "mps", "cuda" or "cuda:N".
        window: What the network sees: "person", each person in a window of their own, or "image", where they
            are in the image, as published demonstrations do. docs/demo.md compares them.

    Raises:
        CheckpointError: The weights are missing, damaged or of another network.
        UserError: The device is not there, or none of the default weights.
        ValueError: ``window`` or ``device`` is none of these.
    """

    def __init__(
        self, weights: Weights | None = None, *, device: str = "auto", window: Window = "person"
    ) -> None:
        self._lifter = _loaded(weights, device, window)

    def __call__(
        self,
        keypoints: npt.ArrayLike,
        image_size: tuple[int, int],
        *,
        format: Format = "h36m17",  # noqa: A002 -- the word that key point files use too
        scores: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """Lifts key points, each pose on its own: see ``lift``."""
        count = FORMATS[given.one_of("format", format, FORMATS)]
        size = given.image_size(image_size)
        joints, _, liftable = to_h36m(*given.points(keypoints, scores, count), format)
        with given.as_value_errors():
            checks.pixels("keypoints", [joints[liftable]], size)
        poses = np.full((*liftable.shape, NUM_JOINTS, 3), np.nan, np.float32)
        lifter = self._lifter
        poses[liftable] = lift_keypoints(
            lifter.model,
            joints[liftable],  # (N, 17, 2)
            size,
            device=lifter.device,
            window=lifter.window,
            one_thread=lifter.one_thread,
        )
        return poses


def lift(
    keypoints: npt.ArrayLike,
    image_size: tuple[int, int],
    *,
    format: Format = "h36m17",  # noqa: A002 -- the word that key point files use too
    scores: npt.ArrayLike | None = None,
    weights: Weights | None = None,
    device: str = "auto",
    window: Window = "person",
) -> npt.NDArray[np.float32]:
    """Lifts 2D key points to 3D, each pose on its own.

    It loads the weights each time: a program that calls more than once makes a ``Lifter`` and calls that.

    Args:
        keypoints: (..., J, 2) in pixels of the image, x to the right, y down, or (..., J, 3) with the scores;
            any number of dimensions before, such as (J, 2), (N, J, 2) or (people, frames, J, 2).
        image_size: Width and height of the image, pixels.
        format: Which key points they are: "h36m17", Human3.6M's 17; "coco17", COCO's; "body25", OpenPose's
            BODY_25, of which COCO's are used. docs/formats.md has their orders.
        scores: (..., J) confidence of each key point, 0 to 1. Those with 0 were not found, and take the place
            of the nearest one found along the body. Without scores, key points at exactly (0, 0) count as not
            found.
        weights: See ``Lifter``.
        device: See ``Lifter``.
        window: See ``Lifter``.

    Returns:
        (..., 17, 3) float32 poses: camera space (x right, y down, z away), metres, pelvis at 0; NaN where
        neither shoulder or neither hip was found. They are those of ``demo/vis.py --keypoints``.

    Raises:
        ValueError: Shapes, the image's size or a name are wrong, or key points are not finite, not in
            pixels, or beyond 327,660.
        CheckpointError, UserError: See ``Lifter``.
    """
    return Lifter(weights, device=device, window=window)(keypoints, image_size, format=format, scores=scores)


class Estimator:
    """Finds, follows and lifts people; the networks are loaded once, for any number of calls.

    For calls at the same time BlazePose is loaded once for each: it remembers the people of the last frame.

    Args:
        detector: What finds people and their key points: "blazepose"; "hrnet", YOLOv3 with HRNet-W48; "auto",
            that pair where both of its files are there, else BlazePose; or a function from a picture
            (H, W, 3) uint8 RGB to a list of ``Person``, which must bear calls from the threads that you use.
        weights: See ``Lifter``.
        device: Where HTNet and the published pair compute: see ``Lifter``. BlazePose uses the CPU.
        window: See ``Lifter``.
        smooth: Smooth the poses of frames with times (One Euro filter; Casiez, Roussel, Vogel, CHI 2012), and
            keep the raw ones beside them.
        focal: Focal length in pixels; with it or ``height_m``, where people stand is estimated.
        height_m: Stature of the people, metres, which their poses are scaled to.

    Raises:
        CheckpointError: Weights, or the detector's models, are missing or damaged. The message says how to
            get them; nothing is fetched unasked.
        UserError: See ``Lifter``.
        ValueError: An argument is none of these, or out of its range.
    """

    def __init__(
        self,
        *,
        detector: Literal["auto", "blazepose", "hrnet"] | Detector = "auto",
        weights: Weights | None = None,
        device: str = "auto",
        window: Window = "person",
        smooth: bool = False,
        focal: float | None = None,
        height_m: float | None = None,
    ) -> None:
        given.between("focal", focal, 1, 1e6, "pixels")
        given.between("height_m", height_m, 0.3, 3, "metres")
        place = focal is not None or height_m is not None
        self._lifter = _loaded(
            weights, device, window, smooth=smooth, place=place, focal=focal, height_m=height_m
        )
        self._detectors, self._note = _pool(detector, self._lifter.device)

    def __call__(self, source: Source, *, fps: float | None = None, max_people: int | None = None) -> Result:
        """Finds the people in a picture, or in the frames of a video: see ``estimate``."""
        given.between("fps", fps, 0.01, 10_000, "frames per second")
        given.between("max_people", max_people, 1, inf, "people")
        path = Path(source) if isinstance(source, str | os.PathLike) else None
        many = source.ndim == 4 if isinstance(source, np.ndarray) else isinstance(source, Iterable)
        picture = not many if path is None else not is_video(path)
        if fps is not None and (picture or path is not None):
            raise ValueError("fps goes with frames: a picture has none, and a video has its own")
        with self._detectors.one() as detector:
            if picture:
                result = self._picture(source, path, detector)
            elif path is not None:
                result = self._video(path, detector)
            else:
                result = self._frames(given.images(cast(Iterable[Any], source)), "frames", fps, detector)
        result.notes["2D pose"] = self._note
        finish(result, most=max_people)
        return result

    def _picture(self, source: Any, path: Path | None, detector: Detector) -> Result:
        if path is None:
            image = given.image("picture", source)
        else:
            with _READING:
                image = read_picture(path)
        name = "picture" if path is None else str(path)
        return pipeline.from_picture(image, name, detector, self._lifter, pipeline.Stages())

    def _video(self, path: Path, detector: Detector) -> Result:
        with Video(path) as video:
            result = self._frames(video, str(path), video.fps, detector)
            if video.notes:
                result.notes["video"] = "; ".join(video.notes)
        return result

    def _frames(
        self, frames: Iterable[np.ndarray], name: str, fps: float | None, detector: Detector
    ) -> Result:
        find = getattr(detector, "track", detector)
        return pipeline.from_frames(frames, name, fps, find, self._lifter, pipeline.Stages())


def estimate(
    source: Source,
    *,
    detector: Literal["auto", "blazepose", "hrnet"] | Detector = "auto",
    weights: Weights | None = None,
    device: str = "auto",
    window: Window = "person",
    smooth: bool = False,
    focal: float | None = None,
    height_m: float | None = None,
    fps: float | None = None,
    max_people: int | None = None,
) -> Result:
    """Finds the people in a picture or in the frames of a video, and lifts them to 3D.

    It loads all networks each time: a program that calls more than once makes an ``Estimator``.

    Args:
        source: A picture, (H, W, 3) uint8 **RGB** (of OpenCV's BGR give ``image[..., ::-1]``) or its path; or
            frames of one size, each such a picture, in order: an iterable, of which none is kept, an
            array (F, H, W, 3), or the path of a video. The paths of videos are told by their suffix.
        detector: See ``Estimator``.
        weights: See ``Lifter``.
        device: See ``Estimator``.
        window: See ``Lifter``.
        smooth: See ``Estimator``.
        focal: See ``Estimator``.
        height_m: See ``Estimator``.
        fps: Frames per second, if ``source`` is frames; without it they have no times.
        max_people: Keep at most so many people, those seen in most frames, among equals the surest.

    Returns:
        The people: for each a ``Track`` with their ID, frames, key points and scores (2D, pixels) and poses
        (3D, metres). ``result.times(track)`` gives seconds. In frames, people are followed and gaps of up to
        20 frames filled in; who is seen in fewer than 10 frames is left out.

    Raises:
        ValueError: A picture or frame is no such array, frames differ in size, or an argument is out of
            its range.
        InputError: A picture or video is missing, damaged, no such file, or too large.
        CheckpointError, UserError: See ``Estimator``.
    """
    estimator = Estimator(
        detector=detector,
        weights=weights,
        device=device,
        window=window,
        smooth=smooth,
        focal=focal,
        height_m=height_m,
    )
    return estimator(source, fps=fps, max_people=max_people)


# Networks


def _loaded(weights: Weights | None, device: str, window: str, **treatment: Any) -> pipeline.Lifter:
    """The lifter of some weights, and how its poses are treated."""
    where = given.device(device)
    treatment["window"] = given.one_of("window", window, get_args(Window)) == "person"
    treatment["one_thread"] = False  # PyTorch's threads are the program's
    if isinstance(weights, HTNet):
        network = lifters.ready(weights, where)
        return pipeline.Lifter(network, where, "a network of the program's", **treatment)
    try:
        path = lifters.find(None if weights is None else os.fspath(weights), CHECKPOINTS)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("--previous_dir", "weights", 1)) from None
    with _READING:
        model = lifters.load(path, where)
    name = lifters.short_name(path, checkpoint.describe(path))
    return pipeline.Lifter(model, where, name, **treatment)


def _pool(detector: str | Detector, device: torch.device) -> tuple[detectors.Pool, str]:
    """Detectors to take one from for each call, and what they are."""
    if not isinstance(detector, str):
        # As a plain function: one that remembers the last frame could not serve several calls.
        return detectors.Pool(lambda: lambda image: detector(image)), "a detector of the program's own"
    given.one_of("detector", detector, ("auto", *detectors.NAMES))
    name, _ = detectors.choose(detector, DETECTORS)

    def load() -> Detector:
        with _READING:
            return detectors.load(name, DETECTORS, device, quiet=False)

    return detectors.Pool(load), detectors.NAMES[name]

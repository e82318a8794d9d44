"""BlazePose: 33 body landmarks of one person, on Google's TFLite networks (Apache-2.0).

Bazarevsky et al., "BlazePose: On-device real-time body pose tracking", 2020. A landmark network sees one
person cut out upright; a small detector finds the hips of people and their size where NanoDet is missing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.console import UserError
from demo.lib.nanodet import HIPS, SEEN, SHOULDERS, Pose, sigmoid
from demo.lib.regions import Boxes, Image, Region, letterbox, suppress

COCO = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]  # of the 33 landmarks
HIP_CENTRE, SIZE_POINT = 33, 34  # landmarks after the body's own give the next region
CROP, DETECTOR_SIDE = 256, 224
GRIDS = ((28, 2), (14, 2), (7, 6))  # cells along a side of the detector's grids, anchors per cell
DETECTOR_THRESHOLD = 0.5
TRUNK_TO_REACH = 1.9  # distance from the hips to the farther end of a standing person over the trunk's length


class TFLite:
    """A TFLite network with one image as input.

    Args:
        path: The file.
        outputs: Shapes by which its outputs are identified.
        threads: Threads that it runs on.

    Raises:
        UserError: The file is missing or damaged.
    """

    def __init__(self, path: Path, outputs: list[tuple[int, ...]], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if not path.is_file():
            raise UserError(f"{path}: missing; run `python -m demo.fetch`")
        try:
            self.interpreter = Interpreter(str(path), num_threads=threads)
            self.interpreter.allocate_tensors()
            index = {tuple(each["shape"]): each["index"] for each in self.interpreter.get_output_details()}
            self.outputs = [index[shape] for shape in outputs]
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{path}: damaged or another network; remove it and run `python -m demo.fetch`"
            ) from error
        self.input = self.interpreter.get_input_details()[0]["index"]

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs for one image (H, W, 3)."""
        self.interpreter.set_tensor(self.input, image[None])
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self.outputs]


class Landmarks:
    """Reads the keypoints of the person in a region.

    Args:
        path: ``pose_landmark_heavy.tflite`` or ``pose_landmark_full.tflite``.
        threads: Threads that it runs on.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.network = TFLite(path, [(1, 195), (1, 1), (1, 117)], threads)

    def __call__(self, image: Image, region: Region, only: NDArray[Any] | None = None) -> Pose:
        """Reads a region of an image (H, W, 3) uint8 RGB; ``only`` is a box outside of which is nobody."""
        crop = region.cut(image, (CROP, CROP), only)
        raw, presence, world = self.network(crop * np.float32(1 / 255))
        raw, world = raw.reshape(39, 5), world.reshape(39, 3)[COCO].astype(np.float64)
        points = region.to_image(raw[:, :2], (CROP, CROP))
        turn = region.matrix((CROP, CROP))[:, :2] * CROP / region.width
        world[:, :2] = world[:, :2] @ turn.T
        scores = sigmoid(raw[COCO, 3:].astype(np.float64)).min(axis=1)  # visible and inside
        following = centred(points[HIP_CENTRE], points[SIZE_POINT])
        return Pose(points[COCO], scores, float(presence.item()), following, world)


def centred(hips: NDArray[Any], size_point: NDArray[Any]) -> Region:
    """The square in which the size point lies straight above the middle of the hips."""
    x, y = size_point - hips
    side = 2.5 * math.hypot(x, y)
    return Region(float(hips[0]), float(hips[1]), side, side, math.atan2(x, -y))


def of_keypoints(pose: Pose) -> Region:
    """A landmark network's region of a person whose COCO keypoints are known."""
    shoulders, hips = pose.points[SHOULDERS].mean(axis=0), pose.points[HIPS].mean(axis=0)
    seen = pose.points[pose.scores >= SEEN]
    reach = 1.15 * np.linalg.norm(seen - hips, axis=1).max(initial=1.0)
    trunk = shoulders - hips
    length = float(np.linalg.norm(trunk))
    return centred(hips, hips + trunk / max(length, 1e-6) * max(TRUNK_TO_REACH * length, reach))


class BlazeFinder:
    """BlazePose's own detector on the whole image: people of at least a fifth of it.

    Args:
        folder: Folder of ``pose_detection.tflite``.
        threads: Threads that it runs on.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        shapes: list[tuple[int, ...]] = [(1, 2254, 12), (1, 2254, 1)]
        self.network = TFLite(folder / "pose_detection.tflite", shapes, threads)
        centres = []
        for cells, repeats in GRIDS:
            y, x = np.mgrid[:cells, :cells]
            centres.append(np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells, repeats, axis=0))
        self.anchors = np.concatenate(centres) * DETECTOR_SIDE  # (2254, 2) pixels of the square

    def __call__(self, image: Image) -> Boxes:
        """Squares around the hips of the people in an image (H, W, 3) uint8 RGB."""
        square, region = letterbox(image, (DETECTOR_SIDE, DETECTOR_SIDE), 0, centred=True)
        raw, logits = self.network(square * np.float32(1 / 127.5) - 1)
        scores = sigmoid(logits[0, :, 0])
        kept = scores >= DETECTOR_THRESHOLD
        points = (
            raw[0, kept, 4:8].reshape(-1, 2, 2) + self.anchors[kept, None]
        )  # (N, hips and size point, xy)
        hips, size = region.to_image(points, (DETECTOR_SIDE, DETECTOR_SIDE)).transpose(1, 0, 2)
        radius = np.linalg.norm(size - hips, axis=1, keepdims=True)
        return suppress(np.concatenate([hips - radius, hips + radius], axis=1), scores[kept], limit=0.4)

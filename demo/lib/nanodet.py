"""NanoDet, which finds people, and MoveNet Thunder, which reads the keypoints of one (both Apache-2.0).

RangiLyu, "NanoDet: Super fast and lightweight anchor-free object detection model", 2020; Google, "MoveNet:
Ultra fast and accurate pose detection model", 2021.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.lib.regions import Boxes, Image, Region, letterbox, suppress
from demo.lib.tfjs import GraphModel

SIDE, CLASSES, BINS, STRIDES = 416, 80, 11, (8, 16, 32)  # NanoDet's input, distance bins per side, grids
MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # BGR
DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)

CROP, GRID = 256, 64  # MoveNet's input and the cells of its outputs
NEAR_CELLS = 1.8  # MoveNet weighs cells by 1 / (their distance from where a point is expected + this)
SEEN = 0.2  # score from which a keypoint tells where the person is
UPRIGHT = math.radians(60)  # a trunk that leans more is turned upright: the network knows standing people
SHOULDERS, HIPS = slice(5, 7), slice(11, 13)


class Pose(NamedTuple):
    """What a keypoint network reads in a region.

    Attributes:
        points: (17, 2) COCO keypoints, pixels of the image.
        scores: (17,) from 0 to 1.
        presence: From 0 to 1, whether a person is there.
        region: What to look at in the next frame.
        world: (17, 3) metres, hip-centred, x right, y down, z away; None where the network has none.
    """

    points: NDArray[np.floating]
    scores: NDArray[np.floating]
    presence: float
    region: Region
    world: NDArray[np.floating] | None = None


class NanoDet:
    """Finds people.

    Args:
        folder: Folder of nanodet.json and nanodet.bin.
        threads: Threads that it runs on.
        threshold: Lowest score of a box.
    """

    def __init__(self, folder: Path, threads: int, threshold: float) -> None:
        ends = [f"PartitionedCall/transpose_{number}" for number in (99, 105, 111)]  # for each stride
        shape = (1, 3, SIDE, SIDE)
        self.network = GraphModel(folder / "nanodet.json", threads, start="input_1", shape=shape, ends=ends)
        self.threshold = threshold

    def __call__(self, image: Image) -> Boxes:
        """Boxes of the people in an image (H, W, 3) uint8 RGB."""
        square, region = letterbox(image, (SIDE, SIDE), 0)
        x = (square[..., ::-1] - MEAN) / DEVIATION
        boxes, scores = [], []
        for output, stride in zip(self.network(x.transpose(2, 0, 1)[None]), STRIDES, strict=True):
            score = sigmoid(output[0, 0])  # class 0 is a person
            row, column = np.nonzero(score >= self.threshold)
            bins = np.exp(output[0, CLASSES:, row, column].reshape(-1, 4, BINS))  # (N, 44) -> (N, side, bin)
            reach = (bins / bins.sum(-1, keepdims=True)) @ np.arange(BINS)  # (N, 4)
            centres = np.stack([column, row], axis=-1) + 0.5
            boxes.append(np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1) * stride)
            scores.append(score[row, column])
        corners = region.to_image(np.concatenate(boxes).reshape(-1, 2, 2), (SIDE, SIDE))
        return suppress(corners.clip(0, image.shape[1::-1]).reshape(-1, 4), np.concatenate(scores))


class Thunder:
    """Reads the keypoints of the person in the middle of a region.

    Args:
        folder: Folder of movenet-thunder.json and movenet-thunder.bin.
        threads: Threads that it runs on.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        heads = (
            "center_0/conv2d_4",
            "kpt_heatmap_0/conv2d_5",
            "kpt_regress_0/conv2d_6",
            "kpt_offset_0/conv2d_7",
        )
        self.network = GraphModel(
            folder / "movenet-thunder.json",
            threads,
            start="StatefulPartitionedCall/sub_1",  # the image from -1 to 1
            shape=(1, CROP, CROP, 3),
            ends=[f"StatefulPartitionedCall/{head}/BiasAdd" for head in heads],
        )

    def __call__(self, image: Image, region: Region, only: NDArray[Any] | None = None) -> Pose:
        """Reads a region of an image (H, W, 3) uint8 RGB; ``only`` is a box outside of which is nobody."""
        points, scores = self.read(region.cut(image, (CROP, CROP), only))
        points = region.to_image(points, (CROP, CROP))
        presence = min(1.0, 2 * float(np.sort(scores)[-8:].mean()))  # a head and shoulders are enough
        return Pose(points, scores, presence, around(points, scores, region))

    def read(self, crop: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(17, 2) pixels of a crop (256, 256, 3), and (17,) scores."""
        x = crop[None] * np.float32(1 / 127.5) - 1
        centre, heat, regressed, offsets = (output[0] for output in self.network(x))
        cells, joints = np.arange(GRID, dtype=np.float32)[:, None], np.arange(17)

        def near(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
            """(64, 64, P) weights of the cells around places (P,)."""
            return 1 / (np.sqrt((cells - y)[:, None] ** 2 + (cells - x)[None] ** 2) + NEAR_CELLS)

        middle = np.full(1, GRID / 2, np.float32)
        row, column = np.unravel_index((sigmoid(centre) * near(middle, middle)).argmax(), (GRID, GRID))
        expected = regressed[row, column].reshape(17, 2) + np.array([row, column], np.float32)
        heat = sigmoid(heat)  # (64, 64, 17)
        weighted = heat * near(*expected.T)
        y, x = np.unravel_index(weighted.reshape(-1, 17).argmax(axis=0), (GRID, GRID))
        offset = offsets.reshape(GRID, GRID, 17, 2)[y, x, joints]
        points = (np.stack([x, y], axis=-1) + offset[:, ::-1]) * (CROP / GRID)
        return points, heat[y, x, joints].astype(np.float64)


def around(points: NDArray[Any], scores: NDArray[Any], region: Region) -> Region:
    """The square to look at next: around the keypoints seen, turned if the trunk is far from upright."""
    seen = points[scores >= SEEN]
    if len(seen) < 4:
        return region
    trunk = points[SHOULDERS].mean(axis=0) - points[HIPS].mean(axis=0)
    angle = math.atan2(trunk[0], -trunk[1]) if scores[[5, 6, 11, 12]].min() >= SEEN else 0.0
    angle = angle if abs(angle) > UPRIGHT else 0.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    local = seen @ turn  # axes of the turned square
    low, high = local.min(axis=0), local.max(axis=0)
    x, y = turn @ ((low + high) / 2)
    side = max(1.35 * float((high - low).max()), 0.7 * region.width)
    return Region(float(x), float(y), side, side, angle)


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)

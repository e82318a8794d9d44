"""Key points found with HRNet-W48, in given boxes or, behind YOLOv3, in a whole picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import checkpoint
from common.errors import CheckpointError
from demo.lib.crop import crop_people, leave_crops
from demo.lib.hrnet_w48 import KEYPOINTS, HRNet
from demo.lib.person import Person
from demo.lib.published import HRNET_W48, YOLOV3, check, check_all
from demo.lib.yolo import PersonDetector

CROP_SIZE = (288, 384)  # width, height
HEATMAP_SIZE = (72, 96)
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, in the order R, G, B
DEVIATION = (0.229, 0.224, 0.225)
CROPS_AT_ONCE = 8


def load_published(model: HRNet, path: Path) -> None:
    """Fills the network from the published file, strictly; batch counters, unused here, may be there or not.

    The model may be on the meta device.

    Raises:
        CheckpointError: The file is missing, of another size, or not the published one.
    """
    check(path, HRNET_W48)
    state = checkpoint.read(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected tensors by name; download it from {HRNET_W48.origin}")
    found = {name: tuple(value.shape) for name, value in state.items()}
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    faults = [
        f"{name}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | found.keys())
        if found.get(name) != wanted.get(name) and not name.endswith(".num_batches_tracked")
    ]
    faults += [f"{name}: NaN or infinite" for name, value in state.items() if not value.isfinite().all()]
    if faults:
        listed = "\n  ".join(faults[:8] + ([f"and {len(faults) - 8} more"] if len(faults) > 8 else []))
        raise CheckpointError(
            f"{path}: not the published weights:\n  {listed}\ndownload it from {HRNET_W48.origin}"
        )
    # A plain dictionary carries no version, so that PyTorch itself sets counters that it lacks.
    model.load_state_dict({name: state[name] for name in wanted if name in state}, assign=True)


def decode(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest pixel of each heat map, moved a quarter of a pixel toward its higher neighbours.

    Args:
        heatmaps: (N, J, H, W).

    Returns:
        (N, J, 2) points, x and y in pixels of the heat maps, and their (N, J) values.
    """
    N, J, H, W = heatmaps.shape
    flat = heatmaps.reshape(N, J, H * W)  # (N, J, H, W) -> (N, J, H * W)
    peak = flat.argmax(axis=-1)
    scores = np.take_along_axis(flat, peak[..., None], axis=-1)[..., 0]
    points = np.stack([peak % W, peak // W], axis=-1).astype(np.float32)  # (N, J, 2)

    x, y = peak % W, peak // W
    n, j = np.ogrid[:N, :J]
    inner = (x > 1) & (x < W - 1) & (y > 1) & (y < H - 1)  # elsewhere the published code leaves both x and y
    x, y = np.clip(x, 1, W - 2), np.clip(y, 1, H - 2)
    slope = np.stack(
        [
            heatmaps[n, j, y, x + 1] - heatmaps[n, j, y, x - 1],
            heatmaps[n, j, y + 1, x] - heatmaps[n, j, y - 1, x],
        ],
        axis=-1,
    )
    return points + np.where(inner[..., None], np.sign(slope) / 4, 0).astype(np.float32), scores


class KeypointEstimator:
    """Finds the 17 COCO key points of people whose boxes are known.

    Args:
        path: ``pose_hrnet_w48_384x288.pth``.
        device: Where the network runs.

    Raises:
        CheckpointError: The file is missing or not the published one.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        with torch.device("meta"):
            self.network = HRNet().eval()
        load_published(self.network, path)
        self.network.to(device)
        self.device = device

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the key points of the people in one picture.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (n, 4) left, top, right, bottom in pixels of the picture.

        Returns:
            Key points (n, 17, 2) float32 in pixels of the picture and scores (n, 17), the heat maps' peaks.
        """
        crops = crop_people(image, boxes, CROP_SIZE)
        points, scores = decode(self._infer(crops))
        return leave_crops(points, boxes, CROP_SIZE, HEATMAP_SIZE), scores

    @torch.inference_mode()
    def _infer(self, crops: np.ndarray) -> np.ndarray:
        width, height = HEATMAP_SIZE
        heatmaps = np.empty((len(crops), KEYPOINTS, height, width), np.float32)
        for start in range(0, len(crops), CROPS_AT_ONCE):  # a crowd at once would not fit into memory
            part = slice(start, start + CROPS_AT_ONCE)
            heatmaps[part] = self.network(normalise(crops[part]).to(self.device)).cpu().numpy()
        return heatmaps


def normalise(crops: np.ndarray) -> Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32 by ImageNet's mean and deviation."""
    x = torch.from_numpy(crops).float() / 255
    x = (x - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return x.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


class HRNetDetector:
    """The published 2D pair: YOLOv3 finds the people, HRNet-W48 their key points.

    Args:
        folder: Where ``yolov3.weights`` and ``pose_hrnet_w48_384x288.pth`` lie.
        device: Where the networks run.

    Raises:
        CheckpointError: Files are missing or not the published ones.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        check_all(folder, (YOLOV3, HRNET_W48))  # before either is read
        self.detector = PersonDetector(folder / YOLOV3.name, device)
        self.estimator = KeypointEstimator(folder / HRNET_W48.name, device)

    def __call__(self, image: np.ndarray) -> list[Person]:
        """Finds the people in one picture, the surest first.

        Args:
            image: (H, W, 3) uint8, RGB.
        """
        boxes, box_scores = self.detector(image)
        keypoints, scores = self.estimator(image, boxes)
        scores = np.clip(scores, 0, 1)  # peaks of heat maps pass 1 by a little
        return [
            Person(keypoints=points, scores=confidence, box=box, score=float(score))
            for points, confidence, box, score in zip(keypoints, scores, boxes, box_scores, strict=True)
        ]

"""People found with YOLOv3: one box each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from demo.lib.crop import leave_letterbox, letterbox
from demo.lib.darknet import YOLOv3, load_darknet
from demo.lib.tiles import overlaps

SIDE = 416
PERSON = 0
IOU_LIMIT = 0.4


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float = IOU_LIMIT) -> np.ndarray:
    """Indices, best first, of the boxes (N, 4) that no better one overlaps by more than ``limit``."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[overlaps(boxes[[best]], boxes[order])[0] <= limit]
    return np.array(kept, np.intp)


def people(predictions: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of people among the predictions for one picture, each person once.

    Args:
        predictions: (N, 85) as ``YOLOv3.forward`` gives them.
        threshold: Least objectness.

    Returns:
        Boxes (n, 4), left, top, right, bottom in pixels of the input, and their objectness (n,), best first.
    """
    rows = predictions[predictions[:, 4] >= threshold]
    rows = rows[rows[:, 5:].argmax(axis=1) == PERSON]
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    kept = suppress(boxes, rows[:, 4])
    return boxes[kept], rows[kept, 4]


class PersonDetector:
    """Finds people in pictures with YOLOv3.

    Args:
        path: ``yolov3.weights``.
        device: Where the network runs.
        threshold: Least objectness of a person, 0 to 1.

    Raises:
        CheckpointError: The file is missing or not what Darknet published.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu", threshold: float = 0.3) -> None:
        with torch.device("meta"):
            self.network = YOLOv3().eval()
        load_darknet(self.network, path)
        self.network.to(device)
        self.device = device
        self.threshold = threshold

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the people in one picture.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            Boxes (n, 4) float32, left, top, right, bottom in pixels of the picture, and scores (n,), best
            first.
        """
        square, placed = letterbox(image, SIDE)
        predictions = self._infer(square)
        boxes, scores = people(predictions, self.threshold)
        boxes = leave_letterbox(boxes, placed, (image.shape[1], image.shape[0]))
        seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)  # others lay in the grey
        return boxes[seen], scores[seen]

    @torch.inference_mode()
    def _infer(self, square: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(square).to(self.device).float() / 255
        x = x.permute(2, 0, 1)[None]  # (H, W, C) -> (B, C, H, W)
        return self.network(x)[0].cpu().numpy()

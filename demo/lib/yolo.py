"""YOLOv3: people in images as boxes (Redmon and Farhadi, 2018, arXiv 1804.02767), with Darknet's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.console import UserError
from demo.lib.regions import Boxes, letterbox, suppress

NAME, BYTES = "yolov3.weights", 248_007_048
ORIGIN = "Joseph Redmon's YOLO site, https://pjreddie.com/media/files/yolov3.weights"
HEADER_BYTES = 20
SIDE, GREY = 416, 128  # of the letterbox
CLASSES, PERSON = 80, 0
NMS_IOU = 0.4

DARKNET53 = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Channels and residual blocks of each stage of the backbone; each stage halves the resolution."""

SCALES = (
    # channels, stride, anchors (width and height in pixels of the input)
    (512, 32, ((116, 90), (156, 198), (373, 326))),
    (256, 16, ((30, 61), (62, 45), (59, 119))),
    (128, 8, ((10, 13), (16, 30), (33, 23))),
)
"""The three grids that boxes are predicted on, coarse to fine."""


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.LeakyReLU(0.1),
    )


class Residual(nn.Sequential):
    """Darknet's residual block: a bottleneck of half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(_conv(channels, channels // 2, 1), _conv(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Head(nn.Module):
    """Boxes on one grid: five convolutions whose result also feeds the next grid, then two that predict.

    Args:
        channels: Channels of the features that come in; for a finer grid, those of the backbone's stage.
        width: Channels of the head.
        coarser: Channels that the coarser grid's head passes on; None for the coarsest.
    """

    def __init__(self, channels: int, width: int, coarser: int | None) -> None:
        super().__init__()
        self.lateral = None if coarser is None else _conv(coarser, width, 1)
        wide, inputs = 2 * width, channels if coarser is None else channels + width
        squeeze = [_conv(inputs, width, 1), _conv(width, wide, 3), _conv(wide, width, 1)]
        self.neck = nn.Sequential(*squeeze, _conv(width, wide, 3), _conv(wide, width, 1))
        self.predict = nn.Sequential(_conv(width, wide, 3), nn.Conv2d(wide, 3 * (5 + CLASSES), 1))

    def forward(self, x: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.lateral is not None and coarser is not None:
            x = torch.cat([F.interpolate(self.lateral(coarser), scale_factor=2.0), x], dim=1)
        x = self.neck(x)
        return self.predict(x), x


class YOLOv3(nn.Module):
    """Boxes, objectness and class scores of images; modules are in the order of Darknet's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 32, 3)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(out // 2, out, 3, stride=2), *(Residual(out) for _ in range(blocks)))
            for out, blocks in DARKNET53
        )
        self.heads = nn.ModuleList(
            Head(features, width, None if coarsest else width * 2)
            for (features, _), (width, _, _), coarsest in zip(
                DARKNET53[:1:-1], SCALES, (True, False, False), strict=True
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of all three grids, coarse to fine, row by row, the three anchors of a cell together.

        Args:
            x: (B, 3, H, W) RGB, 0 to 1; H and W multiples of 32.

        Returns:
            (B, N, 85): centre x and y, width and height in pixels of the input; objectness; 80 class scores.
        """
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        boxes, coarser = [], None
        for head, (_, stride, anchors) in zip(self.heads, SCALES, strict=True):
            raw, coarser = head(features.pop(), coarser)
            boxes.append(decode(raw, stride, anchors))
        return torch.cat(boxes, dim=1)


def decode(raw: Tensor, stride: int, anchors: tuple[tuple[int, int], ...]) -> Tensor:
    """Boxes (B, N, 85), as ``YOLOv3.forward`` gives them, of one grid's output (B, A * 85, rows, columns)."""
    B, _, rows, columns = raw.shape
    cells = raw.view(B, len(anchors), -1, rows, columns)  # (B, A, 85, rows, columns)
    cells = cells.permute(0, 3, 4, 1, 2)  # (B, rows, columns, A, 85)
    down, right = torch.meshgrid(
        torch.arange(rows, device=raw.device), torch.arange(columns, device=raw.device), indexing="ij"
    )
    corners = torch.stack([right, down], dim=-1)[:, :, None]  # (rows, columns, 1, 2)
    decoded = torch.cat(
        [
            (cells[..., :2].sigmoid() + corners) * stride,
            cells[..., 2:4].exp() * torch.tensor(anchors, device=raw.device),
            cells[..., 4:].sigmoid(),
        ],
        dim=-1,
    )
    return decoded.flatten(1, 3)  # (B, rows, columns, A, 85) -> (B, N, 85)


def load_darknet(model: YOLOv3, path: Path) -> None:
    """Loads ``yolov3.weights`` as Darknet writes it; the model may be on the meta device.

    Raises:
        UserError: The file is missing, of another size, or damaged.
    """
    advice = f"download {NAME} ({BYTES:,} bytes) from {ORIGIN}"
    if not path.is_file() or path.stat().st_size != BYTES:
        found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no file"
        raise UserError(f"{path}: expected {BYTES:,} bytes, found {found}; {advice}")
    numbers = np.memmap(path, "<f4", "r", HEADER_BYTES)
    if np.fromfile(path, "<i4", 2).tolist() != [0, 2] or not np.isfinite(numbers).all():
        raise UserError(f"{path}: expected finite weights of Darknet 0.2; {advice}")
    state, start = {}, 0
    for name, tensor in _darknet_order(model):
        part = numbers[start : start + tensor.numel()].astype(np.float32)  # a copy: the map is read-only
        state[name] = torch.from_numpy(part).view(tensor.shape)
        start += tensor.numel()
    model.load_state_dict(state, assign=True)


def _darknet_order(model: YOLOv3) -> list[tuple[str, Tensor]]:
    """Names and tensors of the network in the order of the file."""
    ordered: list[tuple[str, Tensor]] = []
    kernel: list[tuple[str, Tensor]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            kernel = [(f"{name}.weight", module.weight)]
            if module.bias is not None:
                ordered += [(f"{name}.bias", module.bias), *kernel]
        elif isinstance(module, nn.BatchNorm2d):
            # The norm comes before the kernel of the convolution that it follows.
            parts = ("bias", "weight", "running_mean", "running_var")
            ordered += [*((f"{name}.{part}", getattr(module, part)) for part in parts), *kernel]
    return ordered


class YOLOFinder:
    """Finds people with YOLOv3.

    Args:
        path: ``yolov3.weights``.
        device: Where the network runs.
        threshold: Lowest objectness of a person, 0 to 1.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu", threshold: float = 0.3) -> None:
        with torch.device("meta"):
            self.network = YOLOv3().eval()
        load_darknet(self.network, path)
        self.network.to(device)
        self.device, self.threshold = device, threshold

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Boxes of the people in an image (H, W, 3) uint8 RGB."""
        square, region = letterbox(image, (SIDE, SIDE), GREY, centred=True)
        x = torch.from_numpy(square).to(self.device).float() / 255
        rows = self.network(x.permute(2, 0, 1)[None])[0].cpu().numpy()  # (H, W, C) -> (1, C, H, W) -> (N, 85)
        boxes, scores = people(rows, self.threshold)
        corners = region.to_image(boxes.reshape(-1, 2, 2), (SIDE, SIDE)).clip(0, image.shape[1::-1])
        boxes = corners.reshape(-1, 4).astype(np.float32)
        seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)  # others lie in the grey border
        return boxes[seen], scores[seen]


def people(rows: NDArray[np.floating], threshold: float) -> Boxes:
    """Boxes (n, 4) of people among predictions (N, 85), pixels of the input, and their objectness (n,)."""
    rows = rows[rows[:, 4] >= threshold]
    rows = rows[rows[:, 5:].argmax(axis=1) == PERSON]
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    return suppress(boxes, rows[:, 4], NMS_IOU)

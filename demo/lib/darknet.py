"""The network of YOLOv3 (Redmon and Farhadi, 2018, arXiv 1804.02767), with the weights that Darknet wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import CheckpointError
from demo.lib.published import YOLOV3, check

CLASSES = 80
HEADER_BYTES = 20

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


class Residual(nn.Module):
    """Darknet's residual block: a bottleneck of half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels // 2, 1),
            _conv(channels // 2, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


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
        if coarser is not None:
            channels += width
        self.neck = nn.Sequential(
            _conv(channels, width, 1),
            _conv(width, width * 2, 3),
            _conv(width * 2, width, 1),
            _conv(width, width * 2, 3),
            _conv(width * 2, width, 1),
        )
        self.predict = nn.Sequential(
            _conv(width, width * 2, 3),
            nn.Conv2d(width * 2, 3 * (5 + CLASSES), 1),
        )

    def forward(self, x: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.lateral is not None and coarser is not None:
            x = torch.cat([functional.interpolate(self.lateral(coarser), scale_factor=2.0), x], dim=1)
        x = self.neck(x)
        return self.predict(x), x


class YOLOv3(nn.Module):
    """Boxes, objectness and class scores of a batch of pictures.

    Modules are registered in the order in which Darknet writes their weights.
    """

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
    """Boxes in pixels from what one grid predicts.

    Args:
        raw: (B, A * 85, rows, columns), A anchors.
        stride: Pixels of the input from one cell to the next.
        anchors: Width and height of each anchor in pixels of the input.

    Returns:
        (B, rows * columns * A, 85) as ``YOLOv3.forward`` gives them.
    """
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
    """Fills the network from ``yolov3.weights`` as Darknet writes it.

    The file is mapped, not read, and each tensor is copied once; the model may be on the meta device.

    Raises:
        CheckpointError: The file is missing, of another size, or not Darknet's.
    """
    check(path, YOLOV3)
    header = np.fromfile(path, "<i4", 5)
    major, minor = header[:2].tolist()
    if (major, minor) != (0, 2):
        raise CheckpointError(
            f"{path}: expected the header of Darknet 0.2, found version {major}.{minor}; download it from "
            f"{YOLOV3.origin}"
        )
    numbers = np.memmap(path, "<f4", "r", HEADER_BYTES)
    if not np.isfinite(numbers).all():
        raise CheckpointError(f"{path}: holds NaN or infinite weights; download it from {YOLOV3.origin}")
    state = {}
    start = 0
    for name, tensor in _darknet_order(model):
        part = numbers[start : start + tensor.numel()].astype(np.float32)  # a copy: the map is read-only
        state[name] = torch.from_numpy(part).view(tensor.shape)  # (n) -> the tensor's own shape
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

"""HRNet-W48: COCO keypoints of people in boxes (Sun et al., 2019, arXiv 1902.09212), behind YOLOv3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common import checkpoint
from common.console import UserError
from demo.lib import yolo
from demo.lib.regions import Region
from demo.lib.result import Person

KEYPOINTS = 17
NAME = "pose_hrnet_w48_384x288.pth"
ORIGIN = "the model zoo of https://github.com/leoxiaobin/deep-high-resolution-net.pytorch (COCO, 384x288)"
CROP_SIZE, HEATMAP_SIZE = (288, 384), (72, 96)  # width, height
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in the order R, G, B
CROPS_AT_ONCE = 8  # a crowd at once would not fit into memory

WIDTHS = (48, 96, 192, 384)
"""Channels of the branches, from a quarter of the input's resolution down by halves."""
STAGES = ((2, 1), (3, 4), (4, 3))
"""Branches and modules of the stages after the first."""


def _conv(channels: int, out: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Bottleneck(nn.Module):
    """Residual block of a 1 x 1, a 3 x 3 and a 1 x 1 convolution."""

    def __init__(self, channels: int, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = nn.Identity() if channels == out else _conv(channels, out, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class BasicBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + x).relu()


def _fuse(source: int, target: int) -> nn.Module:
    """Brings branch ``source`` to the channels and the resolution of branch ``target``."""
    channels, out = WIDTHS[source], WIDTHS[target]
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            *_conv(channels, out, 1, relu=False),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    halvings = [_conv(channels, channels, 3, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, _conv(channels, out, 3, stride=2, relu=False))


class Exchange(nn.Module):
    """Branches of four blocks each, then each result is the sum of all branches.

    Args:
        branches: Number of branches.
        results: How many of them, finest first, give a result.
    """

    def __init__(self, branches: int, results: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(4))) for width in WIDTHS[:branches]
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(source, target) for source in range(branches)) for target in range(results)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, features, strict=True)]
        fused = []
        for layers in self.fuse_layers:
            assert isinstance(layers, nn.ModuleList)
            terms = [layer(x) for layer, x in zip(layers, features, strict=True)]
            fused.append(sum(terms[1:], start=terms[0]).relu())
        return fused


def _transition(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """Adapts the branches whose channels change, and opens the new one from the coarsest."""
    layers: list[nn.Module] = []
    for index, out in enumerate(after):
        if index >= len(before):
            layers.append(nn.Sequential(_conv(before[-1], out, 3, stride=2)))
        else:
            layers.append(nn.Identity() if before[index] == out else _conv(before[index], out, 3))
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """HRNet-W48 for COCO's 17 keypoints, with the names and shapes of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64, 256), *(Bottleneck(256, 64, 256) for _ in range(3)))
        before: tuple[int, ...] = (256,)
        for number, (branches, modules) in enumerate(STAGES, start=2):
            self.add_module(f"transition{number - 1}", _transition(before, WIDTHS[:branches]))
            last = 1 if branches == len(WIDTHS) else branches
            results = [branches] * (modules - 1) + [last]
            self.add_module(f"stage{number}", nn.Sequential(*(Exchange(branches, n) for n in results)))
            before = WIDTHS[:branches]
        self.final_layer = nn.Conv2d(WIDTHS[0], KEYPOINTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Heatmaps of the keypoints.

        Args:
            x: (B, 3, H, W) RGB, normalised by ImageNet's mean and deviation; H and W multiples of 32.

        Returns:
            (B, 17, H / 4, W / 4).
        """
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        features = [self.layer1(x)]
        for number in (2, 3, 4):
            transition = self.get_submodule(f"transition{number - 1}")
            assert isinstance(transition, nn.ModuleList)
            # New branches open from the coarsest one there is.
            features = [layer(features[min(i, len(features) - 1)]) for i, layer in enumerate(transition)]
            features = self.get_submodule(f"stage{number}")(features)
        return self.final_layer(features[0])


def decode(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest pixel of each heatmap, moved a quarter of a pixel toward its higher neighbours.

    Args:
        heatmaps: (N, J, H, W).

    Returns:
        (N, J, 2) points, x and y in pixels of the heatmaps, and their (N, J) values.
    """
    N, J, H, W = heatmaps.shape
    n, j = np.ogrid[:N, :J]
    y, x = np.divmod(heatmaps.reshape(N, J, H * W).argmax(axis=-1), W)  # (N, J)
    scores = heatmaps[n, j, y, x]
    points = np.stack([x, y], axis=-1).astype(np.float32)
    inner = (x > 1) & (x < W - 1) & (y > 1) & (y < H - 1)  # elsewhere the published code leaves both x and y
    x, y = np.clip(x, 1, W - 2), np.clip(y, 1, H - 2)
    across = heatmaps[n, j, y, x + 1] - heatmaps[n, j, y, x - 1]
    down = heatmaps[n, j, y + 1, x] - heatmaps[n, j, y - 1, x]
    steps = np.sign(np.stack([across, down], axis=-1)) / 4
    return points + np.where(inner[..., None], steps, 0).astype(np.float32), scores


class HRNetDetector:
    """The published 2D pair: YOLOv3 finds the people, HRNet-W48 their keypoints.

    Args:
        folder: Folder of ``yolov3.weights`` and ``pose_hrnet_w48_384x288.pth``.
        device: Where the networks run.

    Raises:
        UserError: Files are missing or not the published ones.
    """

    name = "YOLOv3 and HRNet-W48"

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        path = folder / NAME
        if not path.is_file():
            raise UserError(f"{path}: missing; download {NAME} from {ORIGIN}")
        self.find = yolo.YOLOFinder(folder / yolo.NAME, device)
        with torch.device("meta"):
            self.network = HRNet().eval()
        state, expected = _weights(checkpoint.read(path)), _weights(self.network.state_dict())
        shapes = ({name: value.shape for name, value in each.items()} for each in (state, expected))
        if next(shapes) != next(shapes) or not all(bool(value.isfinite().all()) for value in state.values()):
            raise UserError(f"{path}: expected HRNet-W48's published weights; download {NAME} from {ORIGIN}")
        self.network.to_empty(device=device).load_state_dict(state, strict=False)
        self.device = device

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether both files lie in a folder."""
        return (folder / yolo.NAME).is_file() and (folder / NAME).is_file()

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """The people in an image (H, W, 3) uint8 RGB, the highest score first."""
        boxes, box_scores = self.find(image)
        points, scores = self.keypoints(image, boxes)
        return [
            Person(keypoints=each, scores=confidence, box=box, score=float(score))
            for each, confidence, box, score in zip(points, scores, boxes, box_scores, strict=True)
        ]

    @torch.inference_mode()
    def keypoints(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (n, 17, 2) float32 of the people in boxes (n, 4), pixels, and scores (n, 17)."""
        regions = [Region.of_box(box, CROP_SIZE[0] / CROP_SIZE[1]) for box in boxes]
        heatmaps = [np.empty((0, KEYPOINTS, *HEATMAP_SIZE[::-1]), np.float32)]
        for start in range(0, len(regions), CROPS_AT_ONCE):
            crops = [region.cut(image, CROP_SIZE) for region in regions[start : start + CROPS_AT_ONCE]]
            x = torch.from_numpy(np.stack(crops)).float() / 255
            x = (x - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
            x = x.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
            heatmaps.append(self.network(x.to(self.device)).cpu().numpy())
        points, scores = decode(np.concatenate(heatmaps))
        for region, each in zip(regions, points, strict=True):
            each[:] = region.to_image(each, HEATMAP_SIZE)
        return points, scores.clip(0, 1)


def _weights(state: object) -> dict[str, Tensor]:
    """The weights by name, without batch counters, which are of no use here and missing in some copies."""
    items = state.items() if isinstance(state, dict) else ()
    return {name: value for name, value in items if isinstance(value, Tensor) and value.is_floating_point()}

"""HRNet-W48's network (Sun et al., 2019, arXiv 1902.09212), with the names of the published weights."""

from __future__ import annotations

from torch import Tensor, nn

KEYPOINTS = 17

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
    """HRNet-W48 for COCO's 17 key points, with the names and shapes of the published weights."""

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
        """Heat maps of the key points.

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

"""The weight files of the published 2D pair: how large they are, and where to get them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from common.errors import CheckpointError


class WeightFile(NamedTuple):
    """A file that the user downloads.

    Attributes:
        name: The name it is published under.
        sizes: Smallest and largest number of bytes it can have.
        origin: Where it is published.
    """

    name: str
    sizes: tuple[int, int]
    origin: str


YOLOV3 = WeightFile(
    "yolov3.weights",
    (248_007_048, 248_007_048),
    "Joseph Redmon's YOLO site, https://pjreddie.com/media/files/yolov3.weights",
)
# 63,675,329 numbers of four bytes, and what PyTorch writes around them, which depends on its version.
HRNET_W48 = WeightFile(
    "pose_hrnet_w48_384x288.pth",
    (254_701_316, 258_000_000),
    "the model zoo of https://github.com/leoxiaobin/deep-high-resolution-net.pytorch (COCO, pose_hrnet_w48, "
    "384x288)",
)


def check(path: Path, file: WeightFile) -> None:
    """Checks that a downloaded file is there and whole, reading nothing of it.

    Raises:
        CheckpointError: It is missing or of another size; with the folder, the size and where to get it.
    """
    smallest, largest = file.sizes
    expected = f"{smallest:,} bytes" if smallest == largest else f"about {smallest // 10**6} MB"
    advice = f"download {file.name} ({expected}) from {file.origin}, and put it into {path.parent}"
    if not path.is_file():
        raise CheckpointError(f"{path.name}: not found in {path.parent}; {advice}")
    size = path.stat().st_size
    if not smallest <= size <= largest:
        raise CheckpointError(f"{path}: expected {expected}, found {size:,}; {advice}")


def check_all(folder: Path, files: Iterable[WeightFile]) -> None:
    """Checks several downloaded files of a folder.

    Raises:
        CheckpointError: Some are missing or of another size; it names all of these, a line each.
    """
    faults = []
    for file in files:
        try:
            check(folder / file.name, file)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))

"""From a picture to a network's input and back: the detector's letterbox and the crop around a person.

Pixels of pictures run x right, y down. Boxes are left, top, right, bottom.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

GREY = 128
CROP_PADDING = 1.25


class Letterbox(NamedTuple):
    """Where a picture lies inside a letterbox: ``inside = picture * scale + offset``, for x and for y."""

    scale: tuple[float, float]
    offset: tuple[int, int]


def letterbox(image: np.ndarray, side: int) -> tuple[np.ndarray, Letterbox]:
    """Fits a whole picture into the middle of a grey square, keeping its aspect.

    Args:
        image: (H, W, 3) uint8.
        side: Pixels of the square's side.

    Returns:
        (side, side, 3) uint8, and where the picture lies in it.
    """
    height, width = image.shape[:2]
    ratio = min(side / width, side / height)
    inner_width, inner_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    left, top = (side - inner_width) // 2, (side - inner_height) // 2
    # Plain bilinear sampling skips pixels of a picture that shrinks, and small people with them.
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    square = np.full((side, side, 3), GREY, np.uint8)
    square[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=method
    )
    return square, Letterbox((inner_width / width, inner_height / height), (left, top))


def leave_letterbox(boxes: np.ndarray, placed: Letterbox, image_size: tuple[int, int]) -> np.ndarray:
    """Maps boxes from a letterbox back to its picture and clips them to it.

    Args:
        boxes: (N, 4) in pixels of the letterbox.
        placed: Where ``letterbox`` put the picture.
        image_size: Width and height of the picture.

    Returns:
        (N, 4) float32 in pixels of the picture; a box that lay in the grey alone has no area.
    """
    boxes = (boxes - np.tile(placed.offset, 2)) / np.tile(placed.scale, 2)
    return np.clip(boxes, 0, np.tile(image_size, 2)).astype(np.float32)


def crop_regions(boxes: np.ndarray, crop_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The regions to crop around people: each box grown to the network's aspect, then padded.

    The aspect is the network's own, so that what is cropped depends on the box and not on the picture.

    Args:
        boxes: (N, 4) in pixels of the picture.
        crop_size: Width and height of the network's input.

    Returns:
        Centres (N, 2) and sizes (N, 2), width and height, in pixels of the picture.
    """
    boxes = np.asarray(boxes, np.float64)
    corner, opposite = boxes[:, :2], boxes[:, 2:]
    width, height = np.maximum(opposite - corner, 1).T
    aspect = crop_size[0] / crop_size[1]
    width = np.maximum(width, height * aspect)
    sizes = np.stack([width, width / aspect], axis=-1) * CROP_PADDING
    return (corner + opposite) / 2, sizes


def crop_people(image: np.ndarray, boxes: np.ndarray, crop_size: tuple[int, int]) -> np.ndarray:
    """Crops of the people in a picture, black where they reach over its edge.

    Args:
        image: (H, W, 3) uint8.
        boxes: (N, 4) in pixels of the picture.
        crop_size: Width and height of the network's input.

    Returns:
        (N, height, width, 3) uint8.
    """
    crops = np.zeros((len(boxes), crop_size[1], crop_size[0], 3), np.uint8)
    for crop, centre, size in zip(crops, *crop_regions(boxes, crop_size), strict=True):
        scale = crop_size / size
        matrix = np.column_stack([np.diag(scale), np.divide(crop_size, 2) - centre * scale])
        crop[:] = cv2.warpAffine(image, matrix, crop_size, flags=cv2.INTER_LINEAR)
    return crops


def leave_crops(
    points: np.ndarray, boxes: np.ndarray, crop_size: tuple[int, int], grid_size: tuple[int, int]
) -> np.ndarray:
    """Maps points from crops back to the picture that they were cropped from.

    Args:
        points: (N, J, 2) on the grid laid over each crop, such as the pixels of its heat maps.
        boxes: (N, 4) that ``crop_people`` was given.
        crop_size: Width and height that ``crop_people`` was given.
        grid_size: Width and height of the grid.

    Returns:
        (N, J, 2) float32 in pixels of the picture.
    """
    centres, sizes = crop_regions(boxes, crop_size)
    scale = sizes / grid_size
    moved = (points - np.divide(grid_size, 2)) * scale[:, None] + centres[:, None]  # (N, J, 2)
    return moved.astype(np.float32)

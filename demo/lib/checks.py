"""Checks on files of key points: every error says where, what was expected and what was found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from demo.lib.inputs import MAX_SIDE, InputError

MAX_JSON = 128 * 2**20
MAX_COORDINATE = 10 * MAX_SIDE
"""Joints may lie outside the picture, but not anywhere."""
CORNER = 2
"""Key points that all lie within so many pixels of the corner are no pixels: they are normalised."""


def load_json(path: Path) -> Any:
    """Reads a JSON file of bounded size."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise InputError(f"{path}: {size:,} bytes, expected at most {MAX_JSON:,}; split it")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid JSON ({short(error)}); is it cut short?") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def numbers(where: str, values: Any, count: int) -> np.ndarray:
    """(count,) float64 of a JSON list of finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        found = f"{len(values)}" if isinstance(values, list) else kind(values)
        raise InputError(f"{where}: expected {count} numbers, found {found}")
    for index, value in enumerate(values):
        # NaN fails the comparison too.
        if type(value) not in (int, float) or not abs(value) <= MAX_COORDINATE:
            expected = f"a finite number of at most {MAX_COORDINATE:,}"
            raise InputError(f"{where}: number {index}: expected {expected}, found {short(value)}")
    return np.array(values, dtype=np.float64)


def image_size(path: Path, given: tuple[int, int] | None, stored: Any = None) -> tuple[int, int]:
    """Width and height of the image, from the user or from the file, which must not contradict each other."""
    if given is None and stored is None:
        raise InputError(
            f"{path}: the size of the image is not in it, and the pose depends on it: "
            "give it in pixels, --image_size WIDTH HEIGHT"
        )
    where = f"{path}: image_size"
    sizes = [valid_size(where, size) for size in (given, stored) if size is not None]
    if sizes[0] != sizes[-1]:
        raise InputError(f"{where}: the file says {sizes[-1]}, the command line {sizes[0]}")
    return sizes[0]


def valid_size(where: str, size: Any) -> tuple[int, int]:
    """Width and height of an image, in whole pixels."""
    sides = np.asarray(size)
    valid = sides.shape == (2,) and sides.dtype.kind in "iuf"
    if not valid or not all(1 <= side <= MAX_SIDE and side == int(side) for side in sides.tolist()):
        expected = f"width and height, whole pixels from 1 to {MAX_SIDE:,}"
        raise InputError(f"{where}: expected {expected}, found {short(size)}")
    return int(sides[0]), int(sides[1])


def finite(where: str, points: np.ndarray, axes: str = "") -> None:
    """Refuses poses (..., J, C) with NaN, infinity or what cannot be pixels; it names the first."""
    bad = ~(np.abs(points) <= MAX_COORDINATE).all(axis=(-2, -1))
    if bad.any():
        first = ", ".join(map(str, np.argwhere(bad)[0]))
        expected = f"finite numbers of at most {MAX_COORDINATE:,}"
        where = f"{where}[{first}]{axes}" if first else where
        raise InputError(f"{where}: expected {expected}; where nobody is, set all to 0")


def pixels(where: str, poses: Iterable[np.ndarray], size: tuple[int, int]) -> None:
    """Refuses key points that all lie in the image's corner, as normalised ones do."""
    far = max((float(np.abs(pose).max()) for pose in poses if pose.size), default=np.inf)
    if far <= CORNER < max(size):
        raise InputError(
            f"{where}: expected pixels of a {' x '.join(map(str, size))} image, found none beyond {CORNER}: "
            "key points that were normalised must be scaled back first"
        )


def at_most(what: str, count: int, limit: int) -> None:
    """Refuses a count that would take too much memory."""
    if count > limit:
        raise InputError(f"{what}: expected at most {limit:,}, found {count:,}; split the file")


def kind(value: Any) -> str:
    """What a value out of a file is, in words."""
    words = {type(None): "nothing", dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return words.get(type(value), type(value).__name__)


def short(value: Any) -> str:
    """A value out of a file, fit for one line of a terminal."""
    text = " ".join(str(value).split())[:100]
    return text if text.isprintable() else ascii(text)

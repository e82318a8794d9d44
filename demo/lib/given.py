"""Checks on what programs give to ``demo.api``; errors say what was expected and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.errors import UserError
from demo.lib import checks
from demo.lib.inputs import InputError, check_size
from demo.lib.keypoint_files import assumed_scores


def points(
    keypoints: npt.ArrayLike, scores: npt.ArrayLike | None, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(..., J, 2) key points and (..., J) scores from 0 to 1 out of what a program has of them.

    Args:
        keypoints: (..., J, 2), or (..., J, 3) with the scores.
        scores: (..., J), where they are not among the key points; None to assume them.
        count: J.
    """
    given = _numbers("keypoints", keypoints)
    columns = (2, 3) if scores is None else (2,)
    if given.ndim < 2 or given.shape[-2] != count or given.shape[-1] not in columns:
        expected = " or ".join(f"(..., {count}, {column})" for column in columns)
        raise ValueError(f"keypoints: expected the shape {expected}, found {given.shape}")
    with as_value_errors():
        checks.finite("keypoints", given)
    if given.shape[-1] == 3:
        return given[..., :2], given[..., 2].clip(0, 1)
    if scores is None:
        return given, assumed_scores(given)
    found = _numbers("scores", scores)
    if found.shape != given.shape[:-1]:
        raise ValueError(f"scores: expected the shape {given.shape[:-1]}, found {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("scores: expected finite numbers, found NaN or infinity")
    return given, found.clip(0, 1)


def _numbers(what: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{what}: expected an array of numbers, found one of {array.dtype}")
    return array.astype(np.float64)


def image_size(size: Any) -> tuple[int, int]:
    """Width and height in pixels."""
    with as_value_errors():
        return checks.valid_size("image_size", size)


def image(what: str, pixels: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8."""
    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"{what}: expected (H, W, 3) uint8 RGB, found {array.shape} {array.dtype}")
    with as_value_errors():
        check_size(array.shape[1], array.shape[0])
    return np.ascontiguousarray(array)


def images(frames: Iterable[Any]) -> Iterator[npt.NDArray[np.uint8]]:
    """(H, W, 3) uint8 frames of one size, one after another."""
    first: tuple[int, ...] = ()
    for number, frame in enumerate(frames):
        pixels = image(f"frame {number}", frame)
        first = first or pixels.shape
        if pixels.shape != first:
            raise ValueError(f"frame {number}: expected {first}, as the first, found {pixels.shape}")
        yield pixels


def device(name: str) -> torch.device:
    """The device of a name, such as "auto" or "cuda:1".

    Raises:
        ValueError: There is no such name.
        UserError: The machine has no such device.
    """
    from common.device import choose

    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device: expected auto, cpu, mps, cuda or cuda:N, found {name!r}")
    try:
        chosen = choose(kind)
    except UserError as error:
        raise UserError(str(error).replace("--device", "device", 1)) from None
    if not number:
        return chosen
    if int(number) >= torch.cuda.device_count():
        raise UserError(f"device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return torch.device(kind, int(number))


def one_of(what: str, name: str, names: Iterable[str]) -> str:
    """A name that is one of some."""
    if name not in names:
        raise ValueError(f"{what}: expected {' or '.join(names)}, found {name!r}")
    return name


def between(what: str, value: float | None, low: float, high: float, unit: str) -> None:
    """Refuses a number out of its range; None is left alone."""
    if value is not None and not low <= value <= high:  # NaN is not either
        raise ValueError(f"{what}: expected {low:g} to {high:g} {unit}, found {value!r}")


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Turns what the readers of files say of wrong values into Python's error for wrong arguments."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from None

"""The errors of a 2D detector, for training on key points that are projections of the truth.

An error is heavy-tailed (Student's t), larger at the limbs' ends, and grows with the person's size in the
image, as a detector looks at people cut out and scaled. Besides, a pose may be shifted as a whole, the two
legs or arms be taken for each other, and a joint be found anywhere on the person.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import DataError
from common.files import write_json
from common.skeleton import JOINT_NAMES, LEFT_ARM, LEFT_LEG, MIRROR, NUM_JOINTS, RIGHT_ARM, RIGHT_LEG

FORMAT = 1
FARTHEST = 1.0
"""No error is larger than this, in sizes of the person: a detector does not look outside its crop."""
_LARGEST_FILE = 1 << 16
_DEGREES = (0.5, 100.0)
_SAMPLES = 4_000_000

_LEG = (0.010, 0.010, 0.013)  # hip, knee, ankle
_ARM = (0.009, 0.012, 0.015)  # shoulder, elbow, wrist
_TRUNK = (0.007, 0.006, 0.007, 0.009)  # spine, thorax, neck, head


@dataclass(frozen=True)
class KeypointNoise:
    """Figures of the errors. Sizes of the person are the longer side of the box of its joints.

    The defaults are chosen, not measured: 2 to 6 px of a person of 400 px.

    Attributes:
        scales: Scale of each joint's Student-t error, per axis, in sizes of the person.
        degrees: Degrees of freedom of Student's t: 3 is heavy-tailed, 100 is all but normal.
        shift: Standard deviation of a shift of the whole pose, per axis, in sizes of the person.
        swapped: Share of poses with the legs taken for each other, and as many with the arms.
        lost: Share of joints found anywhere in the person's box.

    Raises:
        ValueError: A figure is out of range, with which and what was found.
    """

    scales: tuple[float, ...] = (0.007, *_LEG, *_LEG, *_TRUNK, *_ARM, *_ARM)
    degrees: float = 3.0
    shift: float = 0.003
    swapped: float = 0.005
    lost: float = 0.001

    def __post_init__(self) -> None:
        if len(self.scales) != NUM_JOINTS:
            raise ValueError(f"scales: expected {NUM_JOINTS}, found {len(self.scales)}")
        figures = dict(zip(JOINT_NAMES, self.scales, strict=True))
        figures |= {"shift": self.shift, "swapped": self.swapped, "lost": self.lost}
        for name, value in figures.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected 0 to 1, found {value}")
        if not _DEGREES[0] <= self.degrees <= _DEGREES[1]:
            raise ValueError(f"degrees: expected {_DEGREES[0]} to {_DEGREES[1]}, found {self.degrees}")


NAMED = {"default": KeypointNoise()}
"""Noise that has a name."""


def add(keypoints: Tensor, noise: KeypointNoise, generator: torch.Generator) -> Tensor:
    """Key points as a detector might have found them.

    Student's t in two dimensions comes from two uniform numbers, a length by its inverse distribution
    function and a direction (Bailey, *Polar Generation of Random Variates with the t-Distribution*,
    Mathematics of Computation, 1994): with any degrees of freedom and on any device.

    Args:
        keypoints: (..., 17, 2) normalised image coordinates, or pixels.
        noise: The figures.
        generator: Source of all random numbers, on the device of the key points.

    Returns:
        (..., 17, 2) a new tensor.
    """
    low, high = keypoints.amin(-2, keepdim=True), keypoints.amax(-2, keepdim=True)  # (..., 1, 2)
    size = (high - low).amax(-1, keepdim=True)  # (..., 1, 1)
    poses, device, dtype = keypoints.shape[:-2], keypoints.device, keypoints.dtype
    chance = torch.rand(*poses, NUM_JOINTS, 5, generator=generator, device=device, dtype=dtype)  # (..., J, 5)
    far, direction, lost, *place = chance.unbind(-1)  # each (..., J)
    shift = torch.randn(*poses, 1, 2, generator=generator, device=device, dtype=dtype)  # (..., 1, 2)
    limb = torch.rand(*poses, 2, 1, 1, generator=generator, device=device, dtype=dtype)  # (..., 2, 1, 1)

    scales, order, leg, arm = _tables(noise, device, dtype)
    legs, arms = (limb < noise.swapped).unbind(-3)  # (..., 1, 1)
    swapped = torch.where(legs & leg | arms & arm, keypoints.index_select(-2, order), keypoints)
    # P(length <= r) = 1 - (1 + r^2 / degrees)^(-degrees / 2), and 1 - far is never 0.
    length = (torch.expm1((1 - far).log() * (-2 / noise.degrees)) * noise.degrees).sqrt() * scales  # (..., J)
    length = length.clamp(max=FARTHEST)
    direction = direction * (2 * math.pi)
    error = torch.stack([direction.cos() * length, direction.sin() * length], dim=-1)  # (..., J, 2)
    found = swapped + (error + shift * noise.shift) * size
    anywhere = low + (high - low) * torch.stack(place, dim=-1)  # (..., J, 2)
    return torch.where((lost < noise.lost).unsqueeze(-1), anywhere, found)


@lru_cache
def _tables(noise: KeypointNoise, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Scales (17,), the mirror image's order (17,), and (17, 1) whether a joint is a leg's or an arm's."""
    with torch.inference_mode(False):  # What is made in inference mode is of no use to a gradient later on.
        pairs = [torch.zeros(NUM_JOINTS, 1, dtype=torch.bool) for _ in range(2)]
        pairs[0][[*LEFT_LEG, *RIGHT_LEG]] = True
        pairs[1][[*LEFT_ARM, *RIGHT_ARM]] = True
        scales = torch.tensor(noise.scales, dtype=dtype)
        return tuple(table.to(device) for table in (scales, torch.from_numpy(MIRROR), *pairs))


def measured(found: np.ndarray, true: np.ndarray) -> KeypointNoise:
    """The figures of a detector, from what it found where the truth is known.

    Fitted to quantiles, which a few gross errors do not move: a joint's scale to the median of its errors,
    the degrees of freedom to how far beyond the medians all but 5 % of the errors end. Shifts, swapped limbs
    and lost joints are not told apart: they count as errors of the joints, in the tails.

    Args:
        found: (N, 17, 2) key points of the detector.
        true: (N, 17, 2) the same key points without error, in the same units.

    Raises:
        ValueError: The shapes differ or are others, there are fewer than 100 poses, figures are not finite,
            or more than half of a joint's errors are 0.
    """
    if found.shape != true.shape or true.shape[1:] != (NUM_JOINTS, 2) or len(true) < 100:
        raise ValueError(
            f"expected twice (N, {NUM_JOINTS}, 2) key points of at least 100 poses, "
            f"found {found.shape} and {true.shape}"
        )
    if not (np.isfinite(found).all() and np.isfinite(true).all()):
        raise ValueError("expected key points that are finite numbers, found others")
    step = -(-true.size // _SAMPLES)  # More would not make the figures better, only memory full.
    found, true = found[::step].astype(np.float64), true[::step].astype(np.float64)
    size = np.ptp(true, axis=1).max(axis=-1)[:, None, None]  # (N, 1, 1)
    if not size.all():
        raise ValueError("expected people of some size, found one whose joints are all in one place")
    medians, degrees = fit(np.abs(found - true) / size)
    scales = tuple(float(scale) for scale in np.minimum(medians, FARTHEST))
    return KeypointNoise(scales, degrees, shift=0.0, swapped=0.0, lost=0.0)


def fit(errors: np.ndarray) -> tuple[np.ndarray, float]:
    """Scales (17,) and the degrees of freedom of Student's t, of absolute errors (N, 17, 2) per axis."""
    from scipy.stats import t

    medians = np.median(errors, axis=(0, 2))  # (N, J, 2) -> (J,)
    if not medians.all():
        raise ValueError(f"{JOINT_NAMES[int(medians.argmin())]}: expected errors, found mostly none at all")
    tail = np.quantile(errors / medians[:, None], 0.95)
    low, high = np.log(_DEGREES)
    for _ in range(40):  # Tails get lighter with the degrees of freedom: halve where they must lie.
        middle = (low + high) / 2
        heavier = t.ppf(0.975, math.exp(middle)) / t.ppf(0.75, math.exp(middle)) > tail
        low, high = (middle, high) if heavier else (low, middle)
    degrees = math.exp((low + high) / 2)
    return medians / t.ppf(0.75, degrees), float(np.clip(degrees, *_DEGREES))


def write(path: str | os.PathLike[str], noise: KeypointNoise) -> None:
    """Writes figures as JSON that ``read`` reads and people can edit."""
    figures = asdict(noise) | {"scales": dict(zip(JOINT_NAMES, noise.scales, strict=True))}
    write_json(path, {"format": FORMAT, **figures})


def named(text: str) -> KeypointNoise:
    """The noise of a name of ``NAMED``, or of a file: see ``read``."""
    return NAMED[text] if text in NAMED else read(text)


def read(path: str | os.PathLike[str]) -> KeypointNoise:
    """Reads figures that ``write`` wrote.

    Raises:
        DataError: It cannot be read, or is not what ``write`` makes; with what is wrong.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        return _parsed(content)
    except OSError as error:
        raise DataError(
            f"{path}: key point noise cannot be read: {error.strerror or error}. "
            "Name a file, or none for the default figures."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: {error}. To make such a file: python -m dataset.prepare noise -k SOURCE --output F"
        ) from error


def _parsed(content: bytes) -> KeypointNoise:
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"expected figures of key point noise, found a file of over {_LARGEST_FILE} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON, found something else ({str(error)[:80]})") from error
    names = ("scales", "degrees", "shift", "swapped", "lost")
    _check_names("figures", found, ("format", *names))
    if type(found["format"]) is not int or found["format"] != FORMAT:
        raise ValueError(f"expected key point noise of format {FORMAT}, found {str(found['format'])[:80]}")
    _check_names("scales", found["scales"], JOINT_NAMES)
    scales = tuple(_number(name, found["scales"][name]) for name in JOINT_NAMES)
    return KeypointNoise(scales, *(_number(name, found[name]) for name in names[1:]))


def _check_names(what: str, found: Any, names: tuple[str, ...]) -> None:
    if not isinstance(found, dict) or set(found) != set(names):
        there = ", ".join(map(str, found))[:200] if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{what}: expected {', '.join(names)}; found {there or 'nothing'}")


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= 1e6:  # NaN is not <= anything.
        raise ValueError(f"{name}: expected a number, found {str(value)[:80]}")
    return float(value)

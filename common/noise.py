"""The errors of a 2D detector, for training on keypoints that are projections of the truth.

Joints are defined differently, limbs shift as a whole, single joints err with heavy tails, left and right are
swapped, and limbs are hidden.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from common.batches import Batch
from common.console import UserError
from common.files import read_json, write_json
from common.skeleton import JOINT_NAMES, LEFT_ARM, LEFT_LEG, MIRROR, NUM_JOINTS, RIGHT_ARM, RIGHT_LEG

MAX_ERROR = 1.0  # sizes of the person: a detector does not look outside its crop
MAX_NOISE_FILE = 2**16  # bytes

_LEG = (0.010, 0.010, 0.013)  # hip, knee, ankle
_ARM = (0.009, 0.012, 0.015)  # shoulder, elbow, wrist
_TRUNK = (0.007, 0.006, 0.007, 0.009)  # spine, thorax, neck, head


@dataclass(frozen=True)
class KeypointNoise:
    """Errors of a 2D detector; lengths are in sizes of the person, the longer side of the joints' box.

    Errors are heavy-tailed (Student's t) and larger at the limbs' ends. The defaults are chosen: 2 to 6 px
    for a person of 400 px; ``measure_noise`` gets a detector's own.

    Attributes:
        scales: Scale of each joint's error, per axis.
        degrees: Degrees of freedom of Student's t: 3 is heavy-tailed, 100 nearly normal.
        shift: Standard deviation of a shift of the whole pose, per axis.
        swapped: Fraction of poses with left and right legs swapped, and as many with the arms.
        lost: Fraction of joints found anywhere in the person's box.
        definitions: Scale of the difference between a detector's joints and those of motion capture, 1 for
            ``DEFINITIONS``.
        limb: Standard deviation of an error that a whole limb shares, twice as large for the farther limb.
        hidden: Fraction of poses with hidden limbs, whose joints take the place of the nearest one that is
            seen.
    """

    scales: tuple[float, ...] = (0.007, *_LEG, *_LEG, *_TRUNK, *_ARM, *_ARM)
    degrees: float = 3.0
    shift: float = 0.003
    swapped: float = 0.005
    lost: float = 0.001
    definitions: float = 0.0
    limb: float = 0.0
    hidden: float = 0.0


NOISES = {"default": KeypointNoise(), "detector": KeypointNoise(definitions=1.0, limb=0.012, hidden=0.15)}
"""Noise by name; "detector" is for people in photos."""

# Standard deviation of the difference in metres: pelvis, leg (hip, knee, ankle), trunk (spine to head), arm.
DEFINITIONS = (0.02, *(0.025, 0.015, 0.02) * 2, 0.03, 0.03, 0.04, 0.04, *(0.025, 0.015, 0.02) * 2)
LIMBS = (RIGHT_LEG, LEFT_LEG, LEFT_ARM, RIGHT_ARM)


def detected(batch: Batch, noise: KeypointNoise, generator: torch.Generator) -> Tensor:
    """(B, 1, 17, 2) keypoints of a batch with all errors of a detector."""
    keypoints = batch.keypoints
    if noise.definitions:
        keypoints = _redefined(batch, noise.definitions, generator)
    if noise.limb:
        keypoints = keypoints + _limb_errors(batch, noise.limb, generator)
    keypoints = add_noise(keypoints, noise, generator)
    return _hide(keypoints, noise.hidden, generator) if noise.hidden else keypoints


def _redefined(batch: Batch, scale: float, generator: torch.Generator) -> Tensor:
    """Keypoints of joints that are shifted in the body's axes, mostly alike on both sides."""
    pose = batch.target.squeeze(1)  # (B, J, 3)
    across = pose[:, LEFT_LEG[0]] - pose[:, RIGHT_LEG[0]]
    forward = torch.linalg.cross(across, pose[:, 8])
    axes = torch.stack([across, torch.linalg.cross(forward, across), forward], dim=1)  # (B, 3, 3)
    axes = axes / axes.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    spread = torch.tensor(DEFINITIONS, device=pose.device)[:, None] * scale  # (J, 1)
    own, shared = torch.randn(2, *pose.shape, generator=generator, device=pose.device) * spread
    mirrored = shared[:, MIRROR.tolist()] * torch.tensor([-1.0, 1.0, 1.0], device=pose.device)
    shift = 0.64 * (shared + mirrored) + 0.4 * own  # (B, J, 3) across, up, forward
    focal, center = batch.intrinsics[:, None].chunk(2, dim=-1)  # 2 x (B, 1, 2)
    depth = batch.root_depth[:, None]  # (B, 1, 1)
    root = torch.cat([(batch.keypoints[:, 0, :1] - center) / focal * depth, depth], dim=-1)  # (B, 1, 3)
    points = pose + (shift.unsqueeze(-1) * axes.unsqueeze(1)).sum(2) + root
    return (points[..., :2] / points[..., 2:].clamp(min=0.1) * focal + center).unsqueeze(1)


def _limb_errors(batch: Batch, spread: float, generator: torch.Generator) -> Tensor:
    """(B, 1, 17, 2) errors that grow along each limb, heavy-tailed, larger for limbs behind the pelvis."""
    keypoints, depth = batch.keypoints.squeeze(1), batch.target[:, 0, :, 2]  # (B, J, 2), (B, J)
    size = (keypoints.amax(1) - keypoints.amin(1)).amax(1)[:, None, None]  # (B, 1, 1)
    error = torch.zeros_like(keypoints)
    growth = torch.tensor([0.4, 0.8, 1.2], device=depth.device)[:, None]
    for limb in LIMBS:
        draw = torch.randn(len(depth), 1, 3, generator=generator, device=depth.device)
        behind = (depth[:, list(limb)].mean(1) > 0)[:, None, None]
        error[:, list(limb)] = draw[..., 1:] * (0.8 * draw[..., :1]).exp() * (spread * (1 + behind)) * growth
    return (error * size).unsqueeze(1)


def _hide(keypoints: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Moves hidden joints of legs or single limbs to the nearest seen joint along the limb."""
    device, count = keypoints.device, len(keypoints)
    draw = torch.rand(count, 2, generator=generator, device=device)
    each = torch.rand(count, len(LIMBS), 2, generator=generator, device=device)
    legs = torch.tensor([True, True, False, False], device=device)
    whole = torch.where((draw[:, 1:] < 0.4), legs, each[..., 0] < 0.3)  # (B, limb)
    chosen = (draw[:, :1] < fraction) & whole
    hidden = keypoints.clone()
    for number, (base, middle, end) in enumerate(LIMBS):
        ends = chosen[:, number, None, None]
        deep = ends & (each[:, number, 1] < 0.6)[:, None, None]
        hidden[:, :, middle] = torch.where(deep, hidden[:, :, base], hidden[:, :, middle])
        hidden[:, :, end] = torch.where(ends, hidden[:, :, middle], hidden[:, :, end])
    return hidden


def add_noise(keypoints: Tensor, noise: KeypointNoise, generator: torch.Generator) -> Tensor:
    """Keypoints as a detector might have found them.

    Student's t in two dimensions comes from two uniform numbers, a length by its inverse distribution
    function and a direction (Bailey, *Polar Generation of Random Variates with the t-Distribution*,
    Mathematics of Computation, 1994): with any degrees of freedom and on any device.

    Args:
        keypoints: (..., 17, 2) normalised image coordinates, or pixels.
        noise: The errors' parameters.
        generator: Source of all random numbers, on the device of the keypoints.

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

    scales, order, leg, arm = _tables(noise, keypoints.device, keypoints.dtype)
    legs, arms = (limb < noise.swapped).unbind(-3)  # (..., 1, 1)
    swapped = torch.where(legs & leg | arms & arm, keypoints.index_select(-2, order), keypoints)
    # P(length <= r) = 1 - (1 + r^2 / degrees)^(-degrees / 2), and 1 - far is never 0.
    length = (torch.expm1((1 - far).log() * (-2 / noise.degrees)) * noise.degrees).sqrt() * scales  # (..., J)
    length = length.clamp(max=MAX_ERROR)
    direction = direction * (2 * math.pi)
    error = torch.stack([direction.cos() * length, direction.sin() * length], dim=-1)  # (..., J, 2)
    found = swapped + (error + shift * noise.shift) * size
    anywhere = low + (high - low) * torch.stack(place, dim=-1)  # (..., J, 2)
    return torch.where((lost < noise.lost).unsqueeze(-1), anywhere, found)


@lru_cache
def _tables(noise: KeypointNoise, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Scales (17,), the mirror image's order (17,), and (17, 1) whether a joint is a leg's or an arm's."""
    with torch.inference_mode(False):  # tensors made in inference mode cannot serve a gradient later on
        limbs = [torch.zeros(NUM_JOINTS, 1, dtype=torch.bool) for _ in range(2)]
        limbs[0][[*LEFT_LEG, *RIGHT_LEG]] = True
        limbs[1][[*LEFT_ARM, *RIGHT_ARM]] = True
        scales = torch.tensor(noise.scales, dtype=dtype)
        return tuple(table.to(device) for table in (scales, torch.from_numpy(MIRROR), *limbs))


def measure_noise(found: np.ndarray, true: np.ndarray) -> KeypointNoise:
    """A detector's noise, from its keypoints where the truth is known.

    Fitted to quantiles, which a few gross errors do not move: a joint's scale to the median of its errors,
    the degrees of freedom to the 95 % quantile over the medians. Shifts, swapped limbs and lost joints count
    as errors of the joints, in the tails.

    Args:
        found: (N, 17, 2) keypoints of the detector.
        true: (N, 17, 2) the same keypoints without error, in the same units.

    Raises:
        UserError: There are fewer than 100 poses, or more than half of a joint's errors are 0.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    if len(true) < 100:
        raise UserError(f"expected at least 100 poses to measure noise from, found {len(true)}")
    size = np.ptp(true, axis=1).max(axis=-1)[:, None, None].clip(min=1e-9)  # (N, 1, 1)
    errors = np.abs(found - true) / size  # (N, J, 2)
    medians = np.median(errors, axis=(0, 2))  # (J,)
    if not medians.all():
        raise UserError(
            f"expected errors of {JOINT_NAMES[int(medians.argmin())]}, found mostly none: true keypoints?"
        )
    tail = np.quantile(errors / medians[:, None], 0.95)

    def excess(log_degrees: float) -> float:
        degrees = math.exp(log_degrees)
        return float(t.ppf(0.975, degrees) / t.ppf(0.75, degrees) - tail)

    low, high = math.log(0.5), math.log(100)
    log_degrees = low if excess(low) < 0 else high if excess(high) > 0 else brentq(excess, low, high)
    degrees = math.exp(log_degrees)
    scales = tuple((medians / t.ppf(0.75, degrees)).clip(max=MAX_ERROR).tolist())
    return KeypointNoise(scales, degrees, shift=0.0, swapped=0.0, lost=0.0)


def write_noise(path: str | os.PathLike[str], noise: KeypointNoise) -> None:
    """Writes noise as JSON that ``keypoint_noise`` reads and people can edit."""
    named = dict(zip(JOINT_NAMES, noise.scales, strict=True))
    write_json(path, {"format": 1, **asdict(noise), "scales": named})


def keypoint_noise(path: str | os.PathLike[str]) -> KeypointNoise:
    """Reads noise that ``write_noise`` wrote, or gives that of a name of ``NOISES``.

    Raises:
        UserError: The file cannot be read or is another kind of JSON.
    """
    if path in NOISES:
        return NOISES[str(path)]
    found = read_json(path, MAX_NOISE_FILE)
    try:
        scales = tuple(float(found["scales"][name]) for name in JOINT_NAMES)
        others = [float(found.get(field.name, 0)) for field in fields(KeypointNoise)[1:]]
        if not (all(0 <= each <= 1 for each in (*scales, *others[1:])) and 0.5 <= others[0] <= 100):
            raise ValueError("a value outside 0 to 1, or degrees outside 0.5 to 100")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected keypoint noise, found {error!r}; to make such a file: "
            "python -m dataset.prepare noise -k SOURCE --output FILE"
        ) from error
    return KeypointNoise(scales, *others)

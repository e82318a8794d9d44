"""From key points in pixels to poses: lifting, smoothing, an upright view, and where people stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import nn

from common.camera import h36m_cameras, normalize_pixels, rotate
from common.flip import lift
from common.skeleton import BONES, JOINT_NAMES, NUM_JOINTS

FOCAL_PER_SIDE = 1.15
"""Focal length over the longer side of the image where it is not known: a field of view of 47 degrees."""

WINDOW_PER_BONES = 1.25
"""Side of a person's window over the sum of the lengths of their bones in the picture. In half of Human3.6M's
camera views of the bundled sample the image is larger than that, in half of them smaller."""

STATURE_FACTOR = 1.1
"""From the skeleton to the person: the soles and the skull above the head joint add about a tenth."""


def lift_keypoints(
    model: nn.Module | Callable[[np.ndarray], np.ndarray],
    keypoints: np.ndarray,
    image_size: tuple[int, int],
    *,
    device: torch.device,
    window: bool = False,
    flip: bool = True,
    batch_size: int = 128,
    one_thread: bool = True,
) -> np.ndarray:
    """Lifts key points of any number of people and frames, each pose on its own.

    Args:
        model: HTNet in evaluation mode, on ``device``; or what lifts normalised key points by itself and
            averages with the mirror image, (B, 17, 2) to (B, 17, 3) float32: see ``onnx_lifter.load_onnx``.
        keypoints: (N, 17, 2) Human3.6M joints, pixels.
        image_size: Width and height of the image, pixels.
        device: Where HTNet computes.
        window: Show the lifter each person in a window of their own (see ``in_window``) and not where, and
            how large, they are in the image.
        flip: Average HTNet's poses with those of the mirror image, as in evaluation.
        batch_size: Poses lifted at once.
        one_thread: Lift in one of PyTorch's threads, and set their number back afterwards. It is the whole
            program's: not for calls from several threads.

    Returns:
        (N, 17, 3) float32 poses in camera space (x right, y down, z away), metres, root at 0.

    Raises:
        ValueError: The key points have another shape or are not finite.
    """
    if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_JOINTS, 2):
        raise ValueError(f"keypoints must have shape (N, {NUM_JOINTS}, 2), got {keypoints.shape}")
    if not np.isfinite(keypoints).all():
        raise ValueError("keypoints must be finite, got NaN or infinity")
    if not len(keypoints):
        return np.empty((0, NUM_JOINTS, 3), np.float32)
    run = partial(_run, model, device=device, flip=flip) if isinstance(model, nn.Module) else model
    poses = np.empty((len(keypoints), NUM_JOINTS, 3), np.float32)
    with _one_thread() if one_thread else nullcontext():
        for start in range(0, len(keypoints), batch_size):
            batch = slice(start, start + batch_size)
            points = keypoints[batch].astype(np.float64)
            points = in_window(points) if window else normalize_pixels(points, *image_size)
            poses[batch] = run(points.astype(np.float32))
    return poses


def _run(model: nn.Module, batch: np.ndarray, *, device: torch.device, flip: bool) -> np.ndarray:
    """Lifts (B, 17, 2) to (B, 17, 3) with HTNet."""
    with torch.inference_mode():
        network_input = torch.from_numpy(batch).unsqueeze(1).to(device)  # (B, 1, 17, 2)
        return lift(model, network_input, flip=flip).squeeze(1).cpu().numpy()  # (B, 17, 3)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lifts in one thread: the layers are so small that, where others use the machine too, threads wait for
    each other many times longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_window(keypoints: np.ndarray) -> np.ndarray:
    """Network input as if each person had been photographed alone, in the middle and at a usual size.

    What the lifter gives depends on where people are in the image and how large: it was trained on people who
    fill much of a square image. A window makes the pose independent of the image around a person.

    Args:
        keypoints: (N, 17, 2) Human3.6M joints, pixels or any other unit.

    Returns:
        (N, 17, 2), -1 to 1 from one edge to the other of a square window round each person, whose side is
        ``WINDOW_PER_BONES`` times the summed lengths of the bones.
    """
    joints, parents = np.transpose(BONES)
    bones = np.linalg.norm(keypoints[:, joints] - keypoints[:, parents], axis=-1).sum(axis=1)  # (N,)
    side = np.maximum(WINDOW_PER_BONES * bones, 1e-6)
    centre = (keypoints.min(axis=1) + keypoints.max(axis=1)) / 2  # (N, 2)
    return (keypoints - centre[:, None]) * (2 / side)[:, None, None]


def upright(poses: np.ndarray) -> np.ndarray:
    """Turns poses (..., 17, 3) from camera space to z up, each with its lowest joint on the floor.

    The rotation is that of a fixed camera. It suits a level camera and is for display alone: it measures
    neither the camera's tilt nor the person's height above the ground.
    """
    # Every picture is shown as if this camera had taken it.
    orientation = h36m_cameras()["S1"][0].orientation
    turned = rotate(np.asarray(poses, dtype=np.float64), orientation)
    turned[..., 2] -= turned[..., 2].min(axis=-1, keepdims=True)
    return turned.astype(np.float32)


def one_euro(
    values: np.ndarray,
    times: np.ndarray,
    *,
    cutoff: float = 1.0,
    beta: float = 2.0,
    slope_cutoff: float = 1.0,
) -> np.ndarray:
    """Smooths a signal: strongly at rest, hardly in fast motion.

    The One Euro filter (Casiez, Roussel, Vogel, CHI 2012): a low pass whose cut-off rises with the speed.

    Args:
        values: (T, ...) samples; every component is filtered on its own.
        times: (T,) rising times, seconds.
        cutoff: Cut-off at rest, Hz.
        beta: Rise of the cut-off with the speed, Hz per unit and second.
        slope_cutoff: Cut-off of the speed itself, Hz.

    Returns:
        (T, ...) filtered samples; each depends on earlier ones alone.
    """
    filtered = np.array(values, dtype=np.float64)
    slope = np.zeros_like(filtered[0]) if len(filtered) else None
    for index in range(1, len(filtered)):
        step = times[index] - times[index - 1]
        before = filtered[index - 1]
        change = filtered[index] - before
        slope = slope + _share(slope_cutoff, step) * (change / step - slope)
        filtered[index] = before + _share(cutoff + beta * np.abs(slope), step) * change
    return filtered.astype(values.dtype)


def _share(cutoff, step: float):
    """The share of a new sample in a first-order low pass."""
    turn = 2 * np.pi * cutoff * step
    return turn / (turn + 1)


def focal_length(image_size: tuple[int, int]) -> float:
    """A focal length in pixels for a camera of which nothing is known."""
    return FOCAL_PER_SIDE * max(image_size)


def stature(poses: np.ndarray) -> float:
    """Height in metres that a person of these poses (N, 17, 3) would have standing straight; the median."""
    share = dict.fromkeys(("spine", "thorax", "neck", "head"), 1.0)
    share |= {f"{side}_{part}": 0.5 for side in ("left", "right") for part in ("knee", "ankle")}
    bones = [(joint, parent) for joint, parent in BONES if JOINT_NAMES[joint] in share]
    joints, parents = np.transpose(bones)
    lengths = np.linalg.norm(poses[:, joints] - poses[:, parents], axis=-1)  # (N, bones)
    heights = lengths @ [share[JOINT_NAMES[joint]] for joint in joints]  # (N,)
    return float(np.median(heights)) * STATURE_FACTOR


def place(
    poses: np.ndarray, keypoints: np.ndarray, image_size: tuple[int, int], *, focal: float | None = None
) -> np.ndarray:
    """Estimates where people stand in camera space.

    The root is where the pose, seen by a pinhole camera, fits its key points: where its joints lie nearest to
    their rays, by least squares. Distances are as wrong as the focal length and the pose's size.

    Args:
        poses: (N, 17, 3) poses, camera space, metres, root at 0.
        keypoints: (N, 17, 2) Human3.6M joints, pixels.
        image_size: Width and height of the image, pixels.
        focal: Focal length, pixels; ``focal_length`` of the image when None.

    Returns:
        (N, 3) positions of the root in camera space, metres.
    """
    rays = (keypoints - np.array(image_size) / 2) / (focal or focal_length(image_size))  # (N, J, 2)
    poses = np.asarray(poses, dtype=np.float64)
    # A joint on its ray: x + tx = ray * (z + tz), and the same for y: 2 J equations for (tx, ty, tz).
    equations = np.zeros((len(poses), NUM_JOINTS, 2, 3))
    equations[:, :, 0, 0] = equations[:, :, 1, 1] = 1
    equations[..., 2] = -rays
    values = rays * poses[..., 2:] - poses[..., :2]  # (N, J, 2)
    # (N, J, 2, 3) -> (N, 2 J, 3), inverted to (N, 3, 2 J)
    inverse = np.linalg.pinv(equations.reshape(len(poses), 2 * NUM_JOINTS, 3))
    return (inverse @ values.reshape(len(poses), 2 * NUM_JOINTS, 1))[..., 0]  # (N, J, 2) -> (N, 2 J, 1)

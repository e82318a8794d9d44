"""From keypoints in pixels to poses: weights, lifting, the display view, estimated positions."""

from __future__ import annotations

import copy
import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common import checkpoint
from common.camera import h36m_cameras, normalize_pixels
from common.console import UserError
from common.evaluate import lift
from common.skeleton import BONES, JOINT_NAMES, NUM_JOINTS
from common.window import FOCAL_PER_SIDE, person_window
from model import HTNet
from model.accelerate import fuse

CHECKPOINTS = Path(__file__).parents[2] / "ckpt"
DEFAULT_WEIGHTS = ("open", "cpn", "sample")
"""Folders of ``CHECKPOINTS``: the first that holds weights is the default, everywhere in the demo."""

STATURE_FACTOR = 1.1  # soles and skull above the head joint add about a tenth to the skeleton's height

Lift = Callable[[np.ndarray], np.ndarray]
"""From normalised keypoints (B, 17, 2) float32 to poses (B, 17, 3), camera space, metres, root at 0."""


def find_lifter(name: str | os.PathLike[str] | None, backend: str = "auto") -> Path:
    """File of a lifter: weights (.pth), or an exported lifter (.onnx).

    Args:
        name: A file, a folder, or the name of a folder in ``CHECKPOINTS``; None for the default.
        backend: "onnx" for the lifter that was exported beside the weights of that name.

    Raises:
        UserError: There is none.
    """
    if name is None:
        found = [default for default in DEFAULT_WEIGHTS if any((CHECKPOINTS / default).glob("*.pth"))]
        if not found:
            names = ", ".join(DEFAULT_WEIGHTS)
            raise UserError(f"{CHECKPOINTS}: expected weights in one of {names}; train a lifter or name one")
        name = found[0]
    if Path(name).suffix == ".onnx" and Path(name).is_file():
        return Path(name)
    path = checkpoint.find_weights(os.fspath(name), CHECKPOINTS)
    if backend == "onnx" and not (path := path.with_suffix(".onnx")).is_file():
        command = ["python", "main.py", "--export", "onnx", "--previous_dir", str(path.with_suffix(".pth"))]
        raise UserError(f"{path}: no such file; write it with `{shlex.join(command)}`")
    return path


def load_lifter(weights: Path | HTNet, device: torch.device) -> Lift:
    """A network or file, ready to lift; poses are averaged with those of the mirrored input.

    Args:
        weights: What ``find_lifter`` returned, or a network, which is copied.
        device: Where HTNet computes; an exported lifter runs on the CPU.

    Raises:
        UserError: The file is damaged or of another kind.
    """
    if isinstance(weights, Path) and weights.suffix == ".onnx":
        from common.export import load_onnx

        return load_onnx(weights)
    with torch.random.fork_rng(devices=[]):  # random numbers belong to the calling program
        network = copy.deepcopy(weights) if isinstance(weights, HTNet) else checkpoint.load_htnet(weights)
    fused = fuse(network.to(device))

    def run(keypoints: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # (B, 17, 2) -> (B, 1, 17, 2), the network's frame axis
            return lift(fused, torch.from_numpy(keypoints)[:, None].to(device))[:, 0].cpu().numpy()

    return run


def lift_keypoints(
    lifter: Lift,
    keypoints: np.ndarray,
    image_size: tuple[int, int],
    *,
    window: bool = True,
    focal: float | str | None = None,
    batch_size: int = 128,
) -> np.ndarray:
    """Lifts the keypoints of any number of people and frames, each pose on its own.

    Args:
        lifter: See ``load_lifter``.
        keypoints: (N, 17, 2) Human3.6M joints, pixels.
        image_size: Width and height, pixels.
        window: Normalise each person by ``common.window.person_window`` instead of by the image.
        focal: For the window; see ``focal_length``.
        batch_size: Poses lifted at once.

    Returns:
        (N, 17, 3) float32 poses in camera space (x right, y down, z away), metres, root at 0.
    """
    points = normalize_pixels(np.asarray(keypoints, np.float64), *image_size).astype(np.float32)
    poses = [np.empty((0, NUM_JOINTS, 3), np.float32)]
    focal_half_widths = 2 * focal_length(image_size, focal) / image_size[0]
    for start in range(0, len(points), batch_size):
        batch = torch.from_numpy(points[start : start + batch_size])
        if window:
            inputs, rotation = person_window(batch, torch.full((len(batch),), focal_half_widths))
            poses.append(np.einsum("bjc,bcd->bjd", lifter(inputs.numpy()), rotation.numpy()))
        else:
            poses.append(lifter(batch.numpy()))
    return np.concatenate(poses)


def upright(poses: np.ndarray) -> np.ndarray:
    """Poses (..., 17, 3) rotated from camera space to z up, the lowest joint of each at height 0.

    The rotation is that of one fixed camera: for display only. It measures neither the tilt of the real
    camera nor the height above the ground.
    """
    rotated = np.asarray(poses, np.float64) @ h36m_cameras()["S1"][0].rotation().T
    rotated[..., 2] -= rotated[..., 2].min(axis=-1, keepdims=True)
    return rotated.astype(np.float32)


def focal_length(image_size: tuple[int, int], focal: float | str | None = None) -> float:
    """Focal length in pixels.

    Args:
        image_size: Width and height, pixels.
        focal: Pixels; "26mm", the equivalent of a 36 x 24 mm film, by the diagonal; "70deg", the horizontal
            field of view; None assumes the camera of an ordinary video.

    Raises:
        ValueError: It is none of these, or not within reason.
    """
    if focal is None:
        return FOCAL_PER_SIDE * max(image_size)
    found = re.fullmatch(r"([0-9.eE+-]+)(|px|mm|deg)", str(focal))
    try:
        value = float(found[1]) if found else 0.0
    except ValueError:
        value = 0.0
    if found and found[2] == "mm":
        value *= math.hypot(*image_size) / math.hypot(36, 24)
    elif found and found[2] == "deg":
        value = image_size[0] / 2 / math.tan(math.radians(value) / 2) if 0 < value < 180 else 0.0
    if not 1 <= value <= 1e6:
        raise ValueError(f"focal: expected pixels, 26mm or 70deg (field of view), found {focal}")
    return value


def stature(poses: np.ndarray) -> float:
    """Median height, metres, that a person of these poses (N, 17, 3) would have standing straight."""
    weights = dict.fromkeys(("spine", "thorax", "neck", "head"), 1.0)
    weights |= {f"{side}_{part}": 0.5 for side in ("left", "right") for part in ("knee", "ankle")}
    joints, parents = np.transpose([bone for bone in BONES if JOINT_NAMES[bone[0]] in weights])
    lengths = np.linalg.norm(poses[:, joints] - poses[:, parents], axis=-1)  # (N, bones)
    return float(np.median(lengths @ [weights[JOINT_NAMES[joint]] for joint in joints])) * STATURE_FACTOR


def place(
    poses: np.ndarray, keypoints: np.ndarray, image_size: tuple[int, int], *, focal: float | str | None = None
) -> np.ndarray:
    """Estimated position of the root: where the pose's joints lie nearest to the rays of a pinhole camera.

    Args:
        poses: (N, 17, 3) poses, camera space, metres, root at 0.
        keypoints: (N, 17, 2) Human3.6M joints, pixels.
        image_size: Width and height, pixels.
        focal: See ``focal_length``.

    Returns:
        (N, 3) positions in camera space, metres; least squares over the joints.
    """
    rays = (keypoints - np.array(image_size) / 2) / focal_length(image_size, focal)  # (N, J, 2)
    poses = np.asarray(poses, np.float64)
    # A joint on its ray: x + tx = ray * (z + tz), and the same for y: 2 J equations for (tx, ty, tz).
    equations = np.zeros((len(poses), NUM_JOINTS, 2, 3))
    equations[:, :, 0, 0] = equations[:, :, 1, 1] = 1
    equations[..., 2] = -rays
    values = rays * poses[..., 2:] - poses[..., :2]  # (N, J, 2)
    # (N, J, 2, 3) -> (N, 2 J, 3), inverted to (N, 3, 2 J)
    inverse = np.linalg.pinv(equations.reshape(len(poses), 2 * NUM_JOINTS, 3))
    return (inverse @ values.reshape(len(poses), 2 * NUM_JOINTS, 1))[..., 0]

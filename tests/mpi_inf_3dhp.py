"""Small files in MPI-INF-3DHP's two layouts, of a synthetic person, and the truth behind them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from common.skeleton import JOINT_NAMES

CAMERAS = 14
NAMES_28 = (
    "spine3 spine4 spine2 spine pelvis neck head head_top "
    "left_clavicle left_shoulder left_elbow left_wrist left_hand "
    "right_clavicle right_shoulder right_elbow right_wrist right_hand "
    "left_hip left_knee left_ankle left_foot left_toe right_hip right_knee right_ankle right_foot right_toe"
).split()
NAMES_17 = (
    "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
    "right_hip right_knee right_ankle left_hip left_knee left_ankle pelvis spine head"
).split()
"""The joints of the training and of the test set by the data set's own names."""
THEIRS = {name: name for name in JOINT_NAMES} | {"thorax": "neck", "neck": "head", "head": "head_top"}
"""Its joint that stands for each of this project's."""
STANDING = np.array(
    "0 95 0  -12 93 0  -14 50 3  -14 8 -4  12 93 0  14 50 3  14 8 -4  0 117 2  0 142 0  0 150 4  0 172 2  "
    "18 139 0  24 112 -2  25 88 6  -18 139 0  -24 112 -2  -25 88 6".split(),
    dtype=float,
).reshape(17, 3)
"""A standing person in this project's order of joints, centimetres, y up."""
UNIVERSAL = 0.9
TEST_LENS = (1500.0, 1490.0, 1017.0, 1043.0)


class Truth(NamedTuple):
    """What a camera sees, in this project's order of joints; metres in its axes and in the world's."""

    pixels: np.ndarray  # (F, 17, 2)
    metric: np.ndarray  # (F, 17, 3)
    world: np.ndarray  # (F, 17, 3)
    lens: tuple[float, float, float, float]

    def arrays(self) -> dict[str, np.ndarray]:
        """The files' arrays, pixels and millimetres."""
        metric = self.metric * 1000
        return {"annot2": self.pixels, "annot3": metric, "univ_annot3": metric * UNIVERSAL}


def training(folder: Path, frames: int = 6, up: float = 1.0, seed: int = 0) -> list[Truth]:
    """Writes annot.mat and camera.calibration of a sequence; the truth of each camera."""
    rng = np.random.default_rng(seed)
    world = _motion(rng, frames) * (1, up, up)
    truths = [_seen(world, n, up, (1497.0 + n, 1495.0, 1024.7, 1051.4)) for n in range(CAMERAS)]
    folder.mkdir(parents=True)
    content = {name: np.empty((CAMERAS, 1), dtype=object) for name in truths[0].arrays()}
    for number, truth in enumerate(truths):
        for name, values in truth.arrays().items():
            content[name][number, 0] = _among(NAMES_28, values, rng).reshape(frames, -1)  # (F, 28 * C)
    savemat(folder / "annot.mat", content, do_compression=True)
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number, truth in enumerate(truths):
        fx, fy, cx, cy = truth.lens
        extrinsic, intrinsic = np.eye(4), np.eye(4)
        extrinsic[:3] = np.column_stack([_rotation(number, up), [100, 1000, 4000]])
        intrinsic[:2, :3] = (fx, 0, cx), (0, fy, cy)
        lines += [f"name          {number}", "  sensor      10 10", "  size        2048 2048"]
        lines += [f"  intrinsic   {' '.join(f'{value:.7g}' for value in intrinsic.ravel())}"]
        lines += [
            f"  extrinsic   {' '.join(f'{value:.7g}' for value in extrinsic.ravel())}",
            "  radial      0",
        ]
    (folder / "camera.calibration").write_text("\n".join(lines) + "\n")
    return truths


def test_set(folder: Path, valid: list[int], activity: list[int], seed: int = 0) -> Truth:
    """Writes annot_data.mat of a test sequence; the truth of all its frames."""
    rng = np.random.default_rng(seed)
    truth = _seen(_motion(rng, len(valid)), 0, 1.0, TEST_LENS)
    arrays = {"valid_frame": np.array([valid], float), "activity_annotation": np.array([activity], float).T}
    for name, values in truth.arrays().items():
        arrays[name] = _among(NAMES_17, values, rng).transpose(2, 1, 0)[:, :, None]  # (C, 17, 1, F)
        arrays[name][..., np.array(valid) == 0] = np.nan if name == "annot2" else 1e6  # invalid: anything
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.ascontiguousarray(array.T), compression="gzip")
    return truth


test_set.__test__ = False  # type: ignore[attr-defined]


def _motion(rng: np.random.Generator, frames: int) -> np.ndarray:
    steps = rng.normal(0, 0.02, (frames, 17, 3))
    return STANDING / 100 + steps + np.linspace(0, 1, frames)[:, None, None] * (0.5, 0, 0.2)


def _rotation(number: int, up: float) -> np.ndarray:
    heading = Rotation.from_euler("yx", [360 * number / CAMERAS, 12], degrees=True).as_matrix()
    return np.diag([1.0, -1.0, -1.0]) @ heading.T @ np.diag([1.0, up, up])  # x right, y down, z away


def _seen(world: np.ndarray, number: int, up: float, lens: tuple[float, float, float, float]) -> Truth:
    metric = world @ _rotation(number, up).T + [0.1, 1.0, 4.0]
    pixels = metric[..., :2] / metric[..., 2:] * lens[:2] + lens[2:]
    return Truth(pixels, metric, world, lens)


def _among(names: list[str], values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(F, 17, C) of this project's joints among all joints of theirs (F, J, C), the others at random."""
    every = rng.uniform(0, 3000, (len(values), len(names), values.shape[-1]))
    for joint, name in enumerate(JOINT_NAMES):
        every[:, names.index(THEIRS[name])] = values[:, joint]
    return every

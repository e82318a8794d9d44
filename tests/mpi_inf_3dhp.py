"""Small files in MPI-INF-3DHP's own two layouts, made of a made-up person; and what they were made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
TEST_LENS = 1500.0, 1490.0, 1017.0, 1043.0
TEST_LENS_OUTDOOR = 1683.0, 1672.0, 939.0, 560.0


@dataclass(frozen=True)
class Truth:
    """What a camera of a sequence sees, in this project's order of joints.

    Attributes:
        pixels: (F, 17, 2).
        metric: (F, 17, 3) metres, the camera's axes.
        world: (F, 17, 3) the same in the calibration's axes.
        lens: Focal length and centre, pixels.
    """

    pixels: np.ndarray
    metric: np.ndarray
    world: np.ndarray
    lens: tuple[float, float, float, float]

    @property
    def universal(self) -> np.ndarray:
        """(F, 17, 3) metres."""
        return self.metric * UNIVERSAL


def training(folder: Path, frames: int = 6, up: float = 1.0, seed: int = 0) -> list[Truth]:
    """Writes annot.mat and camera.calibration of a sequence; the truth of each camera."""
    rng = np.random.default_rng(seed)
    world = _motion(rng, frames) * (1, up, up)
    truths = [
        _seen(world, *_camera(camera, up), (1497.0 + camera, 1495.0, 1024.7, 1051.4)) for camera in range(14)
    ]
    cells: dict[str, list[np.ndarray]] = {"annot2": [], "annot3": [], "univ_annot3": []}
    for truth in truths:
        for name, values in (
            ("annot2", truth.pixels),
            ("annot3", truth.metric * 1000),
            ("univ_annot3", truth.universal * 1000),
        ):
            every = _among(NAMES_28, values, rng)  # (F, 28, C)
            cells[name].append(every.reshape(frames, -1))
    folder.mkdir(parents=True)
    write_training(folder / "annot.mat", cells)
    (folder / "camera.calibration").write_text(_calibration(truths, up))
    return truths


def write_training(path: Path, cells: dict[str, list[np.ndarray]]) -> None:
    content = {name: np.empty((len(arrays), 1), dtype=object) for name, arrays in cells.items()}
    for name, arrays in cells.items():
        for index, array in enumerate(arrays):
            content[name][index, 0] = array
    extra = {"cameras": np.arange(CAMERAS)[None], "frames": np.arange(len(cells["annot2"][0]))[:, None]}
    savemat(path, content | extra, do_compression=True)


def test_arrays(valid: Iterable[int], activity: Iterable[int], outdoor: bool = False, seed: int = 0):
    """Arrays of annot_data.mat in MATLAB's shapes, and the truth of all its frames."""
    rng = np.random.default_rng(seed)
    valid, activity = np.array(list(valid), float), np.array(list(activity), float)
    frames = len(valid)
    turn, shift = _camera(0, 1.0)
    truth = _seen(_motion(rng, frames), turn, shift, TEST_LENS_OUTDOOR if outdoor else TEST_LENS)
    arrays = {"valid_frame": valid[None], "activity_annotation": activity[:, None]}
    for name, values in (
        ("annot2", truth.pixels),
        ("annot3", truth.metric * 1000),
        ("univ_annot3", truth.universal * 1000),
    ):
        every = _among(NAMES_17, values, rng).transpose(2, 1, 0)[:, :, None]  # (F, 17, C) -> (C, 17, 1, F)
        every[..., valid == 0] = np.nan if name == "annot2" else 1e6  # What is not valid may be anything.
        arrays[name] = every
    return arrays, truth


def write_test(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annot_data.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.ascontiguousarray(array.T), compression="gzip")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _motion(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(F, 17, 3) a person who walks and waves, metres, y up."""
    start = STANDING / 100
    steps = rng.normal(0, 0.02, (frames, 17, 3))
    return start + steps + np.linspace(0, 1, frames)[:, None, None] * (0.5, 0, 0.2)


def _camera(number: int, up: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,), metres: a camera that looks at the middle, slightly down."""
    heading = Rotation.from_euler("yx", [360 * number / CAMERAS, 12], degrees=True).as_matrix()
    world_of_up = np.diag([1.0, up, up])
    # x right, y down, z away: a camera at y up looks along -z.
    turn = np.diag([1.0, -1.0, -1.0]) @ heading.T @ world_of_up
    return turn, np.array([0.1, 1.0, 4.0])


def _seen(world: np.ndarray, turn: np.ndarray, shift: np.ndarray, lens) -> Truth:
    metric = world @ turn.T + shift
    fx, fy, cx, cy = lens
    pixels = metric[..., :2] / metric[..., 2:] * (fx, fy) + (cx, cy)
    return Truth(pixels, metric, world, lens)


def _among(names: list[str], values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(F, 17, C) of this project's joints among all joints of theirs (F, J, C), the others at random."""
    every = rng.uniform(0, 3000, (len(values), len(names), values.shape[-1]))
    for joint, name in enumerate(JOINT_NAMES):
        every[:, names.index(THEIRS[name])] = values[:, joint]
    return every


def _calibration(truths: list[Truth], up: float) -> str:
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number, truth in enumerate(truths):
        fx, fy, cx, cy = truth.lens
        turn, shift = _camera(number, up)
        extrinsic = np.eye(4)
        extrinsic[:3] = np.column_stack([turn, shift * 1000])
        intrinsic = np.eye(4)
        intrinsic[:2, :3] = (fx, 0, cx), (0, fy, cy)
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            "  size        2048 2048",
            "  animated    0",
        ]
        lines += [f"  intrinsic   {' '.join(f'{value:.7g}' for value in intrinsic.ravel())} "]
        lines += [
            f"  extrinsic   {' '.join(f'{value:.7g}' for value in extrinsic.ravel())} ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"

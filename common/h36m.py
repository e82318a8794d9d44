"""Human3.6M's file layout: which files a data set has, and their way into arrays.

Data sets that ``python -m dataset.prepare`` has made in a layout of this project's own are found by
``common/prepared.py``.

The field's files are npz archives of pickled dictionaries, made by the scripts of VideoPose3D (Pavllo et al.,
CVPR 2019). They are checked whole, converted once, and from then on opened from a memory-mapped cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import Camera, h36m_cameras, normalize_pixels, world_to_camera
from common.errors import DataError
from common.pose_files import KEYPOINTS, POSITIONS
from common.safe_npz import read_npz
from common.sequences import Sequence
from common.skeleton import H36M_32_KEPT, NUM_JOINTS

RECORDED_JOINTS = 32
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Dataset:
    """A data set: in Human3.6M's file layout, or prepared, which is a folder of ``common.pose_files``.

    Attributes:
        name: The name in its files, ``data_3d_{name}.npz`` and ``data_2d_{name}_{keypoints}.npz``, or of its
            folder.
        root: Folder that holds the files, or the folder, unless the user names another.
        train: Subjects to train on.
        test: Subjects to score on.
        keypoints: Source of the key points that is used unless the user names another.
        origin: Where the files come from and under which licence, for a user who lacks them.
        prepared: Whether it is a folder of ``common.pose_files``.
        groups: The part of the test set that a test subject belongs to, where there are such parts.
    """

    name: str
    root: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    keypoints: str
    origin: str
    prepared: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)

    def files(self, root: Path, keypoints: str) -> tuple[Path, Path]:
        """Paths of the 3D file and of the key point file."""
        if self.prepared:
            return root / self.name / POSITIONS, root / self.name / KEYPOINTS
        return root / f"data_3d_{self.name}.npz", root / f"data_2d_{self.name}_{keypoints}.npz"


DATASETS = {
    "h36m": Dataset(
        name="h36m",
        root="dataset",
        train=("S1", "S5", "S6", "S7", "S8"),
        test=("S9", "S11"),
        keypoints="cpn_ft_h36m_dbb",
        origin=(
            "Human3.6M (Ionescu et al., PAMI 2014) is free for academic use under its own licence, after "
            "registration at vision.imar.ro/human3.6m. `python -m dataset.prepare h36m --source DIR` makes "
            "data_3d_h36m.npz and data_2d_h36m_gt.npz from it; data_2d_h36m_cpn_ft_h36m_dbb.npz is linked "
            "from VideoPose3D (github.com/facebookresearch/VideoPose3D, DATASETS.md). `--dataset sample` "
            "needs no download."
        ),
    ),
    "sample": Dataset(
        name="sample",
        root=str(Path(__file__).parent.parent / "dataset" / "sample"),
        train=("S1", "S5", "S6", "S7", "S8"),
        test=("S9", "S11"),
        keypoints="gt",
        origin=(
            "The sample comes with the project, in dataset/sample/, with `-k gt` alone; the README there "
            "tells how it was made and under which licence it is."
        ),
    ),
}


@dataclass(frozen=True)
class Take:
    """One take of one subject as the files hold it.

    Attributes:
        subject: Name of the subject.
        action: Name of the take.
        world: (T, 32, 3) joint positions, world metres.
        pixels: For each camera, (T' >= T, 17, 2) key points in pixels.
        cameras: The subject's cameras, in the order of ``pixels``.
    """

    subject: str
    action: str
    world: np.ndarray
    pixels: list[np.ndarray]
    cameras: tuple[Camera, ...]

    def views(self) -> list[tuple[Sequence, np.ndarray, np.ndarray]]:
        """For each camera: its sequence (from row 0 on), key points (T, 17, 2), positions (T, 17, 3).

        Key points are normalised, positions in camera space, metres: see ``common.sequences.PoseSet``.
        """
        world = self.world[:, H36M_32_KEPT].astype(np.float64)  # (T, 32, 3) -> (T, 17, 3)
        views = []
        for index, (camera, pixels) in enumerate(zip(self.cameras, self.pixels, strict=True)):
            size = camera.width, camera.height
            fx, fy, cx, cy = (float(value) for value in camera.intrinsics())
            # Detections may run on past the motion capture's last frame; the tail has no truth.
            keypoints = normalize_pixels(pixels[: len(world)].astype(np.float64), *size)
            sequence = Sequence(
                self.subject,
                self.action,
                index,
                0,
                len(world),
                (fx, fy, cx, cy),
                image_size=size,
                orientation=camera.orientation,
            )
            views.append((sequence, keypoints, world_to_camera(world, camera)))
        return views


def check_files(dataset: Dataset, root: Path, keypoints: str) -> None:
    """Raises a DataError that names every missing file, where it was looked for and where it comes from."""
    if dataset.prepared and keypoints != dataset.keypoints:
        raise DataError(f"-k {keypoints}: {dataset.name} has {dataset.keypoints} key points alone")
    missing = []
    for path in dataset.files(root, keypoints):
        try:
            path.open("rb").close()
        except OSError as error:
            missing.append(f"{path}: {error.strerror}")
    if not missing:
        return
    found = sorted(path.name for path in root.glob("*.npz")) if os.path.isdir(root) else None
    raise DataError(
        "\n".join(
            [
                "data files are missing:",
                *(f"  {line}" for line in missing),
                f"The folder {root} "
                + ("does not exist." if found is None else f"holds {_listed(found)} of that kind."),
                "Name the folder with --root_path, the key points with -k.",
                dataset.origin,
            ]
        )
    )


def read_takes(dataset: Dataset, root: Path, keypoints: str) -> list[Take]:
    """Reads and checks both files whole.

    Returns:
        The takes in the order of the data set's subjects, training subjects first.

    Raises:
        DataError: With every fault that was found, by file, subject, action and camera.
    """
    check_files(dataset, root, keypoints)
    path_3d, path_2d = dataset.files(root, keypoints)
    positions = _member(path_3d, "positions_3d")
    pixels = _member(path_2d, "positions_2d")
    faults, takes = [], []
    for subject in dataset.train + dataset.test:
        absent = [
            f"{path.name}: {subject}: the subject is missing or has no takes; there are {_listed(members)}"
            for path, members in ((path_3d, positions), (path_2d, pixels))
            if not (isinstance(members.get(subject), dict) and members[subject])
        ]
        faults += absent
        if absent:
            continue
        for action, world in positions[subject].items():
            found = pixels[subject].get(action)
            take = Take(subject, str(action), world, found, h36m_cameras()[subject])
            faults += _faults(take, path_3d.name, path_2d.name)
            takes.append(take)
    if faults:
        more = f"\n  and {len(faults) - PROBLEMS_SHOWN} more" if len(faults) > PROBLEMS_SHOWN else ""
        shown = "\n  ".join(faults[:PROBLEMS_SHOWN])
        raise DataError(f"files in {root} cannot be used:\n  {shown}{more}\n{dataset.origin}")
    return takes


def _member(path: Path, name: str) -> dict[str, Any]:
    members = read_npz(path)
    value = members.get(name)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a dictionary named {name}, found {_listed(members)}")
    return value


def _faults(take: Take, file_3d: str, file_2d: str) -> list[str]:
    """What is wrong with a take, a sentence each."""
    where = f"{take.subject}, {take.action}"
    world, pixels = take.world, take.pixels
    fault = _array_fault(world, (RECORDED_JOINTS, 3))
    if fault:
        return [f"{file_3d}: {where}: {fault}"]
    if not isinstance(pixels, list | tuple):
        found = "nothing" if pixels is None else type(pixels).__name__
        return [f"{file_2d}: {where}: expected a list of {len(take.cameras)} cameras, found {found}"]
    if len(pixels) != len(take.cameras):
        return [f"{file_2d}: {where}: expected {len(take.cameras)} cameras, found {len(pixels)}"]
    faults = []
    for index, array in enumerate(pixels):
        fault = _array_fault(array, (NUM_JOINTS, 2))
        if not fault and len(array) < len(world):
            fault = f"expected at least the {len(world)} frames of {file_3d}, found {len(array)}"
        if fault:
            faults.append(f"{file_2d}: {where}, camera {index}: {fault}")
    return faults


def _array_fault(array: Any, shape: tuple[int, int]) -> str | None:
    expected = f"expected an array of shape (frames, {shape[0]}, {shape[1]})"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        return f"{expected}, found {'nothing' if array is None else type(array).__name__}"
    if array.ndim != 3 or array.shape[1:] != shape or len(array) == 0:
        return f"{expected}, found {array.shape}"
    finite = np.isfinite(array).all(axis=(1, 2))  # (T,)
    if not finite.all():
        return f"NaN or infinity in {(~finite).sum()} frames, the first is frame {int(finite.argmin())}"
    return None


def _listed(names: Any) -> str:
    names = [str(name)[:60] for name in names]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "nothing"

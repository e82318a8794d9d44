"""Data sets by name: files in the field's layout, converted into a memory-mapped cache; prepared folders."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import CAMERA_FILE, Camera, h36m_cameras, normalize_pixels
from common.console import UserError, progress, suggestion
from common.files import read_npz, sha256
from common.poses import FORMAT, INDEX, KEYPOINTS, POSITIONS, PoseSet, Sequence, View, read_poses, write_poses
from common.skeleton import BONES_M, H36M_32_KEPT, NUM_JOINTS, PARENTS

CACHE = ".htnet_cache"
SHOWN = 5  # invalid takes in one message
BODY_M = (0.3, 4.0)  # metres, summed bone length over an adult's: outside it is another unit
MAX_REPROJECTION = 0.1  # mean distance of projected 3D and 2D, fraction of the image's width

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set: files in Human3.6M's layout, or a prepared folder (see ``write_poses``).

    Attributes:
        name: The name in its files, ``data_3d_{name}.npz`` and ``data_2d_{name}_{keypoints}.npz``, or of its
            folder.
        root: Folder that holds the files or the folder, unless the user names another.
        train: Subjects to train on.
        test: Subjects to score on.
        keypoints: Source of the keypoints that is used unless the user names another.
        origin: Where the files come from and under which licence, for a user who lacks them.
        prepared: Whether it is a prepared folder.
        groups: Test subject -> the part of the test set that it belongs to, where there are such parts.
        fps: Frames per second of the recordings; None where unknown.
    """

    name: str
    root: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    keypoints: str
    origin: str
    prepared: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)
    fps: float | None = None

    def files(self, root: Path, keypoints: str) -> tuple[Path, Path]:
        """Paths of the 3D file and of the keypoint file."""
        if self.prepared:
            return root / self.name / POSITIONS, root / self.name / KEYPOINTS
        return root / f"data_3d_{self.name}.npz", root / f"data_2d_{self.name}_{keypoints}.npz"


TRAIN, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")

DATASETS = {
    "h36m": Dataset(
        name="h36m",
        root="dataset",
        train=TRAIN,
        test=TEST,
        keypoints="cpn_ft_h36m_dbb",
        fps=50.0,
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
        train=TRAIN,
        test=TEST,
        keypoints="gt",
        fps=50.0,
        origin="The sample is part of the project, in dataset/sample/, with `-k gt` only; see its README.",
    ),
}


def find_dataset(name: str, root: Path | None = None) -> Dataset:
    """The data set of a name: one of ``DATASETS``, or the prepared folder ``root/name``.

    Raises:
        UserError: There is none of that name; the message lists those that are there.
    """
    if name in DATASETS:
        return DATASETS[name]
    root = root or Path("dataset")
    if Path(name).name != name or not (root / name / INDEX).is_file():
        found = sorted({*DATASETS, *(path.parent.name for path in root.glob(f"[!.]*/{INDEX}"))})
        command = "3dhp --source DIR" if name == "3dhp" else f"mocap --source DIR --name {name}"
        raise UserError(
            f"--dataset {name}: no prepared data set in {root / name}; found {', '.join(found)}"
            f"{suggestion(name, found)}. To prepare it: python -m dataset.prepare {command} "
            "(dataset/README.md); if it is elsewhere, name the folder above it with --root_path"
        )
    _, metadata = read_poses(root / name)
    try:
        return Dataset(
            name=name,
            root=str(root),
            train=tuple(metadata["train"]),
            test=tuple(metadata["test"]),
            keypoints=metadata["keypoints"],
            origin=metadata["origin"],
            prepared=True,
            groups={one: group for group, names in metadata.get("groups", {}).items() for one in names},
            fps=metadata.get("fps"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{root / name / INDEX}: damaged ({error!r}); prepare the data set again") from error


def check_files(dataset: Dataset, root: Path, keypoints: str) -> None:
    """Raises a UserError that names every missing file and where it comes from."""
    if dataset.prepared and keypoints != dataset.keypoints:
        raise UserError(f"-k {keypoints}: {dataset.name} has {dataset.keypoints} keypoints only")
    missing = [path for path in dataset.files(root, keypoints) if not path.is_file()]
    if missing:
        found = ", ".join(sorted(path.name for path in root.glob("*.npz"))) or "no npz files"
        names = "\n  ".join(map(str, missing))
        raise UserError(
            f"data files are missing:\n  {names}\n{root} has {found}. Name the folder with --root_path, the "
            f"keypoints with -k.\n{dataset.origin}"
        )


def load(
    dataset: Dataset,
    root: Path | None = None,
    keypoints: str | None = None,
    cache_dir: Path | None = None,
    subjects: Iterable[str] | None = None,
) -> PoseSet:
    """Opens a data set, training subjects first; its files are converted into a cache on first use.

    Args:
        dataset: Which data set.
        root: Folder of the files; the data set's own when None.
        keypoints: Source of the keypoints, as in the file's name; the data set's own when None.
        cache_dir: Folder for the cache; beside the data when None, or in the user's cache folder where the
            data folder is read-only.
        subjects: Subjects that are needed, all when None. Others may be missing in the files.

    Raises:
        UserError: Files are missing or do not follow the protocol, or ``cache_dir`` is read-only.
        RunError: The disk is full.
    """
    root, keypoints = root or Path(dataset.root), keypoints or dataset.keypoints
    check_files(dataset, root, keypoints)
    needed = [name for name in dataset.train + dataset.test if subjects is None or name in set(subjects)]
    if dataset.prepared:
        poses, _ = read_poses(root / dataset.name)
        grouped = (replace(each, group=dataset.groups.get(each.subject, "")) for each in poses.sequences)
        return PoseSet(poses.keypoints, poses.positions, tuple(grouped)).subjects(needed)
    name = f"{dataset.name}-{keypoints}-{fingerprint(dataset, root, keypoints)[:16]}"
    folders = [cache_dir] if cache_dir else [root / CACHE, *_user_cache()]
    folder = next((each / name for each in folders if (each / name / INDEX).is_file()), None)
    if folder is None:
        takes = list(_read_takes(dataset, root, keypoints, needed))
        folder = _first_writable(folders) / name
        log.info("converting %s (%s) once, into %s", dataset.name, keypoints, folder)
        write_poses(folder, (view for take in progress(takes, desc="converting") for view in _views(*take)))
    poses, _ = read_poses(folder)
    if missing := sorted(set(needed) - {sequence.subject for sequence in poses.sequences}):
        raise UserError(f"{root}: expected takes of {', '.join(missing)} in both files, found none")
    return poses.subjects(needed)


def fingerprint(dataset: Dataset, root: Path, keypoints: str) -> str:
    """Hexadecimal digest of what a cache is made from: the members' checksums, the cameras, the format."""
    if dataset.prepared:
        return sha256(root / dataset.name / INDEX)
    parts = [CAMERA_FILE.read_text(), str(FORMAT), *dataset.train, *dataset.test]
    for path in dataset.files(root, keypoints):
        try:
            with zipfile.ZipFile(path) as archive:
                parts += [f"{info.filename} {info.CRC} {info.file_size}" for info in archive.infolist()]
        except zipfile.BadZipFile:
            read_npz(path)  # its message says what the file is
            raise
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _user_cache() -> list[Path]:
    with suppress(RuntimeError):  # a user without a home, as in a container
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "htnet"]
    return []


def _first_writable(folders: list[Path]) -> Path:
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    raise UserError(
        f"no writable folder for the cache of the data: tried {', '.join(map(str, folders))}; "
        "name one with --cache_dir"
    )


Take = tuple[str, str, np.ndarray, list[np.ndarray], tuple[Camera, ...]]
"""Subject, action, (T, 32, 3) world metres, for each camera (T' >= T, 17, 2) pixels, and the cameras."""


def _read_takes(dataset: Dataset, root: Path, keypoints: str, needed: list[str]) -> Iterator[Take]:
    path_3d, path_2d = dataset.files(root, keypoints)
    positions, pixels = _member(path_3d, "positions_3d"), _member(path_2d, "positions_2d")
    metadata = read_npz(path_2d).get("metadata")
    layout = str(metadata.get("layout_name", "")) if isinstance(metadata, dict) else ""
    if "coco" in layout.lower():
        raise UserError(
            f"{path_2d}: expected keypoints in Human3.6M's order, found {layout!r} in its metadata; use "
            "keypoints of a detector trained on Human3.6M, such as cpn_ft_h36m_dbb, or convert them first"
        )
    invalid, takes = [], []
    for subject in dataset.train + dataset.test:
        found = [isinstance(file.get(subject), dict) and bool(file[subject]) for file in (positions, pixels)]
        if not all(found):
            if subject in needed:
                invalid.append(f"{(path_2d if found[0] else path_3d).name}: {subject}: no takes")
            continue
        for action, world in positions[subject].items():
            take = (subject, str(action), world, pixels[subject].get(action), h36m_cameras()[subject])
            if reason := _invalid(*take):
                invalid.append(f"{subject}, {action}: {reason}")
            takes.append(take)
    if invalid:
        more = f"\n  and {len(invalid) - SHOWN} more" if len(invalid) > SHOWN else ""
        listed = "\n  ".join(invalid[:SHOWN])
        raise UserError(f"{path_3d.name} and {path_2d.name} in {root} are invalid:\n  {listed}{more}")
    return iter(takes)


def _member(path: Path, name: str) -> dict[str, Any]:
    members = read_npz(path)
    if not isinstance(members.get(name), dict):
        raise UserError(f"{path}: expected a dictionary {name}, found {', '.join(members) or 'nothing'}")
    return members[name]


def _invalid(subject: str, action: str, world: Any, pixels: Any, cameras: tuple[Camera, ...]) -> str | None:
    """Errors of a take, None if there are none."""
    if not _is_array(world, (32, 3)):
        return f"3D: expected finite numbers (T, 32, 3), found {_describe(world)}"
    cameras_2d = list(pixels) if isinstance(pixels, (list, tuple)) else []
    if len(cameras_2d) != len(cameras):
        return f"2D: expected {len(cameras)} cameras, found {len(cameras_2d)}"
    frames = np.unique(np.linspace(0, len(world) - 1, 5).astype(int))
    pose = world[frames][:, H36M_32_KEPT].astype(np.float64)  # (K, 32, 3) -> (K, 17, 3)
    bones = np.linalg.norm(pose[:, 1:] - pose[:, list(PARENTS[1:])], axis=-1).sum(axis=1)  # (K,)
    body = float(np.median(bones)) / BONES_M
    if not BODY_M[0] <= body <= BODY_M[1]:
        return f"3D: expected metres, found bodies of {body:.3g} m; are they millimetres?"
    for index, (camera, points) in enumerate(zip(cameras, cameras_2d, strict=True)):
        found = f"2D, camera {index}: expected "
        if not _is_array(points, (NUM_JOINTS, 2)) or len(points) < len(world):
            found += f"finite numbers (T >= {len(world)}, {NUM_JOINTS}, 2), found {_describe(points)}"
        elif np.abs(points[frames]).max() < 4:
            found += "pixels, found values below 4; are they normalised already?"
        elif (off := _distance(camera, pose, points[frames])) > MAX_REPROJECTION * camera.width:
            found += f"projections of the 3D, found points {off:.0f} px away; are cameras or joints swapped?"
        else:
            continue
        return found
    return None


def _distance(camera: Camera, world: np.ndarray, pixels: np.ndarray) -> float:
    return float(np.linalg.norm(camera.project(camera.to_camera(world)) - pixels, axis=-1).mean())


def _is_array(value: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind == "f"
        and value.ndim == 3
        and value.shape[1:] == shape
        and len(value) > 0
        and bool((np.abs(value) < np.finfo(np.float32).max).all())
    )


def _describe(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return f"{value.shape} of {value.dtype}, or with values beyond float32, NaN or infinity"


def _views(
    subject: str, action: str, world: np.ndarray, pixels: list[np.ndarray], cameras: tuple[Camera, ...]
) -> Iterator[View]:
    pose = world[:, H36M_32_KEPT].astype(np.float64)  # (T, 32, 3) -> (T, 17, 3)
    for index, (camera, points) in enumerate(zip(cameras, pixels, strict=True)):
        size = camera.width, camera.height
        fx, fy, cx, cy = camera.intrinsics().tolist()
        sequence = Sequence(
            subject, action, index, 0, len(pose), (fx, fy, cx, cy), size, orientation=camera.orientation
        )
        # Detections may run on after the motion capture's last frame.
        yield (
            sequence,
            normalize_pixels(points[: len(pose)].astype(np.float64), *size),
            camera.to_camera(pose),
        )

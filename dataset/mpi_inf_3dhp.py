"""MPI-INF-3DHP (Mehta et al., 3DV 2017), from its own layout to a prepared data set.

Its files give pixels, and millimetres in the axes of each camera (x right, y down, z away from it).
"""

from __future__ import annotations

import io
import itertools
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from common.camera import normalize_pixels
from common.console import UserError, progress
from common.files import read_bytes, sha256
from common.poses import Sequence, View, write_poses
from common.skeleton import HEAD, LEFT_LEG, MPI_INF_3DHP_17_KEPT, MPI_INF_3DHP_28_KEPT, RIGHT_LEG
from dataset.sources import damaged, hdf5_array

SUBJECTS = tuple(f"S{number}" for number in range(1, 9))
TEST_SIZES = {f"TS{number}": (2048, 2048) if number < 5 else (1920, 1080) for number in range(1, 7)}
TRAINING_SIZE = (2048, 2048)
GROUPS = {"studio with green screen": ["TS1", "TS2"], "studio without": ["TS3", "TS4"]}
GROUPS |= {"outdoor": ["TS5", "TS6"]}
SKELETONS = {"universal": "univ_annot3", "metric": "annot3"}
ACTIVITIES = (
    *("Unlabelled", "Stand/Walk", "Exercise", "Sit-on-chair", "Crouch/Reach", "On-floor", "Sports"),
    "Miscellaneous",
)
"""What the numbers of ``activity_annotation`` stand for, from 0 on."""
TEST_FOLDERS = ("mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set")
ORIGIN = (
    "MPI-INF-3DHP (Mehta et al., 3DV 2017) is free for non-commercial research under its own licence, from "
    "vcai.mpi-inf.mpg.de/3dhp-dataset. Of its training set no more is needed than annot.mat and "
    "camera.calibration of each sequence, of its test set annot_data.mat."
)
MAX_BYTES = 2**30  # of a file, packed and unpacked; the largest unpacks to 0.3 GB
THIGH = (200, 800)  # millimetres, accepted range
MAX_ERROR = 10.0  # pixels, median, between keypoints and projected positions of a camera that fits
UPRIGHT = 0.5  # fraction of the mean body axis that one axis of the world must hold to be up or down

Lens = tuple[float, float, float, float]
"""Focal length and centre (fx, fy, cx, cy) in normalised image coordinates."""

log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """One camera of a calibration file."""

    size: tuple[int, int]  # width and height, pixels
    lens: Lens
    rotation: np.ndarray  # (3, 3) the world's axes into the camera's


def prepare(*, source: Path, folder: Path, skeleton: str, cameras: tuple[int, ...]) -> None:
    """Writes the data set ``folder`` from the folder with S1 to S8 and the test set.

    Poses are of one of ``SKELETONS``, of some of the 14 training cameras. A UserError if the source has none
    of the files, or a damaged one.
    """
    test = next((source / name for name in TEST_FOLDERS if (source / name / "TS1").is_dir()), source)
    runs = [f"{subject}/Seq{number}" for subject in SUBJECTS for number in (1, 2)]
    wanted = {run: source / run / "annot.mat" for run in runs}
    wanted |= {who: test / who / "annot_data.mat" for who in TEST_SIZES}
    found = {name: path for name, path in wanted.items() if path.is_file()}
    if not found:
        raise UserError(
            f"--source {source}: expected S1/Seq1/annot.mat and so on to S8/Seq2, camera.calibration beside "
            f"each, or mpi_inf_3dhp_test_set/TS1/annot_data.mat and so on to TS6; found none. {ORIGIN}"
        )
    if missing := [name for name in wanted if name not in found]:
        log.warning("missing, and left out: %s", ", ".join(missing))
    there = {name.partition("/")[0] for name in found}
    train, tested = ([each for each in part if each in there] for part in (SUBJECTS, TEST_SIZES))
    metadata = {"name": folder.name, "train": train, "test": tested, "groups": GROUPS, "keypoints": "gt"}
    metadata |= {"origin": ORIGIN, "settings": {"skeleton": skeleton, "cameras": list(cameras)}}
    metadata |= {"sources": {name: sha256(path) for name, path in found.items()}, "missing": missing}
    write_poses(folder, _views(found, SKELETONS[skeleton], cameras), metadata)
    log.info("wrote %s", folder)


def _views(found: dict[str, Path], skeleton: str, cameras: tuple[int, ...]) -> Iterator[View]:
    for name, path in progress(found.items(), desc="converting", unit="file"):
        subject, _, action = name.partition("/")
        if subject in TEST_SIZES:
            arrays, labels = _test_arrays(path, skeleton)
            sequence = Sequence(subject, "", 0, 0, 0, (0, 0, 0, 0), TEST_SIZES[subject])
            yield from _runs(str(path), sequence, arrays, labels, ACTIVITIES, None)
            continue
        calibrations = read_calibration(path.with_name("camera.calibration"))
        for camera, arrays in zip(cameras, _training_arrays(path, skeleton, cameras), strict=True):
            finite = np.all([np.isfinite(array).all(axis=(1, 2)) for array in arrays], axis=0)  # (F,)
            sequence = Sequence(subject, action, camera, 0, 0, (0, 0, 0, 0), TRAINING_SIZE)
            where, labels = f"{path}, camera {camera}", np.where(finite, 0, -1)
            yield from _runs(where, sequence, arrays, labels, (action,), calibrations.get(camera))


def _training_arrays(path: Path, skeleton: str, cameras: tuple[int, ...]) -> list[list[np.ndarray]]:
    """Of each camera (F, 17, 2) pixels and twice (F, 17, 3) mm: see ``_runs``."""
    from scipy.io import loadmat

    names = {"annot2": 2, "annot3": 3, skeleton: 3}
    with damaged(path, f"annot.mat of MPI-INF-3DHP, {', '.join(names)} with a cell for each camera"):
        data = read_bytes(path, MAX_BYTES)
        _check_unpacked(data)
        content = loadmat(io.BytesIO(data), variable_names=list(names))
        views = []
        for camera in cameras:
            cells = {name: np.asarray(content[name].ravel()[camera], np.float64) for name in names}
            if len({*map(len, cells.values())}) > 1:
                raise ValueError(f"camera {camera}: arrays of different numbers of frames")
            # (F, 28 * C) -> (F, 28, C) -> (F, 17, C)
            shaped = {n: c.reshape(len(c), 28, names[n])[:, MPI_INF_3DHP_28_KEPT] for n, c in cells.items()}
            views.append([shaped[name] for name in ("annot2", "annot3", skeleton)])
        return views


def _check_unpacked(data: bytes) -> None:
    """Bounds what the compressed variables of a MATLAB file unpack to, which SciPy does not."""
    at, left, order = 128, MAX_BYTES, "<II" if data[126:128] == b"IM" else ">II"
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order, data, at)
        if kind == 15:
            left -= len(zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], max(left, 0) + 1))
        at += 8 + size
    if left < 0:
        raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")


def _test_arrays(path: Path, skeleton: str) -> tuple[list[np.ndarray], np.ndarray]:
    import h5py

    with damaged(path, "annot_data.mat of MPI-INF-3DHP's test set"), h5py.File(path, "r") as file:
        # HDF5 lists MATLAB's axes backwards: (F, 1, 17, C) -> (F, 17, C)
        arrays = [
            hdf5_array(file, name, MAX_BYTES).reshape(-1, 1, 17, channels)[:, 0, MPI_INF_3DHP_17_KEPT]
            for name, channels in (("annot2", 2), ("annot3", 3), (skeleton, 3))
        ]
        valid = hdf5_array(file, "valid_frame").ravel() != 0
        if "activity_annotation" in file:
            labels = hdf5_array(file, "activity_annotation").ravel()
        else:
            log.warning("%s has no activity_annotation: its actions are %s", path, ACTIVITIES[0])
            labels = np.zeros(len(valid))
        labels = np.where(np.isin(labels, range(len(ACTIVITIES))), labels, 0).astype(int)
        return arrays, np.where(valid, labels, -1)


def _runs(
    where: str,
    sequence: Sequence,
    arrays: list[np.ndarray],
    labels: np.ndarray,
    actions: tuple[str, ...],
    calibration: Calibration | None,
) -> Iterator[View]:
    """Cuts the frames of a camera into runs of one action, so that a gap never counts as a motion.

    ``arrays`` are (F, 17, 2) pixels, (F, 17, 3) mm that fit them, and (F, 17, 3) mm of the chosen skeleton;
    ``labels`` (F,) say which of the actions each frame shows, -1 for an invalid frame.
    """
    with damaged(
        where, f"valid frames, finite numbers, thighs of {THIGH[0]} to {THIGH[1]} mm, depths over 0"
    ):
        valid = labels >= 0
        pixels, metric, positions = (array.astype(np.float64) for array in arrays)
        values = np.concatenate([pixels[valid], metric[valid], positions[valid]], axis=-1)  # (F, 17, 8)
        bones = [metric[valid][:, leg[1]] - metric[valid][:, leg[0]] for leg in (LEFT_LEG, RIGHT_LEG)]
        thigh = np.median(np.linalg.norm(bones, axis=-1)) if valid.any() else 0.0
        depth = metric[valid][..., 2].min(initial=np.inf)
        if not np.isfinite(values).all() or not THIGH[0] < thigh < THIGH[1] or depth <= 0:
            raise ValueError(f"{valid.sum()} valid frames, thighs of {thigh:.4g} mm, depths from {depth:.4g}")
    keypoints = normalize_pixels(pixels, *sequence.image_size)
    lens, orientation = _camera(where, sequence.image_size, keypoints[valid], metric[valid], calibration)
    sequence = replace(sequence, intrinsics=lens, orientation=orientation)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, stop in itertools.pairwise(edges):
        if valid[start]:
            run = replace(sequence, action=actions[int(labels[start])], stop=stop - start, first_frame=start)
            yield run, keypoints[start:stop], positions[start:stop] / 1000


def _camera(
    where: str, size: tuple[int, int], keypoints: np.ndarray, metric: np.ndarray, known: Calibration | None
) -> tuple[Lens, tuple[float, float, float, float] | None]:
    """Lens and orientation of a camera: the calibration's where it fits the keypoints, else a fitted lens."""
    plane = metric[..., :2] / metric[..., 2:]

    def error(lens: Lens) -> float:
        gaps = np.linalg.norm(plane * lens[:2] + lens[2:] - keypoints, axis=-1)
        return float(np.median(gaps)) * size[0] / 2  # pixels

    if known and known.size == size and error(known.lens) < MAX_ERROR:
        ankles = (metric[:, LEFT_LEG[2]] + metric[:, RIGHT_LEG[2]]) / 2
        return known.lens, _orientation(known.rotation, metric[:, HEAD] - ankles)
    if known:
        log.warning("%s: its calibration misses the keypoints by %.0f px, not used", where, error(known.lens))
    lines = (np.polyfit(plane[..., n].ravel(), keypoints[..., n].ravel(), 1).tolist() for n in (0, 1))
    (fx, cx), (fy, cy) = lines
    if min(fx, fy) <= 0 or error((fx, fy, cx, cy)) > MAX_ERROR:
        log.warning("%s: its positions miss its keypoints by %.0f px", where, error((fx, fy, cx, cy)))
    return (fx, fy, cx, cy), None


def read_calibration(path: Path) -> dict[int, Calibration]:
    """Cameras of a ``camera.calibration`` file by their numbers; none where there is no file.

    Of each camera the file has lines that begin with "name", "size" (pixels), "intrinsic" (4 x 4, pixels) and
    "extrinsic" (4 x 4, world to camera), row after row. A UserError if one is missing or invalid.
    """
    if not path.is_file():
        log.warning("%s is missing: lenses are found from the annotations, without orientation", path)
        return {}
    calibrations = {}
    with damaged(path, "cameras, each with name, size, intrinsic and extrinsic"):
        _, *cameras = re.split(r"^\s*name\b", read_bytes(path, 2**20).decode(errors="replace"), flags=re.M)
        for camera in cameras:
            number, *rows = (line.split() for line in camera.splitlines() if line.strip())
            lines = {word: values for word, *values in rows}
            width, height = map(int, lines["size"])
            k, extrinsic = (np.array(lines[n], np.float64).reshape(4, 4) for n in ("intrinsic", "extrinsic"))
            turn = extrinsic[:3, :3]
            if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
                raise ValueError("extrinsic is no rotation")
            cx, cy = normalize_pixels(k[:2, 2], width, height).tolist()
            lens = (float(k[0, 0] / width * 2), float(k[1, 1] / width * 2), cx, cy)
            calibrations[int(number[0])] = Calibration((width, height), lens, turn)
    return calibrations


def _orientation(rotation: np.ndarray, body: np.ndarray) -> tuple[float, float, float, float] | None:
    """Quaternion (w, x, y, z) that rotates the camera's axes into those of a world whose z points up.

    The calibration's world, which ``rotation`` brings into the camera's axes, does not say which way is up:
    people mostly stand, so the bodies do, (F, 3) from the ankles to the head. None where they do not.
    """
    mean = (body / np.maximum(np.linalg.norm(body, axis=1, keepdims=True), 1e-9)).mean(axis=0) @ rotation
    strongest = int(np.abs(mean).argmax())
    if abs(mean[strongest]) < UPRIGHT * max(np.abs(mean).sum(), 0.5):
        return None
    up = np.sign(mean[strongest]) * np.eye(3)[strongest]
    side = np.roll(np.abs(up), 1)
    upright = np.stack([side, np.cross(up, side), up])  # (3, 3), its rows the new world's axes in the old
    w, x, y, z = Rotation.from_matrix(upright @ rotation.T).as_quat(scalar_first=True).tolist()
    return w, x, y, z

"""Human3.6M's archives, ``h36m.zip`` or npz to the field's two files.

Names of takes, and the take that is left out, are those of VideoPose3D (Pavllo et al., CVPR 2019), so that
its keypoint files fit.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.camera import h36m_cameras
from common.console import UserError, progress
from common.data import DATASETS
from common.files import read_npz, replacing
from common.skeleton import H36M_32_KEPT, LEFT, NUM_JOINTS, RIGHT, RIGHT_LEG
from dataset.sources import ARCHIVES, MAX_FILE, Source, damaged, hdf5_array, sources

DATASET = DATASETS["h36m"]
SUBJECTS = DATASET.train + DATASET.test
ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking"),
)
RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # the archives' names of actions
CORRUPT = ("S11", "Directions")  # its video is damaged: no detector has keypoints of it
TAKES = 2  # of each action by each subject
TRAINING_FRAMES = 389_938  # of the training subjects: a quarter of the protocol's 1,559,752 poses
FOLDERS = ("d3_positions", "3d_positions")  # of world coordinates; D3_Positions_mono holds others
JOINTS = 32
LEG = (0.5, 1.5)  # metres from hip to ankle, accepted range; Human3.6M's have 0.8 to 1

Positions = dict[str, dict[str, np.ndarray]]
"""By subject and take: (F, 32, 3) float32, world metres."""
Keypoints = dict[str, dict[str, list[np.ndarray]]]
"""By subject and take: for each of the subject's cameras (F, 17, 2) float32, pixels."""

log = logging.getLogger(__name__)


def prepare(source: Path, output: Path) -> None:
    """Writes ``data_3d_h36m.npz`` and ``data_2d_h36m_gt.npz`` into the folder ``output``.

    The source is a folder with archives, unpacked files or ``data_3d_h36m.npz``, or one such file. A
    UserError if it is not there, damaged, or lacks whole subjects.
    """
    path_3d, path_2d = DATASET.files(output, "gt")
    npz = source / path_3d.name if source.is_dir() else source
    raw = _from_raw(source)
    found = raw or _from_npz(npz)
    if absent := [subject for subject in SUBJECTS if subject not in found]:
        files = ", ".join(f"Poses_D3_Positions_{subject}.tgz" for subject in absent)
        raise UserError(f"{source}: found no takes of {', '.join(absent)}; add {files}, or what they hold")

    def order(take: str) -> tuple[int, int]:
        action, _, number = take.partition(" ")
        return ACTIONS.index(action) if action in ACTIONS else 99, int(number) if number.isdecimal() else 0

    positions: Positions = {}
    for subject in SUBJECTS:  # interned names, so that the same takes make the same bytes
        takes = {sys.intern(take): found[subject][take] for take in sorted(found[subject], key=order)}
        positions[subject] = {take: np.ascontiguousarray(each, np.float32) for take, each in takes.items()}
        log.info("%s: %d takes, %d frames", subject, len(takes), sum(map(len, takes.values())))
    there = Counter((subject, take.split(" ")[0]) for subject, takes in positions.items() for take in takes)
    if missing := missing_takes(there):
        listed = "; ".join(missing[:10]) + (f" and {len(missing) - 10} more" if missing[10:] else "")
        log.warning("warning: takes are missing: %s. Results will not be the field's", listed)
    frames = sum(len(world) for subject in DATASET.train for world in positions[subject].values())
    log.info("training subjects: %d frames; all of Human3.6M has %d", frames, TRAINING_FRAMES)
    if raw or not (path_3d.exists() and path_3d.samefile(npz)):
        save(path_3d, positions_3d=positions)
    save(path_2d, positions_2d=project(positions), metadata=metadata())
    log.info("wrote %s and %s", path_3d, path_2d)


def missing_takes(there: Mapping[tuple[str, str], int]) -> list[str]:
    """The takes of Human3.6M that are not there, from the number of takes by subject and action."""
    wanted = {(subject, action): TAKES for subject in SUBJECTS for action in ACTIONS}
    wanted[CORRUPT] -= 1
    return [
        f"{', '.join(key)}: {there[key]} of {count}" for key, count in wanted.items() if there[key] < count
    ]


def metadata() -> dict[str, Any]:
    """What the field's keypoint files say of themselves."""
    sides = [list(LEFT), list(RIGHT)]
    return {"layout_name": "h36m", "num_joints": NUM_JOINTS, "keypoints_symmetry": sides}


def project(positions: Positions, *, step: float | None = None) -> Keypoints:
    """Keypoints of all takes in all cameras, lens distortion included, rounded to multiples of ``step``."""
    keypoints: Keypoints = {}
    for subject, takes in positions.items():
        keypoints[subject] = {}
        for take, world in takes.items():
            pose = world[:, H36M_32_KEPT].astype(np.float64)
            views = [camera.project(camera.to_camera(pose)) for camera in h36m_cameras()[subject]]
            rounded = [np.round(each / step) * step if step else each for each in views]
            keypoints[subject][take] = [each.astype(np.float32) for each in rounded]
    return keypoints


def save(path: Path, **dictionaries: Mapping[str, Any]) -> None:
    """Writes dictionaries of arrays as the field's files hold them: as pickled objects in an npz file."""
    entries: dict[str, Any] = {name: np.array(value, dtype=object) for name, value in dictionaries.items()}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **entries)


def _from_raw(source: Path) -> Positions:
    positions: Positions = {}
    ignored = []
    for found in progress(_files(source), unit="take", total=len(SUBJECTS) * len(ACTIONS) * TAKES - 1):
        subjects = re.findall(r"(?:^|_|/)(S\d+)(?=$|\.|/)", "/".join(found.names[:-1]))
        words = re.fullmatch(r"([A-Za-z]+)([ _]\d+)?\.\w+", found.names[-1])
        subject, action = (subjects or [""])[-1], RENAMED.get(words[1], words[1]) if words else ""
        take = action + (words[2] or "").replace("_", " ") if words else ""
        if subject not in SUBJECTS or action not in ACTIONS:
            ignored.append(found.label)
        elif (subject, take) != CORRUPT and take not in positions.get(subject, {}):
            positions.setdefault(subject, {})[take] = _take(found)
    if ignored:  # one line: a folder of archives holds thousands of other files
        log.info("left out %d files that are no takes of Human3.6M, such as %s", len(ignored), ignored[0])
    return positions


def _files(source: Path) -> Iterator[Source]:
    """The files of takes: those on the disk, then those in archives."""
    found = [*sources(source)] if source.is_dir() else []
    named = [Path(each.label) for each in found if re.match("h36m|.*d3_positions_s", each.names[-1].lower())]
    inside = (sources(path) for path in [source, *named] if path.name.lower().endswith(ARCHIVES))
    for each in (found, *inside):
        for candidate in each:
            folder, name = candidate.names[-2:]
            if name.lower().endswith((".cdf", ".h5")) and (folder.lower() in FOLDERS or folder in SUBJECTS):
                yield candidate


def _take(found: Source) -> np.ndarray:
    content = found.read()
    with damaged(found.label, f"a take of {JOINTS} joints in D3_Positions or 3D_positions"):
        if found.names[-1].lower().endswith(".cdf"):
            values = _read_cdf(content)
        else:
            import h5py

            with h5py.File(io.BytesIO(content), "r") as file:
                values = hdf5_array(file, "3D_positions").T  # (96, F) -> (F, 96)
        world = values.reshape(len(values), JOINTS, 3).astype(np.float64) / 1000  # (F, 96) -> (F, 32, 3)
    return _checked(world.astype(np.float32), found.label, "millimetres")


def _read_cdf(content: bytes) -> np.ndarray:
    """(F, 96) millimetres: the variable "Pose" of a CDF file."""
    import cdflib

    size = 8 if content[:4] == b"\xcd\xf3\x00\x01" else 4  # bytes of an offset, by version

    def offset(at: int) -> int:
        return int.from_bytes(content[at : at + size], "big")

    # cdflib fills with zeros what was cut off. The global descriptor, unless packed, states the file's end.
    plain = content[4:8] == b"\x00\x00\xff\xff"
    if plain and len(content) < offset(offset(8 + size + 4) + size + 4 + 3 * size):
        raise EOFError("the file is cut off")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "take.cdf")
        path.write_bytes(content)  # cdflib reads files alone
        cdf = cdflib.CDF(path)
        about = cdf.varinq("Pose")
        if (about.Last_Rec + 1) * np.prod(about.Dim_Sizes, dtype=float) * 8 > MAX_FILE:
            raise ValueError(f"{about.Last_Rec + 1} records of {about.Dim_Sizes} numbers")
        return np.array(cdf.varget("Pose"))[0]  # (1, F, 96) -> (F, 96)


def _checked(world: Any, where: str, unit: str) -> np.ndarray:
    """A take in world metres that was stored in ``unit``, if it is one of a person; else a UserError."""
    with damaged(where, f"floats of shape (frames, {JOINTS}, 3), {unit}, legs of {LEG[0]} to {LEG[1]} m"):
        if world.shape[1:] != (JOINTS, 3) or not len(world) or not np.isfinite(world).all():
            raise ValueError(f"NaN or infinity, or shape {world.shape}")
        bones = np.diff(world[:, [H36M_32_KEPT[joint] for joint in RIGHT_LEG]].astype(np.float64), axis=1)
        length = np.linalg.norm(bones, axis=-1).sum(axis=1)  # (F, 2, 3) -> (F,)
        if length.min() <= LEG[0] or length.max() >= LEG[1]:
            raise ValueError(f"legs of {length.min():.3g} to {length.max():.3g} m: another unit?")
    return world


def _from_npz(path: Path) -> Positions:
    if path.suffix != ".npz" or not path.is_file():
        raise UserError(
            f"{path}: there is no such file. Expected it, Poses_D3_Positions_S1.tgz and so on (not the "
            "cameras' D3_Positions_mono), the folders S1/MyPoseFeatures/D3_Positions in them, or h36m.zip. "
            f"{DATASET.origin}"
        )
    found: Any = read_npz(path).get("positions_3d")
    with damaged(path, "a dictionary positions_3d by subject and take, as VideoPose3D's scripts write it"):
        return {
            subject: {
                str(take): _checked(world, f"{path}: {subject}, {take}", "metres")
                for take, world in found[subject].items()
                if (subject, take) != CORRUPT
            }
            for subject in SUBJECTS
            if subject in found
        }

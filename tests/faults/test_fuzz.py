"""Every reader of files from outside, on valid small files that were damaged by chance.

A reader reads a file or refuses it with one of the project's errors, in one line and soon; nothing else.
``corpus/READER/`` keeps damaged files that were once of interest: they are read in every run.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import checkpoint, keypoint_noise, pose_files, safe_npz
from common.errors import UserError
from common.sequences import Sequence
from common.skeleton import JOINT_NAMES
from dataset import archives, asf_amc, bvh, mat_files, mocap_joints
from demo.lib import keypoint_files

CORPUS = Path(__file__).parent / "corpus"
LONGEST = timedelta(seconds=10)
"""A file of a few KB that keeps a reader busy for longer is an attack that works."""
SIZE = (640, 480)


def everything(rig: Any) -> list[int]:
    return list(range(len(rig.names)))


# Valid files


def npz() -> bytes:
    file = io.BytesIO()
    holder = np.array({"S1": {"Walk": [np.ones((3, 17, 2), np.float32)]}}, dtype=object)
    np.savez(file, positions_2d=holder, plain=np.arange(12.0).reshape(3, 4))
    return file.getvalue()


def keypoint_npz() -> bytes:
    points = np.random.default_rng(0).uniform(50, 300, (4, 17, 3))
    points[..., 2] = 0.9
    file = io.BytesIO()
    np.savez_compressed(file, keypoints=points, format="coco17", image_size=SIZE, fps=25.0)
    return file.getvalue()


def weights(zipped: bool = True) -> bytes:
    file = io.BytesIO()
    state = {"module.a": torch.ones(3, 2), "b": torch.zeros(4)}
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def coco() -> bytes:
    points = [float(number % 7 * 40 + number) if number % 3 < 2 else 0.9 for number in range(51)]
    entries = [{"image_id": n, "category_id": 1, "keypoints": points, "score": 0.9} for n in range(3)]
    return json.dumps(entries).encode()


def openpose() -> bytes:
    return json.dumps({"people": [{"pose_keypoints_2d": [100.0, 80.0, 0.9] * 25}]}).encode()


def noise() -> bytes:
    scales = dict.fromkeys(JOINT_NAMES, 0.01)
    figures = {"format": 1, "scales": scales, "degrees": 3.0, "shift": 0.0, "swapped": 0.0, "lost": 0.0}
    return json.dumps(figures).encode()


def index(tmp_path: Path) -> bytes:
    rows = (np.zeros((5, 17, 2), np.float32), np.zeros((5, 17, 3), np.float32))
    view = (Sequence("S1", "Walk", 0, 0, 5, (1.0, 1.0, 0.0, 0.0), (1000, 1000)), *rows)
    pose_files.write_poses(tmp_path / "valid", iter([view]))
    return (tmp_path / "valid" / pose_files.INDEX).read_bytes()


BVH = b"""HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Leg
  {
    OFFSET 0 -1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
0 1 0 0 0 0 10 20 30
0 1 0 0 5 0 10 20 30
"""
ASF = b""":version 1.10
:name walker
:units
  mass 1.0
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name leg
    direction 0 -1 0
    length 2.5
    axis 0 0 20 XYZ
    dof rx ry rz
    limits (-10 10)
  end
:hierarchy
  begin
    root leg
  end
"""
AMC = b"#!OML\n:FULLY-SPECIFIED\n:DEGREES\n1\nroot 0 1 0 0 0 0\nleg 1 2 3\n2\nroot 0 1 0 5 0 0\nleg 1 2 4\n"


def cells() -> bytes:
    from scipy.io import savemat

    array = np.empty((1, 2), object)
    array[0, :] = [np.ones((2, 6)), np.ones((3, 6))]
    file = io.BytesIO()
    savemat(file, {"annot2": array}, do_compression=True)
    return file.getvalue()


def hdf5(tmp_path: Path) -> bytes:
    import h5py

    with h5py.File(tmp_path / "valid.mat", "w") as file:
        file["valid_frame"] = np.ones((4, 1))
    return (tmp_path / "valid.mat").read_bytes()


def packed_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("S1/Walk.cdf", b"poses" * 50)
    return file.getvalue()


def packed_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("S1/Walk.cdf")
        info.size = 250
        archive.addfile(info, io.BytesIO(b"poses" * 50))
    return file.getvalue()


HISTORY = json.dumps([{"epoch": 1, "learning_rate": 5e-4, "loss": 0.1, "P1": 50.0, "P2": 40.0}]).encode()
OPTIONS = json.dumps({"options": {"dataset": "sample", "lr": 5e-4}, "data": "ab", "versions": {}}).encode()
MAP = b'{"left_hip": "LeftThigh", "head": "Head/end", "thorax": ["LeftArm", "RightArm"]}'


# Readers


def read_openpose(path: Path) -> None:
    keypoint_files.read_keypoints(path.parent, image_size=SIZE)


def read_index(path: Path) -> None:
    for name, channels in ((pose_files.KEYPOINTS, 2), (pose_files.POSITIONS, 3)):
        np.save(path.with_name(name), np.zeros((5, 17, channels), np.float32))
    try:
        pose_files.read_poses(path.parent)
    except ValueError as error:  # what it says that it raises; common/cache.py and prepared.py tell the user
        raise UserError(str(error)) from error


def read_archive(path: Path) -> None:
    for found in archives.files_in(path):
        found.read()


def read_history(path: Path) -> None:
    from argparse import Namespace

    from common import commands

    (path.parent / "model.pth").touch()
    commands._history(Namespace(previous_dir=str(path.parent / "model.pth"), checkpoint_dir=str(path.parent)))


@dataclass(frozen=True)
class Reader:
    """A reader: the name of its file, a valid one (or what makes it in a folder), and the call."""

    file: str
    valid: bytes | Callable[[], bytes] | Callable[[Path], bytes]
    read: Callable[[Path], Any]


READERS = {
    "safe_npz": Reader("a.npz", npz, safe_npz.read_npz),
    "fingerprint": Reader("a.npz", npz, safe_npz.npz_fingerprint),
    "weights": Reader("a.pth", weights, checkpoint.read_weights),
    "old_weights": Reader("a.pth", lambda: weights(False), checkpoint.read_weights),
    "keypoints_npz": Reader("a.npz", keypoint_npz, keypoint_files.read_keypoints),
    "coco": Reader("a.json", coco, lambda path: keypoint_files.read_keypoints(path, image_size=SIZE)),
    "openpose": Reader("a_keypoints.json", openpose, read_openpose),
    "keypoint_noise": Reader("a.json", noise, keypoint_noise.read),
    "index": Reader(pose_files.INDEX, index, read_index),
    "bvh": Reader("a.bvh", BVH, lambda path: bvh.read_bvh(path, everything)),
    "asf": Reader("a.asf", ASF, lambda path: asf_amc.read_amc(_beside(path, "a.amc", AMC), path, everything)),
    "amc": Reader("a.amc", AMC, lambda path: asf_amc.read_amc(path, _beside(path, "a.asf", ASF), everything)),
    "mat": Reader("a.mat", cells, lambda path: mat_files.read_cells(path, ("annot2",), 2)),
    "hdf5": Reader("a.mat", hdf5, lambda path: mat_files.read_hdf5(path, {"valid_frame": (None, None)}, 100)),
    "zip": Reader("a.zip", packed_zip, read_archive),
    "tar": Reader("a.tgz", packed_tar, read_archive),
    "joint_map": Reader("a.json", MAP, mocap_joints.read_joint_map),
    "options": Reader("options.json", OPTIONS, lambda path: checkpoint.read_options(path.parent)),
    "history": Reader("history.json", HISTORY, read_history),
}


def _beside(path: Path, name: str, content: bytes) -> Path:
    path.with_name(name).write_bytes(content)
    return path.with_name(name)


VALID: dict[str, bytes] = {}


def valid(name: str, folder: Path) -> bytes:
    if name not in VALID:
        content = READERS[name].valid
        if callable(content):
            content = content(folder) if name in ("index", "hdf5") else content()  # type: ignore[call-arg]
        VALID[name] = content
    return VALID[name]


def is_read(name: str, folder: Path, content: bytes) -> bool:
    """Whether a reader reads a file; False where it refuses it as it should."""
    path = folder / READERS[name].file
    path.write_bytes(content)
    try:
        READERS[name].read(path)
    except UserError as error:
        assert str(error) and len(str(error)) < 5000
        assert str(error).replace("\n", "").replace("\t", "").isprintable()
        return False
    return True


TOKENS = st.sampled_from(
    [
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"null",
        b"[" * 3000,
        b'{"a":' * 3000,
        b"\0" * 8,
        b"\xff" * 8,
        b"../" * 5,
        b"x" * 5000,
        b"\n",
        b"}",
        b'"',
        b"\x80\x02c",
        b"\xe2\x80\xae",
        b"9" * 5000,
    ]
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.integers(0, 7).map(lambda bit: ("flip", 1 << bit)),
            st.just(("cut", 0)),
            st.integers(1, 64).map(lambda length: ("drop", length)),
            st.integers(1, 64).map(lambda length: ("twice", length)),
            st.binary(min_size=1, max_size=8).map(lambda text: ("write", text)),
            TOKENS.map(lambda text: ("insert", text)),
        ),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, edits: list[tuple[float, tuple[str, Any]]]) -> bytes:
    data = bytearray(content)
    for place, (kind, what) in edits:
        at = int(place * len(data))
        if not data:
            break
        if kind == "flip":
            data[at] ^= what
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + what]
        elif kind == "twice":
            data[at:at] = data[at : at + what]
        elif kind == "write":
            data[at : at + len(what)] = what
        else:
            data[at:at] = what
    return bytes(data)


# Tests


@pytest.mark.parametrize("name", READERS)
def test_the_valid_file_is_read(name, tmp_path):
    assert is_read(name, tmp_path, valid(name, tmp_path))


def fuzz(name: str, folder: Path, examples: int) -> None:
    content = valid(name, folder)

    @settings(
        max_examples=examples,
        deadline=LONGEST,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=examples < 1000,
    )
    @given(EDITS)
    def read_or_refused(edits: Any) -> None:
        is_read(name, folder, edited(content, edits))

    read_or_refused()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    fuzz(name, tmp_path, 25)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(name, tmp_path):
    fuzz(name, tmp_path, 3000)


KEPT = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", KEPT, ids=str)
def test_what_was_once_of_interest_is_still_read_or_refused(path, tmp_path):
    is_read(path.parts[0], tmp_path, (CORPUS / path).read_bytes())

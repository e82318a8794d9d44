"""Human3.6M's files in each of the forms in which people have them, made small, to the field's two files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF as CdfWriter

from common.camera import h36m_cameras
from common.files import read_npz
from common.skeleton import H36M_32_KEPT
from dataset import h36m, prepare, sources

TAKES = ("Directions", "Directions 1", "TakingPhoto", "Walking 1", "Sitting 2")  # the archives' names
FILES = ("data_3d_h36m.npz", "data_2d_h36m_gt.npz")


def _person(seed: int, frames: int = 4) -> np.ndarray:
    """(F, 32, 3) world millimetres of somebody with legs."""
    pose = np.random.default_rng(seed).normal((0, 0, 1000), 300, (frames, 32, 3))
    pose[:, 2] = pose[:, 1] - (0, 0, 450)
    pose[:, 3] = pose[:, 2] - (0, 200, 400)
    return pose


WORLD = {
    who: {take: _person(10 * n + m) for m, take in enumerate(TAKES)} for n, who in enumerate(h36m.SUBJECTS)
}


def cdf(path: Path, pose: np.ndarray, **options: Any) -> bytes:
    """Writes (F, 32, 3), or an array (1, F, any) as it is, as the archives hold it; the file's content."""
    data = pose.reshape(1, len(pose), -1) if pose.shape[1:] == (32, 3) else pose
    path.parent.mkdir(parents=True, exist_ok=True)
    file = CdfWriter(path, cdf_spec={"Majority": "row_major"}, delete=True)
    spec = {"Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable"}
    file.write_var(spec | {"Dim_Sizes": list(data.shape[1:])} | options, var_data=data)
    file.close()
    return path.read_bytes()


def hdf5(**content: Any) -> bytes:
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, value in content.items():
            if name == "huge":  # claims terabytes, holds nothing
                file.create_dataset("3D_positions", value, "f8", chunks=(96, 64))
            else:
                file[name] = value
    return data.getvalue()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders unpacked, tars, zip and backslash (as Windows PowerShell 5 writes zips)."""
    root = tmp_path_factory.mktemp("raw")
    zips = {}
    for name in ("zip", "backslash"):
        (root / name).mkdir()
        zips[name] = zipfile.ZipFile(root / name / "h36m.zip", "w")
    (root / "tars").mkdir()
    for subject, takes in WORLD.items():
        folder = root / "unpacked" / subject / "MyPoseFeatures" / "D3_Positions"
        for take, pose in takes.items():
            cdf(folder / f"{take}.cdf", pose, Compress=6 if subject == "S5" else 0)
            content = hdf5(**{"3D_positions": pose.reshape(len(pose), 96).T})
            zips["zip"].writestr(f"h36m/{subject}/MyPoses/3D_positions/{take}.h5", content)
            info = zipfile.ZipInfo()
            info.filename = f"h36m\\{subject}\\MyPoses\\3D_positions\\{take}.h5"
            zips["backslash"].writestr(info, content)
        with tarfile.open(root / "tars" / f"Poses_D3_Positions_{subject}.tgz", "w:gz") as archive:
            archive.add(root / "unpacked" / subject, subject)
    for file in zips.values():
        file.close()
    return root


def convert(source: Path, output: Path) -> int:
    return prepare.main(["h36m", "--source", str(source), "--output", str(output)])


@pytest.fixture(scope="module")
def ready(raw: Path) -> Path:
    assert convert(raw / "tars", raw / "ready") == 0
    return raw / "ready"


def test_archives_become_the_fields_files(ready: Path) -> None:
    positions = read_npz(ready / FILES[0])["positions_3d"]
    found = read_npz(ready / FILES[1])
    assert list(positions) == list(h36m.SUBJECTS)
    assert list(positions["S1"]) == ["Directions", "Directions 1", "Photo", "Sitting 2", "Walking 1"]
    assert list(positions["S11"]) == ["Directions 1", "Photo", "Sitting 2", "Walking 1"]
    for subject, takes in positions.items():
        for take, world in takes.items():
            wanted = WORLD[subject][take.replace("Photo", "TakingPhoto")] / 1000
            assert world.dtype == np.float32
            np.testing.assert_array_equal(world, wanted.astype(np.float32))
            views = found["positions_2d"][subject][take]
            for camera, pixels in zip(h36m_cameras()[subject], views, strict=True):
                pose = camera.to_camera(world[:, H36M_32_KEPT].astype(float))
                np.testing.assert_array_equal(pixels, camera.project(pose).astype(np.float32))
    assert found["metadata"]["keypoints_symmetry"] == [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]


@pytest.mark.parametrize("form", ["unpacked", "zip", "backslash", "zip/h36m.zip", "ready"])
def test_every_form_gives_the_same_bytes(raw: Path, ready: Path, form: str, tmp_path: Path) -> None:
    assert convert(raw / form, tmp_path) == 0
    assert all((tmp_path / name).read_bytes() == (ready / name).read_bytes() for name in FILES)


def test_missing_takes_are_listed_and_subjects_refused(raw: Path, tmp_path: Path, capsys: Any) -> None:
    assert convert(raw / "tars", tmp_path) == 0
    assert "S1, Discussion: 0 of 2" in capsys.readouterr().out
    for path in (raw / "tars").glob("*[!1].tgz"):
        (tmp_path / "some").mkdir(exist_ok=True)
        (tmp_path / "some" / path.name).symlink_to(path)
    assert convert(tmp_path / "some", tmp_path / "out") == 2
    assert "Poses_D3_Positions_S1.tgz, Poses_D3_Positions_S11.tgz" in capsys.readouterr().err


PERSON = WORLD["S1"]["Walking 1"]
INVALID = {
    "joints.cdf": lambda path: cdf(path, np.ones((1, 5, 51))),
    "name.cdf": lambda path: cdf(path, PERSON, Variable="Angles"),
    "metres.cdf": lambda path: cdf(path, PERSON / 1000),
    "nan.cdf": lambda path: cdf(path, np.where(PERSON == PERSON.max(), np.nan, PERSON)),
    "zeros.cdf": lambda path: cdf(path, PERSON * [[[1]], [[1]], [[0]], [[1]]]),
    "cut.cdf": lambda path: cdf(path, PERSON)[:-30],
    "empty.cdf": lambda path: b"",
    "pointer.cdf": lambda path: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "turned.h5": lambda path: hdf5(**{"3D_positions": np.ones((4, 96))}),
    "name.h5": lambda path: hdf5(poses=np.ones((96, 4))),
    "group.h5": lambda path: hdf5(**{"3D_positions/a": np.ones((96, 4))}),
    "link.h5": lambda path: hdf5(**{"3D_positions": h5py.ExternalLink("/etc/passwd", "x")}),
    "cut.h5": lambda path: hdf5(**{"3D_positions": PERSON.reshape(4, 96).T})[:-9],
    "huge.h5": lambda path: hdf5(huge=(96, 2**40)),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_takes_are_named(tmp_path: Path, capsys: Any, name: str) -> None:
    path = tmp_path / "S1" / "D3_Positions" / f"Walking{Path(name).suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(INVALID[name](path))
    assert convert(tmp_path, tmp_path / "out") == 2
    assert str(path) in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["outside", "cut", "large"])
def test_hostile_archives_write_nothing(raw: Path, tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    path = tmp_path / "in" / "Poses_D3_Positions_S1.tgz"
    path.parent.mkdir()
    content = (raw / "tars" / path.name).read_bytes()
    path.write_bytes(content[: len(content) // 2] if kind == "cut" else content)
    if kind == "outside":
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("../../S1/D3_Positions/Walking.cdf")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    elif kind == "large":
        monkeypatch.setattr(sources, "MAX_FILE", 1000)
    assert convert(path.parent, tmp_path / "out") == 2
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("change", ["millimetres", "shape", "list", "other file", "cut", "nothing"])
def test_invalid_npz_is_refused(ready: Path, tmp_path: Path, change: str) -> None:
    positions = read_npz(ready / FILES[0])["positions_3d"]
    photo = positions["S6"]["Photo"]
    changes = {"millimetres": photo * 1000, "shape": photo[:, :17], "list": [[1.0]]}
    positions["S6"]["Photo"] = changes.get(change, photo)
    h36m.save(tmp_path / FILES[0], positions_3d=positions)
    if change in ("other file", "cut"):
        content = (ready / FILES[change == "other file"]).read_bytes()
        (tmp_path / FILES[0]).write_bytes(content[: -100 if change == "cut" else None])
    elif change == "nothing":
        (tmp_path / FILES[0]).unlink()
    assert convert(tmp_path, tmp_path / "out") == 2

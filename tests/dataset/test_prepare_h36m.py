"""Human3.6M's files in each of the forms in which people have them, made small, to the field's two files."""

import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF as CdfWriter

from common.camera import h36m_cameras, project, world_to_camera
from common.h36m import DATASETS, read_takes
from common.safe_npz import read_npz
from common.skeleton import H36M_32_KEPT
from dataset import archives, h36m, layout, prepare, takes

H36M = DATASETS["h36m"]
SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
FILES = "data_3d_h36m.npz", "data_2d_h36m_gt.npz"
THEIRS = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
NUMBERS = {"Directions": ("", " 1"), "Sitting": (" 1", " 2"), "Eating": ("", " 2")}
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE = 1, 2, 3
"""Of the 32 joints."""


def _made_up():
    """By subject and the archives' name of the take: (F, 32, 3) world millimetres, of somebody with legs."""
    rng = np.random.default_rng(0)
    world = {subject: {} for subject in SUBJECTS}
    for subject in SUBJECTS:
        for action in h36m.ACTIONS:
            for number in NUMBERS.get(action, ("", " 1")):
                pose = rng.normal((0, 0, 1000), 300, (int(rng.integers(2, 5)), 32, 3))
                pose[:, RIGHT_KNEE] = pose[:, RIGHT_HIP] - (0, 0, 450)
                pose[:, RIGHT_ANKLE] = pose[:, RIGHT_KNEE] - (0, 200, 400)
                world[subject][THEIRS.get(action, action) + number] = pose
    return world


WORLD = _made_up()


def field_name(take):
    for ours, theirs in THEIRS.items():
        take = take.replace(theirs, ours)
    return take


EXPECTED = {
    subject: {
        field_name(take): (pose / 1000).astype(np.float32)
        for take, pose in world.items()
        if (subject, take) != ("S11", "Directions")
    }
    for subject, world in WORLD.items()
}


def write_cdf(path, pose, *, variable="Pose", kind=45, packed=0, packed_whole=0):
    """Writes (F, 32, 3), or an array (1, F, any) as it is, as the archives' files hold it."""
    data = pose.reshape(1, len(pose), -1) if pose.shape[1:] == (32, 3) else pose
    file = CdfWriter(path, cdf_spec={"Majority": "row_major", "Compressed": packed_whole}, delete=True)
    spec = {"Variable": variable, "Data_Type": kind, "Num_Elements": 1, "Rec_Vary": True}
    spec |= {"Var_Type": "zVariable", "Dim_Sizes": list(data.shape[1:]), "Compress": packed}
    file.write_var(spec, var_data=data)
    file.close()
    return path


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The .cdf files as the archives unpack."""
    root = tmp_path_factory.mktemp("unpacked")
    for subject, world in WORLD.items():
        folder = root / subject / "MyPoseFeatures" / "D3_Positions"
        folder.mkdir(parents=True)
        for take, pose in world.items():
            write_cdf(folder / f"{take}.cdf", pose)
    return root


@pytest.fixture(scope="module")
def tars(unpacked, tmp_path_factory):
    """Poses_D3_Positions_S1.tgz and so on."""
    root = tmp_path_factory.mktemp("tars")
    for subject in SUBJECTS:
        with tarfile.open(root / f"Poses_D3_Positions_{subject}.tgz", "w:gz", compresslevel=1) as archive:
            archive.add(unpacked / subject, subject)
    return root


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """h36m.zip."""
    path = tmp_path_factory.mktemp("zipped") / "h36m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for subject, world in WORLD.items():
            for take, pose in world.items():
                content = io.BytesIO()
                with h5py.File(content, "w") as file:
                    file["3D_positions"] = pose.reshape(len(pose), 96).T  # (F, 32, 3) -> (96, F)
                name = f"h36m/{subject}/MyPoses/3D_positions/{field_name(take)}.h5"
                archive.writestr(name, content.getvalue())
    return path


@pytest.fixture(scope="module")
def ready(tars, tmp_path_factory):
    """The two files, made from the archives."""
    output = tmp_path_factory.mktemp("ready")
    assert prepare.main(["h36m", "--source", str(tars), "--output", str(output)]) == 0
    return output


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command; exit code, folder, what was said and what was said of errors."""

    def run(source, output=None):
        output = output or tmp_path / "out"
        code = prepare.main(["h36m", "--source", str(source), "--output", str(output)])
        said = capsys.readouterr()
        return code, output, said.out, said.err

    return run


def contents(folder):
    return [(folder / name).read_bytes() for name in FILES]


@pytest.fixture
def one(tmp_path, run):
    """Runs the command on a folder with one take of S1, of the given bytes: the error after the name."""

    def one(content, name="Walking.cdf", folder="D3_Positions"):
        path = tmp_path / "one" / "S1" / "MyPoseFeatures" / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        code, output, _, errors = run(tmp_path / "one")
        assert code == 2 and not any((output / name).exists() for name in FILES)
        assert errors.startswith("error: ")
        start = f"error: {path}: "
        return errors.removeprefix(start) if errors.startswith(start) else errors

    return one


@pytest.fixture
def cdf(tmp_path):
    """The bytes of a CDF file of a pose, written with the options of ``write_cdf``."""
    return lambda pose, **options: write_cdf(tmp_path / "made.cdf", pose, **options).read_bytes()


# Every form


def test_archives_become_what_went_in(ready):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    assert {subject: set(takes) for subject, takes in positions.items()} == {
        subject: set(takes) for subject, takes in EXPECTED.items()
    }
    for subject, world in positions.items():
        for take, pose in world.items():
            assert pose.dtype == np.float32
            np.testing.assert_array_equal(pose, EXPECTED[subject][take])


def test_names_are_the_fields_in_an_order_that_does_not_change(ready):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    assert tuple(positions) == SUBJECTS
    assert list(positions["S9"])[:2] == ["Directions", "Directions 1"]
    assert list(positions["S11"])[:2] == ["Directions 1", "Discussion"], "the corrupt take is left out"
    assert {"Photo", "Photo 1", "WalkDog", "WalkDog 1", "Sitting 1", "Sitting 2", "Eating 2"} <= set(
        positions["S5"]
    )
    assert not any("TakingPhoto" in take or "WalkingDog" in take for take in positions["S5"])


def test_key_points_are_the_projections_through_the_subjects_cameras(ready):
    keypoints = read_npz(ready / FILES[1])
    assert keypoints["metadata"] == layout.metadata()
    for subject, world in EXPECTED.items():
        assert list(keypoints["positions_2d"][subject]) == list(
            read_npz(ready / FILES[0])["positions_3d"][subject]
        )
        for take, pose in world.items():
            views = keypoints["positions_2d"][subject][take]
            for camera, pixels in zip(h36m_cameras()[subject], views, strict=True):
                kept = pose[:, H36M_32_KEPT].astype(np.float64)
                exact = project(world_to_camera(kept, camera), camera)
                assert pixels.dtype == np.float32
                np.testing.assert_array_equal(pixels, exact.astype(np.float32))


def test_main_reads_the_files(ready):
    read = read_takes(H36M, ready, "gt")
    assert len(read) == 7 * 30 - 1
    for take in read:
        np.testing.assert_array_equal(take.world, EXPECTED[take.subject][take.action])


def test_no_parts_are_left(ready):
    assert sorted(path.name for path in ready.iterdir()) == sorted(FILES)


def test_unpacked_files_give_the_same_bytes(unpacked, ready, run):
    code, output, said, errors = run(unpacked)
    assert (code, errors) == (0, "")
    assert contents(output) == contents(ready)
    assert f"train by: python main.py --train -n NAME -k gt --root_path {output}" in said
    assert "warning" not in said


def test_the_zip_gives_the_same_bytes(zipped, ready, run):
    assert contents(run(zipped)[1]) == contents(ready)


def test_the_zip_is_found_in_its_folder_and_its_files_when_unpacked(zipped, tmp_path):
    zipfile.ZipFile(zipped).extractall(tmp_path / "unpacked")
    expected = {(subject, take) for subject, world in WORLD.items() for take in map(field_name, world)}
    for source in (zipped, zipped.parent, tmp_path / "unpacked", tmp_path / "unpacked" / "h36m"):
        assert {h36m._name(found) for found in h36m._files(source)} == expected


def test_the_fields_own_file_gives_the_same_bytes(ready, run, tmp_path):
    assert contents(run(ready)[1]) == contents(ready)
    assert contents(run(ready / FILES[0], tmp_path / "by name")[1]) == contents(ready)


def test_key_points_are_made_beside_the_fields_own_file_which_is_left_as_it_is(ready, run, tmp_path):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    reordered = {name: positions[name] for name in reversed(SUBJECTS)}
    layout.save(tmp_path / FILES[0], positions_3d=reordered | {"S2": {}})
    before = (tmp_path / FILES[0]).read_bytes()
    code, output, _, _ = run(tmp_path, tmp_path)
    assert code == 0 and (output / FILES[0]).read_bytes() == before
    assert (output / FILES[1]).read_bytes() == (ready / FILES[1]).read_bytes()


def test_the_corrupt_take_in_the_fields_own_file_is_left_out_too(ready, run, tmp_path):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    positions["S11"]["Directions"] = positions["S11"]["Walking"]
    layout.save(tmp_path / FILES[0], positions_3d=positions)
    assert contents(run(tmp_path)[1]) == contents(ready)


def test_some_subjects_unpacked_or_linked_and_others_in_archives(tars, unpacked, ready, run, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(unpacked / "S1", source / "in a folder" / "S1")
    (source / "S5").symlink_to(unpacked / "S5")
    (source / "S1").symlink_to(source)  # leads round and round
    for name in ("S1", *SUBJECTS[2:]):  # S1 twice
        shutil.copy(tars / f"Poses_D3_Positions_{name}.tgz", source)
    assert len(list(h36m._files(source))) == 8 * 30
    assert contents(run(source)[1]) == contents(ready)


def test_the_innermost_subject_in_a_path_counts(unpacked, tmp_path):
    (tmp_path / "S1").mkdir()
    shutil.copytree(unpacked / "S9", tmp_path / "S1" / "S9")
    assert {h36m._name(found)[0] for found in h36m._files(tmp_path / "S1")} == {"S9"}


@pytest.mark.parametrize("options", [{"kind": 44}, {"packed": 6}, {"packed_whole": 6}])
def test_cdf_files_of_other_making(cdf, options):
    pose = WORLD["S1"]["Walking"]
    np.testing.assert_allclose(takes.read_cdf(cdf(pose, **options), "x"), pose, rtol=1e-6)


def test_an_archive_without_the_subjects_folder_is_known_by_its_name(unpacked, tmp_path):
    path = tmp_path / "Poses_D3_Positions_S9.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(unpacked / "S9" / "MyPoseFeatures", "MyPoseFeatures")
    assert {h36m._name(found)[0] for found in h36m._files(path)} == {"S9"}


# What is missing


def test_single_takes_that_are_missing_are_listed(unpacked, run, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(unpacked, source)
    (source / "S1/MyPoseFeatures/D3_Positions/WalkingDog 1.cdf").unlink()
    (source / "S11/MyPoseFeatures/D3_Positions/Directions 1.cdf").unlink()
    (source / "S9/MyPoseFeatures/D3_Positions/_ALL 1.cdf").write_text("")
    code, output, said, _ = run(source)
    assert code == 0
    listed = [line.strip() for line in said.split("takes are missing")[1].splitlines()[1:3]]
    assert listed == ["S1, WalkDog: 1 of 2", "S11, Directions: 0 of 1"]
    assert "S1: 29 takes" in said and "left out 1 files that are no takes" in said and "_ALL 1.cdf" in said
    assert len(read_takes(H36M, output, "gt")) == 7 * 30 - 3


def test_a_missing_subject_is_an_error_that_names_its_archive_and_the_next_run_goes_on(
    tars, ready, run, tmp_path, monkeypatch
):
    source = tmp_path / "source"
    shutil.copytree(tars, source)
    (source / "Poses_D3_Positions_S11.tgz").rename(tmp_path / "later")
    code, output, _, errors = run(source)
    assert code == 2 and "found none of S11. Put Poses_D3_Positions_S11.tgz" in errors
    assert not any((output / name).exists() for name in FILES)
    (tmp_path / "later").rename(source / "Poses_D3_Positions_S11.tgz")
    converted = []
    monkeypatch.setitem(
        h36m.READERS, ".cdf", lambda content, where: converted.append(where) or takes.read_cdf(content, where)
    )
    assert contents(run(source)[1]) == contents(ready)
    assert len(converted) == 29 and all("Positions_S11" in where for where in converted)


def test_a_source_that_is_not_there_or_holds_nothing_of_use(run, tmp_path):
    code, _, _, errors = run(tmp_path / "none")
    assert code == 2 and "no such file or folder" in errors and "licence" in errors
    (tmp_path / "empty").mkdir()
    assert "found nothing\n" in run(tmp_path / "empty")[3]
    (tmp_path / "empty" / "notes.txt").write_text("")
    (tmp_path / "empty" / "S1" / "MyPoseFeatures" / "D3_Positions_mono").mkdir(parents=True)
    (tmp_path / "empty/S1/MyPoseFeatures/D3_Positions_mono/Walking.54138969.cdf").write_text("")
    code, output, _, errors = run(tmp_path / "empty")
    assert (
        code == 2 and "not the D3_Positions_mono of the cameras" in errors and "found S1, notes.txt" in errors
    )
    assert not output.exists()


# Files that are wrong


def test_a_wrong_number_of_joints(one, cdf):
    words = one(cdf(np.ones((1, 5, 51))))
    assert words == "expected a take with 32 joints, shape (1, frames, 96), found (1, 5, 51)\n"


def test_another_variable_and_no_floats(one, cdf, tmp_path):
    assert one(cdf(WORLD["S1"]["Walking"], variable="Angles")).endswith('"Pose", found Angles\n')
    shutil.rmtree(tmp_path / "one")
    pose = WORLD["S1"]["Walking"].astype(np.int32)
    assert one(cdf(pose, kind=4)) == "expected floats, found CDF_INT4\n"


@pytest.mark.parametrize(("factor", "unit"), [(0.001, "metres"), (0.1, "centimetres")])
def test_other_units(one, cdf, factor, unit):
    assert one(cdf(WORLD["S1"]["Walking"] * factor)) == f"expected millimetres, found {unit}\n"


def test_the_fields_own_file_in_millimetres(ready, run, tmp_path):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    positions["S6"]["Photo"] = positions["S6"]["Photo"] * 1000
    layout.save(tmp_path / FILES[0], positions_3d=positions)
    code, _, _, errors = run(tmp_path)
    assert (
        code == 2
        and errors == f"error: {tmp_path / FILES[0]}: S6, Photo: expected metres, found millimetres\n"
    )


@pytest.mark.parametrize("wrong", [np.zeros((0, 32, 3)), np.zeros((4, 17, 3)), [[1.0]], None])
def test_the_fields_own_file_with_other_arrays(ready, run, tmp_path, wrong):
    positions = read_npz(ready / FILES[0])["positions_3d"]
    positions["S6"]["Photo"] = wrong
    layout.save(tmp_path / FILES[0], positions_3d=positions)
    code, _, _, errors = run(tmp_path)
    assert code == 2 and ": S6, Photo: expected " in errors and ", found " in errors


def test_the_key_point_file_in_place_of_the_positions(ready, run):
    code, _, _, errors = run(ready / FILES[1])
    assert code == 2 and "expected a dictionary positions_3d" in errors


def test_numbers_that_are_none(one, cdf):
    pose = WORLD["S1"]["Walking"].copy()
    pose[1, 30, 2] = np.nan
    assert one(cdf(pose)) == "NaN or infinity in 1 frames, the first is frame 1\n"


def test_frames_of_zeros_are_no_poses(one, cdf):
    pose = np.repeat(WORLD["S1"]["Walking"][:1], 5, axis=0)
    pose[3] = 0
    assert one(cdf(pose)) == "expected legs of 0.5 to 1.5 m, found 0 m in frame 3\n"


@pytest.mark.parametrize("options", [{}, {"packed": 6}, {"packed_whole": 6}])
@pytest.mark.parametrize("missing", [1, 8, 30, 1000, None])
def test_a_cut_off_cdf_file(cdf, options, missing):
    pose = WORLD["S1"]["Walking"]
    content = cdf(pose, **options)
    try:
        read = takes.read_cdf(content[:-missing] if missing else b"", "x")
    except h36m.DataError as error:
        assert re.match("x: damaged, cut off, or not a CDF file", str(error))
    else:  # A file that is packed as a whole ends with bytes that say nothing of the poses.
        assert options == {"packed_whole": 6} and missing < 30
        np.testing.assert_array_equal(read, pose)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_cdf_file_ends_in_an_error_or_in_a_take(cdf, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(cdf(WORLD["S1"]["Walking"]))
    for place in rng.integers(0, len(content), 30):
        content[place] = rng.integers(0, 256)
    try:
        assert takes.read_cdf(bytes(content), "x").shape[1:] == (32, 3)
    except h36m.DataError as error:
        assert str(error).startswith("x: ")


@pytest.mark.parametrize("options", [{"packed": 9}, {"packed_whole": 9}])
def test_a_cdf_file_that_unpacks_to_far_more_than_it_states_is_refused(cdf, monkeypatch, options):
    content = cdf(np.zeros((2000, 32, 3)), **options)
    assert len(content) < 20_000 and takes.read_cdf(content, "x").shape == (2000, 32, 3)
    if "packed" in options:
        shape = [size.to_bytes(4, "big") for size in (2000, 4, 96)]
        assert content.count(shape[0] + shape[2]) == 1
        content = content.replace(shape[0] + shape[2], shape[1] + shape[2])
    monkeypatch.setattr(takes, "MAX_FILE", 1_000_000)
    with pytest.raises(h36m.DataError, match="unpack to far more than a take"):
        takes.read_cdf(content, "x")


def _h5(**content):
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, value in content.items():
            file[name] = value
    return data.getvalue()


WRONG_H5 = {
    "joints": (lambda: _h5(**{"3D_positions": np.ones((51, 4))}), r"shape \(96, frames\), found \(51, 4\)"),
    "turned": (lambda: _h5(**{"3D_positions": np.ones((4, 96))}), r"shape \(96, frames\), found \(4, 96\)"),
    "name": (lambda: _h5(poses=np.ones((96, 4))), '"3D_positions", found poses'),
    "group": (lambda: _h5(**{"3D_positions/a": np.ones((96, 4))}), '"3D_positions", found 3D_positions'),
    "link": (lambda: _h5(**{"3D_positions": h5py.ExternalLink("/etc/passwd", "x")}), '"3D_positions", found'),
    "soft": (
        lambda: _h5(**{"3D_positions": h5py.SoftLink("/x"), "x": np.ones((96, 4))}),
        '"3D_positions", found',
    ),
    "whole": (lambda: _h5(**{"3D_positions": np.ones((96, 4), int)}), "expected floats, found int64"),
    "cut": (
        lambda: _h5(**{"3D_positions": np.ones((96, 400))})[:-9],
        "damaged, cut off, or not an HDF5 file",
    ),
    "none": (lambda: b"", "damaged, cut off, or not an HDF5 file"),
}


@pytest.mark.parametrize("kind", WRONG_H5)
def test_wrong_hdf5_files(kind):
    make, words = WRONG_H5[kind]
    with pytest.raises(h36m.DataError, match=f"^x: .*{words}"):
        takes.read_h5(make(), "x")


def test_an_hdf5_file_whose_numbers_lie_in_another_file_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(96 * 4 * 8))
    external, virtual = io.BytesIO(), io.BytesIO()
    with h5py.File(external, "w") as file:
        file.create_dataset(
            "3D_positions", (96, 4), "f8", external=[(str(tmp_path / "secret"), 0, 96 * 4 * 8)]
        )
    with h5py.File(virtual, "w") as file:
        source = h5py.VirtualLayout((96, 4), "f8")
        source[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (96, 4))
        file.create_virtual_dataset("3D_positions", source)
    for data in (external, virtual):
        with pytest.raises(h36m.DataError, match='expected a data set "3D_positions"'):
            takes.read_h5(data.getvalue(), "x")


def test_an_hdf5_file_that_states_far_too_many_frames():
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file.create_dataset("3D_positions", (96, 10**9), "f8", chunks=(96, 1000))
    with pytest.raises(h36m.DataError, match=r"found \(96, 1000000000\)"):
        takes.read_h5(data.getvalue(), "x")


# Archives that are wrong


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_off_archive_is_named(tars, run, tmp_path, share):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(tars / "Poses_D3_Positions_S1.tgz", source)
    path = source / "Poses_D3_Positions_S1.tgz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    code, output, _, errors = run(source)
    assert code == 2 and errors.startswith(f"error: {path}: damaged, cut off") and "get it again" in errors
    assert not any((output / name).exists() for name in FILES)


@pytest.mark.parametrize("damage", [lambda content: content[:-4], lambda content: content[:-8] + bytes(8)])
def test_an_archive_whose_last_bytes_are_wrong_is_named(tars, run, tmp_path, damage):
    path = tmp_path / "Poses_D3_Positions_S1.tgz"
    path.write_bytes(damage((tars / path.name).read_bytes()))
    code, _, _, errors = run(path)
    assert code == 2 and errors.startswith(f"error: {path}: damaged, cut off")


def test_a_cut_off_zip_is_named(zipped, run, tmp_path):
    path = tmp_path / "h36m.zip"
    path.write_bytes(zipped.read_bytes()[:-100])
    code, _, _, errors = run(path)
    assert code == 2 and errors.startswith(f"error: {path}: damaged, cut off")


def test_a_flipped_bit_in_a_zip_is_found(zipped, run, tmp_path):
    path = tmp_path / "h36m.zip"
    content = bytearray(zipped.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, _, _, errors = run(path)
    assert code == 2 and "h36m.zip" in errors


def test_a_login_page_saved_as_an_archive(run, tmp_path):
    path = tmp_path / "Poses_D3_Positions_S1.tgz"
    path.write_text("<!DOCTYPE html>")
    code, _, _, errors = run(path)
    assert code == 2 and errors.startswith(f"error: {path}: damaged") and "15 bytes" in errors


def _tar(path, *members):
    """Writes a tar of (name, type, content or link)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                archive.addfile(info)
    return path


def test_links_and_paths_out_of_an_archive_lead_nowhere(run, cdf, tmp_path):
    secret = write_cdf(tmp_path / "secret.cdf", WORLD["S1"]["Walking"])
    place = "S1/MyPoseFeatures/D3_Positions"
    path = _tar(
        tmp_path / "a.tgz",
        (f"{place}/Walking.cdf", tarfile.SYMTYPE, str(secret)),
        (f"{place}/Walking 1.cdf", tarfile.LNKTYPE, str(secret)),
        (f"../../{place}/Eating.cdf", tarfile.REGTYPE, secret.read_bytes()),
        (f"/{place}/Eating 1.cdf", tarfile.REGTYPE, secret.read_bytes()),
        (f"{place}/Phoning.cdf", tarfile.FIFOTYPE, ""),
    )
    before = sorted(tmp_path.rglob("*"))
    assert [found.member for found in h36m._files(path)] == [
        f"../../{place}/Eating.cdf",
        f"/{place}/Eating 1.cdf",
    ]
    code, output, _, _ = run(path)
    after = [item for item in sorted(tmp_path.rglob("*")) if output not in (item, *item.parents)]
    assert code == 2 and after == before, "nothing is unpacked"


def test_a_member_that_is_far_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(archives, "MAX_FILE", 1000)
    path = _tar(tmp_path / "a.tgz", ("S1/Walking.cdf", tarfile.REGTYPE, bytes(1001)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("S1/Walking.cdf", bytes(1001))
    refused = 0
    for archive in (path, tmp_path / "a.zip"):
        for found in archives.files_in(archive):
            with pytest.raises(h36m.DataError, match="expected at most 1,000 bytes in one file, found more"):
                found.read()
            refused += 1
    assert refused == 2


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_headers_that_ask_for_all_memory_are_refused(tmp_path, kind):
    """A header that claims 8 GB, and 200 MB of it, that gzip packs to nothing."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 8 * 2**30
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = kind == tarfile.GNUTYPE_SPARSE  # more blocks of the list of parts follow
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    part = b"%011o " % 1 * 42 + b"\1" + bytes(7)  # 21 parts of a sparse file, and more to come
    with gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
        file.write(block)
        for _ in range(200):
            file.write(part * 2048)
    tracemalloc.start()
    with pytest.raises(h36m.DataError, match=r"headers of more than 1,048,576 bytes"):
        list(archives.files_in(tmp_path / "a.tgz"))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_an_encrypted_zip(zipped, run, tmp_path):
    content = bytearray(zipped.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(mark, start + 4)
    path = tmp_path / "h36m.zip"
    path.write_bytes(content)
    code, _, _, errors = run(path)
    assert code == 2 and "encrypted" in errors


# Runs that end early


def test_a_killed_run_is_continued_to_the_same_bytes(tars, ready, run, tmp_path, monkeypatch):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "dataset.prepare", "h36m", "--source", tars, "--output", output]
    process = subprocess.Popen(command, cwd=Path(prepare.__file__).parents[1], stderr=subprocess.DEVNULL)
    parts = output / ".h36m-parts"
    while process.poll() is None and len(list(parts.glob("*.npz"))) < 20:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed: the test proves nothing"
    kept = len(list(parts.glob("*.npz")))
    assert 20 <= kept < 209 and not any((output / name).exists() for name in FILES)
    (output / f".{FILES[1]}.123.tmp").write_text("")  # as of a kill while it wrote the file
    converted = []
    monkeypatch.setitem(
        h36m.READERS, ".cdf", lambda content, where: converted.append(where) or takes.read_cdf(content, where)
    )
    assert run(tars, output)[0] == 0
    assert len(converted) == 209 - kept
    assert contents(output) == contents(ready)
    assert sorted(path.name for path in output.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("size", ["100k", "700k"])
def test_a_full_disk_leaves_the_parts_and_no_file(unpacked, run, tmp_path, size):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a full disk: no right to mount a small one")
    try:
        code, _, _, errors = run(unpacked, place)
        assert code == 1 and "No space left on device" in errors and "give the same command again" in errors
        assert [path.name for path in place.iterdir()] in ([".h36m-parts"], [".h36m-parts", FILES[0]])
        subprocess.run(["mount", "-o", "remount,size=20m", place], check=True)
        assert run(unpacked, place)[0] == 0
        assert len(read_takes(H36M, place, "gt")) == 209
    finally:
        subprocess.run(["umount", place], check=True)

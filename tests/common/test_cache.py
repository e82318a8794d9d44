"""The memory-mapped cache: what is in it, when it is made again, and what cannot break it."""

import builtins
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common import cache, pose_files
from common.batches import Batches
from common.camera import h36m_cameras
from common.errors import DataError, RunError
from common.h36m import DATASETS, Take
from common.safe_npz import read_npz
from common.sequences import PoseSet, thinned
from dataset.sample import make

ROOT = Path(__file__).parents[2]
H36M, SAMPLE = DATASETS["h36m"], DATASETS["sample"]
FILE_3D, FILE_2D = "data_3d_h36m.npz", "data_2d_h36m_gt.npz"
MEMBERS = ["index.json", "keypoints.npy", "positions.npy"]
KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of one's own: no test writes to the user's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "home"


@pytest.fixture
def reads(monkeypatch):
    """A list that grows by one with every conversion."""
    count = []

    def counting(*args):
        count.append(args)
        return read_takes(*args)

    read_takes = cache.read_takes
    monkeypatch.setattr(cache, "read_takes", counting)
    return count


def load(folder, cache_dir=None, keypoints="gt") -> PoseSet:
    return cache.load(H36M, folder, keypoints, cache_dir)


def caches(folder: Path) -> list[Path]:
    """All caches in a folder, which must hold nothing but whole caches."""
    found = sorted(folder.iterdir())
    for path in found:
        assert sorted(os.listdir(path)) == MEMBERS and not path.name.startswith(pose_files.UNFINISHED)
    return found


def check_same(left: PoseSet, right: PoseSet) -> None:
    assert left.sequences == right.sequences
    np.testing.assert_array_equal(left.keypoints, right.keypoints)
    np.testing.assert_array_equal(left.positions, right.positions)


def child(code: str, *args, **keywords) -> subprocess.Popen:
    """Starts a Python process that has this module's imports and runs a piece of code."""
    head = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom common import cache\n"
        "from common.h36m import DATASETS, Take\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **keywords)


# What is in it


def slow_view(world, pixels, frame, camera):
    """One frame of a take as one camera sees it: (17, 2) network input, (17, 3) metres."""
    w, *vector = camera.orientation
    vector = -np.array(vector)
    keypoints, positions = np.zeros((17, 2)), np.zeros((17, 3))
    for joint, recorded in enumerate(KEPT):
        offset = np.array(
            [float(world[frame, recorded, axis]) - camera.translation[axis] for axis in range(3)]
        )
        positions[joint] = offset + 2 * np.cross(vector, np.cross(vector, offset) + w * offset)
        x, y = map(float, pixels[frame, joint])
        keypoints[joint] = 2 * x / camera.width - 1, (2 * y - camera.height) / camera.width
    return keypoints, positions


def check_values(poses: PoseSet, positions, pixels, *, every: int) -> None:
    """Compares each ``every``-th frame of each sequence with the files."""
    row = 0
    for sequence in poses.sequences:
        assert sequence.start == row
        row = sequence.stop
        world = positions[sequence.subject][sequence.action]
        camera = h36m_cameras()[sequence.subject][sequence.camera]
        view = pixels[sequence.subject][sequence.action][sequence.camera]
        for index in range(0, len(sequence), every):
            frame = sequence.first_frame + sequence.step * index
            expected = slow_view(world, view, frame, camera)
            here = sequence.start + index
            np.testing.assert_allclose(poses.keypoints[here], expected[0], rtol=0, atol=1e-6)
            np.testing.assert_allclose(poses.positions[here], expected[1], rtol=0, atol=1e-6)
    assert row == len(poses)


def test_values_are_what_a_loop_over_the_frames_gives(files, folder):
    positions, pixels = files
    poses = load(folder)
    assert len(poses) == 4 * sum(len(world) for takes in positions.values() for world in takes.values())
    assert poses.keypoints.dtype == poses.positions.dtype == np.float32
    expected = [
        (subject, action, camera)
        for subject in (*H36M.train, *H36M.test)
        for action in positions[subject]
        for camera in range(4)
    ]
    assert [(s.subject, s.action, s.camera) for s in poses.sequences] == expected
    check_values(poses, positions, pixels, every=1)


def test_values_of_the_sample_and_of_a_part_of_it(tmp_path):
    poses = cache.load(SAMPLE, Path(SAMPLE.root), "gt", tmp_path)
    folder = Path(make.__file__).parent
    positions = read_npz(folder / "data_3d_sample.npz")["positions_3d"]
    pixels = read_npz(folder / "data_2d_sample_gt.npz")["positions_2d"]
    assert len(poses) == 4 * sum(len(world) for takes in positions.values() for world in takes.values())
    check_values(poses, positions, pixels, every=60)
    part = thinned(poses, subset=0.3, downsample=4)
    assert 0.06 < len(part) / len(poses) < 0.1
    check_values(part, positions, pixels, every=10)


def test_training_subjects_and_test_subjects_are_views_of_the_map(folder):
    poses = load(folder)
    assert isinstance(poses.keypoints, np.memmap) and isinstance(poses.positions, np.memmap)
    for names in (H36M.train, H36M.test):
        assert np.shares_memory(poses.subjects(names).positions, poses.positions)


@pytest.mark.filterwarnings("error")
def test_nothing_written_to_the_poses_reaches_the_disk(folder):
    first, again = load(folder), load(folder)
    before = again.positions.copy()
    batches = Batches(first, batch_size=64, mirrored=True, seed=0, device=torch.device("cpu"))
    list(batches.epoch(0))
    torch.from_numpy(first.positions).fill_(7)
    np.testing.assert_array_equal(load(folder).positions, before)


# When it is made


def test_the_second_open_does_not_read_the_files_again(folder, reads, caplog):
    caplog.set_level(logging.INFO)
    first = load(folder)
    assert "converting h36m (gt) once" in caplog.text and str(folder / cache.FOLDER) in caplog.text
    caplog.clear()
    second = load(folder)
    assert len(reads) == 1 and caplog.text == ""
    check_same(first, second)
    assert len(caches(folder / cache.FOLDER)) == 1


def test_files_are_checked_before_a_cache_is_opened(folder):
    load(folder)
    (folder / FILE_2D).unlink()
    with pytest.raises(DataError, match="data files are missing"):
        load(folder)


def test_copied_and_touched_files_are_the_same_source(folder, tmp_path, reads):
    first = load(folder, tmp_path / "cache")
    for name in (FILE_3D, FILE_2D):
        os.utime(folder / name, (1, 1))
    check_same(load(folder, tmp_path / "cache"), first)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (FILE_3D, FILE_2D):
        shutil.copyfile(folder / name, copy / name)
    check_same(load(copy, tmp_path / "cache"), first)
    assert len(reads) == 1


def test_a_data_folder_can_be_moved_with_its_cache(folder, tmp_path, reads):
    first = load(folder)
    check_same(load(folder.rename(tmp_path / "moved")), first)
    assert len(reads) == 1


@pytest.mark.parametrize("which", ["3d", "2d"])
def test_another_content_is_another_cache(files, folder, write_files, reads, which):
    positions, pixels = files
    old, stamp = load(folder), (folder / FILE_3D).stat()
    if which == "3d":
        positions["S9"]["Walking"][2, 15, 1] += 0.25
    else:
        pixels["S9"]["Walking"][1][2, 10, 1] += 0.25
    write_files(positions, pixels)
    for name in (FILE_3D, FILE_2D):
        os.utime(folder / name, (stamp.st_atime, stamp.st_mtime))
    new = load(folder)
    assert len(reads) == 2
    check_values(new, positions, pixels, every=1)
    changed = new.positions != old.positions if which == "3d" else new.keypoints != old.keypoints
    assert changed.any(axis=(1, 2)).sum() == (4 if which == "3d" else 1)


def test_key_point_sources_and_subjects_have_caches_of_their_own(files, folder, write_files, reads):
    positions, pixels = files
    gt = load(folder)
    for views in pixels["S1"].values():
        views[0][:] += 3
    write_files(positions, pixels, keypoints="cpn")
    cpn = load(folder, keypoints="cpn")
    check_same(load(folder), gt)
    assert len(reads) == 2 and not np.array_equal(cpn.keypoints, gt.keypoints)
    fewer = cache.load(replace(H36M, train=("S1",)), folder, "gt")
    assert {sequence.subject for sequence in fewer.sequences} == {"S1", "S9", "S11"}


# What cannot break it


def shortened(size):
    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: size if size >= 0 else len(content) + size])

    return damage


DAMAGE = {
    "removed": Path.unlink,
    "emptied": shortened(0),
    "cut in the header": shortened(40),
    "cut": shortened(-1),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "a zip archive": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "header unclosed": lambda path: path.write_bytes(path.read_bytes().replace(b"}", b"(")),
}


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_made_again(folder, reads, caplog, member, kind):
    first = load(folder)
    expected = PoseSet(first.keypoints.copy(), first.positions.copy(), first.sequences)
    (path,) = caches(folder / cache.FOLDER)
    DAMAGE[kind](path / member)
    check_same(load(folder), expected)
    assert len(reads) == 2 and f"{path} is damaged" in caplog.text
    load(folder)
    assert len(reads) == 2 and caches(folder / cache.FOLDER) == [path]


INDICES = {
    "no sequences": lambda index: index["sequences"].clear(),
    "one too few": lambda index: index["sequences"].pop(),
    "nothing": lambda index: index.clear(),
    "another field": lambda index: index["sequences"][0].update(weather="fine"),
    "a field less": lambda index: index["sequences"][0].pop("intrinsics"),
    "text": lambda index: index.update(sequences="none"),
    "numbers": lambda index: index.update(sequences=[1, 2]),
}


@pytest.mark.parametrize("kind", INDICES)
def test_a_damaged_index_is_made_again(folder, reads, kind):
    first = load(folder)
    (path,) = caches(folder / cache.FOLDER)
    index = json.loads((path / "index.json").read_text())
    INDICES[kind](index)
    (path / "index.json").write_text(json.dumps(index))
    check_same(load(folder), first)
    assert len(reads) == 2


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), OSError(errno.EIO, "no"), MemoryError()]
)
def test_a_cache_that_cannot_be_read_just_now_is_kept(folder, reads, monkeypatch, error):
    def broken(*_, **__):
        raise error

    load(folder)
    (path,) = caches(folder / cache.FOLDER)
    made = path.stat().st_ino
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(np, "load", broken)
        load(folder)
    load(folder)
    assert len(reads) == 1
    assert path.stat().st_ino == made


def test_wrong_files_leave_no_cache(files, write_files):
    positions, pixels = files
    positions["S1"]["Walking"][0] = np.nan
    folder = write_files(positions, pixels)
    with pytest.raises(DataError, match="NaN"):
        load(folder)
    assert caches(folder / cache.FOLDER) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_conversion_that_is_broken_off_leaves_nothing(folder, monkeypatch, stop):
    views = Take.views

    def until(take):
        if (take.subject, take.action) == ("S7", "Walking"):
            raise stop
        return views(take)

    with monkeypatch.context() as patch, pytest.raises(stop):
        patch.setattr(Take, "views", until)
        load(folder)
    assert caches(folder / cache.FOLDER) == []
    assert len(load(folder)) > 0


def test_a_killed_conversion_is_not_taken_for_a_whole_one(folder, reads):
    code = (
        "views = Take.views\n"
        "def until(take):\n"
        "    if take.subject == 'S11':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return views(take)\n"
        "Take.views = until\n"
        "cache.load(DATASETS['h36m'], Path(sys.argv[1]), 'gt')\n"
    )
    process = child(code, folder)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (left,) = (folder / cache.FOLDER).iterdir()
    assert left.name.startswith(pose_files.UNFINISHED)

    load(folder)
    assert len(reads) == 1
    assert left.exists(), "it could belong to a conversion that is going on"
    os.utime(left, (time.time() - 2 * pose_files.ABANDONED_AFTER,) * 2)
    (folder / FILE_2D).rename(folder / "data_2d_h36m_other.npz")
    load(folder, keypoints="other")
    assert not left.exists() and len(caches(folder / cache.FOLDER)) == 2


def test_nothing_that_others_keep_in_the_cache_folder_is_removed(folder, tmp_path):
    """Such as ``--cache_dir /tmp``."""
    shared = tmp_path / "shared"
    kept = [shared / name / "thesis.tex" for name in ("tmp-1", "tmp", "tmpabc", "h36m-gt-0", "unfinished-1")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("years of work")
        os.utime(path.parent, (1, 1))
    load(folder, shared)
    assert all(path.read_text() == "years of work" for path in kept)


def test_two_processes_that_start_at_once_both_get_the_one_cache(folder):
    """Each waits, with its own conversion under way, until the other's is under way too."""
    code = (
        "import hashlib\n"
        "folder, read_takes = Path(sys.argv[1]), cache.read_takes\n"
        "def together(*args):\n"
        "    (folder / f'{os.getpid()}.ready').touch()\n"
        "    while len(list(folder.glob('*.ready'))) < 2:\n"
        "        time.sleep(0.01)\n"
        "    return read_takes(*args)\n"
        "cache.read_takes = together\n"
        "poses = cache.load(DATASETS['h36m'], folder, 'gt')\n"
        "digest = hashlib.sha256(poses.keypoints.tobytes() + poses.positions.tobytes())\n"
        "print(digest.hexdigest(), len(poses.sequences))\n"
    )
    processes = [child(code, folder) for _ in range(2)]
    output = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert output[0] == output[1] and output[0].split()[1] == "80"
    assert len(caches(folder / cache.FOLDER)) == 1


def test_a_cache_that_came_while_one_was_converting_is_taken(folder, monkeypatch):
    """The slower of two: its rename fails, and what is opened is what the faster one made."""
    build, first = cache._build, []

    def outrun(takes, place):
        build(takes, place)
        first.append((place / "index.json").stat().st_ino)
        build(takes, place)

    monkeypatch.setattr(cache, "_build", outrun)
    load(folder)
    (path,) = caches(folder / cache.FOLDER)
    assert (path / "index.json").stat().st_ino == first[0]


# Where it is


@contextmanager
def nobody():
    """Lends the rights of an ordinary user, since the superuser's ignore all modes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only(folder):
    """A copy of the data folder that cannot be written to, at a place that anybody can get at."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for path in folder.iterdir():
            shutil.copyfile(path, place / path.name)
        (place / "elsewhere").mkdir()
        (place / "elsewhere").chmod(0o777)
        place.chmod(0o555)
        with nobody():
            if not os.access(place / FILE_3D, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
                pytest.skip(f"{place} is out of an ordinary user's reach")
        yield place
        place.chmod(0o755)


def test_a_data_folder_that_is_read_only(read_only, reads, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    elsewhere = read_only / "elsewhere"
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere))
    with nobody():
        first = load(read_only)
        assert f"{read_only / cache.FOLDER} cannot be written to" in caplog.text
        assert f"into {elsewhere / 'htnet'}" in caplog.text
        check_same(load(read_only), first)
        assert len(reads) == 1
    assert not (read_only / cache.FOLDER).exists()
    (path,) = caches(elsewhere / "htnet")
    assert path.stat().st_uid == (65534 if os.geteuid() == 0 else os.geteuid())


def test_a_cache_beside_read_only_data_is_used(read_only, folder, reads):
    load(folder)
    read_only.chmod(0o755)
    shutil.copytree(folder / cache.FOLDER, read_only / cache.FOLDER)
    (read_only / cache.FOLDER).chmod(0o555)
    read_only.chmod(0o555)
    with nobody():
        load(read_only)
    assert len(reads) == 1


def test_the_users_cache_folder_without_xdg(folder, home):
    (folder / cache.FOLDER).write_text("in the way")
    load(folder)
    assert len(caches(home / ".cache" / "htnet")) == 1


def test_a_user_without_a_home(folder, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody-of-that-name").expanduser())
    load(folder)
    shutil.rmtree(folder / cache.FOLDER)
    (folder / cache.FOLDER).write_text("in the way")
    with pytest.raises(DataError, match="--cache_dir"):
        load(folder)


def test_cache_dir_is_where_the_cache_goes_and_nowhere_else(folder, tmp_path, home, reads):
    load(folder, tmp_path / "a" / "b")
    assert len(caches(tmp_path / "a" / "b")) == 1
    assert not (folder / cache.FOLDER).exists() and not home.exists()
    load(folder, tmp_path / "a" / "b")
    assert len(reads) == 1


def test_no_place_that_can_be_written_to(folder, tmp_path, home):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        load(folder, tmp_path / "file")
    assert f"tried {tmp_path / 'file'}." in str(caught.value) and "--cache_dir" in str(caught.value)
    (folder / cache.FOLDER).write_text("")
    home.write_text("")
    with pytest.raises(DataError) as caught:
        load(folder)
    assert f"tried {folder / cache.FOLDER}, {home / '.cache' / 'htnet'}." in str(caught.value)


def test_a_cache_is_open_to_those_who_share_the_data_folder(folder):
    mask = os.umask(0o022)
    try:
        load(folder)
    finally:
        os.umask(mask)
    (path,) = caches(folder / cache.FOLDER)
    assert path.stat().st_mode & 0o777 == 0o755
    assert all(member.stat().st_mode & 0o777 == 0o644 for member in path.iterdir())


# A full disk


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
@pytest.mark.parametrize("member", MEMBERS[1:])
def test_a_full_disk(folder, monkeypatch, member):
    def full(path, mode):
        return builtins.open("/dev/full" if Path(path).name == member else path, mode)

    with monkeypatch.context() as patch, pytest.raises(RunError) as caught:
        patch.setattr(pose_files, "open", full, raising=False)
        load(folder)
    message = str(caught.value)
    assert f"the cache in {folder / cache.FOLDER} could not be written: No space left on device" in message
    assert "MB; free them or name another folder with --cache_dir" in message
    assert caught.value.exit_code == 1
    assert caches(folder / cache.FOLDER) == []
    assert len(load(folder)) > 0


@pytest.mark.parametrize("function", ["mkdir", "write_text"])
def test_a_disk_that_is_full_for_the_smallest_thing(folder, monkeypatch, function):
    original = getattr(Path, function)

    def full(path, *args, **keywords):
        if pose_files.UNFINISHED in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, *args, **keywords)

    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left on device"):
        patch.setattr(Path, function, full)
        load(folder)
    assert caches(folder / cache.FOLDER) == []

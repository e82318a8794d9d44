"""Disks that are full or cannot be written to: real ones, small and in memory, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from common import checkpoint
from common.export import SUFFIXES
from model import HTNet

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "dataset" / "sample"
SIZES = {"layers": 1, "channel": 24, "d_hid": 32}
NETWORK = [*(word for name, size in SIZES.items() for word in (f"--{name}", str(size))), "--device", "cpu"]
SMALL = ["--dataset", "sample", *NETWORK, "--workers", "1", "--subset", "0.02"]
MB = 1 << 20

Disk = Callable[[float], Path]


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """Makes disks of so many megabytes; skips where the system does not let us."""
    made: list[Path] = []

    def make(megabytes: float) -> Path:
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        options = f"size={int(megabytes * 1024)}k,mode=0777"
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
            )
        except FileNotFoundError:
            pytest.skip("there is no command mount")
        if done.returncode:
            pytest.skip("mounting a disk in memory is not allowed here: it takes root on Linux")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "ckpt" / "model.pth"
    checkpoint.save(path, HTNet(**SIZES).state_dict())
    return path


def run(*argv: object, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a call."""
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def refused(*argv: object, code: int = 1) -> str:
    """The one line that a call is refused in."""
    found, errors = run(*argv)
    assert (found, errors.count("\n"), errors[:7]) == (code, 1, "error: "), errors
    return errors


def free(folder: Path) -> int:
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes of a disk."""
    filler = folder / "filler"
    filler.write_bytes(bytes(free(folder) - left))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 60_000], ids=["none left", "too little for a checkpoint"])
def test_a_training_on_a_full_disk_keeps_its_state_and_goes_on_when_there_is_room(
    disk, cache, tmp_path, left
):
    more = [*SMALL, "--cache_dir", cache, "--nepoch"]
    assert run("main.py", "--train", "-n", "whole", "--checkpoint_dir", tmp_path, *more, 2) == (0, "")
    place = disk(4)
    assert run("main.py", "--train", "-n", "run", "--checkpoint_dir", place, *more, 1) == (0, "")
    before = {path: path.read_bytes() for path in (place / "run").glob("*.pth")}
    filler = fill(place, left)
    again = ["main.py", "--train", "--resume", "-n", "run", "--checkpoint_dir", place, "--nepoch", 2]
    assert "No space left on device" in refused(*again)
    assert {path: path.read_bytes() for path in (place / "run").glob("*.pth")} == before
    assert not list((place / "run").glob(".*"))
    filler.unlink()
    assert run(*again) == (0, "")
    one, other = (
        checkpoint.read_weights(folder / "last.pth") for folder in (place / "run", tmp_path / "whole")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_cache_that_does_not_fit_is_told_with_its_size_and_leaves_nothing(disk, weights):
    place = disk(1)
    score = ["main.py", "--reload", "--previous_dir", weights, *SMALL]
    message = refused(*score, "--cache_dir", place)
    assert "No space left on device" in message and "MB; free them" in message and "--cache_dir" in message
    assert list(place.iterdir()) == [] and free(place) > 0.9 * MB


@pytest.mark.slow
def test_an_export_that_does_not_fit_leaves_the_old_file(disk, weights):
    place = disk(1)
    path = place / f"lifter{SUFFIXES['torch']}"
    path.write_bytes(b"the old one")
    fill(place, 20_000)
    message = refused("main.py", "--export", "torch", "--previous_dir", weights, "--output", path)
    assert "No space left on device" in message
    assert path.read_bytes() == b"the old one" and sorted(os.listdir(place)) == ["filler", path.name]


def keypoints(path: Path, frames: int = 40) -> Path:
    """People who stand somewhere else in each frame."""
    rng = np.random.default_rng(0)
    points = rng.uniform(50, 200, (1, 17, 2)) + np.arange(frames)[:, None, None]
    np.savez(path, keypoints=points, format="h36m17", image_size=(320, 240), fps=25.0)
    return path


@pytest.mark.parametrize("what", ["video", "npz"])
def test_a_demo_on_a_full_disk_leaves_no_part(disk, weights, tmp_path, what):
    place = disk(1)
    fill(place, 8_000)
    more = ["--save", "npz"] if what == "npz" else []
    more += ["--no-render"] if what == "npz" else []
    points = keypoints(tmp_path / "points.npz")
    demo = ["-m", "demo.vis", "--keypoints", points, "--previous_dir", weights, "--output", place]
    code, errors = run(*demo, *more)
    assert code == 1 and "Traceback" not in errors and errors.startswith("error: "), errors
    assert "disk" in errors or "No space left" in errors
    assert os.listdir(place) == ["filler"]


def test_data_on_a_read_only_disk_are_read_and_cached_elsewhere(disk, weights, tmp_path):
    place = disk(8)
    for path in SAMPLE.glob("*.npz"):
        (place / path.name).write_bytes(path.read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    home = tmp_path / "home"
    score = ["main.py", "--reload", "--previous_dir", weights, *SMALL, "--root_path", place]
    assert run(*score, HOME=str(home), XDG_CACHE_HOME="") == (0, "")
    assert len(list((home / ".cache" / "htnet").iterdir())) == 1
    assert sorted(os.listdir(place)) == sorted(path.name for path in SAMPLE.glob("*.npz"))


@pytest.mark.slow
def test_what_is_to_be_written_to_a_read_only_disk_is_refused_in_one_line(disk, cache, weights):
    place = disk(1)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    common = [*SMALL, "--cache_dir", cache]
    message = refused("main.py", "--train", "-n", "x", "--checkpoint_dir", place, *common)
    assert "Read-only file system" in message
    export = ["main.py", "--export", "torch", "--previous_dir", weights]
    message = refused(*export, "--output", place / "lifter.pt2", code=2)
    assert "Read-only file system" in message

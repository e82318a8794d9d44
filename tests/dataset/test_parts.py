"""Parts of a conversion: what a killed run leaves, and when it is not taken."""

import os
import subprocess

import numpy as np
import pytest

from common.errors import RunError
from dataset.parts import Parts

WORLD = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "take.cdf"
    path.write_bytes(b"some bytes")
    return path


def test_a_part_comes_back_as_it_was(tmp_path, source):
    parts = Parts(tmp_path / "out", "h36m")
    assert parts.get(source) is None
    parts.put(source, world=WORLD, names=np.array(["a", "b"]))
    back = Parts(tmp_path / "out", "h36m").get(source)
    assert back is not None and list(back) == ["world", "names"]
    np.testing.assert_array_equal(back["world"], WORLD)
    assert back["world"].dtype == np.float32 and list(back["names"]) == ["a", "b"]


@pytest.mark.parametrize("change", ["size", "date", "place", "member", "settings", "name"])
def test_a_part_of_something_else_is_not_taken(tmp_path, source, change):
    folder = tmp_path / "out"
    Parts(folder, "h36m", "rate 50").put(source, "a", world=WORLD)
    asked = {"name": "h36m", "settings": "rate 50", "member": "a", "path": source}
    if change == "size":
        source.write_bytes(b"other bytes than before")
    elif change == "date":
        os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    elif change == "place":
        asked["path"] = tmp_path / "other" / source.name
        asked["path"].parent.mkdir()
        asked["path"].write_bytes(source.read_bytes())
        os.utime(asked["path"], ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    else:
        asked[change] = "other"
    assert Parts(folder, asked["name"], asked["settings"]).get(asked["path"], asked["member"]) is None
    if change in ("member", "settings", "name"):
        assert Parts(folder, "h36m", "rate 50").get(source, "a") is not None


def test_objects_are_refused_since_they_would_be_pickles(tmp_path, source):
    parts = Parts(tmp_path, "h36m")
    with pytest.raises(ValueError, match="allow_pickle"):
        parts.put(source, world=np.array({}, dtype=object))
    assert parts.get(source) is None and not any(parts.folder.iterdir())


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_damaged_part_is_not_taken(tmp_path, source, keep):
    parts = Parts(tmp_path, "h36m")
    parts.put(source, world=WORLD)
    (path,) = parts.folder.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert parts.get(source) is None


def test_parts_are_removed_and_nothing_else(tmp_path, source):
    parts, others = Parts(tmp_path, "h36m"), Parts(tmp_path, "mocap")
    parts.put(source, world=WORLD)
    others.put(source, world=WORLD)
    parts.remove()
    parts.remove()
    assert not parts.folder.exists() and source.exists() and others.get(source) is not None


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("a full disk: no right to mount a small one")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_and_the_parts_stay(small_disk, source):
    parts = Parts(small_disk, "h36m")
    parts.put(source, "first", world=WORLD)
    with pytest.raises(
        RunError, match=r"No space left on device.*make room and give the same command"
    ) as error:
        parts.put(source, "second", world=np.zeros(100_000))
    assert error.value.exit_code == 1
    assert parts.get(source, "first") is not None and parts.get(source, "second") is None
    assert len(list(parts.folder.iterdir())) == 1, "the half part is gone, which makes room for a smaller one"

"""Files: written whole or not at all, and read without running anything."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.console import UserError, printable, run_command
from common.files import read_bytes, read_json, read_npz, replacing, sha256, write_json

ROOT = Path(__file__).parents[2]


class Hostile:
    """A pickle that would run a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch HACKED",)


def test_new_content_comes_whole_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    write_json(path, {"old": 1})
    with replacing(str(path)) as temporary:
        temporary.write_text("new")
        assert json.loads(path.read_text()) == {"old": 1}
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stop", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [True, False])
def test_old_content_survives_whatever_stops_the_block(tmp_path: Path, stop: Any, written: bool) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(stop), replacing(path) as temporary:
        if written:
            temporary.write_bytes(b"half of the ne")
        raise stop
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_block_that_writes_nothing_makes_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.bin"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_leaves_is_not_taken_for_a_result(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from common.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2 and list(tmp_path.glob("*.pth")) == [path]


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), [{"loss": float("nan")}]])
def test_json_refuses_numbers_that_json_does_not_have(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"loss": 1.5})
    with pytest.raises(ValueError):
        write_json(path, {"loss": value})
    assert read_json(path) == {"loss": 1.5}


def test_sha256_of_files_over_more_than_one_block(tmp_path: Path) -> None:
    for size in (0, 2**20, 2**20 + 1):
        (tmp_path / "x").write_bytes(b"7" * size)
        assert sha256(tmp_path / "x") == hashlib.sha256(b"7" * size).hexdigest()


def test_reading_is_bounded_and_needs_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{},".join("[" * 1000))
    (tmp_path / "deep.json").write_text("[" * 10**6)
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name in ("a.json", "deep.json", "zero", "pipe", "none", "."):
        with pytest.raises(UserError):
            read_json(tmp_path / name)
    with pytest.raises(UserError, match="bytes"):
        read_bytes(tmp_path / "a.json", limit=10)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_npz_of_the_field_is_read_whatever_wrote_it(tmp_path: Path, protocol: int) -> None:
    """Pickles of NumPy 1, which the field's files are, call its modules numpy.core."""
    takes = {"S1": {"Walking 1": [np.arange(12.0, dtype=np.float32).reshape(2, 3, 2)], "fps": np.float64(50)}}
    array = np.empty((), object)
    array[()] = takes
    content = pickle.dumps(array, protocol)
    if protocol < 4:  # whose names have no length before them
        content = content.replace(b"numpy._core", b"numpy.core")
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("positions_2d.npy", header + b"\n" + content)
    found = read_npz(tmp_path / "a.npz")["positions_2d"]
    assert found["S1"]["fps"] == 50
    np.testing.assert_array_equal(found["S1"]["Walking 1"][0], takes["S1"]["Walking 1"][0])


def test_npz_of_plain_arrays_is_what_numpy_reads(tmp_path: Path) -> None:
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 17, 2)),
        "number": np.array(3.5),
        "text": np.array(["a", "bc"]),
        "big": np.arange(3, dtype=">i2"),
    }
    members: dict[str, Any] = dict(arrays)
    np.savez(tmp_path / "a.npz", **members)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("nested", [lambda bad: bad, lambda bad: {"S1": {"Walking": [bad]}}])
def test_hostile_npz_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: Any) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", positions_3d=np.array(nested(Hostile()), dtype=object))
    with pytest.raises(UserError, match="system"):
        read_npz("a.npz")
    assert not Path("HACKED").exists()


def test_npz_that_unpacks_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "b.npz", zeros=np.zeros(10**6))
    with pytest.raises(UserError, match="bytes"):
        read_npz(tmp_path / "b.npz", limit=10**6)


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"<!DOCTYPE html>", "web"), (b"", "npz")],
)
def test_npz_that_is_something_else_is_reported_with_a_hint(
    tmp_path: Path, content: bytes, hint: str
) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=hint):
        read_npz(tmp_path / "a.npz")


def test_errors_become_exit_codes_and_quote_nothing_that_moves_the_cursor(capsys: Any) -> None:
    def fail(error: BaseException) -> Any:
        def command() -> int:
            raise error

        return command

    codes = [
        run_command(fail(error))
        for error in (UserError("a\x1b[2Jb"), OSError("full"), MemoryError(), KeyboardInterrupt())
    ]
    assert codes == [2, 1, 1, 130] and run_command(lambda: None) == 0
    assert "\x1b" not in capsys.readouterr().err
    assert printable("\x1b\ud800é\n") == "\\x1b\\ud800é\n"
    assert len(printable("x" * 10**6)) < 5000

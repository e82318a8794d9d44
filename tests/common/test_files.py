"""Files that are whole or not there."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import replacing, sha256, write_bytes, write_json

ROOT = Path(__file__).parents[2]


def test_new_content_comes_whole_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.bin"
    write_bytes(path, b"first")
    write_bytes(str(path), b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_old_content_is_there_until_the_block_ends(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
            assert temporary.parent == path.parent, "a rename over file systems is none"
            assert path.read_bytes() == b"old"
        assert reader.read() == b"old", "who has it open reads on in the old file"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("stop", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [True, False])
def test_old_content_survives_whatever_stops_the_block(tmp_path, stop, written):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(stop), replacing(path) as temporary:
        if written:
            temporary.write_bytes(b"half of the ne")
        raise stop
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_not_taken_for_a_file_of_its_kind(tmp_path):
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
    assert len(os.listdir(tmp_path)) == 2, "the test shows nothing unless something is left"
    assert list(tmp_path.glob("*.pth")) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [{"loss": float("nan")}]])
def test_json_refuses_numbers_that_json_does_not_have(tmp_path, value):
    path = tmp_path / "x.json"
    write_json(path, {"loss": 1.5})
    with pytest.raises(ValueError):
        write_json(path, {"loss": value})
    assert json.loads(path.read_text()) == {"loss": 1.5}
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_of_files_over_more_than_one_block(tmp_path):
    for size in (0, 1, 2**20, 2**20 + 1):
        content = os.urandom(size)
        (tmp_path / "x").write_bytes(content)
        assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()

"""Fetching models: from a small wheel made here, whole or damaged, and never from the network."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from demo import fetch as command
from demo.fetch import BLAZEPOSE, FetchError, Member, Wheel, fetch, main

CONTENT = {"a/one.tflite": b"one" * 1000, "b/two.tflite": b"two" * 2000}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "models-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def wheel(file: Path) -> Wheel:
    members = (Member(name, Path(name).name, len(data), digest(data)) for name, data in CONTENT.items())
    return Wheel(file.name, digest(file.read_bytes()), ("models==1",), tuple(members))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


@pytest.fixture(autouse=True)
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Calls of pip, none of which is let through."""
    calls: list[list[str]] = []

    def run(call: list[str], **_: object) -> subprocess.CompletedProcess:
        calls.append(call)
        return subprocess.CompletedProcess(call, 1)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def serve(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Makes pip download a copy of a file."""

    def run(call: list[str], **_: object) -> subprocess.CompletedProcess:
        store = Path(call[call.index("--dest") + 1])
        store.mkdir(exist_ok=True)
        (store / source.name).write_bytes(source.read_bytes())
        return subprocess.CompletedProcess(call, 0)

    monkeypatch.setattr(subprocess, "run", run)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_members_are_taken_from_a_given_wheel_without_pip(wheel, file, folder, pip) -> None:
    assert [path.name for path in fetch(wheel, folder, file=file)] == ["one.tflite", "two.tflite"]
    assert (folder / "one.tflite").read_bytes() == CONTENT["a/one.tflite"]
    assert names(folder) == ["one.tflite", "two.tflite"] and file.exists() and not pip


def test_what_is_there_and_right_is_left_alone(wheel, file, folder, pip) -> None:
    fetch(wheel, folder, file=file)
    before = (folder / "one.tflite").stat().st_mtime_ns
    (folder / "two.tflite").write_bytes(b"half")
    assert [path.name for path in fetch(wheel, folder, file=file)] == ["two.tflite"]
    assert (folder / "one.tflite").stat().st_mtime_ns == before
    assert fetch(wheel, folder) == [] and not pip


def test_pip_is_asked_for_the_one_wheel_and_the_download_is_cleared_away(
    wheel, file, folder, monkeypatch
) -> None:
    serve(monkeypatch, file)
    assert len(fetch(wheel, folder)) == 2
    assert names(folder) == ["one.tflite", "two.tflite"]


def test_a_download_left_by_an_earlier_run_is_used(wheel, file, folder, pip) -> None:
    store = folder / "download"
    store.mkdir(parents=True)
    (store / wheel.name).write_bytes(file.read_bytes())
    assert len(fetch(wheel, folder)) == 2 and not pip
    assert not store.exists()


def test_half_a_download_is_replaced(wheel, file, folder, monkeypatch) -> None:
    store = folder / "download"
    store.mkdir(parents=True)
    (store / wheel.name).write_bytes(file.read_bytes()[:500])
    serve(monkeypatch, file)
    assert len(fetch(wheel, folder)) == 2


def test_a_failed_download_says_what_to_do(wheel, folder, pip) -> None:
    with pytest.raises(FetchError, match=r"status 1.*try again.*--wheel"):
        fetch(wheel, folder)
    assert pip[0][1:4] == ["-m", "pip", "download"] and "--no-deps" in pip[0]
    assert not list(folder.glob("*.tflite"))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data + b"x", lambda _: b"no wheel"])
def test_a_damaged_wheel_is_refused(wheel, file, folder, damage) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(FetchError, match=rf"expected {wheel.name} with SHA-256 {wheel.sha256}, found"):
        fetch(wheel, folder, file=file)
    assert names(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "expected SHA-256 0000"),
        ({"size": 5}, "expected 5 bytes in a/one.tflite"),
        ({"path": "a/gone.tflite"}, "expected a/gone.tflite in the wheel"),
    ],
)
def test_a_wrong_member_is_refused(wheel, file, folder, change, message) -> None:
    first = Member(**{**vars(wheel.members[0]), **change})
    with pytest.raises(FetchError, match=message):
        fetch(Wheel(wheel.name, wheel.sha256, wheel.request, (first,)), folder, file=file)
    assert names(folder) == []


def test_a_cut_wheel_with_the_right_checksum_is_refused_too(wheel, file, folder) -> None:
    file.write_bytes(file.read_bytes()[:500])
    cut = Wheel(wheel.name, digest(file.read_bytes()), wheel.request, wheel.members)
    with pytest.raises(FetchError, match="not a zip file"):
        fetch(cut, folder, file=file)


def test_exit_codes(wheel, file, folder, monkeypatch, capsys) -> None:
    monkeypatch.setitem(command.MODELS, "blazepose", wheel)
    arguments = ["blazepose", "--folder", str(folder), "--wheel"]
    assert main([*arguments, str(file)]) == 0
    assert "wrote" in capsys.readouterr().out
    assert main([*arguments, str(file)]) == 0
    assert "complete" in capsys.readouterr().out
    (folder / "one.tflite").unlink()
    assert main([*arguments, str(file.with_name("gone.whl"))]) == 1
    assert "error: expected the wheel" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        main(["openpose"])
    assert wrong.value.code == 2


def test_a_folder_that_cannot_be_written_is_an_error_not_a_traceback(
    wheel, file, folder, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(command.MODELS, "blazepose", wheel)
    folder.write_bytes(b"a file, not a folder")
    assert main(["blazepose", "--folder", str(folder), "--wheel", str(file)]) == 1
    assert str(folder) in capsys.readouterr().err


def test_the_pinned_models_are_the_published_ones() -> None:
    sizes = {member.name: member.size for member in BLAZEPOSE.members}
    assert sizes["pose_detection.tflite"] == 2_959_046
    assert sizes["pose_landmark_full.tflite"] == 6_440_512
    assert all(len(each.sha256) == 64 for each in (BLAZEPOSE, *BLAZEPOSE.members))
    assert "LICENSE-blazepose.txt" in sizes

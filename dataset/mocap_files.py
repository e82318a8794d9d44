"""Finds motion capture files, and tells from their names who does what in them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError

BVH, AMC, ASF = ".bvh", ".amc", ".asf"
PEOPLE = re.compile(r"(subject|subj|actor|person|performer)-?\d+|s\d+", re.IGNORECASE)
CMU = re.compile(r"(\d+)_\d+")
HDM05 = re.compile(r"HDM_([a-z]+)_", re.IGNORECASE)
NO_ACTION = "motion"
SUBJECTS = ("auto", "folder", "prefix")


@dataclass(frozen=True)
class Source:
    """A file of a take.

    Attributes:
        path: Where it is.
        name: Its path below the source folder, with "/" and without its ending.
        skeleton: The ASF file that an AMC file needs; None for a BVH file, and where there is none.
    """

    path: Path
    name: str
    skeleton: Path | None = None

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2]


def find(folder: Path) -> list[Source]:
    """All BVH and AMC files below a folder, sorted by name; links are followed, but in no circle.

    Where a take is there both as AMC and as BVH, under one name in one folder, the AMC file is taken: the
    other was made from it.

    Raises:
        DataError: There is none.
    """
    if not folder.is_dir():
        raise DataError(f"--source {folder}: expected a folder of BVH or of ASF and AMC files; there is none")
    found: dict[str, Source] = {}
    skeletons: dict[Path, list[Path]] = {}
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        stat = os.stat(name)
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        paths = [Path(name, each) for each in sorted(files) if not each.startswith(".")]
        skeletons[Path(name)] = [path for path in paths if path.suffix.lower() == ASF]
        for path in paths:
            kind = path.suffix.lower()
            take = path.relative_to(folder).with_suffix("").as_posix()
            # A named pipe would keep whoever opens it waiting.
            if kind in (BVH, AMC) and path.is_file() and (kind == AMC or take not in found):
                found[take] = Source(path, take, _skeleton(path, skeletons) if kind == AMC else None)
    if not found:
        raise DataError(f"--source {folder}: expected BVH files, or AMC files with their ASF; found none")
    return [found[take] for take in sorted(found)]


def _skeleton(amc: Path, skeletons: dict[Path, list[Path]]) -> Path | None:
    """The ASF file beside it whose name its own begins with, else the only one there."""
    there = skeletons[amc.parent]
    fits = [path for path in there if amc.stem.lower().startswith(path.stem.lower())]
    if fits:
        return max(fits, key=lambda path: len(path.stem))
    return there[0] if len(there) == 1 else None


def subject(source: Source, folder: Path, by: str = "auto") -> str:
    """Who moves: see dataset/README.md for the rules.

    Args:
        source: The file.
        folder: The source folder.
        by: One of ``SUBJECTS``.
    """
    parent = source.name.rpartition("/")[0].rpartition("/")[2]
    name = parent or folder.resolve().name
    if by == "prefix":
        name = re.split(r"[_\s]", source.stem)[0]
    elif by == "auto":
        trial, bonn = CMU.fullmatch(source.stem), HDM05.match(source.stem)
        person = next((word for word in _words(source.stem) if PEOPLE.fullmatch(word)), None)
        if trial or bonn:
            name = (trial or bonn)[1]  # type: ignore[index]
        elif person:
            name = person
    return re.sub(r"[\s,]+", "-", name) or NO_ACTION


def action(source: Source, person: str) -> str:
    """What is done: the first word of the file's name that is no number and not the subject's name."""
    others = {"hdm", "dataset", *(word.lower() for word in _words(person)), person.lower()}
    for word in _words(source.stem):
        plain = word.rstrip("0123456789")
        if len(plain) >= 3 and word.lower() not in others and plain.lower() not in others:
            return plain
    return NO_ACTION


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"[_\s.\-()\[\]]+", stem) if word]


def held_out(sources: Sequence[Source], share: float) -> set[str]:
    """Names of the files that a split by file tests on: those with the lowest digests of their names."""
    ranked = sorted(sources, key=lambda source: hashlib.sha256(source.name.encode()).digest())
    count = min(max(round(share * len(ranked)), 1), len(ranked) - 1)
    return {source.name for source in ranked[:count]}

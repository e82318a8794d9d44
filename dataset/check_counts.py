"""What there is: which data sets are ready, and how much a data set holds of what."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from common.errors import DataError
from common.h36m import DATASETS, Dataset, check_files
from common.pose_files import INDEX
from common.prepared import NAME_3DHP, ROOT, dataset_named, open_prepared
from common.safe_npz import npz_fingerprint
from common.sequences import PoseSet
from common.tables import text_table
from dataset.check_samples import Take, listed
from dataset.h36m import ACTIONS, CORRUPT, TAKES, TRAINING_FRAMES

WIDEST, LONGEST = 10, 40
"""Subjects and actions of a table with a column for each subject; larger ones have a row for each alone."""
PREPARE = {
    "h36m": "python -m dataset.prepare h36m --source DIR",
    NAME_3DHP: f"python -m dataset.prepare {NAME_3DHP} --source DIR",
    "": "python -m dataset.prepare mocap --source DIR --name NAME",
}
"""What makes each data set; under no name, what makes one of any name."""


def overview(root: Path) -> str:
    """Plain text: a line for each data set, found in ``root`` or known, and how to make what is not ready."""
    elsewhere = "" if root == Path(ROOT) else shlex.quote(str(root))
    prepared = sorted(path.parent.name for path in root.glob(f"[!.]*/{INDEX}"))
    rows = [["data set", "state", "to check or to make it"]]
    for name in dict.fromkeys([*DATASETS, NAME_3DHP, *prepared]):
        own = name == "sample"  # which comes with the project, and lies where it does
        at = Path(DATASETS[name].root) if own else root
        make = PREPARE.get(name, PREPARE[""]) + (f" --output {elsewhere}" if elsewhere else "")
        check = f"python -m dataset.check --dataset {name}"
        if name not in DATASETS and name not in prepared:
            rows.append([name, "not there", make])
            continue
        try:
            dataset = dataset_named(name, at)
        except DataError as error:
            rows.append([name, _first_line(error), make])
            continue
        for keypoints in keypoint_sources(dataset, at):
            state, ready = _state(dataset, at, keypoints)
            options = f" -k {keypoints}" + (f" --root_path {elsewhere}" if elsewhere and not own else "")
            rows.append([name, state, check + options if ready else make])
    lines = [_left(rows), f"from your own motion capture: {PREPARE['']}"]
    if unfinished := sorted(path.name[1 : -len("-parts")] for path in root.glob(".*-parts")):
        lines.append(f"broken off; the same command as before goes on with: {', '.join(unfinished)}")
    return "\n".join(lines)


def keypoint_sources(dataset: Dataset, root: Path) -> list[str]:
    """Sources of key points that there are files of, the data set's own first, which is there in any case."""
    pattern = f"data_2d_{dataset.name}_"
    there = (
        [] if dataset.prepared else sorted(path.stem[len(pattern) :] for path in root.glob(f"{pattern}*.npz"))
    )
    if dataset.keypoints in there or not there:
        there = [dataset.keypoints, *(name for name in there if name != dataset.keypoints)]
    return there


def _state(dataset: Dataset, root: Path, keypoints: str) -> tuple[str, bool]:
    """The state of a data set in words, and whether it is ready."""
    files = dataset.files(root, keypoints)
    if missing := [path.name for path in files if not path.is_file()]:
        return f"not there: {' and '.join(missing)} missing", False
    try:
        check_files(dataset, root, keypoints)
        if dataset.prepared:
            return f"ready, {keypoints}: {len(open_prepared(dataset, root)):,} poses", True
        for path in files:
            npz_fingerprint(path)
        return f"ready, {keypoints}: {sum(path.stat().st_size for path in files) / 1e6:.0f} MB", True
    except DataError as error:
        return _first_line(error), False


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _left(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def summary(dataset: Dataset, poses: PoseSet, takes: list[Take]) -> str:
    """Plain text: subjects, cameras, pictures, takes and frames in a few lines."""
    there = {take[0].subject for take in takes}
    sides = [
        f"{part}: {listed((name for name in names if name in there), 12) or 'nobody'}"
        for part, names in (("train", dataset.train), ("test", dataset.test))
    ]
    sizes = Counter(sequence.image_size for sequence in poses.sequences)
    pictures = listed(f"{width} x {height}" for (width, height), _ in sizes.most_common())
    cameras = Counter(map(len, takes)).most_common()
    seen = " and ".join(
        f"{number} {'camera' if number == 1 else 'cameras'}" + (f" in {count}" if len(cameras) > 1 else "")
        for number, count in cameras
    )
    frames, actions = sum(len(take[0]) for take in takes), {take[0].action_name for take in takes}
    return (
        f"{'; '.join(sides)}\n{frames:,} frames in {len(takes)} takes of {len(actions)} actions; {seen}; "
        f"pictures of {pictures}; {len(poses):,} poses"
    )


def count_table(takes: list[Take]) -> str:
    """Plain text: frames, and the number of takes behind them, by action and subject."""
    frames: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for take in takes:
        for key in _cells(take):
            frames[key] += len(take[0])
            counts[key] += 1
    subjects = list(dict.fromkeys(take[0].subject for take in takes))
    actions = list(dict.fromkeys(take[0].action_name for take in takes))

    def cell(action: str, subject: str) -> str:
        key = action, subject
        return f"{frames[key]:,} ({counts[key]})" if counts[key] else "-"

    if len(subjects) <= WIDEST and len(actions) <= LONGEST:
        body = [[name, *(cell(name, who) for who in (*subjects, ""))] for name in (*actions, "")]
        body[-1][0] = "all"
        return text_table([["frames (takes)", *subjects, "all"], *body])
    parts = []
    for title, names, keys in (
        ("subject", subjects, [("", name) for name in subjects]),
        ("action", actions, [(name, "") for name in actions]),
    ):
        body = [[name, cell(*key)] for name, key in zip(names, keys, strict=True)]
        body.sort(key=lambda row: -int(row[1].split()[0].replace(",", "")) if len(body) > LONGEST else 0)
        rest = [[f"and {len(body) - LONGEST} more", ""]] if len(body) > LONGEST else []
        parts.append(text_table([[title, "frames (takes)"], *body[:LONGEST], *rest]))
    return "\n\n".join(parts)


def _cells(take: Take) -> list[tuple[str, str]]:
    subject, action = take[0].subject, take[0].action_name
    return [(action, subject), (action, ""), ("", subject), ("", "")]


def missing_takes(dataset: Dataset, takes: list[Take], left_out: list[str]) -> list[str]:
    """What is not there that one could expect, and what that means, a line each.

    Args:
        dataset: The data set.
        takes: Its takes.
        left_out: What preparing it left out.
    """
    lines = [f"left out when it was prepared: {listed(left_out, 10)}"] if left_out else []
    if dataset.name != "h36m":
        return lines
    there = Counter((take[0].subject, take[0].action_name) for take in takes)
    absent = []
    for subject in dataset.train + dataset.test:
        for action in ACTIONS:
            expected = TAKES - ((subject, action) == CORRUPT)
            if there[subject, action] < expected:
                absent.append(f"{subject}, {action}: {there[subject, action]} of {expected}")
    frames = sum(len(take[0]) for take in takes if take[0].subject in dataset.train)
    if absent:
        lines.append(f"missing of Human3.6M's takes: {listed(absent, 10)}")
    if frames != TRAINING_FRAMES:
        share = TRAINING_FRAMES / frames
        whole = abs(share / round(share) - 1) < 0.02 and round(share) > 1 and not absent
        thinned = f", as if one frame of {round(share)} had been kept" if whole else ""
        lines.append(
            f"training subjects have {frames:,} frames, Human3.6M's have {TRAINING_FRAMES:,}{thinned}"
        )
    if lines:
        lines[-1] += ": figures on it are not the field's"
    return lines

"""Looks at data sets before anyone trains on them: ``python -m dataset.check``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    from common.h36m import Dataset
    from dataset.check_samples import Fault

FAULTS_FOUND, NOT_CHECKED = 1, 2


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset.check",
        description="Says what a data set holds and what is wrong with it, and draws some of its poses. "
        "Without --dataset: which data sets are ready. Exit codes: 0 nothing is wrong, 1 something is, 2 a "
        "wrong call, or files that cannot be read.",
        allow_abbrev=False,
    )

    def add(*flags: str, **keywords: Any) -> None:
        parser.add_argument(*flags, **keywords)

    add("--dataset", metavar="NAME", help="h36m, sample, or a data set that dataset.prepare has made")
    add("-k", "--keypoints", metavar="SOURCE",
        help="source of the key points, as in the file's name (default: the one main.py takes, or else "
        "the one that there is)")  # fmt: skip
    add(
        "--root_path",
        metavar="DIR",
        type=Path,
        help="folder of the data (default: where the data set belongs)",
    )
    add("--cache_dir", metavar="DIR", type=Path, help="folder for the converted data (default: beside them)")
    add("--sheet", metavar="FILE.png", type=Path, help="where to draw the poses (default: check_NAME.png)")
    add("--no_sheet", action="store_true", help="draw nothing")
    options = parser.parse_args(argv)
    if not options.dataset and (options.keypoints or options.sheet or options.no_sheet or options.cache_dir):
        parser.error("-k, --cache_dir, --sheet and --no_sheet go with --dataset NAME")
    if options.sheet and options.no_sheet:
        parser.error("--sheet and --no_sheet: give one of the two")
    return options


def run(options: argparse.Namespace) -> int:
    """Checks a data set, or lists all; the exit code.

    Raises:
        UserError: The data set is not there, cannot be read, or the sheet cannot be written.
    """
    from common import cache
    from common.prepared import ROOT, dataset_named
    from dataset.check_counts import count_table, keypoint_sources, missing_takes, overview, summary
    from dataset.check_findings import findings

    if not options.dataset:
        print(overview(options.root_path or Path(ROOT)))
        return 0
    dataset = dataset_named(options.dataset, options.root_path)
    sheet = options.sheet or Path(f"check_{dataset.name}.png")
    if sheet.is_dir():
        raise UserError(f"--sheet {sheet}: this is a folder; expected the name of a file")
    root = options.root_path or Path(dataset.root)
    keypoints = options.keypoints or keypoint_sources(dataset, root)[0]
    poses = cache.load(dataset, root, keypoints, options.cache_dir)
    rate, left_out = _facts(dataset, root)
    found = findings(poses, rate)
    title = f"{dataset.name}, {keypoints} key points"
    sections = [
        f"{title}, in {root}\n{summary(dataset, poses, found.takes)}",
        count_table(found.takes),
        "\n".join([*missing_takes(dataset, found.takes, left_out), found.figures]),
        _verdict(found.faults),
    ]
    print("\n\n".join(sections))
    if not options.no_sheet and found.samples:
        from dataset.check_sheet import contact_sheet

        contact_sheet(sheet, found.samples, title)
        print(f"wrote {sheet}")
    return FAULTS_FOUND if found.faults else 0


def _facts(dataset: Dataset, root: Path) -> tuple[float | None, list[str]]:
    """Frames a second, and what was left out, as far as the index of a prepared data set tells."""
    from common.pose_files import read_poses

    facts = read_poses(root / dataset.name)[1] if dataset.prepared else {}
    rate, lists = facts.get("fps"), [facts.get("missing"), facts.get("left_out")]
    left_out = [str(name) for names in lists if isinstance(names, list) for name in names]
    return (float(rate) if isinstance(rate, int | float) and rate > 0 else None), left_out


def _verdict(faults: list[Fault]) -> str:
    if not faults:
        return "nothing wrong was found"
    counted = f"{len(faults)} things are wrong:" if len(faults) > 1 else "one thing is wrong:"
    return "\n".join([counted, *(f"- {kind}: {found}.\n  {remedy}." for kind, found, remedy in faults)])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code: 0 sound, 1 something is wrong, 2 not checked."""
    options = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        return run(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except MemoryError:
        print("error: the memory is full", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return NOT_CHECKED


if __name__ == "__main__":
    sys.exit(main())

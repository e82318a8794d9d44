"""From the files that people download to those that ``main.py`` reads: ``python -m dataset.prepare``."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.console import UserError, configure_output, run_command

CAMERAS = 14  # of MPI-INF-3DHP's training set

log = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset.prepare", description="Makes data sets ready for main.py."
    )
    commands = parser.add_subparsers(dest="command", metavar="NAME", required=True)

    def command(name: str, text: str) -> Callable[..., argparse.Action]:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False).add_argument

    h36m = command("h36m", "Human3.6M: its archives, their CDF files, h36m.zip, or npz files")
    h36m("--source", type=Path, required=True, help="folder with Poses_D3_Positions_S*.tgz, unpacked .cdf "
         "files, h36m.zip (packed or not) or data_3d_h36m.npz; or one such file")  # fmt: skip
    dhp = command("3dhp", "MPI-INF-3DHP, in its own layout")
    dhp("--source", type=Path, required=True, help="folder with S1 to S8 and mpi_inf_3dhp_test_set")
    dhp("--skeleton", choices=("universal", "metric"), default="universal", help="universal: poses scaled to "
        "one height, as the field scores them; metric: as they were (default: %(default)s)")  # fmt: skip
    dhp("--cameras", type=_cameras, default=_cameras("0,2,4,5,6,7,8"), metavar="0,2,...", help="training "
        "cameras, or all (default: those at about the height of the chest)")  # fmt: skip
    dhp("--name", help="name of the data set (default: 3dhp, or 3dhp_metric)")
    mocap = command("mocap", "motion capture: BVH, or ASF and AMC")
    mocap("--source", type=Path, required=True, help="folder with .bvh files, or .asf and .amc files")
    mocap("--name", required=True, help="name of the data set, for main.py --dataset NAME")
    mocap("--origin", help="where the files are from and under which licence: kept with the data set")
    mocap("--subjects_test", metavar="A,B", help="subjects to test on; all others are trained on")
    mocap("--test_share", type=_within(0, 1), default=0.2, metavar="FRACTION", help="of files to "
          "test on, whoever is in them, without --subjects_test (default: %(default)s)")  # fmt: skip
    mocap("--subject", choices=("auto", "folder", "prefix"), default="auto", help="what names the "
          "subject: the folder, the name up to the first _, or a number in it as in CMU's")  # fmt: skip
    mocap("--joint_map", type=Path, metavar="FILE", help="JSON: which joint of the files is which of ours")
    mocap("--fps", type=_within(5, 240), default=50.0, help="of the data set (default: %(default)s)")
    mocap("--source_fps", type=_within(20, 2000), help="frames per second of the files, whatever they state")
    units = ("m", "cm", "mm", "inch", "dm", "cmu")
    mocap("--unit", choices=units, help="of the files (default: by the legs)")
    mocap("--up", choices=("y", "z", "-y"), help="axis that points up (default: by the poses)")
    mocap("--skip_bad", action="store_true", help="continue without the files that cannot be used")
    for each in (h36m, dhp, mocap):
        each("--output", type=Path, default=Path("dataset"), metavar="DIR", help="(default: dataset)")
    noise = command("noise", "the errors of a 2D detector, for main.py --keypoint_noise")
    noise("-k", "--keypoints", required=True, metavar="SOURCE", help="whose errors")
    noise("--output", type=Path, required=True, metavar="FILE.json")
    noise("--dataset", default="h36m", metavar="NAME", help="(default: %(default)s)")
    noise("--root_path", type=Path, metavar="DIR", help="folder of its files")
    noise("--cache_dir", type=Path, metavar="DIR", help="folder for the converted data")
    return parser.parse_args(argv)


def _within(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not low <= float(text) <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, found {text}")
        return float(text)

    return number


def _cameras(text: str) -> tuple[int, ...]:
    numbers = {*range(CAMERAS)} if text == "all" else {*map(int, text.split(","))}
    if not numbers <= {*range(CAMERAS)}:
        raise argparse.ArgumentTypeError(f"expected numbers of 0 to {CAMERAS - 1}, or all; found {text}")
    return tuple(sorted(numbers))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code: 0, 1 for a failure, 2 for an invalid call or file."""
    options = vars(parse(argv))
    configure_output()
    return run_command(lambda: _run(**options))


def _run(command: str, output: Path, **options: Any) -> None:
    if command == "noise":
        return _measure(output=output, **options)
    data = ["-k", "gt"]
    if command == "h36m":
        from dataset import h36m

        h36m.prepare(options["source"], output)
    else:
        name = options.pop("name") or {"universal": "3dhp", "metric": "3dhp_metric"}[options["skeleton"]]
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name, re.ASCII) or name in ("h36m", "sample"):
            raise UserError(f"--name {name}: expected letters, digits, _ . or -, and neither h36m nor sample")
        if os.path.lexists(output / name):
            raise UserError(f"{output / name} exists: remove it, or choose another --name")
        from dataset import mocap, mpi_inf_3dhp

        (mocap if command == "mocap" else mpi_inf_3dhp).prepare(folder=output / name, **options)
        data = ["--dataset", name]
    root = [] if output == Path("dataset") else ["--root_path", str(output)]
    log.info("train: %s", shlex.join(["python", "main.py", "--train", "-n", "NAME", *data, *root]))


def _measure(
    *, keypoints: str, output: Path, dataset: str, root_path: Path | None, cache_dir: Path | None
) -> None:
    from common.data import find_dataset, load
    from common.noise import measure_noise, write_noise

    chosen = find_dataset(dataset, root_path)
    found, true = (load(chosen, root_path, source, cache_dir, chosen.train) for source in (keypoints, "gt"))
    if found.sequences != true.sequences:
        raise UserError(f"-k {keypoints}: expected keypoints of the same poses as gt, found others")
    write_noise(output, measure_noise(found.keypoints, true.keypoints))
    log.info("wrote %s; train: python main.py --train -n NAME -k gt --keypoint_noise %s", output, output)


if __name__ == "__main__":
    sys.exit(main())

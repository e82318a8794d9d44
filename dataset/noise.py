"""The errors of a 2D detector, measured on a data set: ``python -m dataset.prepare noise``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from common.errors import DataError

TRUE = "gt"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument("-k", "--keypoints", required=True, metavar="SOURCE", help="whose errors")
    parser.add_argument("--output", required=True, metavar="FILE.json", help="for main.py --keypoint_noise")
    parser.add_argument("--dataset", default="h36m", metavar="NAME", help="data set (default: %(default)s)")
    parser.add_argument("--root_path", metavar="DIR", help="folder of its files")
    parser.add_argument("--cache_dir", metavar="DIR", help="folder for the converted data")


def run(options: argparse.Namespace) -> None:
    """Measures how far a detector's key points are from the true ones, on the training subjects alone.

    Raises:
        DataError: The files are missing, or do not hold the same poses.
    """
    from common import cache, keypoint_noise
    from common.prepared import dataset_named
    from common.skeleton import JOINT_NAMES

    dataset = dataset_named(options.dataset, Path(options.root_path) if options.root_path else None)
    root = Path(options.root_path or dataset.root)
    folder = Path(options.cache_dir) if options.cache_dir else None
    found, true = (
        cache.load(dataset, root, source, folder).subjects(dataset.train)
        for source in (options.keypoints, TRUE)
    )
    if found.sequences != true.sequences:
        raise DataError(
            f"{root}: the key points {options.keypoints} and {TRUE} are not of the same poses; "
            "both belong to one data_3d file"
        )
    try:
        noise = keypoint_noise.measured(found.keypoints, true.keypoints)
    except ValueError as error:
        raise DataError(f"-k {options.keypoints}: {error}") from error
    keypoint_noise.write(options.output, noise)
    log.info("errors of %s on %s, in hundredths of a person's size:", options.keypoints, true)
    for name, scale in zip(JOINT_NAMES, noise.scales, strict=True):
        log.info("  %-16s %.2f", name, 100 * scale)
    log.info("Student's t with %.1f degrees of freedom; wrote %s", noise.degrees, options.output)
    log.info("train with it by: python main.py --train -n NAME -k gt --keypoint_noise %s", options.output)

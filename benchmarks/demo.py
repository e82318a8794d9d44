"""The demo on images and videos: ``python -m benchmarks.demo IMAGE_OR_VIDEO ...``.

Of images: people, milliseconds, and the distance of the lifted pose to BlazePose's own 3D points over twelve
limb joints after similarity alignment, a disagreement of two networks. Of videos: tracks, network passes and
frames per second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from common.metrics import p_mpjpe
from common.skeleton import COCO17, H36M17
from demo import Estimator
from demo.lib.detectors import MODES
from demo.lib.media import is_video, read_image

LIMBS = tuple(name for name in COCO17.joints[5:] if name in H36M17.joints)


def image(path: Path, estimator: Estimator) -> str:
    """One line on an image."""
    pixels = read_image(path)
    estimator(pixels)  # the first call is not counted
    start = time.perf_counter()
    result = estimator(pixels)
    taken = time.perf_counter() - start
    with estimator.borrowed() as detector:
        people = detector(pixels)
    apart = []
    for track, person in zip(result.tracks, people, strict=False):
        if person.world is not None:
            pose = track.poses[:, H36M17.indices(LIMBS)].astype(np.float64)
            apart.append(
                p_mpjpe(pose, person.world[None, COCO17.indices(LIMBS)].astype(np.float64))[0] * 1000
            )
    distances = ", ".join(f"{value:.0f}" for value in apart) or "-"
    return (
        f"{path.name}: {len(result.tracks)} people, {taken * 1e3:.0f} ms, {distances} mm from BlazePose's 3D"
    )


def video(path: Path, estimator: Estimator) -> str:
    """One line on a video."""
    start = time.perf_counter()
    result = estimator(path)
    taken = time.perf_counter() - start
    with estimator.borrowed() as detector:
        passes = getattr(detector, "passes", {})
    counts = ", ".join(f"{count / result.frame_count:.2f} {name}" for name, count in passes.items())
    rate = result.frame_count / taken
    return (
        f"{path.name}: {len(result.tracks)} people, {rate:.1f} frames per second, passes per frame: {counts}"
    )


def main() -> None:
    """Prints a line for each input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description="Measure the demo.")
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--mode", choices=MODES, default="balanced")
    args = parser.parse_args()
    for path in args.inputs:
        estimator = Estimator(mode=args.mode)
        print((video if is_video(path) else image)(path, estimator), flush=True)


if __name__ == "__main__":
    main()

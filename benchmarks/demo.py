"""The demo on images and videos: ``python -m benchmarks.demo IMAGE_OR_VIDEO ...``.

Of images: people, milliseconds, and the distance of the lifted pose to BlazePose's own 3D points over twelve
limb joints after similarity alignment, a disagreement of two networks. Of videos: tracks, network passes and
frames per second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from common.metrics import p_mpjpe
from common.skeleton import COCO17, H36M17
from demo import Estimator
from demo.lib.detectors import MODES
from demo.lib.media import is_video, read_image

LIMBS = tuple(name for name in COCO17.joints[5:] if name in H36M17.joints)


def measure(path: Path, estimator: Estimator) -> str:
    """One line on an image or a video."""
    source = path if is_video(path) else read_image(path)
    if source is not path:
        estimator(source)  # the first call is not counted
    start = time.perf_counter()
    result = estimator(source)
    taken = time.perf_counter() - start
    people = f"{path.name}: {len(result.tracks)} people"
    with estimator.borrowed() as detector:
        if source is path:
            passes = getattr(detector, "passes", {})
            counts = ", ".join(f"{count / result.frame_count:.2f} {name}" for name, count in passes.items())
            return f"{people}, {result.frame_count / taken:.1f} frames per second, passes per frame: {counts}"
        found = detector(source)
    apart = []
    for track, person in zip(result.tracks, found, strict=False):
        if person.world is not None:
            pose = track.poses[:, H36M17.indices(LIMBS)].astype(float)
            apart.append(1000 * p_mpjpe(pose, person.world[None, COCO17.indices(LIMBS)].astype(float))[0])
    distances = ", ".join(f"{value:.0f}" for value in apart) or "-"
    return f"{people}, {taken * 1e3:.0f} ms, {distances} mm from BlazePose's 3D"


def main() -> None:
    """Prints a line for each input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description="Measure the demo.")
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--mode", choices=MODES, default="balanced")
    args = parser.parse_args()
    for path in args.inputs:
        print(measure(path, Estimator(mode=args.mode)), flush=True)


if __name__ == "__main__":
    main()

"""Soaks the webcam path: ``python -m benchmarks.soak [--minutes 60] [--render] [--json FILE]``.

A made-up webcam gives its frames as fast as they are taken to the demo's own command: recording, finding and
following, lifting, smoothing, saving. All along, the memory, open files and threads of the process are read.
What may grow is known by its size: the key points of the people found, which are kept to be lifted, and the
index of the recording, which an MP4 has at its end. What grows beside that is a leak, and the exit code is 1.
``--detector none`` exchanges BlazePose for one that knows where the person is, so that an hour takes minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.made_up_webcam import FPS, Camera, Knowing
from benchmarks.soak_meter import Meter
from common.files import write_json
from demo import vis
from demo.lib import detectors, outputs
from demo.lib.person import Person

ALLOWED_MB = 16.0
"""What memory may grow by beyond what is kept by design: the allocator's and the networks' ups and downs."""


def soak(minutes: float, folder: Path, options: Sequence[str], detector: Any = None) -> dict[str, Any]:
    """Plays so many minutes of frames to the demo's command, which writes to a folder.

    More of its options can be given, and a detector in the place of its own. Returns what memory, open files
    and threads did in each phase, and ``leaks``, a phrase for each.
    """
    meter, load = Meter(), detectors.load
    camera = Camera(round(minutes * 60 * FPS), lambda: meter.frame("recording"))

    def watched(*which: Any) -> Any:
        found: Any = detector or load(*which)  # type: ignore[arg-type]
        found.track = counted(found.track)
        return found

    def counted(track: Callable[[np.ndarray], list[Person]]) -> Callable[[np.ndarray], list[Person]]:
        def look(image: np.ndarray) -> list[Person]:
            meter.frame("looking")
            people = track(image)
            meter.poses += len(people)
            return people

        return look

    class Writer(outputs.VideoWriter):
        def write(self, frame: np.ndarray) -> None:
            meter.frame("rendering")
            super().write(frame)

    call = ["--webcam", "0", "--max_frames", str(camera.frames), "--output", str(folder), "--device", "cpu"]
    with ExitStack() as stack:
        stack.enter_context(patch("demo.lib.video._open_camera", lambda _: camera))
        stack.enter_context(patch("demo.lib.detectors.load", watched))
        stack.enter_context(patch("demo.lib.outputs.VideoWriter", Writer))
        code = vis.main([*call, *options])
    phases = {phase: meter.growth(phase) for phase in meter.frames}
    most = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert most is not None
    taken = {"exit_code": code, "taken": camera.taken, "failed": camera.failed, "poses": meter.poses}
    return {**taken, **phases, "most_mb": round(int(most[1]) * 1.024e-3, 1), "leaks": leaks(phases)}


def leaks(phases: dict[str, dict[str, Any]]) -> list[str]:
    """What grew in a phase and should not have."""
    said = []
    for phase, grown in phases.items():
        if grown["beyond_mb"] > ALLOWED_MB:
            said.append(f"{phase}: {grown['beyond_mb']} MB beyond what is kept by design")
        for what in ("files", "threads"):
            first, last = grown[what]
            if last > first:
                said.append(f"{phase}: {what} went from {first} to {last}")
    return said


def main() -> int:
    """Soaks, prints and writes the figures; returns 1 if something leaks or the demo failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of frames, 1 or more (default: 60)")
    parser.add_argument("--detector", choices=("blazepose", "none"), default="blazepose")
    parser.add_argument("--render", action="store_true", help="render a video and a page too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.minutes < 1 or not Path("/proc/self/status").is_file():
        parser.error("expected --minutes of 1 or more, and Linux, which has /proc to read from")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {args.json.parent}")
    options = ["--detector", "blazepose", "--previous_dir", "sample", "--smooth", "--save", "npz", "json"]
    options += ["--html"] if args.render else ["--no-render"]
    with tempfile.TemporaryDirectory() as folder:
        found = soak(args.minutes, Path(folder), options, Knowing() if args.detector == "none" else None)
    found = {"detector": args.detector, **found}
    print(json.dumps(found, indent=1))
    if args.json:
        write_json(args.json, found)
    return 1 if found["leaks"] or found["exit_code"] else 0


if __name__ == "__main__":
    sys.exit(main())

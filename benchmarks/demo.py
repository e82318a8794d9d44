"""Measures the demo: ``python -m benchmarks.demo --pictures FILES --video FILE [--previous_dir NAME]``.

Pictures: how far each lifted pose is from BlazePose's own 3D points of the same person. It is the mean over
the twelve limb joints (shoulders, elbows, wrists, hips, knees, ankles), which both skeletons have at the same
places, after one has been turned, scaled and shifted to fit the other best (P-MPJPE). BlazePose's points are
another network's guess and no truth: the figure shows disagreement, not error. Each pose is lifted as the
demo does, in a window round the person, and as the published demonstration does, where the person is in the
image.

Windows (``--windows``): the lifter on the bundled sample's test subjects, true key points, as they are in the
image, shrunk about the middle of it and moved aside: what it makes of people whom it was not trained on.

Video: as with ``--no-render``. Overhead is what reading, cropping, following and all else take, in percent of
the time inside the networks. The video is played in loops as one long video, and the memory held is read
after each; it grows by the people's key points alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import checkpoint
from common.camera import h36m_cameras, project, world_to_camera
from common.h36m import DATASETS, read_takes
from common.metrics import mpjpe, p_mpjpe
from common.skeleton import H36M_32_KEPT, JOINT_NAMES, ROOT
from demo.lib import blazepose, detectors
from demo.lib.inputs import read_picture
from demo.lib.keypoints import COCO_NAMES
from demo.lib.lifting import lift_keypoints
from demo.lib.person import Person
from demo.lib.pipeline import Lifter, Stages, from_frames, from_picture
from demo.lib.video import Video
from demo.vis import CHECKPOINTS, DETECTORS
from model import HTNet

LIMBS = [name for name in COCO_NAMES if name in JOINT_NAMES]
COCO_LIMBS, H36M_LIMBS = ([names.index(name) for name in LIMBS] for names in (COCO_NAMES, JOINT_NAMES))


def disagreement(pose: np.ndarray, person: Person) -> float:
    """Mean distance in mm of a lifted pose (17, 3) and BlazePose's points of a person, after alignment."""
    assert person.world is not None
    lifted, other = pose[None, H36M_LIMBS] * 1000, person.world[None, COCO_LIMBS] * 1000
    return float(p_mpjpe(lifted, other)[0])


def measure_picture(path: Path, detect: Callable[[np.ndarray], list[Person]], lifter: Lifter) -> list[dict]:
    """The people of a picture, each with height, scores and the distance of both poses to BlazePose's."""
    image = read_picture(path)
    people = detect(image)
    results = [
        from_picture(image, str(path), lambda _: people, replace(lifter, window=window), Stages())
        for window in (True, False)
    ]
    return [
        {
            "picture": path.name,
            "height_px": round(float(np.ptp(person.keypoints[:, 1]))),
            "mean_score": round(float(person.scores.mean()), 2),
            "low_joints": int((person.scores < 0.3).sum()),
            "window_mm": round(disagreement(in_window.poses[0], person), 1),
            "image_mm": round(disagreement(in_image.poses[0], person), 1),
        }
        for person, in_window, in_image in zip(people, *(result.tracks for result in results), strict=True)
    ]


def measure_windows(lifter: Lifter, *, step: int = 11) -> list[dict[str, Any]]:
    """MPJPE (P1) and P-MPJPE (P2), mm, on every ``step``-th frame of S9 and S11, without and with windows."""
    keypoints, poses = [], []
    sample = DATASETS["sample"]
    for take in read_takes(sample, Path(sample.root), "gt"):
        for camera in h36m_cameras()[take.subject] if take.subject in ("S9", "S11") else ():
            seen = world_to_camera(take.world[::step, H36M_32_KEPT].astype(float), camera)
            poses.append(seen - seen[:, [ROOT]])
            keypoints.append(project(seen, camera) / camera.width)
    target, points = np.concatenate(poses) * 1000, np.concatenate(keypoints)
    cases = {"as it is": points, "moved by 0.3 of the width": points + np.array([0.3, 0])}
    cases |= {f"shrunk to {share:.0%}": (points - 0.5) * share + 0.5 for share in (0.6, 0.2)}
    rows = []
    for name, case in cases.items():
        rows.append({"people": name, "poses": len(case)})
        for seen_in in ("image", "window"):
            window = seen_in == "window"
            lifted = lift_keypoints(lifter.model, case, (1, 1), device=lifter.device, window=window) * 1000
            rows[-1][f"P1_{seen_in}_mm"] = round(float(mpjpe(lifted, target).mean()), 1)
            rows[-1][f"P2_{seen_in}_mm"] = round(float(p_mpjpe(lifted, target).mean()), 1)
    return rows


@contextmanager
def networks_timed(model: torch.nn.Module) -> Iterator[dict[str, float]]:
    """Gives a dictionary that the seconds inside BlazePose's networks and the lifter are added up in."""
    spent = {"BlazePose": 0.0, "lifter": 0.0}
    original = blazepose.Network.__call__
    started = 0.0

    def timed(network: blazepose.Network, image: np.ndarray) -> Any:
        start = time.perf_counter()
        outputs = original(network, image)
        spent["BlazePose"] += time.perf_counter() - start
        return outputs

    def before(*_: Any) -> None:
        nonlocal started
        started = time.perf_counter()

    def after(*_: Any) -> None:
        spent["lifter"] += time.perf_counter() - started

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    blazepose.Network.__call__ = timed  # type: ignore[method-assign,assignment]
    try:
        yield spent
    finally:
        blazepose.Network.__call__ = original  # type: ignore[method-assign]
        for hook in hooks:
            hook.remove()


def resident_mb() -> float:
    """Memory that this process holds now, MB; where the system does not say, the most that it held."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


def measure_video(
    path: Path, detector: blazepose.BlazePose, lifter: Lifter, *, loops: int, max_frames: int | None
) -> dict[str, Any]:
    """Frames per second, time inside the networks, overhead, and memory after each loop."""
    memory: list[float] = []
    stages = Stages()

    def frames() -> Iterator[np.ndarray]:
        for _ in range(loops):
            with Video(path) as video:
                yield from islice(video, max_frames)
            memory.append(round(resident_mb(), 1))
            print(f"loop {len(memory)} of {loops}: {memory[-1]} MB", file=sys.stderr, flush=True)

    detector.reset()
    detector.passes = dict.fromkeys(detector.passes, 0)
    assert isinstance(lifter.model, torch.nn.Module)
    with networks_timed(lifter.model) as spent:
        start = time.perf_counter()
        result = from_frames(frames(), str(path), 25.0, detector.track, lifter, stages)
        total = time.perf_counter() - start
    networks = sum(spent.values())
    seconds = {"total": total, **stages.seconds}
    seconds |= {f"inside {name}": value for name, value in spent.items()}
    beside = (total - spent["lifter"]) / spent["BlazePose"] - 1
    return {
        "video": path.name,
        "frames": result.frame_count,
        "people": len(result.tracks),
        "poses": sum(len(track.frames) for track in result.tracks),
        "frames_per_second": round(result.frame_count / total, 2),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "passes": dict(detector.passes),
        "overhead_beside_blazepose_percent": round(100 * beside, 1),
        "ms_per_pass": round(1000 * spent["BlazePose"] / sum(detector.passes.values()), 1),
        "overhead_percent": round(100 * (total / networks - 1), 1),
        "resident_mb": memory,
    }


def load_lifter(name: str) -> Lifter:
    """The lifter of a name under ckpt/, a folder or a file, on the CPU."""
    path = checkpoint.find_weights(name, CHECKPOINTS)
    sizes: dict[str, Any] = checkpoint.network_sizes(checkpoint.read_weights(path))
    model = HTNet(**sizes).eval()
    checkpoint.load_weights(model, path)
    return Lifter(model, torch.device("cpu"), checkpoint.describe(path))


def main() -> None:
    """Runs both measurements and prints them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", nargs="*", type=Path, default=[], metavar="FILE")
    parser.add_argument("--windows", action="store_true", help="score the lifter inside and outside windows")
    parser.add_argument("--video", type=Path, metavar="FILE")
    parser.add_argument("--previous_dir", default="sample", metavar="NAME", help="lifter (default: sample)")
    parser.add_argument("--loops", type=int, default=1, help="how often the video is played (default: 1)")
    parser.add_argument("--max_frames", type=int, metavar="N", help="take the first N frames of the video")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    lifter = load_lifter(args.previous_dir)
    detector = detectors.load("blazepose", DETECTORS, torch.device("cpu"))
    assert isinstance(detector, blazepose.BlazePose)
    found: dict[str, Any] = {"lifter": lifter.name}
    print(f"lifter: {lifter.name}")
    found["pictures"] = [row for path in args.pictures for row in measure_picture(path, detector, lifter)]
    found["windows"] = measure_windows(lifter) if args.windows else []
    for row in found["pictures"] + found["windows"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if args.video:
        found["video"] = measure_video(
            args.video, detector, lifter, loops=args.loops, max_frames=args.max_frames
        )
        for name, value in found["video"].items():
            print(f"{name}: {value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

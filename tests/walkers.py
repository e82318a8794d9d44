"""Two people of the bundled sample, as the demo would have found them: what tests show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.camera import h36m_cameras, project, rotate, world_to_camera
from common.h36m import DATASETS, read_takes
from common.skeleton import H36M_32_KEPT, NUM_JOINTS, ROOT
from demo.lib.result import Result, Track

FPS = 25.0


def walkers(*, frames: int = 40, placed: bool = True) -> Result:
    """A walker (1) on the left and a kicker (2) on the right, who comes in at frame 10.

    The kicker's frames 20 to 24 are filled in, and the walker's right wrist has a low score throughout. With
    ``placed`` people have a root, so that the view has them where they were; without it, side by side.
    """
    camera = h36m_cameras()["S11"][0]
    sample = DATASETS["sample"]
    takes = {(take.subject, take.action): take.world for take in read_takes(sample, Path(sample.root), "gt")}
    right = rotate(np.array([1.0, 0.0, 0.0]), camera.orientation) * [1, 1, 0]  # level with the floor
    tracks = []
    for number, (action, metres, first) in enumerate((("Walk", -0.9, 0), ("Kick", 0.9, 10)), start=1):
        world = takes["S11", action][: frames - first, H36M_32_KEPT].astype(np.float64) + metres * right
        seen = world_to_camera(world, camera)
        scores = np.full((len(world), NUM_JOINTS), 0.9, np.float32)
        scores[:, 16] = 0.1 if number == 1 else 0.9
        numbers = np.arange(first, first + len(world))
        tracks.append(
            Track(
                id=number,
                frames=numbers,
                keypoints=project(seen, camera).astype(np.float32),
                scores=scores,
                interpolated=(number == 2) & (numbers >= 20) & (numbers < 25),
                poses=(seen - seen[:, [ROOT]]).astype(np.float32),
                upright=world.astype(np.float32),
                root=seen[:, ROOT].astype(np.float32) if placed else None,
            )
        )
    size = camera.width, camera.height
    return Result("walkers.mp4", size, frames, FPS, tracks, {"lifter": "none, this is the truth"})


def pictures(result: Result) -> Iterator[np.ndarray]:
    """A smooth grey picture for each frame of a result, brighter from frame to frame; (H, W, 3) uint8."""
    width, height = result.image_size
    slope = np.linspace(60, 160, height)[:, None, None] + np.linspace(0, 40, width)[:, None]  # (H, W, 1)
    first = np.repeat(slope.astype(np.uint8), 3, axis=2)  # (H, W, 3)
    for number in range(result.frame_count):
        yield first + np.uint8(50 * number // result.frame_count)

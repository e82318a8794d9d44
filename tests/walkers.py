"""Two people of the bundled sample, as the demo would have found them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.camera import h36m_cameras
from common.files import read_npz
from common.skeleton import H36M_32_KEPT, NUM_JOINTS, ROOT
from demo.lib.result import Result, Track

SAMPLE = Path(__file__).parent.parent / "dataset" / "sample" / "data_3d_sample.npz"
FPS = 25.0


def walkers(*, frames: int = 40, placed: bool = True) -> Result:
    """A walker (1) on the left and a kicker (2) on the right, who comes in at frame 10.

    The kicker's frames 20 to 24 are interpolated, and the walker's right wrist has a low score throughout.
    With ``placed`` people have a root position; without it the viewer puts them side by side.
    """
    camera = h36m_cameras()["S11"][0]
    takes = read_npz(SAMPLE)["positions_3d"]["S11"]
    right = camera.rotation() @ [1.0, 0.0, 0.0] * [1, 1, 0]  # level with the floor
    tracks = []
    for number, (action, metres, first) in enumerate((("Walk", -0.9, 0), ("Kick", 0.9, 10)), start=1):
        world = takes[action][: frames - first, H36M_32_KEPT].astype(np.float64) + metres * right
        seen = camera.to_camera(world)
        scores = np.full((len(world), NUM_JOINTS), 0.9, np.float32)
        scores[:, 16] = 0.1 if number == 1 else 0.9
        numbers = np.arange(first, first + len(world))
        tracks.append(
            Track(
                id=number,
                frames=numbers,
                keypoints=camera.project(seen).astype(np.float32),
                scores=scores,
                interpolated=(number == 2) & (numbers >= 20) & (numbers < 25),
                poses=(seen - seen[:, [ROOT]]).astype(np.float32),
                upright=world.astype(np.float32),
                root=seen[:, ROOT].astype(np.float32) if placed else None,
            )
        )
    size = camera.width, camera.height
    return Result(
        "walkers.mp4", size, frames, FPS, tracks=tracks, notes={"lifter": "none, this is the truth"}
    )


def images(result: Result) -> Iterator[np.ndarray]:
    """A smooth grey image for each frame of a result, brighter from frame to frame; (H, W, 3) uint8."""
    width, height = result.image_size
    slope = np.linspace(60, 160, height)[:, None, None] + np.linspace(0, 40, width)[:, None]  # (H, W, 1)
    first = np.repeat(slope.astype(np.uint8), 3, axis=2)  # (H, W, 3)
    for number in range(result.frame_count):
        yield first + np.uint8(50 * number // result.frame_count)

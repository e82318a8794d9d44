"""Lifting errors by posture, view and what is hidden: ``python -m benchmarks.postures --help``.

People are lifted as the demo lifts them, each in its own window; errors are of true positions, in mm.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from common.camera import denormalize_pixels
from common.console import progress, text_table
from common.files import write_json
from common.metrics import mpjpe, p_mpjpe
from common.noise import KeypointNoise, add_noise
from common.poses import read_poses
from common.skeleton import JOINT_NAMES, LEFT_LEG, RIGHT_ARM, RIGHT_LEG
from demo.lib.lifting import find_lifter, lift_keypoints, load_lifter

AT = {name: index for index, name in enumerate(JOINT_NAMES)}
FROM_ABOVE = 35.0  # degrees that the camera looks down at the person


def _degrees(vectors: np.ndarray, axis: Sequence[float]) -> np.ndarray:
    """(N,) angles between vectors (N, 3) and an axis."""
    return np.degrees(np.arccos((vectors @ axis / np.linalg.norm(vectors, axis=1)).clip(-1, 1)))


def groups(world: np.ndarray, camera: np.ndarray) -> dict[str, np.ndarray]:
    """Members (N,) of each posture and view.

    Args:
        world: (N, 17, 3) poses, z up.
        camera: (N, 3) direction from the person to the camera, the same axes.
    """
    trunk = _degrees(world[:, AT["thorax"]] - world[:, AT["pelvis"]], [0, 0, 1])
    thighs = [world[:, knee] - world[:, hip] for hip, knee, _ in (LEFT_LEG, RIGHT_LEG)]
    level = np.minimum(*(_degrees(thigh, [0, 0, -1]) for thigh in thighs)) > 50
    wrists = world[:, [AT["left_wrist"], AT["right_wrist"]], 2]
    high = (wrists > world[:, AT["head"], None, 2]).any(axis=1)
    across = world[:, LEFT_LEG[0]] - world[:, RIGHT_LEG[0]]
    forward = np.cross(across, world[:, AT["thorax"]] - world[:, AT["pelvis"]])
    forward[:, 2] = 0
    flat = camera * [1, 1, 0]
    cosine = (forward * flat).sum(1) / (np.linalg.norm(forward, axis=1) * np.linalg.norm(flat, axis=1) + 1e-9)
    facing = np.degrees(np.arccos(cosine.clip(-1, 1)))
    above = 90 - _degrees(camera, [0, 0, 1]) > FROM_ABOVE
    return {
        "upright": (trunk < 30) & ~level,
        "arms up": (trunk < 30) & high,
        "sitting, squatting": (trunk < 45) & level,
        "bent": (trunk >= 30) & (trunk < 65),
        "lying": (trunk >= 65) & (trunk < 115),
        "upside down": trunk >= 115,
        "from the front": (facing < 45) & ~above,
        "from the side": (facing >= 45) & (facing < 135) & ~above,
        "from behind": (facing >= 135) & ~above,
        "from above": above,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints P1 and P2 of each group for each lifter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared sets, caches")
    parser.add_argument("--weights", nargs="+", default=["open"], help="lifters")
    parser.add_argument("--subjects", nargs="+", help="subjects [all]")
    parser.add_argument("--poses", type=int, default=4000, help="poses, spread over each set")
    parser.add_argument("--json", type=Path, help="file for the table")
    args = parser.parse_args(argv)
    keypoints, positions, members = [], [], []
    cameras: list[tuple[tuple[int, int], float]] = []  # of each pose, image size and focal length, pixels
    for folder in args.data:
        poses, _ = read_poses(folder)
        takes = [take for take in poses.sequences if not args.subjects or take.subject in args.subjects]
        step = max(1, sum(len(take) for take in takes) // args.poses)
        for take in takes:
            if take.orientation is None:
                continue
            rows = slice(take.start + step // 2 % len(take), take.stop, step)
            points = np.asarray(poses.positions[rows], np.float64)
            turn = Rotation.from_quat(np.roll(take.orientation, -1))  # x, y, z, w: camera to world
            pelvis = turn.apply(points[:, 0])
            world = turn.apply(points.reshape(-1, 3)).reshape(points.shape) - pelvis[:, None]
            members.append(groups(world, -pelvis))
            positions.append(points - points[:, :1])
            seen = np.asarray(poses.keypoints[rows], np.float64)
            keypoints.append(denormalize_pixels(seen, *take.image_size))
            focal = float(take.intrinsics[0]) * take.image_size[0] / 2
            cameras += [(take.image_size, focal)] * len(points)
    true, pixels = np.concatenate(positions), torch.from_numpy(np.concatenate(keypoints))
    noisy = add_noise(pixels, KeypointNoise(), torch.Generator().manual_seed(0)).numpy()
    legs, arm = noisy.copy(), noisy.copy()
    for hip, *below in (LEFT_LEG, RIGHT_LEG):
        legs[:, below] = noisy[:, [hip]]
    arm[:, RIGHT_ARM[1:]] = noisy[:, RIGHT_ARM[:1]]
    inputs = {"true keypoints": pixels.numpy(), "noisy": noisy, "an arm hidden": arm, "legs hidden": legs}
    masks = {"all": np.ones(len(true), dtype=bool)}
    masks |= {name: np.concatenate([group[name] for group in members]) for name in members[0]}
    table: dict[str, dict[str, list[float]]] = {}
    rows_of = {camera: np.flatnonzero([camera == each for each in cameras]) for camera in set(cameras)}
    for weights in args.weights:
        run = load_lifter(find_lifter(weights), torch.device("cpu"))
        for name, points in inputs.items():
            poses3d = np.empty(true.shape)
            for (size, focal), own in progress(rows_of.items()):
                poses3d[own] = lift_keypoints(run, points[own], size, focal=focal)
            errors = 1e3 * np.stack([mpjpe(poses3d, true), p_mpjpe(poses3d, true)], axis=1)
            table[f"{weights}, {name}"] = {
                group: [*errors[mask].mean(axis=0).round(1).tolist(), int(mask.sum())]
                for group, mask in masks.items()
                if mask.any()
            }
    lines = [["P1 / P2, mm", "poses", *table]]
    for group, (_, _, count) in next(iter(table.values())).items():
        cells = [f"{row[group][0]:.1f} / {row[group][1]:.1f}" for row in table.values()]
        lines.append([group, str(count), *cells])
    print(text_table(lines))
    if args.json:
        write_json(args.json, table)


if __name__ == "__main__":
    main()

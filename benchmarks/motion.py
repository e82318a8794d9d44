"""Lifted against fitted videos, on motion capture: ``python -m benchmarks.motion --data dataset/held_out``.

Each take is seen by the virtual camera it was prepared with. Keypoints get a detector's errors: noise that is
correlated over time and along limbs, runs of swapped arms or legs, limbs that are hidden, gaps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from common.camera import denormalize_pixels
from common.console import progress, text_table
from common.files import write_json
from common.metrics import n_mpjpe, p_mpjpe
from common.poses import PoseSet, read_poses
from common.skeleton import LEFT_ARM, LEFT_LEG, RIGHT_ARM, RIGHT_LEG
from demo.api import Estimator
from demo.lib.lifting import place
from demo.lib.motion import JOINT, PARENT
from demo.lib.result import Result, Track

LIMBS = (RIGHT_LEG, LEFT_LEG, RIGHT_ARM, LEFT_ARM)
SPREAD, CORRELATION_S = 0.012, 0.1  # of the person's size; seconds over which the error persists
RUN_S, RUNS_PER_S = 0.5, 0.1  # seconds that limbs stay swapped or hidden, and how often that begins
GAP_S = 0.2
STILL_M_S = 0.1  # metres per second: slower ankles are in contact
ANKLES = [RIGHT_LEG[2], LEFT_LEG[2]]


def detect(
    true: np.ndarray, fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints (T, 17, 2) as a detector gives them, scores (T, 17) and frames (F,) found, of true pixels."""
    size = np.ptp(true, axis=1).max(axis=1)[:, None, None]  # (T, 1, 1)
    noise = gaussian_filter1d(rng.standard_normal((2, *true.shape)), CORRELATION_S * fps, axis=1)
    noise /= noise.std()
    for limb in LIMBS:
        noise[0, :, limb[1:]] += noise[1, :, limb[:1]]
    found = true + noise[0] * size * SPREAD
    scores = np.full(true.shape[:2], 0.9)
    for start in np.flatnonzero(rng.random(len(true)) < RUNS_PER_S / fps):
        rows, kind = slice(start, start + max(1, round(RUN_S * fps))), rng.integers(4)
        right, left = (LIMBS[:2], LIMBS[2:])[kind % 2]
        if kind < 2:
            found[rows, right], found[rows, left] = found[rows, left].copy(), found[rows, right].copy()
        else:
            hidden = (right, left)[rng.integers(2)][1:]
            found[rows, hidden] += rng.standard_normal((1, len(hidden), 2)) * size[rows] * 0.08
            scores[rows, hidden] = 0.15
    kept = np.ones(len(true), dtype=bool)
    middle = len(true) // 2
    kept[middle : middle + round(GAP_S * fps)] = False
    return found, scores, np.flatnonzero(kept)


def seen(poses: PoseSet, number: int, rate: float, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """One take at another rate: positions (T, 17, 3) in camera space, metres, and pixels (T, 17, 2)."""
    take = poses.sequences[number]
    rows = slice(take.start, take.stop)
    positions = np.asarray(poses.positions[rows], np.float64)
    times = np.arange(len(positions)) / rate
    positions = CubicSpline(times, positions)(np.arange(0, times[-1], 1 / fps))
    focal, center = np.array(take.intrinsics[:2]), np.array(take.intrinsics[2:])
    points = positions[..., :2] / positions[..., 2:] * focal + center
    return positions, denormalize_pixels(points, *take.image_size)


def measure(true: np.ndarray, poses: np.ndarray, root: np.ndarray, fps: float) -> dict[str, float]:
    """Errors of poses (T, 17, 3), root at 0, with the path (T, 3), against positions (T, 17, 3), metres."""
    centred = true - true[:, :1]
    absolute = poses + root[:, None]
    step, walked = 1 / fps, true[:, 0]
    still = np.linalg.norm(np.diff(true[:, ANKLES], axis=0), axis=-1) / step < STILL_M_S
    slide = np.linalg.norm(np.diff(absolute[:, ANKLES], axis=0), axis=-1) / step
    lengths = np.linalg.norm(poses[:, JOINT] - poses[:, PARENT], axis=-1)
    factor = (root * walked).sum() / (root**2).sum()  # one scale for the whole path
    path = np.linalg.norm(root * factor - walked, axis=1).mean()
    distance = np.linalg.norm(np.diff(walked, axis=0), axis=1).sum()
    change = np.diff(poses - centred, axis=0) / step
    return {
        "P1 scaled, mm": 1e3 * n_mpjpe(poses, centred).mean(),
        "P2, mm": 1e3 * p_mpjpe(poses, centred).mean(),
        "MPJVE, mm/s": 1e3 * np.linalg.norm(change, axis=-1).mean(),
        "acceleration error, mm/s2": 1e3 * np.linalg.norm(np.diff(change, axis=0) / step, axis=-1).mean(),
        "bone length deviation, mm": 1e3 * lengths.std(axis=0).mean(),
        "foot sliding, mm/s": 1e3 * float(slide[still].mean()) if still.any() else float("nan"),
        "path error, % of the distance": 100 * float(path / distance) if distance > 1 else float("nan"),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table of errors as lifted and as fitted, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a set prepared by dataset.prepare mocap")
    parser.add_argument("--weights", help="lifter [the demo's default]")
    parser.add_argument("--rates", type=float, nargs="+", default=[25, 60, 240], help="frames per second")
    parser.add_argument("--takes", type=int, default=12, help="takes, spread over the set")
    parser.add_argument("--focal", choices=("true", "assumed"), default="true")
    parser.add_argument("--json", type=Path, help="file for the table")
    args = parser.parse_args(argv)
    poses, metadata = read_poses(args.data)
    long = [n for n, take in enumerate(poses.sequences) if take.stop - take.start > 90 and take.camera == 0]
    chosen = [long[n] for n in np.linspace(0, len(long) - 1, args.takes).astype(int)]
    estimator = Estimator(detector=None, weights=args.weights, motion=True)
    table: dict[str, dict[str, float]] = {}
    for fps in args.rates:
        rows: dict[str, list[dict[str, float]]] = {"as lifted": [], "fitted": []}
        frames, seconds, worse = 0, 0.0, 0
        for number in progress(chosen):
            true, pixels = seen(poses, number, metadata["fps"], fps)
            take = poses.sequences[number]
            found, scores, kept = detect(pixels, fps, np.random.default_rng(number))
            every = np.arange(len(true))
            filled = np.stack(
                [np.interp(every, kept, v) for v in found[kept].reshape(len(kept), -1).T], axis=1
            )
            keypoints = filled.reshape(found.shape).astype(np.float32)
            track = Track(1, every, keypoints, scores.astype(np.float32), ~np.isin(every, kept))
            size = take.image_size
            estimator.focal = float(take.intrinsics[0]) * size[0] / 2 if args.focal == "true" else None
            estimator.motion = False
            plain = estimator.lift(Result("lifted", size, len(true), fps, tracks=[track])).tracks[0]
            root = place(plain.poses, plain.keypoints, size, focal=estimator.focal)
            rows["as lifted"].append(measure(true, plain.poses.astype(float), root, fps))
            estimator.motion = True
            began = time.perf_counter()
            track = Track(1, every, keypoints, scores.astype(np.float32), ~np.isin(every, kept))
            fitted = estimator.lift(Result("fitted", size, len(true), fps, tracks=[track])).tracks[0]
            seconds, frames = seconds + time.perf_counter() - began, frames + len(true)
            assert fitted.root is not None
            rows["fitted"].append(measure(true, fitted.poses.astype(float), fitted.root.astype(float), fps))
            key = "P1 scaled, mm"
            worse += int(rows["fitted"][-1][key] > 1.02 * rows["as lifted"][-1][key])
        for name, measured in rows.items():
            means = {key: float(np.nanmean([row[key] for row in measured])) for key in measured[0]}
            table[f"{fps:g}/s {name}"] = means
        table[f"{fps:g}/s fitted"] |= {
            "frames/s, lifted and fitted": frames / seconds,
            "takes worse by 2 %": worse,
        }
    keys = list(dict.fromkeys(key for row in table.values() for key in row))
    cells = [[key, *(f"{row[key]:.1f}" if key in row else "-" for row in table.values())] for key in keys]
    print(text_table([["", *table], *cells]))
    if args.json:
        write_json(args.json, table)


if __name__ == "__main__":
    main()

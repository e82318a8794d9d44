"""Times the metrics beside the network: ``python -m benchmarks.metrics [--poses 42000]``.

The poses are random: their number decides the time, not what they show. The network's time on all of them,
with the mirrored input averaged, is reckoned from a part of them lifted in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from common import metrics, summary
from common.sequences import Sequence

ACTIONS = 15
FRAMES = 200
LIFTED = 2048


def timed(name: str, function: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Runs a function a few times, prints its best time, and returns what it gave and that time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    print(f"{name:20s} {min(times):8.3f} s")
    return result, min(times)


def network_seconds(count: int) -> float:
    """Seconds that HTNet at its published size takes for ``count`` poses and their mirror images."""
    import torch

    from common.evaluate import BATCH
    from common.flip import lift
    from model import HTNet

    model, keypoints = HTNet().eval(), torch.zeros(BATCH, 1, 17, 2)
    with torch.inference_mode():
        lift(model, keypoints)
        times = []
        for _ in range(LIFTED // BATCH):
            start = time.perf_counter()
            lift(model, keypoints)
            times.append(time.perf_counter() - start)
    return float(np.median(times)) / BATCH * count


def random_poses(count: int) -> tuple[np.ndarray, np.ndarray, list[Sequence]]:
    """Predicted and true poses (count, 17, 3), mm, root-relative, in sequences of 200."""
    rng = np.random.default_rng(0)
    target = rng.normal(scale=300, size=(count, 17, 3)).astype(np.float32)
    predicted = target + rng.normal(scale=30, size=target.shape).astype(np.float32)
    sequences = [
        Sequence("S9", f"Action{i % ACTIONS}", 0, row, min(row + FRAMES, count), (1, 1, 0, 0), (1000, 1000))
        for i, row in enumerate(range(0, count, FRAMES))
    ]
    return predicted - predicted[:, :1], target - target[:, :1], sequences


def main() -> None:
    """Times each metric alone, all of them together, and their summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--poses", type=int, default=42000, help="number of poses (default: %(default)s)")
    count = parser.parse_args().poses
    predicted, target, sequences = random_poses(count)
    print(f"{count} poses in {len(sequences)} sequences, best of 3 runs")
    for metric in (metrics.mpjpe, metrics.p_mpjpe, metrics.n_mpjpe, metrics.pck, metrics.auc):
        timed(metric.__name__, partial(metric, predicted, target))
    scores, scoring = timed("score (all metrics)", partial(metrics.score, predicted, target, sequences))
    _, summing = timed("summarize", partial(summary.summarize, scores, sequences))
    network = network_seconds(count)
    print(f"{'network, mirrored too':20s} {network:8.3f} s")
    print(f"all metrics and their summary take {(scoring + summing) / network:.4f} of the network's time")


if __name__ == "__main__":
    main()

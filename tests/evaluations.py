"""Evaluations that need no network: random poses of some sequences, and errors of a chosen size."""

from __future__ import annotations

import numpy as np

from common import metrics
from common.evaluate import Evaluation, root_relative
from common.sequences import PoseSet, Sequence
from common.summary import summarize

TAKES = (
    ("S9", "Walking", 0, 5, 0, 1),
    ("S9", "Walking 1", 1, 4, 10, 5),
    ("S11", "Eating", 0, 3, 0, 1),
    ("S11", "Walking", 1, 4, 7, 2),
)
"""Subject, action, camera, poses, first frame and step of the sequences."""


def make_poses(takes=TAKES, seed=0):
    """Poses of random joints 2 to 6 metres away, about 0.3 metres from each other."""
    sequences, row = [], 0
    for subject, action, camera, size, first_frame, step in takes:
        stop = row + size
        lens = (2.3, 2.3, 0.0, 0.0)
        sequences.append(
            Sequence(subject, action, camera, row, stop, lens, (1000, 1000), first_frame, step),
        )
        row = stop
    rng = np.random.default_rng(seed)
    positions = rng.normal((0, 0, 4), 0.3, size=(row, 17, 3))
    keypoints = positions[..., :2] / positions[..., 2:] * 2.3
    return PoseSet(keypoints.astype(np.float32), positions.astype(np.float32), tuple(sequences))


def evaluation_of(poses, predicted):
    """The evaluation of predicted poses (N, 17, 3), mm."""
    scores = metrics.score(predicted, root_relative(poses) * 1000, poses.sequences)
    return Evaluation(poses, predicted, scores, summarize(scores, poses.sequences, resamples=100))


def make_evaluation(takes=TAKES, noise=50.0, seed=0):
    """Random poses, and predictions with normal errors of ``noise`` mm a coordinate, none at the root."""
    poses = make_poses(takes, seed)
    errors = np.random.default_rng(seed + 1).normal(scale=noise, size=poses.positions.shape)
    errors[:, 0] = 0
    return evaluation_of(poses, root_relative(poses) * 1000 + errors)

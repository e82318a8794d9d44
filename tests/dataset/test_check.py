"""Checking data sets: each error that is injected into the sample is found, and it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.camera import h36m_cameras
from common.data import DATASETS, load
from common.poses import PoseSet, Sequence, read_poses, write_poses
from common.skeleton import COCO17, JOINT_NAMES, MIRROR
from dataset.check import check, main

Change = Callable[[Sequence, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Of a sequence, its keypoints (F, 17, 2) and positions (F, 17, 3)."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> PoseSet:
    return load(DATASETS["sample"], cache_dir=tmp_path_factory.mktemp("cache"), subjects=("S9", "S11"))


def changed(poses: PoseSet, change: Change) -> PoseSet:
    keypoints, positions = np.array(poses.keypoints), np.array(poses.positions)
    for each in poses.sequences:
        rows = slice(each.start, each.stop)
        keypoints[rows], positions[rows] = change(each, keypoints[rows], positions[rows])
    return PoseSet(keypoints, positions, poses.sequences)


def world_rotated(each: Sequence, positions: np.ndarray) -> np.ndarray:
    """Positions with the world's y where z should be."""
    camera = next(c for own in h36m_cameras().values() for c in own if c.orientation == each.orientation)
    world = camera.to_world(positions)
    lying = np.stack([world[..., 0], world[..., 2], -world[..., 1]], axis=-1)
    return camera.to_camera(lying + np.array([0, 0, 1]))


def nan(each: Sequence, keypoints: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positions[3, 5] = np.nan
    return keypoints, positions


COCO = [JOINT_NAMES.index(name) if name in JOINT_NAMES else 10 for name in COCO17.joints]
ERRORS: dict[str, tuple[str, Change]] = {
    "millimetres": ("units: expected metres", lambda s, k, p: (k, p * 1000)),
    "centimetres": ("units: expected metres", lambda s, k, p: (k, p * 100)),
    "up": ("up: heads are above feet along", lambda s, k, p: (k, world_rotated(s, p))),
    "positions swapped": ("left and right: swapped in positions:", lambda s, k, p: (k, p[:, MIRROR])),
    "keypoints swapped": ("left and right: swapped in keypoints:", lambda s, k, p: (k[:, MIRROR], p)),
    "both swapped": ("swapped in positions and keypoints", lambda s, k, p: (k[:, MIRROR], p[:, MIRROR])),
    "joint order": ("joint order: bone", lambda s, k, p: (k, p[:, COCO])),
    "NaN": ("NaN", nan),
    "behind": ("behind the camera", lambda s, k, p: (k, p - [0, 0, 20])),
    "keypoint order": ("keypoints: over", lambda s, k, p: (k[:, COCO], p)),
    "image size": ("keypoints: over", lambda s, k, p: (k * 2, p)),
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_injected_error_is_found(sample: PoseSet, error: str) -> None:
    text, change = ERRORS[error]
    problems, takes = check(changed(sample, change))
    assert len(takes) == 10
    assert any(text in problem for problem in problems), problems
    if error != "both swapped":
        assert len(problems) == 1 and len(next(iter(problems.values()))) >= 8, problems


def test_swapped_cameras_are_found(sample: PoseSet) -> None:
    keypoints = np.array(sample.keypoints)
    views = {(each.subject, each.action, each.camera): each for each in sample.sequences}
    for (subject, action, camera), each in views.items():
        other = views[subject, action, (1, 2, 0, 3)[camera]]
        keypoints[each.start : each.stop] = sample.keypoints[other.start : other.stop]
    problems, _ = check(PoseSet(keypoints, sample.positions, sample.sequences))
    assert len(problems) == 1 and "[2, 0, 1, 3]" in next(iter(problems))


def test_sound_sets_pass(sample: PoseSet) -> None:
    noise = 0.01 * np.random.default_rng(0).standard_t(3, sample.keypoints.shape).astype(np.float32)
    unknown = tuple(replace(each, orientation=None) for each in sample.sequences)  # then y is down
    for keypoints, sequences in ((0, sample.sequences), (noise, sample.sequences), (0, unknown)):
        assert check(PoseSet(sample.keypoints + keypoints, sample.positions, sequences))[0] == {}


@pytest.mark.parametrize(("scale", "code"), [(1, 0), (1000, 1)])
def test_command_reports_a_prepared_set(
    sample: PoseSet, tmp_path: Path, capsys: Any, scale: int, code: int
) -> None:
    rows = [(each, slice(each.start, each.stop)) for each in sample.sequences]
    views = [(each, sample.keypoints[r], sample.positions[r] * scale) for each, r in rows]
    metadata = {"train": ["S9"], "test": ["S11"], "keypoints": "gt", "origin": "", "left_out": ["a.bvh: cut"]}
    write_poses(tmp_path / "made", views, metadata)
    assert read_poses(tmp_path / "made")[1]["train"] == ["S9"]
    sheet = tmp_path / "sheet.png"
    assert main(["--dataset", "made", "--root_path", str(tmp_path), "--sheet", str(sheet)]) == code
    out = capsys.readouterr().out
    assert "a.bvh" in out and "left_wrist" in out and ("units" in out) == bool(code)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert main(["--root_path", str(tmp_path)]) == 0
    assert "made: ready" in capsys.readouterr().out
    assert main(["--dataset", "nothing", "--root_path", str(tmp_path)]) == 2

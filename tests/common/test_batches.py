"""Training batches: every sample once, in an order that seed and epoch give, in shares of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.augment import VirtualCameras, augmentation
from common.batches import Arrays, Batches
from common.camera import h36m_cameras
from common.data import DATASETS, load
from common.noise import KeypointNoise
from common.poses import PoseSet
from common.skeleton import mirror
from model.refine import back_project

CPU = torch.device("cpu")


@pytest.fixture
def poses(folder: Path) -> PoseSet:
    return load(DATASETS["h36m"], folder, "gt")


def batches(poses: PoseSet, **options: object) -> Batches:
    settings: dict = {"batch_size": 32, "mirrored": True, "seed": 1, "device": CPU} | options
    return Batches(poses, **settings)


def everything(poses: PoseSet) -> object:
    return augmentation(poses, cameras=VirtualCameras(), poses=True, noise=KeypointNoise(), device=CPU)


def same(first: tuple, second: tuple) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_epoch_shows_every_pose_and_its_mirror_image_once(poses: PoseSet) -> None:
    seen = torch.cat([batch.keypoints for batch in batches(poses).epoch(1)])[:, 0]
    straight = torch.from_numpy(np.array(poses.keypoints))
    expected = torch.cat([straight, mirror(straight)])
    key = lambda points: sorted(map(tuple, points.flatten(1).tolist()))  # noqa: E731
    assert key(seen) == key(expected)


def test_gathered_sample_is_what_its_own_camera_sees(poses: PoseSet) -> None:
    rows = torch.arange(len(poses))
    batch = Arrays(poses, CPU).gather(rows)
    for row in (0, len(poses) // 2, len(poses) - 1):
        sequence = next(each for each in poses.sequences if each.start <= row < each.stop)
        camera = h36m_cameras()[sequence.subject][sequence.camera]
        np.testing.assert_allclose(batch.intrinsics[row], camera.intrinsics(), rtol=1e-6)
        position = poses.positions[row]
        np.testing.assert_array_equal(batch.target[row, 0], position - position[:1])
        assert batch.root_depth[row, 0] == position[0, 2]


def test_mirrored_sample_is_a_projection_by_its_mirrored_camera(poses: PoseSet) -> None:
    """Lens distortion, which the intrinsics leave out, is below 4 cm at the edge of the image."""
    for batch in batches(poses).epoch(1):
        assert (batch.target[:, :, 0] == 0).all()
        found = back_project(batch.keypoints, batch.target[..., 2], batch.root_depth, batch.intrinsics)
        assert (found - batch.target).norm(dim=-1).max() < 0.1
        assert (found - batch.target).norm(dim=-1).median() < 0.02


def test_epoch_order_follows_from_seed_and_epoch(poses: PoseSet) -> None:
    whole = list(batches(poses).epoch(2))
    assert len(whole) == len(batches(poses)) == -(-2 * len(poses) // 32)
    assert same(next(batches(poses).epoch(2)), whole[0])
    for other in (batches(poses).epoch(3), batches(poses, seed=2).epoch(2)):
        assert not torch.equal(next(other).keypoints, whole[0].keypoints)


@pytest.mark.parametrize("augmented", [False, True])
def test_epoch_resumes_from_any_step_with_the_same_batches(poses: PoseSet, augmented: bool) -> None:
    options = {"augment": everything(poses) if augmented else None}
    whole = list(batches(poses, **options).epoch(2))
    for first in (1, len(whole) - 1, len(whole)):
        rest = list(batches(poses, **options).epoch(2, first=first))
        assert len(rest) == len(whole) - first
        assert all(map(same, whole[first:], rest))


@pytest.mark.parametrize("augmented", [False, True])
def test_shares_of_two_ranks_make_the_whole_batch(
    poses: PoseSet, monkeypatch: pytest.MonkeyPatch, augmented: bool
) -> None:
    options = {"augment": everything(poses) if augmented else None, "batch_size": 33}
    whole = [batches(poses, **options).whole(1, number) for number in range(len(batches(poses, **options)))]
    parts = []
    monkeypatch.setattr("common.distributed.world", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("common.distributed.rank", lambda rank=rank: rank)
        parts.append(list(batches(poses, **options).epoch(1)))
    for expected, first, second in zip(whole, *parts, strict=True):
        assert same(expected, tuple(torch.cat(pair) for pair in zip(first, second, strict=True)))


def test_batches_leave_the_poses_as_they_are(poses: PoseSet) -> None:
    before = poses.keypoints.copy(), poses.positions.copy()
    for batch in batches(poses, augment=everything(poses)).epoch(1):
        for tensor in batch:
            tensor.zero_()
    np.testing.assert_array_equal(poses.keypoints, before[0])
    np.testing.assert_array_equal(poses.positions, before[1])

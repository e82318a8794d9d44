"""What the command line's options make of the training samples."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common import augmentation, cache, keypoint_noise
from common.batches import Batches
from common.errors import UserError
from common.h36m import DATASETS
from common.keypoint_noise import KeypointNoise
from common.pose_augmentation import PoseAugmentation
from common.sequences import PoseSet, joined, thinned
from common.skeleton import PARENTS
from common.virtual_cameras import VirtualCameras

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def poses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    sample = DATASETS["sample"]
    return thinned(cache.load(sample, Path(sample.root), "gt", folder), downsample=20)


def batches(poses, **what):
    augment = augmentation.augmentation(poses, device=CPU, **what)
    return Batches(poses, batch_size=64, mirrored=True, seed=3, device=CPU, augment=augment)


def bones(target):
    joints = list(range(1, 17))
    return (target[..., joints, :] - target[..., [PARENTS[joint] for joint in joints], :]).norm(dim=-1)


def test_nothing_asked_for(poses):
    assert augmentation.augmentation(poses, device=CPU) is None


def test_virtual_cameras_see_the_same_people_from_elsewhere(poses):
    """Bones stay as long as they are; what is seen changes from epoch to epoch, and not from run to run."""
    plain, seen = batches(poses), batches(poses, cameras=VirtualCameras())
    recorded, first = next(plain.epoch(1)), next(seen.epoch(1))
    torch.testing.assert_close(bones(first.target), bones(recorded.target), rtol=1e-4, atol=1e-5)
    assert (first.keypoints - recorded.keypoints).abs().mean() > 0.05
    again = next(batches(poses, cameras=VirtualCameras()).epoch(1))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first.keypoints, next(seen.epoch(2)).keypoints)


def test_a_pose_keeps_its_row_through_a_shuffled_epoch(poses):
    """Each is turned by the orientation of its own camera: from straight cameras everybody stands upright."""
    level = VirtualCameras(pitch=(0, 0), roll=(0, 0))
    walking = poses.select(each for each in poses.sequences if each.action.startswith("Walk"))
    for batch in batches(walking, cameras=level).epoch(1):
        head = batch.target[:, 0, 10]  # (B, 3) y points down
        assert (head[:, 1] < -0.4).all()


def test_poses_change_only_if_asked(poses):
    changed = next(batches(poses, cameras=VirtualCameras(), figures=PoseAugmentation()).epoch(1))
    recorded = next(batches(poses).epoch(1))
    assert (bones(changed.target) - bones(recorded.target)).abs().max() > 0.01


def test_noise_alone_keeps_the_truth(poses):
    noise = KeypointNoise()
    noisy, recorded = next(batches(poses, noise=noise).epoch(1)), next(batches(poses).epoch(1))
    assert torch.equal(noisy.target, recorded.target)
    difference = (noisy.keypoints - recorded.keypoints).abs()
    assert 0 < difference.median() < 0.05


def test_data_that_do_not_say_where_up_is(poses):
    lost = PoseSet(
        poses.keypoints, poses.positions, tuple(replace(s, orientation=None) for s in poses.sequences)
    )
    with pytest.raises(UserError, match=r"not known where up is in S1, .*camera 0"):
        augmentation.augmentation(lost, cameras=VirtualCameras(), device=CPU)
    assert augmentation.augmentation(lost, noise=KeypointNoise(), device=CPU) is not None


def test_ranges():
    assert augmentation.virtual_cameras("default") == VirtualCameras()
    cameras = augmentation.virtual_cameras("pitch=-5:40, margin=0.1")
    assert (cameras.pitch, cameras.margin, cameras.yaw) == ((-5, 40), 0.1, (-180, 180))


@pytest.mark.parametrize(
    "text", ["", "pitch", "pitch=1", "pitch=3:1", "pitch=a:b", "tilt=1:2", "margin=1:2", "pitch=1:2:3"]
)
def test_ranges_that_are_none(text):
    with pytest.raises(UserError, match=r"--virtual_cameras .*: expected"):
        augmentation.virtual_cameras(text)


def test_joined_sets(poses):
    halves = [poses.select(poses.sequences[:5]), poses.select(poses.sequences[5:])]
    whole = joined(halves)
    assert (whole.keypoints == poses.keypoints).all() and (whole.positions == poses.positions).all()
    assert whole.sequences == poses.select(poses.sequences).sequences
    assert joined([poses]) is poses


def test_named_noise_reaches_the_key_points(poses, tmp_path):
    path = tmp_path / "noise.json"
    strong = replace(KeypointNoise(), scales=tuple(10 * scale for scale in KeypointNoise().scales))
    keypoint_noise.write(path, strong)
    weak = next(batches(poses, noise=keypoint_noise.named("default")).epoch(1)).keypoints
    far = next(batches(poses, noise=keypoint_noise.named(str(path))).epoch(1)).keypoints
    recorded = next(batches(poses).epoch(1)).keypoints
    assert (far - recorded).abs().median() > 5 * (weak - recorded).abs().median()

"""Augmentation: new cameras, changed poses, a detector's errors, and windows around people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common import noise as errors
from common.augment import VirtualCameras, augmentation, see, to_world, virtual_cameras
from common.batches import Arrays, Batch, Batches
from common.camera import h36m_cameras
from common.console import UserError
from common.data import DATASETS, load
from common.noise import KeypointNoise, add_noise, keypoint_noise, measure_noise, write_noise
from common.pose_augment import (
    HINGE,
    PoseAugmentation,
    augment,
    bend_joints,
    exchange_limbs,
    scale_bones,
    sit,
    tilt,
)
from common.poses import PoseSet
from common.skeleton import BONES, H36M_32_KEPT, LEFT_ARM, LEFT_LEG, MIRROR, RIGHT_ARM, RIGHT_LEG
from common.window import person_window

CPU = torch.device("cpu")
CHANGES = (exchange_limbs, bend_joints, sit, tilt)
QUIET = KeypointNoise(scales=(0.0,) * 17, shift=0.0, swapped=0.0, lost=0.0)


@pytest.fixture
def poses(folder: Path) -> PoseSet:
    return load(DATASETS["h36m"], folder, "gt")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bodies(poses: PoseSet) -> torch.Tensor:
    """(N, 17, 3) poses with the world's z up, root at 0."""
    upright = torch.from_numpy(poses.positions[:, :, [0, 2, 1]] * np.float32([1, 1, -1]))
    return upright - upright[:, :1]


def lengths(pose: torch.Tensor) -> torch.Tensor:
    joints, parents = zip(*BONES)
    return (pose[:, joints] - pose[:, parents]).norm(dim=-1)


def project(batch: Batch) -> torch.Tensor:
    """Keypoints of target plus root, whose image is the root's keypoint."""
    focal, center = batch.intrinsics[:, None].chunk(2, dim=-1)
    root = (batch.keypoints[:, 0, :1] - center) / focal * batch.root_depth[:, None]
    points = batch.target[:, 0] + torch.cat([root, batch.root_depth[:, None]], dim=-1)
    return points[..., :2] / points[..., 2:] * focal + center


# What is asked for


def test_augmentation_is_deterministic_and_changes_with_the_epoch(poses: PoseSet) -> None:
    made = augmentation(poses, cameras=VirtualCameras(), poses=True, window=True, device=CPU)
    source = Batches(poses, batch_size=32, mirrored=True, seed=1, device=CPU, augment=made)
    one, again, other = (next(source.epoch(epoch)) for epoch in (1, 1, 2))
    assert torch.equal(one.keypoints, again.keypoints) and torch.equal(one.target, again.target)
    assert not torch.equal(one.keypoints, other.keypoints)


def test_augmentation_needs_an_orientation_and_cameras(poses: PoseSet) -> None:
    unknown = PoseSet(
        poses.keypoints, poses.positions, tuple(replace(each, orientation=None) for each in poses.sequences)
    )
    with pytest.raises(UserError):
        augmentation(unknown, cameras=VirtualCameras(), device=CPU)
    with pytest.raises(UserError):
        augmentation(poses, poses=True, device=CPU)
    assert augmentation(poses, device=CPU) is None


def test_noise_alone_keeps_the_truth(poses: PoseSet) -> None:
    noisy = augmentation(poses, noise=KeypointNoise(), device=CPU)
    assert noisy is not None
    rows = torch.arange(len(poses))
    batch = Arrays(poses, CPU).gather(rows)
    found = noisy(batch, generator(), rows)
    assert torch.equal(found.target, batch.target)
    assert 0 < (found.keypoints - batch.keypoints).abs().median() < 0.05


def test_to_world_undoes_the_rotation_of_the_recorded_camera(poses: PoseSet, files: tuple) -> None:
    sequence = next(each for each in poses.sequences if (each.subject, each.action) == ("S5", "Walking"))
    seen = torch.from_numpy(poses.positions[sequence.start : sequence.stop])
    world = files[0]["S5"]["Walking"][:, H36M_32_KEPT]
    orientation = torch.tensor([h36m_cameras()["S5"][sequence.camera].orientation]).expand(len(seen), 4)
    found = to_world(seen - seen[:, :1], orientation)
    np.testing.assert_allclose(found, world - world[:, :1], atol=1e-5)


# Cameras


@pytest.mark.parametrize("size", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.0])
def test_virtual_cameras_see_everybody_whole(poses: PoseSet, size: float, aspect: float) -> None:
    cameras = VirtualCameras(aspect=(aspect, aspect))
    batch = see(bodies(poses) * size, cameras, generator())
    torch.testing.assert_close(project(batch), batch.keypoints[:, 0], rtol=1e-4, atol=1e-4)
    largest = batch.keypoints.abs().amax((0, 1, 2))
    assert largest[0] <= 1 - cameras.margin + 1e-5
    assert largest[1] <= aspect - cameras.margin + 1e-5
    assert (batch.target[..., 2] + batch.root_depth[:, None]).min() >= cameras.near - 1e-5


def test_virtual_cameras_rotate_people_and_do_not_mirror_them(poses: PoseSet) -> None:
    pose = bodies(poses)
    target = see(pose, VirtualCameras(), generator()).target[:, 0]
    torch.testing.assert_close(lengths(target), lengths(pose), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        torch.linalg.det(target[:, 1:4]), torch.linalg.det(pose[:, 1:4]), rtol=1e-3, atol=1e-4
    )


def test_positive_pitch_looks_down() -> None:
    pose = torch.zeros(4, 17, 3)
    pose[:, 1, 2] = 1  # up
    level = VirtualCameras(pitch=(20, 20), roll=(0, 0))
    seen = see(pose, level, generator()).target[0, 0, 1]
    expected = [0, -np.cos(np.radians(20)), -np.sin(np.radians(20))]
    assert seen.tolist() == pytest.approx(expected, abs=1e-6)


def test_virtual_cameras_are_parsed() -> None:
    cameras = virtual_cameras("pitch=-5:10, margin=0.1")
    assert cameras == VirtualCameras(pitch=(-5, 10), margin=0.1)
    assert virtual_cameras("default") == VirtualCameras()


@pytest.mark.parametrize(
    "text",
    [
        *("", "pitch", "pitch=5", "pitch=9:1", "pitch=a:b", "zoom=1:2", "margin=1:2", "__class__=1"),
        *("pitch=nan:nan", "margin=inf", "aspect=-1:1", "focal_length=0:1", "near=-1"),
        "margin=.2,aspect=.1:1",
    ],
)
def test_ranges_that_are_no_cameras_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="virtual_cameras"):
        virtual_cameras(text)


# Poses


@pytest.mark.parametrize("change", CHANGES)
def test_pose_changes_keep_bone_lengths_and_leave_others_bit_identical(poses: PoseSet, change) -> None:
    pose = bodies(poses)
    changed = change(pose, 1.0, generator())
    torch.testing.assert_close(lengths(changed), lengths(pose), rtol=0, atol=1e-5)
    assert not torch.allclose(changed, pose)
    assert torch.equal(change(pose, 0.0, generator()), pose)
    before, half = pose.clone(), change(pose, 0.5, generator())
    same = (half == pose).flatten(1).all(1)
    assert 0.3 < same.float().mean() < 0.7
    assert torch.equal(pose, before)  # the input is left alone


def test_augmented_poses_follow_from_the_generator_and_stay_finite(poses: PoseSet) -> None:
    pose, state = bodies(poses), torch.get_rng_state()
    pose[::2, 2] = pose[::2, 1]  # a thigh without length
    options = PoseAugmentation(exchange=1, bend=1, sit=0.5, scale=1, tilt=1)
    first, second, other = (augment(pose, options, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert first.isfinite().all() and not first[:, 0].any()
    assert torch.equal(torch.get_rng_state(), state)


def test_scale_bones_is_symmetric(poses: PoseSet) -> None:
    pose = bodies(poses)
    factors = lengths(scale_bones(pose, 1.0, generator())) / lengths(pose)
    for left, right in zip((*LEFT_LEG, *LEFT_ARM), (*RIGHT_LEG, *RIGHT_ARM), strict=True):
        torch.testing.assert_close(factors[:, left - 1], factors[:, right - 1], rtol=1e-3, atol=1e-3)
    assert 0.9 * 0.95 - 1e-3 < factors.min() < 0.95
    assert 1.05 < factors.max() < 1.1 * 1.05 + 1e-3


@pytest.mark.parametrize("limb", [LEFT_LEG, RIGHT_LEG, LEFT_ARM, RIGHT_ARM])
def test_knees_and_elbows_bend_within_the_hinge(poses: PoseSet, limb: tuple[int, int, int]) -> None:
    def flexion(pose: torch.Tensor) -> torch.Tensor:
        base, middle, end = (pose[:, joint] for joint in limb)
        cosine = torch.cosine_similarity(middle - base, end - middle)
        return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))

    assert flexion(bodies(poses)).max() > HINGE[1]  # of these random poses
    for seed in range(3):
        assert flexion(bend_joints(bodies(poses), 1.0, generator(seed), angle=90)).max() <= HINGE[1] + 0.1
    if limb in (LEFT_LEG, RIGHT_LEG):
        seated = flexion(sit(bodies(poses), 1.0, generator()))
        assert 59.9 < seated.min() < seated.max() < 120.1


# A detector's errors


def test_noise_has_the_given_scale_and_is_measured_back() -> None:
    true = torch.rand(4000, 17, 2, generator=generator())
    noise = KeypointNoise(shift=0.0, swapped=0.0, lost=0.0)
    found = measure_noise(add_noise(true, noise, generator(1)).numpy(), true.numpy())
    np.testing.assert_allclose(found.scales, noise.scales, rtol=0.1)
    assert found.degrees == pytest.approx(3, rel=0.15)
    with pytest.raises(UserError):
        measure_noise(true[:50].numpy(), true[:50].numpy())


def test_noise_swaps_limbs_and_loses_joints_as_often_as_stated() -> None:
    true = torch.rand(1, 17, 2, generator=generator(7)).expand(4000, 17, 2)
    assert torch.equal(add_noise(true, QUIET, generator()), true)
    swapped = add_noise(true, replace(QUIET, swapped=0.2), generator())
    for limbs in ((*LEFT_LEG, *RIGHT_LEG), (*LEFT_ARM, *RIGHT_ARM)):
        whole = (swapped[:, limbs] == true[:, MIRROR.tolist()][:, limbs]).flatten(1).all(1)
        kept = (swapped[:, limbs] == true[:, limbs]).flatten(1).all(1)
        assert (whole ^ kept).all() and 0.17 < whole.float().mean() < 0.23
    lost = add_noise(true, replace(QUIET, lost=0.1), generator())
    assert 0.09 < (lost != true).any(-1).float().mean() < 0.11
    assert (lost >= true.amin(1, keepdim=True)).all() and (lost <= true.amax(1, keepdim=True)).all()
    shifted = add_noise(true, replace(QUIET, shift=0.1), generator()) - true
    size = (true[0].amax(0) - true[0].amin(0)).max()
    assert (shifted[:, 0] / size).std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.06)


def test_noise_file_is_read_back_and_others_are_refused(tmp_path: Path) -> None:
    noise, path = KeypointNoise(degrees=4.5, shift=0.01), tmp_path / "noise.json"
    write_noise(path, noise)
    assert keypoint_noise(path) == noise
    assert keypoint_noise("default") == KeypointNoise()
    content = json.loads(path.read_text())
    for change in ({"scales": {}}, {"lost": 2}, {"degrees": 0}, {"shift": "far"}, {"limb": float("nan")}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match="noise"):
            keypoint_noise(path)


def test_detector_noise_moves_and_hides_limbs(poses: PoseSet) -> None:
    batch = see(bodies(poses).repeat(8, 1, 1), VirtualCameras(), generator())
    hidden = errors._hide(batch.keypoints, 1.0, generator())
    gone = (hidden[:, 0, 3] == hidden[:, 0, 2]).all(-1)  # a right ankle on its knee
    assert 0.2 < gone.float().mean() < 0.8
    seen = [0, 1, 4, 7, 8, 9, 10, 11, 14]
    assert torch.equal(hidden[:, :, seen], batch.keypoints[:, :, seen])
    moved = errors._redefined(batch, 1.0, generator()) - batch.keypoints
    assert 0.005 < moved.norm(dim=-1).mean() < 0.06


# Windows


def test_window_is_independent_of_place_and_size_and_rotates_back(poses: PoseSet) -> None:
    batch = see(bodies(poses), VirtualCameras(), generator())
    keypoints, focal = batch.keypoints[:, 0], batch.intrinsics[:, 0]
    seen, rotation = person_window(keypoints, focal)
    torch.testing.assert_close(
        rotation @ rotation.transpose(1, 2), torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0
    )
    assert (seen.amax((1, 2)) <= 1).all()
    larger, same = person_window(keypoints * 7, focal * 7)
    torch.testing.assert_close(larger, seen, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(same, rotation, atol=1e-5, rtol=1e-4)
    # The rotated pose, seen from the same distance, has the same shape in the image.
    root = torch.cat(
        [(keypoints[:, :1]) / focal[:, None, None] * batch.root_depth[:, None], batch.root_depth[:, None]], -1
    )
    points = (batch.target[:, 0] + root) @ rotation.transpose(1, 2)
    again, _ = person_window(points[..., :2] / points[..., 2:] * focal[:, None, None], focal)
    torch.testing.assert_close(again, seen, atol=1e-2, rtol=0)

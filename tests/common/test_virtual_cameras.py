"""New cameras: what they see is consistent, whole, and spread as stated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.batches import Batch
from common.camera import camera_to_world, h36m_cameras, world_to_camera
from common.flip import mirror
from common.skeleton import BONES
from common.virtual_cameras import VirtualCameras, from_camera, to_world
from model.refine import back_project

B = 4000
CAMERAS = VirtualCameras()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def people(number=B, dtype=torch.float32):
    """Random trees of bones of about a person's size: harder to fit in than people are."""
    poses = torch.randn(number, 17, 3, generator=generator(9), dtype=dtype) * 0.35
    poses -= poses[:, :1].clone()
    poses[:, 1] = torch.tensor([0, 0, 1.0])  # A mark for the direction up, see ``upward``.
    return poses


def upward(batch):
    """(B, 3) the world's z axis in the camera's axes: the bone from the root to joint 1."""
    return batch.target[:, 0, 1] - batch.target[:, 0, 0]


def angles(batch):
    """Pitch and roll (B,) in degrees, from where up is."""
    right, down, away = upward(batch).double().unbind(1)
    return torch.rad2deg(torch.asin(-away)), torch.rad2deg(torch.atan2(-right, -down))


@pytest.fixture(scope="module")
def poses():
    return people()


@pytest.fixture(scope="module")
def batch(poses):
    return from_camera(poses, CAMERAS, generator())


def test_a_batch_has_the_shapes_of_the_recorded_ones(batch):
    shapes = [tuple(tensor.shape) for tensor in batch]
    assert shapes == [(B, 1, 17, 2), (B, 1, 17, 3), (B, 1), (B, 4)]
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in batch)
    assert torch.all(batch.target[:, :, 0] == 0)


def test_poses_are_turned_and_nothing_else(poses, batch):
    for joint, parent in BONES:
        before = (poses[:, joint] - poses[:, parent]).norm(dim=-1)
        after = (batch.target[:, 0, joint] - batch.target[:, 0, parent]).norm(dim=-1)
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    # Not mirrored either: three bones keep their orientation in space.
    before = torch.linalg.det(poses[:, 2:5])
    after = torch.linalg.det(batch.target[:, 0, 2:5])
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_key_points_are_the_projection_of_the_target(batch):
    """By the definition of the pinhole, written out in double precision from what a batch holds."""
    target, depth, intrinsics = (each.double() for each in batch[1:])
    focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    root = (batch.keypoints[:, 0, :1].double() - centre) / focal * depth[:, None]  # (B, 1, 2)
    points = target[:, 0] + torch.cat([root, depth[:, None]], dim=-1)
    seen = points[..., :2] / points[..., 2:] * focal + centre
    torch.testing.assert_close(batch.keypoints[:, 0].double(), seen, rtol=0, atol=2e-5)


def test_back_projected_at_the_true_depths_the_key_points_are_the_target(batch):
    back = back_project(batch.keypoints, batch.target[..., 2], batch.root_depth, batch.intrinsics)
    torch.testing.assert_close(back, batch.target, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("aspect", [0.3, 1.0, 2.0])
def test_every_joint_is_in_front_of_the_camera_and_in_the_image(poses, size, aspect):
    cameras = replace(CAMERAS, aspect=(aspect, aspect))
    batch = from_camera(poses * size, cameras, generator())
    assert (batch.target[..., 2] + batch.root_depth[:, :, None]).min() >= cameras.near - 1e-5
    largest = batch.keypoints.abs().amax((0, 1, 2))
    assert largest[0] <= 1 - cameras.margin + 1e-5
    assert largest[1] <= aspect - cameras.margin + 1e-5


def test_people_who_do_not_fit_are_moved_away_by_the_room_that_is_asked_for(poses):
    close, far = (
        from_camera(poses * 4, replace(CAMERAS, room=(room, room), aspect=(1, 1)), generator())
        for room in (1.0, 3.0)
    )
    threefold = (far.root_depth / close.root_depth - 3).abs() < 1e-4
    assert threefold.float().mean() > 0.98, "but for those who would have a joint behind the near plane"
    filled = (close.keypoints.amax(2) - close.keypoints.amin(2)).amax((1, 2))  # (B,)
    assert filled.median() > 1.6


def test_people_are_anywhere_in_the_image(poses):
    batch = from_camera(poses * 0.2, replace(CAMERAS, aspect=(1, 1)), generator())
    middles = (batch.keypoints.amax(2) + batch.keypoints.amin(2))[:, 0] / 2  # (B, 2)
    for axis in middles.unbind(1):
        counts = torch.histc(axis, 4, -1, 1)
        assert counts.min() > B * 0.15


def test_pitch_and_roll_fill_their_ranges(batch):
    pitch, roll = angles(batch)
    for found, (low, high) in ((pitch, CAMERAS.pitch), (roll, CAMERAS.roll)):
        assert low - 0.01 <= found.min() < low + 0.3 and high - 0.3 < found.max() <= high + 0.01
        assert abs(found.mean() - (low + high) / 2) < (high - low) * 0.02


def test_a_positive_pitch_looks_down():
    """From above, what is higher is nearer to the camera."""
    cameras = replace(CAMERAS, pitch=(20, 20), roll=(0, 0))
    up = upward(from_camera(people(8), cameras, generator()))
    down, away = -np.cos(np.radians(20)), -np.sin(np.radians(20))
    torch.testing.assert_close(up[0], torch.tensor([0, down, away], dtype=torch.float32))


def test_yaw_goes_all_around(poses):
    poses = poses.clone()
    poses[:, 2] = torch.tensor([1.0, 0, 0])
    flat = replace(CAMERAS, pitch=(0, 0), roll=(0, 0))
    seen = from_camera(poses, flat, generator()).target[:, 0, 2]  # (B, 3)
    yaw = torch.atan2(seen[:, 0], seen[:, 2])
    counts = torch.histc(yaw, 12, -np.pi, np.pi)
    assert counts.min() > B / 12 * 0.8
    narrow = from_camera(poses, replace(flat, yaw=(0, 0)), generator()).target[:, 0, 2]
    torch.testing.assert_close(narrow, torch.tensor([0, 0, 1.0]).expand(B, 3), rtol=0, atol=1e-6)


def test_focal_length_and_distance_are_of_their_ranges(poses):
    batch = from_camera(poses * 0.3, CAMERAS, generator())
    focal, distance = batch.intrinsics[:, 0], batch.root_depth[:, 0] / batch.intrinsics[:, 0]
    assert torch.equal(batch.intrinsics[:, 0], batch.intrinsics[:, 1]) and not batch.intrinsics[:, 2:].any()
    for found, (low, high) in ((focal, CAMERAS.focal_length), (distance, CAMERAS.distance)):
        assert low - 1e-5 <= found.min() < low + 0.02 and high - 0.02 < found.max() <= high + 1e-5


def test_who_does_not_fit_is_moved_away_no_farther_than_said(poses):
    near = replace(CAMERAS, distance=(0.02, 0.02), room=(1, 1), aspect=(1, 1), focal_length=(3.2, 3.2))
    keypoints = from_camera(poses, near, generator()).keypoints[:, 0]  # (B, J, 2)
    spread = (keypoints.amax(1) - keypoints.amin(1)).amax(1)
    torch.testing.assert_close(spread, torch.full((B,), 2 - 2 * near.margin), rtol=0, atol=1e-4)


def test_a_pose_is_turned_into_the_world_as_its_camera_stands():
    rng = np.random.default_rng(0)
    cameras = [camera for subject in ("S1", "S9") for camera in h36m_cameras()[subject]]
    world = rng.normal(size=(len(cameras), 17, 3))
    seen = np.stack([world_to_camera(pose, camera) for pose, camera in zip(world, cameras, strict=True)])
    assert np.allclose(camera_to_world(seen[3], cameras[3]), world[3])
    target = torch.from_numpy(seen - seen[:, :1])[:, None]
    batch = Batch(target[..., :2], target, target[:, :, 0, 0], target[:, 0, :4, 0])
    orientation = torch.tensor([camera.orientation for camera in cameras], dtype=torch.float64)
    np.testing.assert_allclose(to_world(batch, orientation).numpy(), world - world[:, :1], atol=1e-6)


def test_the_mirror_image_of_what_is_seen_is_as_likely_as_what_is_seen_of_a_mirror_image(poses):
    """Yaw, roll and place prefer no side: directions and places have the same distribution."""
    inside_out = mirror(poses)
    first = mirror(from_camera(poses, CAMERAS, generator(1)).keypoints)[:, 0]
    second = from_camera(inside_out, CAMERAS, generator(2)).keypoints[:, 0]
    for power in (1, 2):
        difference = (first**power).mean(0) - (second**power).mean(0)  # (J, 2)
        assert difference.abs().max() < 0.04


def test_all_follows_from_the_generator(poses):
    torch.manual_seed(1)
    first = from_camera(poses, CAMERAS, generator(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = from_camera(poses, CAMERAS, generator(5)), from_camera(poses, CAMERAS, generator(6))
    assert torch.equal(torch.get_rng_state(), state), "nobody else's numbers are used up"
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.isclose(first.keypoints, other.keypoints).all(-1).all(-1).any()


def test_people_who_are_a_point_are_seen_too():
    batch = from_camera(torch.zeros(5, 17, 3), CAMERAS, generator())
    assert all(torch.isfinite(tensor).all() for tensor in batch)
    assert len(from_camera(torch.zeros(0, 17, 3), CAMERAS, generator()).keypoints) == 0


def test_numbers_keep_their_type():
    batch = from_camera(people(3, torch.float64), CAMERAS, generator())
    assert all(tensor.dtype == torch.float64 for tensor in batch)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pitch", (26.0, -14.0)),
        ("yaw", (0.0, float("nan"))),
        ("distance", (0.0, 1.0)),
        ("focal_length", (-1.6, 3.2)),
        ("aspect", (1.0, float("inf"))),
        ("room", (0.5, 1.0)),
        ("margin", 0.9),
        ("near", 0.0),
    ],
)
def test_cameras_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* found"):
        replace(CAMERAS, **{name: value})

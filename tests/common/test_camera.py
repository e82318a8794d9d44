"""Cameras and skeletons, against numbers written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common import skeleton
from common.camera import Camera, denormalize_pixels, h36m_cameras, normalize_pixels
from common.skeleton import BONES, H36M17, LEFT, MIRROR, RIGHT, Skeleton, mirror

CAMERAS = [camera for cameras in h36m_cameras().values() for camera in cameras]
POINTS = np.random.default_rng(0).normal((0, 0, 1), 0.6, (6, 17, 3))
SKELETONS = [each for each in vars(skeleton).values() if isinstance(each, Skeleton)]


def test_projection_of_a_pinhole_camera() -> None:
    camera = Camera(1000, 800, (1000.0, 1100.0), (500.0, 400.0))
    np.testing.assert_allclose(camera.project(np.array([0.5, -0.2, 2.0])), [750, 290])
    np.testing.assert_allclose(camera.intrinsics(), [2, 2.2, 0, 0], atol=1e-15)


def test_projection_with_distortion_is_the_one_of_the_field() -> None:
    """x = 0.5, y = 0.25, r2 = 0.3125; with k = 0.1, 0.2, 0.3 the radial factor is 1.0599365234375."""
    camera = Camera(1000, 1000, (1000.0, 2000.0), (500.0, 400.0), (0.1, 0.2, 0.3), (0.01, 0.02))
    factor = 1.0599365234375 + 0.01 * 0.5 + 0.02 * 0.25
    expected = [1000 * (0.5 * factor + 0.01 * 0.3125) + 500, 2000 * (0.25 * factor + 0.02 * 0.3125) + 400]
    np.testing.assert_allclose(camera.project(np.array([1.0, 0.5, 2.0])), expected, rtol=1e-12)


def test_camera_space_is_measured_along_the_cameras_axes() -> None:
    quarter = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))  # about z: its x axis points along the world's y
    camera = Camera(9, 9, (1.0, 1.0), (0.0, 0.0), orientation=quarter, translation=(1.0, 2.0, 3.0))
    np.testing.assert_allclose(camera.rotation() @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(camera.to_camera(np.array([1.0, 7.0, 4.0])), [5, 0, 1], atol=1e-12)


@pytest.mark.parametrize("camera", CAMERAS[::5])
def test_world_to_camera_and_back(camera: Camera) -> None:
    np.testing.assert_allclose(camera.to_world(camera.to_camera(POINTS)), POINTS, atol=1e-9)
    np.testing.assert_allclose(camera.to_world(np.zeros(3)), camera.translation)


def test_h36m_cameras_stand_around_the_room_and_look_into_it() -> None:
    assert {"S1", "S5", "S6", "S7", "S8", "S9", "S11"} <= set(h36m_cameras())
    assert {len(cameras) for cameras in h36m_cameras().values()} == {4}
    first = h36m_cameras()["S1"][0]
    np.testing.assert_allclose(first.focal_length, (1145.04940458804, 1143.78109572365))
    for camera in CAMERAS:
        assert math.hypot(*camera.orientation) == pytest.approx(1, abs=1e-6)
        x, y, depth = camera.to_camera(np.array([0.0, 0.0, 1.0]))
        assert 3 < depth < 7 and max(abs(x), abs(y)) < 1  # metres
        assert (camera.rotation() @ [0, 1, 0])[2] < -0.9  # y points down
        assert camera.width == 1000 and camera.height in (1000, 1002)


@pytest.mark.parametrize(("width", "height"), [(1000, 1002), (1920, 1080), (480, 640)])
def test_normalized_pixels_and_back(width: int, height: int) -> None:
    corners = np.array([[0, 0], [width, 0], [width / 2, height / 2], [width, height]])
    ratio = height / width
    expected = [[-1, -ratio], [1, -ratio], [0, 0], [1, ratio]]
    np.testing.assert_allclose(normalize_pixels(corners, width, height), expected, atol=1e-15)
    pixels = np.random.default_rng(1).uniform(-100, 2000, (3, 5, 2))
    there = normalize_pixels(pixels, width, height)
    np.testing.assert_allclose(denormalize_pixels(there, width, height), pixels, rtol=0, atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS[:4])
def test_intrinsics_are_those_of_the_normalized_image(camera: Camera) -> None:
    fx, fy, cx, cy = camera.intrinsics()
    (f, g), (u, v) = camera.focal_length, camera.center
    for x, y, z in POINTS[0] + np.array([0, 0, 5]):
        assert fx * x / z + cx == pytest.approx((f * x / z + u) / camera.width * 2 - 1)
        assert fy * y / z + cy == pytest.approx((g * y / z + v - camera.height / 2) / camera.width * 2)


def test_mirror_swaps_sides_and_is_its_own_inverse() -> None:
    pose = np.random.default_rng(0).normal(0, 1, (2, 17, 3))
    np.testing.assert_array_equal(mirror(mirror(pose)), pose)
    for left, right in zip(LEFT, RIGHT, strict=True):
        np.testing.assert_array_equal(mirror(pose)[:, left], pose[:, right] * [-1, 1, 1])
    assert [H36M17.joints[index] for index in MIRROR] == [swapped(name) for name in H36M17.joints]


def swapped(name: str) -> str:
    return name.replace("left", "X").replace("right", "left").replace("X", "right")


@pytest.mark.parametrize("each", SKELETONS, ids=lambda each: each.name)
def test_skeletons_are_symmetric_trees(each: Skeleton) -> None:
    names = {(each.joints[joint], each.joints[parent]) for joint, parent in each.bones}
    assert {(swapped(joint), swapped(parent)) for joint, parent in names} == names
    assert len(set(each.joints)) == len(each.joints) == len(each.bones) + 1
    for joint in range(len(each.joints)):
        for _ in each.joints:
            joint = max(each.parents[joint], joint if each.parents[joint] < 0 else -1)
        assert each.parents[joint] < 0


def test_networks_joints_follow_their_parents() -> None:
    assert len(H36M17.joints) == 17 and all(parent < joint for joint, parent in BONES)
    assert H36M17.joints[0] == "pelvis" and H36M17.joints[10] == "head"

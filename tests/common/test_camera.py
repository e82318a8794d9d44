"""Cameras, against formulas written out number by number."""

import math

import numpy as np
import pytest

from common.camera import (
    Camera,
    camera_to_world,
    denormalize_pixels,
    h36m_cameras,
    normalize_pixels,
    project,
    rotate,
    world_to_camera,
)

CAMERAS = [camera for cameras in h36m_cameras().values() for camera in cameras]
LENGTH_ERROR = 1e-6
"""Metres: the calibration's quaternions are of length 1 to some 3e-8, and the cameras some 6 m away."""
POINTS = np.random.default_rng(0).normal((0, 0, 1), 0.6, (6, 17, 3))


def axes(camera: Camera) -> list[list[float]]:
    """The camera's x, y and z axis in world space, by q v q* in Hamilton's product."""

    def times(p, q):
        a, b, c, d = p
        e, f, g, h = q
        return [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]

    w, x, y, z = camera.orientation
    units = [(0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    return [times(times((w, x, y, z), unit), (w, -x, -y, -z))[1:] for unit in units]


def seen(point, camera: Camera) -> list[float]:
    """A world point in the camera's space: its offset from the camera, measured along the camera's axes."""
    offset = [p - t for p, t in zip(point, camera.translation, strict=True)]
    return [sum(o * a for o, a in zip(offset, axis, strict=True)) for axis in axes(camera)]


def pixel(point, camera: Camera) -> list[float]:
    """Projection of one point as VideoPose3D does it, one number at a time."""
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x * x + y * y
    k1, k2, k3 = camera.radial_distortion
    p1, p2 = camera.tangential_distortion
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * x + p2 * y
    (fx, fy), (cx, cy) = camera.focal_length, camera.center
    return [fx * (x * factor + p1 * r2) + cx, fy * (y * factor + p2 * r2) + cy]


def test_four_cameras_a_subject_stand_around_the_room_and_look_into_it():
    table = h36m_cameras()
    assert {"S1", "S5", "S6", "S7", "S8", "S9", "S11"} <= set(table)
    for cameras in table.values():
        assert [camera.id for camera in cameras] == ["54138969", "55011271", "58860488", "60457274"]
        for camera in cameras:
            assert math.hypot(*camera.orientation) == pytest.approx(1, abs=1e-6)
            assert 3 < math.hypot(*camera.translation[:2]) < 7, "metres, not millimetres"
            x, y, depth = world_to_camera(np.array([0.0, 0.0, 1.0]), camera)
            assert 3 < depth < 7 and max(abs(x), abs(y)) < 1
            assert rotate(np.array([0.0, 1.0, 0.0]), camera.orientation)[2] < -0.9, "y points down"
            assert camera.width == 1000 and camera.height in (1000, 1002)


@pytest.mark.parametrize("camera", CAMERAS[::5], ids=lambda camera: camera.id)
def test_world_to_camera_to_pixels_is_what_the_definitions_say(camera):
    points = world_to_camera(POINTS, camera)
    pixels = project(points, camera)
    assert points.shape == POINTS.shape and pixels.shape == (*POINTS.shape[:-1], 2)
    for frame, joint in np.ndindex(*POINTS.shape[:2]):
        expected = seen(POINTS[frame, joint], camera)
        np.testing.assert_allclose(points[frame, joint], expected, rtol=0, atol=LENGTH_ERROR)
        expected = pixel(points[frame, joint], camera)
        np.testing.assert_allclose(pixels[frame, joint], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.id)
def test_world_to_camera_and_back(camera):
    there_and_back = camera_to_world(world_to_camera(POINTS, camera), camera)
    np.testing.assert_allclose(there_and_back, POINTS, rtol=0, atol=2 * LENGTH_ERROR)
    back_and_there = world_to_camera(camera_to_world(POINTS, camera), camera)
    np.testing.assert_allclose(back_and_there, POINTS, rtol=0, atol=2 * LENGTH_ERROR)
    np.testing.assert_allclose(camera_to_world(np.zeros(3), camera), camera.translation)


def test_rotate_turns_by_the_right_hand():
    quarter = (math.sqrt(0.5), 0, 0, math.sqrt(0.5))  # a quarter turn about z
    turned = rotate(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), quarter)
    np.testing.assert_allclose(turned, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-15)


def test_distortion_counts():
    camera = CAMERAS[0]
    corner = np.array([1.5, 1.5, 5.0])
    plain = corner[:2] / 5 * camera.focal_length + camera.center
    assert np.linalg.norm(project(corner, camera) - plain) > 2
    np.testing.assert_allclose(project(np.array([0, 0, 5.0]), camera), camera.center)


@pytest.mark.parametrize(("width", "height"), [(1000, 1002), (1000, 1000), (1920, 1080), (480, 640)])
def test_normalized_pixels_and_back(width, height):
    corners = np.array([[0, 0], [width, 0], [width / 2, height / 2], [width, height]])
    ratio = height / width
    expected = [[-1, -ratio], [1, -ratio], [0, 0], [1, ratio]]
    np.testing.assert_allclose(normalize_pixels(corners, width, height), expected, atol=1e-15)
    pixels = np.random.default_rng(1).uniform(-100, 2000, (3, 5, 2))
    there = normalize_pixels(pixels, width, height)
    np.testing.assert_allclose(denormalize_pixels(there, width, height), pixels, rtol=0, atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS[:4], ids=lambda camera: camera.id)
def test_intrinsics_are_those_of_the_normalized_image(camera):
    """An undistorted point lands where the pixels of a pinhole camera land after normalisation."""
    fx, fy, cx, cy = camera.intrinsics()
    for x, y, z in POINTS[0] + np.array([0, 0, 5]):
        (f, g), (u, v) = camera.focal_length, camera.center
        x_pixel, y_pixel = f * x / z + u, g * y / z + v
        assert fx * x / z + cx == pytest.approx(x_pixel / camera.width * 2 - 1)
        assert fy * y / z + cy == pytest.approx((y_pixel - camera.height / 2) / camera.width * 2)

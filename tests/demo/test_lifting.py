"""From key points to poses: lifting, windows, smoothing, the upright view and places."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from walkers import walkers

from common.camera import normalize_pixels
from common.flip import lift
from common.skeleton import MIRROR, NUM_JOINTS, ROOT
from demo.lib import lifting
from demo.lib.lifting import in_window, lift_keypoints, one_euro, place, stature, upright
from model import HTNet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HTNet(layers=1, channel=24, d_hid=24).eval()


@pytest.fixture(scope="module")
def walker():
    return walkers(frames=30).tracks[0]


def random_keypoints(count, seed=0, size=(640, 480)):
    return np.random.default_rng(seed).uniform(0, size, (count, NUM_JOINTS, 2))


def seeds():
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


# Lifting


def test_lifting_is_the_network_on_normalised_pixels_with_flip_averaging(model):
    keypoints = random_keypoints(5)
    poses = lift_keypoints(model, keypoints, (640, 480), device=CPU, batch_size=2)
    network_input = torch.from_numpy(normalize_pixels(keypoints, 640, 480)).float()[:, None]
    with torch.no_grad():
        expected = lift(model, network_input)[:, 0]
    np.testing.assert_allclose(poses, expected, atol=1e-5)
    assert np.all(poses[:, ROOT] == 0) and poses.dtype == np.float32


def test_a_mirrored_person_gets_the_mirrored_pose(model):
    keypoints = random_keypoints(3)
    mirrored = np.stack([640 - keypoints[..., 0], keypoints[..., 1]], axis=-1)[:, MIRROR]
    for window in (False, True):
        one, other = (
            lift_keypoints(model, points, (640, 480), device=CPU, window=window)
            for points in (keypoints, mirrored)
        )
        np.testing.assert_allclose(other[:, MIRROR] * [-1, 1, 1], one, atol=1e-5)


def test_without_people_there_are_no_poses(model):
    poses = lift_keypoints(model, np.empty((0, 17, 2)), (640, 480), device=CPU, window=True)
    assert poses.shape == (0, 17, 3)


@pytest.mark.parametrize("keypoints", [np.zeros((4, 16, 2)), np.zeros((17, 2)), np.full((1, 17, 2), np.nan)])
def test_key_points_that_cannot_be_are_refused(model, keypoints):
    with pytest.raises(ValueError, match="keypoints must"):
        lift_keypoints(model, keypoints, (640, 480), device=CPU)


def test_lifting_leaves_the_number_of_threads_alone(model):
    before = torch.get_num_threads()
    lift_keypoints(model, random_keypoints(1), (640, 480), device=CPU)
    with pytest.raises(ValueError):
        lift_keypoints(model, np.full((1, 17, 2), np.inf), (640, 480), device=CPU)
    assert torch.get_num_threads() == before


# Windows


@given(rng=seeds(), factor=st.floats(0.02, 50), x=st.floats(-5000, 5000), y=st.floats(-5000, 5000))
@settings(max_examples=50, deadline=None)
def test_a_window_does_not_depend_on_where_a_person_is_and_how_large(rng, factor, x, y):
    keypoints = rng.uniform(0, 300, (2, NUM_JOINTS, 2))
    np.testing.assert_allclose(in_window(keypoints * factor + [x, y]), in_window(keypoints), atol=1e-6)


def test_a_person_fills_a_window_as_people_fill_human36ms_images(walker):
    usual = normalize_pixels(walker.keypoints.astype(float), *walkers(frames=1).image_size)
    in_middle = in_window(walker.keypoints.astype(float))
    sizes = [np.ptp(points, axis=1).max(axis=1).mean() for points in (usual, in_middle)]
    assert 0.6 < sizes[1] / sizes[0] < 1.6
    assert np.abs(in_middle).max() < 1


def test_joints_that_all_lie_in_one_place_do_not_break_a_window():
    assert np.all(in_window(np.full((1, 17, 2), 7.0)) == 0)


# Upright


@given(rng=seeds())
@settings(max_examples=30, deadline=None)
def test_upright_poses_stand_on_the_floor_and_keep_their_shape(rng):
    poses = rng.normal(0, 0.5, (4, NUM_JOINTS, 3)).astype(np.float32)
    turned = upright(poses)
    np.testing.assert_allclose(turned[..., 2].min(axis=1), 0, atol=1e-6)
    lengths = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (poses, turned)]
    np.testing.assert_allclose(*lengths, atol=1e-5)
    # Left stays left: three vectors of a pose keep the sign of the volume that they span.
    volumes = [np.linalg.det(p[:, 1:4] - p[:, :1]) for p in (poses, turned)]
    np.testing.assert_allclose(*volumes, atol=1e-4)


def test_upright_turns_someone_before_a_level_camera_head_up(walker):
    head, feet = upright(walker.poses)[:, 10, 2], upright(walker.poses)[:, [3, 6], 2]
    assert np.all(head > 1.2) and np.all(feet.min(axis=1) < 0.15)


# One Euro


def test_what_rests_stays_and_what_jumps_arrives():
    times = np.arange(100) / 25
    rest = np.full((100, 2), 3.0)
    assert np.array_equal(one_euro(rest, times), rest)
    jump = np.where(times < 1, 0.0, 1.0)[:, None]
    smooth = one_euro(jump, times)[:, 0]
    assert np.all(np.diff(smooth) >= 0) and smooth[-1] > 0.99 and smooth[24] == 0


@given(rng=seeds(), shift=st.floats(-10, 10))
@settings(max_examples=30, deadline=None)
def test_smoothing_lessens_jitter_stays_within_the_samples_and_moves_with_them(rng, shift):
    times = np.cumsum(rng.uniform(0.02, 0.06, 80))
    noisy = rng.normal(0, 0.01, (80, 3))
    smooth = one_euro(noisy, times)
    assert np.std(np.diff(smooth, axis=0)) < 0.6 * np.std(np.diff(noisy, axis=0))
    assert np.all(smooth.min(axis=0) >= noisy.min(axis=0)) and np.all(smooth.max(axis=0) <= noisy.max(axis=0))
    np.testing.assert_allclose(one_euro(noisy + shift, times), smooth + shift, atol=1e-9)


def test_smoothing_uses_earlier_samples_alone_and_leaves_its_input():
    values, times = np.random.default_rng(0).normal(size=(30, 17, 3)), np.arange(30) / 30
    before = values.copy()
    whole = one_euro(values, times)
    assert np.array_equal(values, before)
    assert np.array_equal(one_euro(values[:10], times[:10]), whole[:10])
    assert one_euro(values[:1], times[:1]).shape == (1, 17, 3) and one_euro(values[:0], times[:0]).size == 0


def test_fast_motion_lags_less_than_the_same_filter_without_speed():
    times = np.arange(60) / 30
    ramp = 2 * times[:, None]  # 2 m/s, a fast hand
    lag, lag_without = (float((ramp - one_euro(ramp, times, beta=beta))[-1, 0]) for beta in (2.0, 0.0))
    assert lag < 0.3 * lag_without


# Places


def pinhole(points, focal, size):
    return points[..., :2] / points[..., 2:] * focal + np.array(size) / 2


@given(rng=seeds(), focal=st.floats(300, 5000))
@settings(max_examples=50, deadline=None)
def test_places_are_exact_where_a_pinhole_camera_saw_the_pose(rng, focal):
    size = (1280, 720)
    poses = rng.normal(0, 0.4, (5, NUM_JOINTS, 3))
    poses -= poses[:, [ROOT]]
    roots = rng.uniform((-2, -1, 3), (2, 1, 12), (5, 3))
    keypoints = pinhole(poses + roots[:, None], focal, size)
    np.testing.assert_allclose(place(poses, keypoints, size, focal=focal), roots, rtol=1e-6, atol=1e-6)


@given(rng=seeds(), factor=st.floats(0.5, 2))
@settings(max_examples=30, deadline=None)
def test_places_scale_with_size_and_focal_length_and_mirror(rng, factor):
    size = (1000, 1000)
    poses = rng.normal(0, 0.4, (3, NUM_JOINTS, 3))
    keypoints = pinhole(poses + np.array([0.5, 0, 6]), 1100, size) + rng.normal(0, 2, (3, NUM_JOINTS, 2))
    roots = place(poses, keypoints, size, focal=1100)
    # Someone twice as large with the same key points is twice as far away.
    np.testing.assert_allclose(place(poses * factor, keypoints, size, focal=1100), roots * factor, rtol=1e-6)
    # A picture and its focal length enlarged together show the same place.
    large = place(poses, keypoints * factor, (1000 * factor, 1000 * factor), focal=1100 * factor)
    np.testing.assert_allclose(large, roots, rtol=1e-6)
    mirrored = place(poses * [-1, 1, 1], [1000, 0] + keypoints * [-1, 1], size, focal=1100)
    np.testing.assert_allclose(mirrored, roots * [-1, 1, 1], rtol=1e-6)


def test_an_unknown_focal_length_is_assumed_from_the_longer_side():
    poses = np.random.default_rng(1).normal(0, 0.4, (1, NUM_JOINTS, 3))
    for size in ((1000, 500), (500, 1000)):
        keypoints = pinhole(poses + np.array([0, 0, 5]), 1150, size)
        np.testing.assert_allclose(place(poses, keypoints, size), [[0, 0, 5]], atol=1e-6)
    assert lifting.focal_length((500, 1000)) == 1150


def test_places_and_stature_of_motion_capture_are_true(walker):
    """Through Human3.6M's lens, whose distortion a pinhole does not have."""
    size = walkers(frames=1).image_size
    roots = place(walker.poses, walker.keypoints, size, focal=1145.0)
    away = np.linalg.norm(roots - walker.root, axis=1) / walker.root[:, 2]
    assert np.all(away < 0.03)
    assert 1.5 < stature(walker.poses) < 2.0
    assert stature(walker.poses * 1.1) == pytest.approx(1.1 * stature(walker.poses), rel=1e-5)

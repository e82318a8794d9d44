"""The motion fit: sides, constant bones, path, floor, contacts, glTF."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from common.camera import h36m_cameras
from common.skeleton import JOINT_NAMES, LEFT_LEG, MIRROR, PARENTS, RIGHT_LEG
from demo.api import Estimator, fit_motion
from demo.lib.gltf import gltf
from demo.lib.motion import common_up, side_order
from model import HTNet
from tests.walkers import walkers

FEET = [RIGHT_LEG[2], LEFT_LEG[2]]


@pytest.fixture
def walk():
    result = walkers(frames=60)
    return result, result.tracks[0]


def lengths(joints):
    return np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)


def true_focal(result):
    return float(h36m_cameras()["S11"][0].intrinsics()[0]) * result.image_size[0] / 2


def test_true_poses_stay_and_noise_shrinks(walk):
    result, track = walk
    true = track.poses.astype(float)
    kept = fit_motion(result, track, true_focal(result)).joints
    assert np.linalg.norm(kept - kept[:, :1] - true, axis=-1).mean() < 0.03
    rng = np.random.default_rng(0)
    track.poses = (true + rng.normal(0, 0.04, true.shape) * (np.arange(17) > 0)[:, None]).astype(np.float32)
    fitted = fit_motion(result, track, true_focal(result)).joints
    error, before = (np.linalg.norm(p - true, axis=-1).mean() for p in (fitted - fitted[:, :1], track.poses))
    assert error < 0.8 * before
    assert lengths(fitted).std(axis=0).max() < 1e-6
    np.testing.assert_allclose(lengths(fitted), lengths(fitted[:, MIRROR]), atol=1e-6)
    shaking = [np.abs(np.diff(p - true, 2, axis=0)).mean() for p in (fitted - fitted[:, :1], track.poses)]
    assert shaking[0] < 0.3 * shaking[1]


def test_resting_feet_do_not_slide(walk):
    result, track = walk
    slow = np.linalg.norm(np.diff(track.upright[:, FEET], axis=0), axis=-1) * 25 < 0.1  # (T - 1, 2), metres/s
    assert slow.sum() > 10
    rng = np.random.default_rng(0)
    track.poses = track.poses + rng.normal(0, 0.04, track.poses.shape).astype(np.float32)
    track.keypoints = track.keypoints + rng.normal(0, 3, track.keypoints.shape).astype(np.float32)
    lifted = track.poses + track.root[:, None]
    fitted = fit_motion(result, track, true_focal(result)).joints
    sliding = [np.linalg.norm(np.diff(p[:, FEET], axis=0), axis=-1)[slow].mean() for p in (fitted, lifted)]
    assert sliding[0] < 0.13 * sliding[1]  # 0.15 where feet are not held


def test_outliers_and_filled_in_keypoints_hardly_count(walk):
    result, track = walk
    before = fit_motion(result, track, true_focal(result)).joints
    track.interpolated[10:13] = True
    track.keypoints[10:13] += 200
    track.keypoints[30, 13] += 200  # a sure wrist
    after = fit_motion(result, track, true_focal(result)).joints
    assert np.linalg.norm(after - before, axis=-1)[[11, 30]].max() < 0.05


def test_estimator_fixes_sides_and_gives_the_fitted_motion():
    result = walkers(frames=40)
    track = result.tracks[0]
    true, rows = track.keypoints.copy(), np.arange(15, 25)[:, None]
    track.keypoints[rows, RIGHT_LEG], track.keypoints[rows, LEFT_LEG] = (
        true[rows, LEFT_LEG],
        true[rows, RIGHT_LEG],
    )
    network = HTNet(layers=1, channel=24, d_hid=24)
    [track, _] = Estimator(detector=None, weights=network).lift(result).tracks
    np.testing.assert_array_equal(track.keypoints, true)
    assert lengths(track.poses).std(axis=0).max() < 1e-5 < lengths(track.raw_poses).std(axis=0).max()
    assert "swapped in 10 poses" in result.notes["motion"]


def test_swapped_sides_are_found(walk):
    _, track = walk
    keypoints = track.keypoints.copy()
    rows = np.arange(20, 35)[:, None]
    keypoints[rows, RIGHT_LEG], keypoints[rows, LEFT_LEG] = (
        track.keypoints[rows, LEFT_LEG],
        track.keypoints[rows, RIGHT_LEG],
    )
    times = track.frames / 25
    order = side_order(keypoints, times)
    np.testing.assert_array_equal(np.take_along_axis(keypoints, order[..., None], 1), track.keypoints)
    assert (side_order(track.keypoints, times) == np.arange(17)).all()


def test_floor_is_level_and_feet_are_on_it(walk):
    result, track = walk
    motion = fit_motion(result, track, true_focal(result))
    up = common_up([motion])
    assert up is not None
    points = motion.upright(up)
    heights = track.upright[..., 2]  # true heights of the walker
    assert np.abs((points[..., 2] - heights) - np.median(points[..., 2] - heights)).mean() < 0.08
    assert abs(np.median(points[:, [3, 6], 2].min(axis=1)) - 0.08) < 0.05
    np.testing.assert_allclose(points[0, 0, :2], 0, atol=1e-9)


def test_a_lying_person_gets_no_floor(walk):
    result, track = walk
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
    track.keypoints = (track.keypoints - 500) @ turn[:2, :2] + 500
    track.poses, track.root = track.poses @ turn, track.root @ turn
    assert common_up([fit_motion(result, track)]) is None


@pytest.mark.parametrize("frames", [1, 2, 3, 700])
def test_tracks_of_any_length(walk, frames):
    result, track = walk
    rows = np.arange(frames) % len(track.frames)
    result.frame_count, track.frames = frames, np.arange(frames)
    for name in ("keypoints", "scores", "interpolated", "poses", "root"):
        setattr(track, name, getattr(track, name)[rows])
    joints = fit_motion(result, track).joints
    assert joints.shape == (frames, 17, 3) and np.isfinite(joints).all()
    assert lengths(joints).std(axis=0).max() < 1e-6


def test_uneven_and_repeated_times(walk):
    result, track = walk
    even = fit_motion(result, track).joints
    result.frame_times = np.repeat(np.arange(30) / 12.5, 2)
    assert np.linalg.norm(fit_motion(result, track).joints - even, axis=-1).mean() < 0.02
    result.frame_times, result.fps, result.frame_count = None, None, 60
    with pytest.raises(ValueError, match="fps"):
        fit_motion(result, track)


def test_gltf_reproduces_the_joints(walk):
    _, track = walk
    poses, root = track.poses * [1.0, -1, -1], track.root * [1.0, -1, -1]
    content = json.loads(gltf(track.poses, track.root, track.frames / 25))
    data = base64.b64decode(content["buffers"][0]["uri"].split(",")[1])

    def array(index):
        accessor = content["accessors"][index]
        start = content["bufferViews"][accessor["bufferView"]]["byteOffset"]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        return np.frombuffer(data, "<f4", accessor["count"] * width, start).reshape(-1, width)

    animation, nodes, places = content["animations"][0], content["nodes"], {}
    values = {
        (channel["target"]["node"], channel["target"]["path"]): array(sampler["output"])
        for channel, sampler in zip(animation["channels"], animation["samplers"], strict=True)
    }
    np.testing.assert_allclose(array(animation["samplers"][0]["input"])[:, 0], track.frames / 25, atol=1e-6)

    def place(index, position, rotation):
        rotation = rotation * Rotation.from_quat(values[index, "rotation"])
        places[nodes[index]["name"]] = position
        for child in nodes[index].get("children", []):
            place(child, position + rotation.apply(nodes[child]["translation"]), rotation)

    place(0, values[0, "translation"], Rotation.identity(len(poses)))
    for joint, name in enumerate(JOINT_NAMES):
        np.testing.assert_allclose(places[name], poses[:, joint] + root, atol=0.01)

"""The demo from Python: what ``lift`` and ``estimate`` return, refuse and leave alone, also in threads."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_people import STANDING, Scripted, numbered, person
from PIL import Image

import demo
from common.console import UserError
from demo import Estimator, Lifter, api, lift
from demo.lib import lifting
from demo.lib.keypoint_files import read_keypoints
from demo.lib.keypoints import COCO_IN, ORDERS, coco_to_h36m
from demo.lib.videos import VideoWriter
from model import HTNet

ROOT = Path(__file__).parents[2]
SIZE = (320, 240)
RNG = np.random.default_rng(0)
WALK = np.dstack([STANDING * 180 + RNG.normal(0, 2, (6, 17, 2)) + [100, 220], RNG.uniform(0.5, 1, (6, 17))])
WALK[1, 9] = 0  # a wrist that was not found


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return HTNet(layers=1, channel=24, d_hid=24)


@pytest.fixture(scope="module")
def lifter(network):
    return Lifter(network, device="cpu")


@pytest.fixture
def estimator(network):
    """Makes an estimator of a detector."""
    return lambda detector, **options: Estimator(detector=detector, weights=network, device="cpu", **options)


def found_two(image):
    return [person(80, 220), person(220, 200, 120)]


# Keypoints


@pytest.mark.parametrize("window", ["person", "image"])
@pytest.mark.parametrize("order", ORDERS)
def test_lift_gives_the_poses_of_a_keypoint_file(network, tmp_path, order, window):
    points = np.zeros((6, ORDERS[order], 3))
    if order == "h36m17":
        points[..., :2], points[..., 2] = coco_to_h36m(WALK[..., :2], WALK[..., 2])
    else:
        points[:, COCO_IN[order]] = WALK
    np.savez(tmp_path / "points.npz", keypoints=points, format=order, image_size=SIZE)
    result = read_keypoints(tmp_path / "points.npz")
    Estimator(detector=None, weights=network, device="cpu", window=window).lift(result)
    poses = lift(points, SIZE, format=order, weights=network, device="cpu", window=window)
    assert poses.dtype == np.float32 and poses.shape == (6, 17, 3) and np.all(poses[:, 0] == 0)
    np.testing.assert_allclose(poses, result.tracks[0].poses, atol=1e-6)


def test_lift_takes_any_dimensions_integers_and_scores(lifter):
    poses = lifter(WALK, SIZE, format="coco17")
    np.testing.assert_allclose(lifter(WALK[0].tolist(), SIZE, format="coco17"), poses[0], atol=1e-6)
    many = lifter(WALK.reshape(2, 3, 17, 3), SIZE, format="coco17")
    np.testing.assert_allclose(many, poses.reshape(2, 3, 17, 3), atol=1e-6)
    assert lifter(WALK[:0], SIZE, format="coco17").shape == (0, 17, 3)
    pixels, scores = WALK[..., :2], WALK[..., 2]
    np.testing.assert_array_equal(lifter(pixels, SIZE, format="coco17", scores=scores), poses)
    np.testing.assert_array_equal(lifter(pixels, SIZE, format="coco17"), poses)  # (0, 0) is not found
    whole = pixels.round()
    integers = lifter(whole.astype(np.int16), SIZE, format="coco17")
    np.testing.assert_array_equal(integers, lifter(whole, SIZE, format="coco17"))


def test_pose_without_shoulders_is_nan(lifter):
    points = WALK.copy()
    points[1, [5, 6]] = 0
    poses = lifter(points, SIZE, format="coco17")
    assert np.isnan(poses[1]).all()
    np.testing.assert_allclose(poses[2:], lifter(WALK, SIZE, format="coco17")[2:], atol=1e-6)


@pytest.mark.parametrize(
    ("keypoints", "options", "message"),
    [
        (WALK[:, :16], {}, r"keypoints: expected .*\(17, 2\).*found \(6, 16, 3\)"),
        (WALK, {"format": "body25"}, r"\(25, 2\)"),
        (WALK.astype(str), {}, "keypoints: expected numbers"),
        (np.full((17, 2), np.nan), {}, "keypoints: expected finite"),
        (WALK * 1e6, {}, "327,660"),
        (WALK / 320, {}, "normalised"),
        (WALK, {"image_size": (320, 0)}, "image_size: expected"),
        (WALK, {"format": "coco"}, "format: expected coco17 .*found 'coco'"),
        (WALK[..., :2], {"scores": np.ones(17)}, r"scores: expected .*\(6, 17\).*found \(17,\)"),
    ],
)
def test_invalid_keypoints_are_a_value_error(lifter, keypoints, options, message):
    with pytest.raises(ValueError, match=message):
        lifter(keypoints, **{"image_size": SIZE, "format": "coco17"} | options)


def test_weights_are_a_name_path_or_network_which_is_copied(network, tmp_path, monkeypatch):
    path = tmp_path / "small" / "model.pth"
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(lifting, "CHECKPOINTS", tmp_path)
    lifters = [Lifter(weights, device="cpu") for weights in ("small", str(path), path.parent, network)]
    with torch.no_grad():
        network.pos_embed += 1
    first, *others = [lifter(WALK, SIZE, format="coco17") for lifter in lifters]
    with torch.no_grad():
        network.pos_embed -= 1
    for poses in others:
        np.testing.assert_array_equal(poses, first)
    assert network.training and lifters[0].name.startswith("small/model.pth (")
    with pytest.raises(UserError, match="larger"):
        Lifter("larger")


@pytest.mark.parametrize(
    "options",
    [
        *({"device": name} for name in ("gpu", "cpu:0", "cuda:x", "auto:1")),
        *({"window": "whole"}, {"focal": 0}, {"height_m": 175}, {"mode": "best"}, {"detector": "openpose"}),
    ],
)
def test_invalid_options_are_a_value_error(network, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
        Estimator(**{"detector": None, "weights": network} | options)


# Images, frames and videos


def test_image_gives_people_with_positions(estimator, tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "a.png")
    places = estimator(found_two, height_m=1.8)
    expected = places(tmp_path / "a.png")
    assert [track.id for track in expected.tracks] == [1, 2] and expected.fps is None
    for source in (str(tmp_path / "a.png"), numbered(1)[0], Image.open(tmp_path / "a.png")):
        result = places(source)
        assert result.image_size == SIZE and result.frame_count == 1
        np.testing.assert_array_equal(result.tracks[1].poses, expected.tracks[1].poses)
    for track in expected.tracks:
        assert expected.times(track).tolist() == [0] and track.raw_poses is None
        assert lifting.stature(track.poses) == pytest.approx(1.8)
        np.testing.assert_allclose(track.root, lifting.place(track.poses, track.keypoints, SIZE), atol=1e-4)
        np.testing.assert_array_equal(track.upright, lifting.upright(track.poses))
    assert "an estimate" in expected.notes["root"] and "size of person 2" in expected.notes


def test_frames_are_followed_and_fitted(estimator):
    frames, fitted = numbered(12), estimator(found_two)
    expected = fitted(frames, fps=25.0)
    assert [track.id for track in expected.tracks] == [1, 2] and expected.frame_count == 12
    np.testing.assert_allclose(expected.times(expected.tracks[0]), np.arange(12) / 25)
    assert expected.tracks[0].raw_poses.shape == (12, 17, 3)
    for source in (iter(frames), np.stack(frames)):
        np.testing.assert_array_equal(fitted(source, fps=25.0).tracks[1].poses, expected.tracks[1].poses)
    without = fitted(frames)
    assert without.times(without.tracks[0]) is None and without.tracks[0].raw_poses is None
    assert fitted([]).tracks == []


def test_people_are_kept_by_their_frames_then_score(estimator):
    everybody = [person(60, 220), person(160, 220, score=0.5), person(260, 220)]
    many = estimator(Scripted(*[everybody[: 1 + 2 * (n > 9)] for n in range(22)]))
    result = many(numbered(22), max_people=2)
    assert [track.id for track in result.tracks] == [1, 3] and result.notes["people kept"] == "2 of 3"
    with pytest.raises(UserError, match="expected person 9, found 1, 3"):
        many.lift(result, person=9)
    result = estimator(Scripted(*[everybody[: 1 + (n < 9)] for n in range(20)]))(numbered(20))
    assert len(result.tracks) == 1 and result.notes["left out"].startswith("1 ")


def test_doubtful_people_are_noted(estimator):
    notes = estimator(lambda image: [person(100, 230, 50), person(310, 230, score=0.2)])(numbered(1)[0]).notes
    assert "person 1 under 60 px" in notes["warnings"] and "person 2 half seen" in notes["warnings"]


def test_video_has_its_own_times_and_invalid_files_are_user_errors(estimator, tmp_path):
    with VideoWriter(tmp_path / "film.mp4", 20.0) as writer:
        for frame in numbered(11):
            writer.write(frame)
    result = estimator(found_two)(tmp_path / "film.mp4")
    assert result.frame_count == 11 and len(result.tracks) == 2
    np.testing.assert_allclose(result.times(result.tracks[0]), np.arange(11) / 20, atol=1e-3)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for name in ("a.jpg", "b.jpg", "c.mp4"):
        with pytest.raises(UserError, match=name):
            estimator(found_two)(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), {}, r"image: expected \(H, W, 3\) uint8 RGB"),
        (None, {}, "image: expected"),
        (numbered(2) + numbered(1, (64, 48)), {}, r"frame 2: expected \(240, 320, 3\) like the first"),
        (numbered(1)[0], {"fps": 25.0}, "fps: expected"),
        (numbered(2), {"fps": float("nan")}, "fps: expected 0.01 to 10,000"),
        (numbered(2), {"max_people": 0}, "max_people: expected 1"),
    ],
)
def test_invalid_sources_are_a_value_error(estimator, source, options, message):
    with pytest.raises(ValueError, match=message):
        estimator(found_two)(source, **options)


def test_missing_models_come_with_the_way_to_get_them(estimator, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "DETECTORS", tmp_path)
    for name, advice in (("auto", "python -m demo.fetch"), ("hrnet", "pose_hrnet_w48")):
        with pytest.raises(UserError, match=advice):
            estimator(name)


# Threads, and the program around


def test_lifting_in_threads_gives_the_same(lifter):
    points = [np.tile(WALK, (25, 1, 1)) + shift for shift in range(4)]
    alone = [lifter(each, SIZE, format="coco17") for each in points]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: lifter(each, SIZE, format="coco17"), points))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_calls_at_the_same_time_have_their_own_detectors(estimator, monkeypatch):
    people, loaded = [person(40 + 100 * number, 200, 100) for number in range(3)], []

    def load(*_, **__):
        loaded.append(Scripted(*[people[: frame + 1] for frame in range(12)]))
        return loaded[-1]

    monkeypatch.setattr(api.detectors, "load_detector", load)
    many, together = estimator("blazepose"), threading.Barrier(3)

    def stream():
        for frame in numbered(12):
            together.wait(60)  # the frames of all calls come in turn
            yield frame

    def breaking():
        yield from numbered(2)
        raise KeyError("lost")

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: many(stream()), range(3)))
    with pytest.raises(KeyError):
        many(breaking())
    results.append(many(numbered(12)))
    assert len(loaded) == 3  # kept for later calls
    assert [[len(track.frames) for track in result.tracks] for result in results] == [[12, 11, 10]] * 4


PROGRAM = """
import sys, demo
assert not {"numpy", "torch", "cv2"} & set(sys.modules), "importing demo loads these"
import logging, os, random, signal, threading, warnings
import numpy as np, torch
import scipy.optimize, scipy.spatial.transform  # which set warning filters when they are loaded
from demo import estimate, lift, Person
def never(*_):
    raise AssertionError("this setting is the whole program's")
torch.set_num_threads = os.dup2 = never
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    numbers = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), os.getcwd()
    logs = [*logging.getLogger().handlers, logging.getLogger().level]
    return handlers, numbers, settings, logs, list(warnings.filters), sys.argv[:], threading.active_count()
before = state()
points = np.arange(34.0).reshape(17, 2) * 10
found = Person(points.astype(np.float32), np.ones(17, np.float32), np.array([0, 0, 320, 330.0]), 1.0)
lift(points, (640, 480), format="coco17")
estimate(np.zeros((48, 64, 3), np.uint8), detector=lambda image: [found])
estimate([np.zeros((48, 64, 3), np.uint8)] * 3, detector=lambda image: [found])
assert state() == before
"""


def test_the_program_around_is_left_alone(tmp_path):
    if not any(lifting.CHECKPOINTS.glob("open/*.pth")):
        pytest.skip("needs ckpt/open")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", PROGRAM, "--help"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and not list(tmp_path.iterdir())


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'lift_all'"):
        demo.lift_all

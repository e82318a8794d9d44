"""The demo from Python: what ``lift`` and ``estimate`` give, refuse and leave alone, alone and in threads."""

import json
import os
import re
import subprocess
import sys
import threading
import venv
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_people import STANDING, Scripted, numbered, person
from PIL import Image

import demo
from common.errors import CheckpointError, UserError
from demo import Estimator, Lifter, api, estimate, lift, vis
from demo.lib import detectors, lifters
from demo.lib.blazepose import DETECTOR, LANDMARKS
from demo.lib.inputs import InputError, read_picture
from demo.lib.keypoint_files import BODY_25, FORMATS
from demo.lib.keypoints import COCO_NAMES, coco_to_h36m
from demo.lib.video_writer import VideoWriter
from model import HTNet

ROOT = Path(__file__).parents[2]
SIZE = (320, 240)
EXAMPLES = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL
)
FINDING = re.compile(r'estimate\("photo.jpg"\)|Estimator\(')
"""Examples that look for people."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HTNet(layers=1, channel=24, d_hid=24)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ckpt") / "small" / "model_1_100.pth"
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def lifter(weights):
    return Lifter(weights, device="cpu")


@pytest.fixture(scope="module")
def blazepose():
    if not all((api.DETECTORS / name).is_file() for name in (DETECTOR, LANDMARKS)):
        pytest.skip("BlazePose's networks are not there: run `python -m demo.fetch blazepose`")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")


def walk(count, seed=0):
    """(F, 17, 3) COCO key points of somebody who walks to the right, with scores."""
    rng = np.random.default_rng(seed)
    points = STANDING * 180 + rng.normal(0, 2, (count, 17, 2)) + [100, 220]
    points[..., 0] += 2 * np.arange(count)[:, None]
    return np.concatenate([points, rng.uniform(0.5, 1, (count, 17, 1))], axis=-1)


def found_two(image):
    return [person(80, 220), person(220, 200, 120)]


def in_threads(count, call):
    """What ``call(number)`` gives for each number, each in a thread of its own, begun at the same time."""
    given, start = [None] * count, threading.Barrier(count)

    def run(number):
        start.wait()
        given[number] = call(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


# Key points


@pytest.fixture
def vis_poses(weights, tmp_path, capsys):
    """The poses of person 1 that the command line saves for a file of key points."""

    def run(file, *argv):
        call = ["--keypoints", str(file), "--no-render", "--save", "npz", "--output", str(tmp_path / "out")]
        assert vis.main([*call, "--previous_dir", str(weights), "--device", "cpu", *argv]) == 0
        capsys.readouterr()
        return np.load(tmp_path / "out" / f"{file.stem}.npz")["person_1_poses_camera"]

    return run


@pytest.mark.parametrize("window", ["person", "image"])
@pytest.mark.parametrize("layout", ["coco17", "h36m17"])
def test_poses_are_those_of_the_command_line(vis_poses, weights, tmp_path, layout, window):
    points = walk(5)
    if layout == "h36m17":
        joints, scores = coco_to_h36m(points[..., :2], points[..., 2])
        points = np.concatenate([joints, scores[..., None]], axis=-1)
    points[1, -3:] = 0  # not found
    points[2, 5, 2] = 0
    np.savez(tmp_path / "points.npz", keypoints=points, format=layout, image_size=SIZE)
    expected = vis_poses(tmp_path / "points.npz", "--window", window)
    poses = lift(points, SIZE, format=layout, weights=weights, device="cpu", window=window)
    assert poses.dtype == np.float32 and poses.shape == (5, 17, 3) and np.all(poses[:, 0] == 0)
    np.testing.assert_allclose(poses, expected, atol=1e-6)


def test_open_poses_key_points_are_lifted_as_from_its_files(vis_poses, weights, tmp_path):
    coco = walk(3)
    points = np.zeros((3, 25, 3))
    points[:, [BODY_25.index(name) for name in COCO_NAMES]] = coco
    points[:, BODY_25.index("left_wrist")] = 0
    (tmp_path / "body").mkdir()
    for frame, values in enumerate(points):
        people = {"people": [{"pose_keypoints_2d": values.ravel().tolist()}]}
        (tmp_path / "body" / f"walk_{frame}_keypoints.json").write_text(json.dumps(people))
    expected = vis_poses(tmp_path / "body", "--image_size", *map(str, SIZE))
    poses = lift(points, SIZE, format="body25", weights=weights, device="cpu")
    np.testing.assert_allclose(poses, expected, atol=1e-5)


def test_any_number_of_dimensions_goes_before(lifter):
    points = walk(6)[..., :2]
    poses = lifter(points, SIZE, format="coco17")
    np.testing.assert_allclose(lifter(points[0], SIZE, format="coco17"), poses[0], atol=1e-6)
    many = lifter(points.reshape(2, 3, 17, 2), SIZE, format="coco17")
    np.testing.assert_allclose(many, poses.reshape(2, 3, 17, 3), atol=1e-6)
    assert lifter(points[:0], SIZE, format="coco17").shape == (0, 17, 3)
    assert lifter(points[0].tolist(), SIZE, format="coco17").shape == (17, 3)


def test_whole_numbers_and_given_scores_do_as_well(lifter):
    points = walk(3)
    points[1, 9] = 0
    expected = lifter(points, SIZE, format="coco17")
    given = lifter(points[..., :2], SIZE, format="coco17", scores=points[..., 2])
    np.testing.assert_array_equal(given, expected)
    # Without scores, what lies at (0, 0) was not found either.
    np.testing.assert_array_equal(lifter(points[..., :2], SIZE, format="coco17"), expected)
    whole = points[..., :2].round()
    given = lifter(whole.astype(np.int16), SIZE, format="coco17")
    np.testing.assert_array_equal(given, lifter(whole, SIZE, format="coco17"))


def test_who_cannot_be_lifted_is_nan_and_nobody_else(lifter):
    points = walk(3)
    expected = lifter(points, SIZE, format="coco17")
    points[1, [5, 6]] = 0
    poses = lifter(points, SIZE, format="coco17")
    assert np.isnan(poses[1]).all()
    np.testing.assert_allclose(poses[[0, 2]], expected[[0, 2]], atol=1e-6)
    assert np.isnan(lifter(points[1], SIZE, format="coco17")).all()


GOOD = walk(2)[..., :2]


@pytest.mark.parametrize(
    ("keypoints", "options", "words"),
    [
        (GOOD[:, :16], {}, r"keypoints: expected the shape \(\.\.\., 17, 2\).*found \(2, 16, 2\)"),
        (GOOD, {"format": "body25"}, r"\(\.\.\., 25, 2\)"),
        (GOOD[0, 0], {}, r"found \(2,\)"),
        (GOOD.astype(str), {}, "keypoints: expected an array of numbers"),
        (np.where(np.arange(2)[:, None, None] == 1, np.nan, GOOD), {}, r"keypoints\[1\]: expected finite"),
        (GOOD * 1e6, {}, "327,660"),
        (GOOD / 320, {}, "normalised"),
        (GOOD, {"image_size": (320,)}, "image_size: expected width and height"),
        (GOOD, {"image_size": (320, 0)}, "image_size"),
        (GOOD, {"format": "coco18"}, "format: expected h36m17 or coco17 or body25, found 'coco18'"),
        (GOOD, {"scores": np.ones(17)}, r"scores: expected the shape \(2, 17\), found \(17,\)"),
        (GOOD, {"scores": np.full((2, 17), np.nan)}, "scores: expected finite"),
        (walk(2), {"scores": np.ones((2, 17))}, r"expected the shape \(\.\.\., 17, 2\), found \(2, 17, 3\)"),
    ],
)
def test_wrong_key_points_are_refused_in_words(lifter, keypoints, options, words):
    with pytest.raises(ValueError, match=words):
        lifter(keypoints, **{"image_size": SIZE, "format": "coco17"} | options)


def test_every_format_that_files_have_is_known():
    assert api.get_args(api.Format) == tuple(FORMATS)


# Weights and devices


def test_weights_are_a_name_a_path_or_a_network(lifter, model, weights, monkeypatch):
    expected = lifter(GOOD, SIZE, format="coco17")
    monkeypatch.setattr(api, "CHECKPOINTS", weights.parents[1])
    for given in ("small", str(weights), weights, weights.parent, model):
        poses = lift(GOOD, SIZE, format="coco17", weights=given, device="cpu")
        np.testing.assert_array_equal(poses, expected)
    (weights.parents[1] / "sample").symlink_to(weights.parent)
    np.testing.assert_array_equal(lift(GOOD, SIZE, format="coco17", device="cpu"), expected)
    (weights.parents[1] / "sample").unlink()
    with pytest.raises(UserError, match="no open and no cpn and no sample"):
        lift(GOOD, SIZE)
    with pytest.raises(CheckpointError, match=r"^weights larger: no file or folder.*holds small"):
        Lifter("larger")


def test_a_network_is_copied_as_it_is(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lifter = Lifter(model, device="cpu")
    expected = lifter(GOOD, SIZE, format="coco17")
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        model.pos_embed += 1
    np.testing.assert_array_equal(lifter(GOOD, SIZE, format="coco17"), expected)
    model.load_state_dict(before)


def test_all_of_a_network_moves_to_its_device(weights):
    """Shown on "meta", which every machine has; what was folded is no parameter and would stay behind."""
    network = lifters.load(weights, torch.device("meta"))
    tensors = [*network.parameters(), *network.buffers()]
    for module in network.modules():
        kept = (each if isinstance(each, list) else [each] for each in vars(module).values())
        tensors += [each for each in chain(*kept) if isinstance(each, torch.Tensor)]
    assert len(tensors) > len(list(network.parameters())) + len(list(network.buffers()))
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_devices_that_are_not_there_and_names_that_are_none(weights):
    for name in ("gpu", "cpu:0", "cuda:x", "cuda:-1"):
        with pytest.raises(ValueError, match="device: expected auto, cpu"):
            Lifter(weights, device=name)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"^device cuda: PyTorch"):
            Lifter(weights, device="cuda:1")
    with pytest.raises(ValueError, match="window: expected person or image, found 'whole'"):
        Lifter(weights, window="whole")


# Pictures and frames


@pytest.fixture(scope="module")
def estimator(weights):
    return Estimator(detector=found_two, weights=weights, device="cpu")


def test_a_picture_gives_what_the_command_line_saves(weights, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.png"
    Image.fromarray(numbered(1)[0]).save(path)
    monkeypatch.setattr(detectors, "load", lambda *_: found_two)
    call = [str(path), "--no-render", "--save", "npz", "--output", str(tmp_path / "out")]
    assert vis.main([*call, "--previous_dir", str(weights), "--device", "cpu", "--focal", "300"]) == 0
    capsys.readouterr()
    saved = np.load(tmp_path / "out" / "a.npz")
    estimator = Estimator(detector=found_two, weights=weights, device="cpu", focal=300)
    for source in (path, str(path), read_picture(path), Image.open(path)):
        result = estimator(source)
        assert result.image_size == SIZE and result.fps is None and result.frame_count == 1
        assert [track.id for track in result.tracks] == [1, 2]
        for track in result.tracks:
            person = f"person_{track.id}_"
            np.testing.assert_array_equal(track.keypoints, saved[person + "keypoints"])
            np.testing.assert_array_equal(track.scores, saved[person + "scores"])
            np.testing.assert_allclose(track.poses, saved[person + "poses_camera"], atol=1e-6)
            np.testing.assert_allclose(track.root, saved[person + "root_estimate"], atol=1e-5)
            assert result.times(track).tolist() == saved[person + "times"].tolist() == [0]
        notes = {**json.loads(str(saved["notes"])), "2D pose": "a detector of the program's own"}
        assert result.notes == notes


def test_frames_are_followed_in_whatever_they_come(estimator):
    frames = numbered(12)
    expected = estimator(frames, fps=25.0)
    assert [track.id for track in expected.tracks] == [1, 2] and expected.frame_count == 12
    np.testing.assert_allclose(expected.times(expected.tracks[0]), np.arange(12) / 25)
    for source in (iter(frames), np.stack(frames), (frame for frame in frames)):
        result = estimator(source, fps=25.0)
        np.testing.assert_array_equal(result.tracks[1].poses, expected.tracks[1].poses)
        assert result.image_size == SIZE
    without = estimator(frames)
    assert without.fps is None and without.times(without.tracks[0]) is None
    assert len(estimator(frames, max_people=1).tracks) == 1
    assert estimator([]).tracks == []


def test_a_video_is_read_by_its_path(estimator, tmp_path):
    with VideoWriter(tmp_path / "film.mp4", 20.0) as writer:
        for frame in numbered(11):
            writer.write(frame)
    result = estimator(tmp_path / "film.mp4")
    assert result.fps == 20 and result.frame_count == 11 and len(result.tracks) == 2
    assert result.times(result.tracks[0])[-1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (np.zeros((4, 4)), {}, r"picture: expected \(H, W, 3\) uint8 RGB, found \(4, 4\) float64"),
        (np.zeros((4, 4, 3), np.float32), {}, "uint8 RGB"),
        (np.zeros((4, 0, 3), np.uint8), {}, r"\(4, 0, 3\)"),
        (None, {}, "picture: expected"),
        (
            numbered(2) + numbered(1, (64, 48)),
            {},
            r"frame 2: expected \(240, 320, 3\), as the first, found \(48",
        ),
        (numbered(1)[0], {"fps": 25.0}, "fps goes with frames"),
        (numbered(2), {"fps": float("nan")}, "fps: expected 0.01 to 10000"),
        (numbered(2), {"max_people": 0}, "max_people: expected 1"),
    ],
)
def test_wrong_pictures_and_frames_are_refused_in_words(estimator, source, options, words):
    with pytest.raises(ValueError, match=words):
        estimator(source, **options)


def test_files_that_are_missing_or_none_are_refused_in_words(estimator, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.mp4"):
        with pytest.raises(InputError, match=path.name):
            estimator(path)


def test_wrong_options_are_refused_before_anything_is_loaded():
    for options in ({"focal": 0}, {"height_m": 175}):
        with pytest.raises(ValueError, match=next(iter(options))):
            estimate(numbered(1)[0], **options)


def test_missing_models_come_with_the_command_that_fetches_them(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "DETECTORS", tmp_path)
    for name, advice in (("auto", "python -m demo.fetch blazepose"), ("hrnet", "yolov3.weights")):
        with pytest.raises(CheckpointError, match=advice):
            estimate(numbered(1)[0], detector=name, weights=weights, device="cpu")
    with pytest.raises(ValueError, match="detector: expected auto or hrnet or blazepose, found 'openpose'"):
        estimate(numbered(1)[0], detector="openpose", weights=weights, device="cpu")
    assert list(tmp_path.iterdir()) == []


# Threads


def test_lifting_in_threads_gives_what_it_gives_alone(lifter):
    points = [walk(150, seed) for seed in range(4)]
    alone = [lifter(each, SIZE, format="coco17") for each in points]
    threads = torch.get_num_threads()
    for _ in range(3):
        for poses, expected in zip(
            in_threads(4, lambda number: lifter(points[number], SIZE, format="coco17")), alone, strict=True
        ):
            np.testing.assert_allclose(poses, expected, atol=1e-6)
    assert torch.get_num_threads() == threads == in_threads(2, lambda _: torch.get_num_threads())[0]


FILM = numbered(12)
TRACKS = [12, 11, 10]
"""Frames in which the people of ``scripted`` are seen."""


@pytest.fixture
def scripted(weights, monkeypatch):
    """An estimator whose detector counts its frames: it finds one person more in each of the first three."""
    loaded = []
    people = [person(40 + 100 * number, 200, 100) for number in range(3)]

    def load(*_, quiet):
        assert not quiet
        loaded.append(Scripted(*[people[: frame + 1] for frame in range(len(FILM))]))
        return loaded[-1]

    monkeypatch.setattr(detectors, "load", load)
    return Estimator(detector="blazepose", weights=weights, device="cpu"), loaded


def seen(result):
    return [len(track.frames) for track in result.tracks]


def test_each_call_has_a_detector_that_remembers_its_own_frames(scripted):
    estimator, loaded = scripted
    alone = estimator(FILM)
    assert seen(alone) == TRACKS and len(loaded) == 1
    together = threading.Barrier(3)

    def slowly(number):
        def stream():
            for frame in FILM:
                together.wait()  # the frames of all calls come in turn
                yield frame

        return estimator(stream())

    for result in in_threads(3, slowly):
        assert seen(result) == TRACKS
        np.testing.assert_allclose(result.tracks[0].poses, alone.tracks[0].poses, atol=1e-6)
    assert len(loaded) == 3
    assert seen(estimator(FILM)) == TRACKS and len(loaded) == 3  # and kept for later calls


def test_a_call_may_come_out_of_the_frames_of_another(scripted):
    estimator, loaded = scripted
    inner = []

    def stream():
        for frame in FILM:
            inner.append(seen(estimator(FILM)))
            yield frame

    assert seen(estimator(stream())) == TRACKS
    assert inner == [TRACKS] * len(FILM) and len(loaded) == 2


def test_frames_that_fail_leave_a_detector_that_is_as_new(scripted):
    estimator, loaded = scripted

    def breaking():
        yield from FILM[:2]
        raise KeyError("lost")

    with pytest.raises(KeyError):
        estimator(breaking())
    assert seen(estimator(FILM)) == TRACKS and len(loaded) == 1


def test_blazepose_in_threads_finds_what_it_finds_alone(blazepose, weights):
    photo = np.asarray(Image.open(ROOT / "demo" / "figure" / "astronaut.jpg").resize((256, 256)))
    sources = [photo, photo[:, ::-1], [photo] * 3]
    estimator = Estimator(detector="blazepose", weights=weights, device="cpu")
    alone = [estimator(source) for source in sources]
    assert all(result.tracks for result in alone)
    for result, expected in zip(in_threads(3, lambda number: estimator(sources[number])), alone, strict=True):
        for track, other in zip(result.tracks, expected.tracks, strict=True):
            np.testing.assert_allclose(track.keypoints, other.keypoints, atol=1e-3)
            np.testing.assert_allclose(track.poses, other.poses, atol=1e-5)


# What is left alone


def python(source, folder, *argv):
    """Runs a program in a folder; gives what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", source, *argv]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


LEAVES_ALONE = """
import sys
import demo
assert not {"numpy", "torch", "cv2"} & set(sys.modules), "importing demo loads these"
import logging, os, random, signal, threading, warnings
import numpy as np, torch
import scipy.optimize  # which sets warning filters when it is loaded
from demo import estimate, lift, Person
def never(*_):
    raise AssertionError("this setting is the whole program's")
torch.set_num_threads = os.dup2 = never
torch.manual_seed(0); random.seed(0); np.random.seed(0)
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    numbers = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    torchs = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    logs = [*logging.getLogger().handlers, logging.getLogger().level]
    other = list(warnings.filters), os.getcwd(), sys.argv[:], threading.active_count()
    return handlers, numbers, torchs, logs, other
before = state()
points = np.arange(34.0).reshape(17, 2) * 10
found = Person(points.astype(np.float32), np.ones(17, np.float32), np.array([0, 0, 320, 330.0]), 1.0)
def call():
    lift(points, (640, 480), format="coco17", weights=sys.argv[2])
    estimate("a.png", detector=lambda image: [found], weights=sys.argv[2])
    estimate([np.zeros((48, 64, 3), np.uint8)] * 3, detector=lambda image: [found], weights=sys.argv[2])
threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert state() == before
"""


def test_the_program_around_it_is_left_as_it_was(weights, tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "a.png")
    assert python(LEAVES_ALONE, tmp_path, "--help", str(weights)) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_names_that_are_not_there_are_told():
    with pytest.raises(AttributeError, match="module 'demo' has no attribute 'lift_all'"):
        demo.lift_all
    with pytest.raises(ImportError):
        exec("from demo import lift_all")


# Types

TYPED = """
import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

from demo import Estimator, Lifter, Person, Result, Track, estimate, lift
from model import HTNet

pose = lift([[1.0, 2.0]] * 17, (640, 480), format="coco17", weights=HTNet())
assert_type(pose, npt.NDArray[np.float32])
assert_type(Lifter("cpn", device="cpu")(pose, (640, 480)), npt.NDArray[np.float32])


def people(image: npt.NDArray[np.uint8]) -> list[Person]:
    return []


result = estimate("photo.jpg", detector="blazepose", max_people=2)
assert_type(result, Result)
frames = (np.zeros((4, 4, 3), np.uint8) for _ in range(3))
for track in Estimator(detector=people, smooth=True)(frames, fps=25.0).tracks:
    assert_type(track, Track)
    assert_type(track.poses, npt.NDArray[np.float32])
    assert_type(result.times(track), npt.NDArray[np.float64] | None)
lift(pose, (640, 480), format="coco18")  # wrong
estimate("a.jpg", window="whole")  # wrong
"""
CONFIGURATION = """
[mypy]
strict = true
[mypy-torch.*,cv2.*,scipy.*,matplotlib.*,PIL.*,onnx.*,onnxruntime.*]
follow_imports = skip
"""


def test_a_type_checker_knows_what_comes_back(tmp_path):
    """As for a package that was installed: without its py.typed, a package's types are not looked at."""
    mypy = pytest.importorskip("mypy")
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    (packages,) = (tmp_path / "venv").glob("[Ll]ib/**/site-packages")
    libraries = Path(np.__file__).parents[1]
    (packages / "here.pth").write_text(f"{ROOT}\n{libraries}\n")
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    (tmp_path / "program.py").write_text(TYPED)
    python_here = next((tmp_path / "venv").glob("[bS]*/python*"))
    call = [sys.executable, "-m", mypy.__name__, "--python-executable", str(python_here), "program.py"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")
    }
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == TYPED.count("# wrong") and all("arg-type" in line for line in errors), done.stdout


@pytest.mark.parametrize("package", ["model", "common", "demo"])
def test_the_mark_of_typed_packages_is_packed(package):
    assert (ROOT / package / "py.typed").is_file()
    assert re.search(rf'^{package} = \[.*"py\.typed"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


# Examples

RUN = """
import os, pathlib, sys
for number, (folder, example) in enumerate(zip(sys.argv[1::2], sys.argv[2::2])):
    os.chdir(folder)
    print("#", number)
    exec(compile(example, f"example {number}", "exec"), {"__name__": "__main__"})
"""


def examples(examples, tmp_path):
    """What the examples print, all in one process, each in a folder with photo.jpg alone."""
    argv = []
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "photo.jpg").write_bytes((ROOT / "demo" / "figure" / "astronaut.jpg").read_bytes())
        argv += [str(folder), example]
    said, _ = python(RUN, tmp_path, *argv)
    return re.split(r"^# \d+\n", said, flags=re.MULTILINE)[1:]


def test_the_examples_that_need_no_detector_run(tmp_path):
    lifting, network, errors = examples([text for text in EXAMPLES if not FINDING.search(text)], tmp_path)
    assert lifting == "(17, 3)\n(100, 17, 3)\n" and network == "torch.Size([1, 9, 17, 3])\n"
    assert errors == "nowhere.jpg: no such file\n"


def test_the_examples_that_find_people_run(blazepose, tmp_path):
    picture, film = examples([text for text in EXAMPLES if FINDING.search(text)], tmp_path)
    assert picture.startswith("1 (1, 17, 2) (1, 17)\npelvis            0.00   0.00   0.00\n")
    assert "(5, 17, 3) (5, 17, 3)" in film and "[0 1 2 3 4] [0.   0.04 0.08 0.12 0.16]" in film
    assert {path.name for path in (tmp_path / "1").iterdir()} == {
        *("photo.jpg", "people.json", "people_person_1.bvh")
    }

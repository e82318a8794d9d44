"""The demo's command line: what it takes, says, writes, survives and returns."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from demo_people import Scripted, numbered, person
from PIL import Image

from common import checkpoint
from common.metrics import mpjpe
from demo import vis
from demo.lib import arguments, detectors, outputs, video
from demo.lib.blazepose import DETECTOR, LANDMARKS
from demo.lib.inputs import read_picture
from demo.lib.video_writer import VideoWriter
from model import HTNet

ROOT = Path(__file__).parents[2]
OPENCV_DOC = Path("/usr/share/doc/opencv-doc/examples/data")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small lifter that was never trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("ckpt") / "small" / "model_1_100.pth"
    path.parent.mkdir()
    torch.save(HTNet(layers=1, channel=24, d_hid=24).state_dict(), path)
    return path


@pytest.fixture
def run(weights, tmp_path, monkeypatch, capsys):
    """Runs a command line with a detector that finds two people; gives exit code, words and files."""

    def run(*argv, detector=None, lifter=weights):
        detector = detector or Scripted(*[[person(80, 220), person(220, 200, 120)]] * 60)
        monkeypatch.setattr(detectors, "load", lambda *_: detector)
        chosen = ["--previous_dir", str(lifter)] if lifter else []
        code = vis.main([*map(str, argv), *chosen, "--device", "cpu", "--output", str(tmp_path / "out")])
        said = capsys.readouterr()
        there = sorted(path.name for path in (tmp_path / "out").rglob("*")) if code != 2 else []
        return code, said.out, said.err, there

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures, the second of which is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(numbered(1)[0]).save(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"no picture")
    Image.fromarray(numbered(1)[0][:1, :1]).save(folder / "c.bmp")
    return folder


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "in" / "film.mp4"
    with VideoWriter(path, 25.0) as writer:
        for frame in numbered(15):
            writer.write(frame)
    return path


@pytest.fixture
def points(tmp_path):
    """Key points of one person in 12 frames, as an npz file without a rate."""
    path = tmp_path / "in" / "points.npz"
    path.parent.mkdir(exist_ok=True)
    keypoints = np.stack([person(80 + n, 220).keypoints for n in range(12)])
    np.savez(path, keypoints=keypoints, format="coco17", image_size=(320, 240))
    return path


# Calls


@pytest.mark.parametrize(
    "argv",
    [
        ["a.png", "--webcam", "0"],
        ["--keypoints", "a.npz", "--webcam", "0"],
        ["--keypoints", "a.npz", "--max_frames", "5"],
        ["a.png", "--fps", "25"],
        ["a.png", "--image_size", "640", "480"],
        ["a.png", "--num_person", "0"],
        ["a.png", "--focal", "nan"],
        ["a.png", "--height_m", "175"],
        ["a.png", "--save", "fbx"],
        ["a.png", "--no-render"],
    ],
)
def test_a_call_that_makes_no_sense_ends_with_2_before_anything_starts(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        vis.main(argv)
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_an_input_after_the_formats_is_an_input():
    args = arguments.parse(["--save", "npz", "json", "a.jpg", "b.png"])
    assert args.save == ["npz", "json"] and args.inputs == ["a.jpg", "b.png"]


def test_a_detector_that_breaks_costs_one_picture_alone(run, pictures):
    class Breaking:
        calls = 0

        def __call__(self, image):
            Breaking.calls += 1
            if Breaking.calls == 1:
                raise cv2.error("out of memory")
            return []

    code, out, err, _ = run(pictures, detector=Breaking())
    assert code == 1 and "could not be done (error: out of memory" in err and "nobody found" in out


def test_names_that_are_not_there_end_with_2(run):
    code, _, err, _ = run("nowhere.jpg")
    assert code == 2 and "nowhere.jpg" in err


def test_a_lifter_that_is_not_there_ends_with_2_and_names_what_is(run, pictures, weights, monkeypatch):
    monkeypatch.setattr(vis, "CHECKPOINTS", weights.parents[1])
    code, _, err, _ = run(pictures / "a.png", lifter="larger")
    assert code == 2 and "larger" in err and "small" in err
    code, _, err, _ = run(pictures / "a.png", lifter=None)
    assert code == 2 and "no cpn" in err and "--previous_dir" in err


def test_the_first_preferred_lifter_there_is_taken_and_named(run, pictures, weights, tmp_path, monkeypatch):
    for name in ("sample", "cpn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_1.pth").write_bytes(weights.read_bytes())
        monkeypatch.setattr(vis, "CHECKPOINTS", tmp_path)
        code, out, _, _ = run(pictures / "a.png", lifter=None)
        assert code == 0 and f"lifter: {tmp_path / name / 'model_1.pth'}" in out


# Which detector


def test_auto_takes_the_published_pair_where_both_files_lie(tmp_path):
    assert detectors.choose("auto", tmp_path)[0] == "blazepose"
    (tmp_path / "yolov3.weights").touch()
    name, line = detectors.choose("auto", tmp_path)
    assert name == "blazepose" and "no pose_hrnet_w48_384x288.pth" in line and "no yolov3" not in line
    (tmp_path / "pose_hrnet_w48_384x288.pth").touch()
    name, line = detectors.choose("auto", tmp_path)
    assert name == "hrnet" and "HRNet" in line
    assert detectors.choose("blazepose", tmp_path)[0] == "blazepose"


@pytest.mark.parametrize(
    ("detector", "advice"), [("blazepose", "python -m demo.fetch blazepose"), ("hrnet", "yolov3.weights")]
)
def test_missing_models_end_with_2_and_say_how_to_get_them(
    detector, advice, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(vis, "DETECTORS", tmp_path)
    assert vis.main([str(pictures / "a.png"), "--detector", detector]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("2D pose: ") and advice in said.err


def test_what_a_library_prints_past_python_is_dropped_if_it_is_information(monkeypatch, capfd):
    with detectors._quiet():
        os.write(2, b"INFO: a delegate\nWARNING: a fault\n")
    assert capfd.readouterr().err == "WARNING: a fault\n"


# Pictures


def test_a_folder_goes_on_after_a_bad_picture_and_the_exit_code_says_so(run, pictures):
    code, out, err, files = run(pictures)
    assert code == 1 and files == ["a_3d.png", "c_3d.png"]
    assert "b.jpg" in err and "1 of 3 inputs failed" in err
    lines = out.splitlines()
    assert lines[0].startswith("2D pose: ") and lines[1].startswith("lifter: ") and "SHA-256" in lines[1]
    ends = [line for line in lines if line.startswith(str(pictures))]
    assert len(ends) == 2 and "2 people, mean key point score 0.90, 0 of 34 joints" in ends[0]
    assert lines[-1] == ends[-1]


def test_a_single_bad_picture_ends_with_2(run, pictures):
    assert run(pictures / "b.jpg")[0] == 2


def test_inputs_of_one_name_do_not_overwrite_each_other(run, pictures, tmp_path):
    (tmp_path / "in" / "more").mkdir()
    for name in ("a.jpg", "more/a.png", "a_png.bmp", "A.png"):
        Image.fromarray(numbered(1)[0]).save(pictures / name)
    inputs = [pictures / name for name in ("a.png", "a.jpg", "more/a.png", "a_png.bmp", "A.png")]
    paths = outputs.stems(inputs, tmp_path)
    assert [path.name for path in paths] == ["a_png_2", "a_jpg", "a_png_3", "a_png", "A_png_4"]
    code, _, _, files = run(*inputs[:4])
    assert code == 0 and len(files) == 4


def test_an_input_is_never_written_over(run, pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.png", "a_3d.png"):
        Image.fromarray(numbered(1)[0]).save(out / name)
    before = (out / "a_3d.png").read_bytes()
    code, _, err, _ = run(out)
    assert code == 1 and "a_3d.png" in err and "--output" in err
    assert (out / "a_3d.png").read_bytes() == before and (out / "a_3d_3d.png").is_file()


def test_data_without_pictures(run, pictures):
    code, out, _, files = run(
        pictures / "a.png", "--no-render", "--save", "npz", "json", "csv", "bvh", "npz", "--html"
    )
    assert code == 0 and files == ["a.csv", "a.html", "a.json", "a.npz", "a_person_1.bvh", "a_person_2.bvh"]
    assert all(name in out for name in files)


def test_saved_data_say_how_they_came_about(run, pictures, weights, tmp_path):
    run(pictures / "a.png", "--no-render", "--save", "json", "--height_m", "1.8", "--num_person", "1")
    saved = json.loads((tmp_path / "out" / "a.json").read_text())
    assert len(saved["people"]) == 1 and "root_estimate" in saved["people"][0]
    notes = saved["notes"]
    assert f"small/{weights.name}" in notes["lifter"] and checkpoint.sha256(weights) in notes["lifter"]
    assert notes["2D pose"] in ("BlazePose", "YOLOv3 and HRNet-W48") and "HTNet" in notes["made by"]
    assert "estimate" in notes["root"] and "1.8 m" in notes["size of person 1"]


def test_a_person_who_is_not_there_is_named_with_those_who_are(run, pictures):
    code, _, err, files = run(pictures / "a.png", "--person", "3")
    assert code == 2 and "--person 3" in err and "found 1, 2" in err and files == []


def test_a_picture_is_written_at_its_own_size_up_to_a_limit(run, pictures, tmp_path):
    for width, height in ((2400, 300), (300, 2400), (5000, 100)):
        Image.new("RGB", (width, height), "white").save(pictures / "a.png")
        assert run(pictures / "a.png", detector=Scripted())[0] == 0
        rendered = read_picture(tmp_path / "out" / "a_3d.png")
        longest = min(max(width, height), 4096)
        if width > height:
            assert rendered.shape[1] > longest
        else:
            assert rendered.shape[0] == longest


def test_a_full_disk_or_a_folder_that_cannot_be_is_an_error_by_name(run, pictures, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err, _ = run(pictures / "a.png")
    assert code == 1 and "out" in err and "Traceback" not in err


# Videos


def test_a_video_gives_a_video_of_as_many_frames(run, film, tmp_path):
    detector = Scripted(*[[person(80 + n, 220)] for n in range(15)])
    code, out, _, files = run(film, "--save", "npz", "--smooth", detector=detector)
    assert code == 0 and files == ["film.npz", "film_3d.mp4"]
    assert detector.resets == 1 and len(detector.seen) == 15
    capture = cv2.VideoCapture(str(tmp_path / "out" / "film_3d.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 15 and capture.get(cv2.CAP_PROP_FPS) == 25
    with np.load(tmp_path / "out" / "film.npz") as saved:
        assert saved["person_1_poses_camera_raw"].shape == (15, 17, 3)
        np.testing.assert_allclose(saved["person_1_times"], np.arange(15) / 25, atol=1e-6)
    assert "film.mp4: 1 person" in out.splitlines()[-1] and "write" in out.splitlines()[-1]


def test_a_video_without_anybody_still_gives_a_video_data_and_a_line(run, film):
    code, out, _, files = run(
        film, "--save", "npz", "json", "csv", "bvh", "--html", "--person", "1", detector=Scripted()
    )
    assert code == 0 and files == ["film.csv", "film.html", "film.json", "film.npz", "film_3d.mp4"]
    assert "film.mp4: nobody found" in out.splitlines()[-1]


def test_max_frames_holds_for_what_is_read_and_written(run, film, tmp_path):
    detector = Scripted(*[[person(80, 220)]] * 15)
    assert run(film, "--max_frames", "4", "--html", detector=detector)[0] == 0
    assert len(detector.seen) == 4
    capture = cv2.VideoCapture(str(tmp_path / "out" / "film_3d.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4


def test_ctrl_c_stops_everything_and_leaves_no_parts(run, film):
    class Interrupted(Scripted):
        def track(self, image):
            if len(self.seen) == 5:
                raise KeyboardInterrupt
            return super().track(image)

    code, _, err, files = run(film, detector=Interrupted())
    assert code == 130 and "stopped" in err and files == []


class Camera:
    """A webcam that gives frames until somebody presses Ctrl-C."""

    def __init__(self, count):
        self.left = count

    def get(self, what):
        return 20.0 if what == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return True, np.full((101, 151, 3), 30, np.uint8)

    def release(self):
        pass


@pytest.mark.parametrize("options", [[], ["--max_frames", "6"]])
def test_a_webcam_is_recorded_until_it_is_stopped_and_then_lifted(run, tmp_path, monkeypatch, options):
    monkeypatch.setattr(video, "_open_camera", lambda _: Camera(6 if not options else 100))
    code, out, _, files = run("--webcam", "0", "--save", "json", *options)
    assert code == 0 and files == ["webcam_0.json", "webcam_0_3d.mp4", "webcam_0_recorded.mp4"]
    assert "recorded 6 frames" in out and "2 people" in out.splitlines()[-1]
    saved = json.loads((tmp_path / "out" / "webcam_0.json").read_text())
    assert saved["fps"] == 20 and saved["image_size"] == [150, 100]


def test_a_webcam_that_is_not_there_ends_with_2(run):
    code, _, err, _ = run("--webcam", "93")
    assert code == 2 and "webcam 93" in err


# Key points


def test_key_points_need_no_detector(run, points, tmp_path, monkeypatch):
    monkeypatch.setattr(vis, "DETECTORS", tmp_path)
    argv = ["--keypoints", points, "--save", "npz", "--fps", "10", "--smooth", "--html"]
    code, out, err, files = run(*argv)
    assert code == 0 and err == "" and files == ["points.html", "points.npz", "points_3d.mp4"]
    assert out.startswith(f"2D pose: key points of {points}\n")
    with np.load(tmp_path / "out" / "points.npz") as saved:
        np.testing.assert_allclose(saved["person_1_times"], np.arange(12) / 10, atol=1e-6)
        assert "person_1_poses_camera_raw" in saved and str(points) in str(saved["notes"])


def test_key_points_without_a_rate_cannot_be_smoothed_and_that_is_said(run, points):
    code, out, _, _ = run("--keypoints", points, "--no-render", "--smooth", "--html")
    assert code == 0 and "not smoothed" in out and "--fps" in out


def test_the_rate_in_a_file_of_key_points_holds(run, points, tmp_path):
    with np.load(points) as saved:
        np.savez(points, **saved, fps=12.5)
    code, out, _, files = run("--keypoints", points, "--save", "json", "npz", "bvh", "--fps", "50")
    assert code == 0 and "12.5 frames per second" in out and "points_3d.mp4" in files
    assert json.loads((tmp_path / "out" / "points.json").read_text())["fps"] == 12.5


def test_a_file_of_key_points_is_not_written_over(run, points, tmp_path):
    (tmp_path / "out").mkdir()
    moved = points.rename(tmp_path / "out" / "points.npz")
    before = moved.read_bytes()
    code, _, err, _ = run("--keypoints", moved, "--save", "npz")
    assert code == 2 and "--output" in err and moved.read_bytes() == before


# Real processes


def started(*argv, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "demo/vis.py", *map(str, argv)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_help_comes_without_loading_networks():
    code = (
        "import sys; from demo import vis\n"
        "try: vis.main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--keypoints" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_a_process_from_key_points_to_data(points, weights, tmp_path):
    process = started(
        "--keypoints", points, "--previous_dir", weights, "--no-render", "--save", "csv", "--output", tmp_path
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and err == "" and "1 person" in out.splitlines()[-1]
    assert len((tmp_path / "points.csv").read_text().splitlines()) == 1 + 12 * 17


# The real networks on real photos


@pytest.fixture(scope="module")
def blazepose():
    if not all((vis.DETECTORS / name).is_file() for name in (DETECTOR, LANDMARKS)):
        pytest.skip("BlazePose's networks are not there: run `python -m demo.fetch blazepose`")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")


def test_the_picture_that_comes_along_and_ctrl_c_in_a_video(blazepose, weights, tmp_path):
    """`python demo/vis.py` alone takes it. The video behind it never ends: the process is stopped in it."""
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 320))
    frame = cv2.resize(cv2.imread(str(ROOT / "demo" / "figure" / "astronaut.jpg")), (320, 320))
    for _ in range(3000):
        writer.write(frame)
    writer.release()
    output = tmp_path / "out"
    process = started("demo/figure", film, "--previous_dir", weights, "--save", "json", "--output", output)
    deadline = time.monotonic() + 120
    assert process.stdout
    line = ""
    while "astronaut.jpg: " not in line and time.monotonic() < deadline and process.poll() is None:
        line = process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err == "stopped\n"
    assert "1 person" in line and "half seen" in line
    assert sorted(path.name for path in output.iterdir()) == ["astronaut.json", "astronaut_3d.png"]


def pasted(picture, size, share):
    """A picture in the middle of grey of another size (H, W), at a share of the free way."""
    canvas = np.full((*size, 3), 128, np.uint8)
    top, left = (round((size[axis] - picture.shape[axis]) * share) for axis in (0, 1))
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


@pytest.mark.parametrize("size", [(500, 4000), (4000, 500)])
def test_a_tall_or_wide_picture_gives_the_same_pose(blazepose, size, tmp_path, capsys):
    """To 1 % of the person's height in the picture, and of the pose's in 3D, on the mean over the joints."""
    if not (OPENCV_DOC / "basketball1.png").is_file():
        pytest.skip("needs a photo of a whole person: apt-get install opencv-doc")
    if not any((vis.CHECKPOINTS / "sample").glob("*.pth")):
        pytest.skip("needs a lifter that was trained: ckpt/sample")
    original = read_picture(OPENCV_DOC / "basketball1.png")[:, :400]
    Image.fromarray(original).save(tmp_path / "original.png")
    Image.fromarray(pasted(original, size, 0.3)).save(tmp_path / "pasted.png")
    inputs = [str(tmp_path / name) for name in ("original.png", "pasted.png")]
    arguments = ["--previous_dir", "sample", "--no-render", "--save", "npz", "--output", str(tmp_path)]
    assert vis.main([*inputs, *arguments]) == 0
    capsys.readouterr()
    before, after = (np.load(tmp_path / f"{name}.npz") for name in ("original", "pasted"))
    keypoints, pose = before["person_1_keypoints"], before["person_1_poses_camera"]
    shift = np.array([round((size[1] - 400) * 0.3), round((size[0] - 480) * 0.3)])
    away = np.linalg.norm(after["person_1_keypoints"] - shift - keypoints, axis=-1)
    assert away.mean() < 0.01 * np.ptp(keypoints[0, :, 1])
    assert mpjpe(after["person_1_poses_camera"], pose)[0] < 0.01 * np.ptp(pose[0, :, 1])

"""The demo's command line: what it reads, writes, survives and returns."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_people import Scripted, numbered, person
from PIL import Image

from demo import api, vis
from demo.lib import export, lifting, videos
from model import HTNet

ROOT = Path(__file__).parents[2]
CALLS = """
a.png --webcam 0
--keypoints a.npz --webcam 0
--keypoints a.npz --max_frames 5
a.mp4 --fps 25
a.png --image_size 640 480
a.png --num_person 0
a.png --focal nan
a.png --height_m 175
a.png --save fbx
a.png --no-render
""".strip().splitlines()


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
    """Runs a command line with a detector that finds two people; returns exit code, output, error, files."""
    threads = torch.get_num_threads()

    def run(*argv, detector=None):
        detector = detector or Scripted(*[[person(80, 220), person(220, 200, 120)]] * 60)
        monkeypatch.setattr(api.detectors, "load_detector", lambda *_, **__: detector)
        options = ["--previous_dir", weights, "--device", "cpu", "--output", tmp_path / "out"]
        code = vis.main([*map(str, [*argv, *options])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err, sorted(path.name for path in tmp_path.glob("out/*"))

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path):
    """Three images, one of which is invalid, a video of 15 frames, and keypoints of 12 frames."""
    (tmp_path / "in" / "images").mkdir(parents=True)
    Image.fromarray(numbered(1)[0]).save(tmp_path / "in" / "images" / "a.png")
    (tmp_path / "in" / "images" / "b.jpg").write_bytes(b"no image")
    Image.fromarray(numbered(1)[0][:1, :1]).save(tmp_path / "in" / "images" / "c.bmp")
    with videos.VideoWriter(tmp_path / "in" / "film.mp4", 25.0) as writer:
        for frame in numbered(15):
            writer.write(frame)
    points = np.stack([person(80 + n, 220).keypoints for n in range(12)])
    np.savez(tmp_path / "in" / "points.npz", keypoints=points, format="coco17", image_size=(320, 240))
    return tmp_path / "in"


def frame_count(path):
    with videos.Video(path) as video:
        return sum(1 for _ in video)


# Calls


@pytest.mark.parametrize("call", CALLS)
def test_contradictory_call_ends_with_2(call, capsys):
    with pytest.raises(SystemExit) as ended:
        vis.main(call.split())
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_input_after_save_is_an_input():
    args = vis.parse(["--save", "npz", "json", "a.jpg", "b.png"])
    assert args.save == ["npz", "json"] and args.inputs == ["a.jpg", "b.png"]
    assert set(vis.KINDS) == set(export.KINDS)


def test_help_loads_no_networks():
    code = (
        "import sys; from demo import vis\n"
        "try: vis.main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'numpy', 'av'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--keypoints" in done.stdout and done.stdout.splitlines()[-1] == "[]"


# Images


def test_folder_goes_on_after_an_invalid_image(run, folder):
    code, out, err, files = run(folder / "images")
    assert code == 1 and files == ["a_3d.png", "c_3d.png"]
    assert "b.jpg" in err and "1 of 3 inputs failed" in err
    lines = out.splitlines()
    assert lines[0].startswith("2D pose: ") and lines[1].startswith("lifter: ") and "SHA-256" in lines[1]
    assert "a.png: 2 people, mean keypoint score 0.90, 0 of 34 joints below 0.3" in out
    for missing in (["nowhere.jpg"], [folder / "images" / "b.jpg"], ["--keypoints", "nowhere.npz"]):
        assert run(*missing)[0] == 2


def test_detector_that_fails_costs_one_image(run, folder):
    failures = [MemoryError(), RuntimeError("broken")]

    def detector(image):
        if failures:
            raise failures.pop()
        return []

    Image.fromarray(numbered(1)[0]).save(folder / "images" / "b.jpg")
    code, out, err, _ = run(folder / "images", detector=detector)
    assert code == 1 and "RuntimeError: broken" in err and "out of memory" in err and "nobody found" in out


def test_outputs_of_equal_names_are_told_apart(tmp_path):
    names = ["a.png", "a.jpg", "more/a.png", "a_png.bmp", "A.png", "b"]
    stems = vis.stems([Path(name) for name in names], tmp_path)
    assert [path.name for path in stems] == ["a_png", "a_jpg", "a_png_2", "a_png_3", "A_png_4", "b"]


def test_input_is_never_overwritten(run, folder):
    inputs = folder.rename(folder.with_name("out"))
    Image.fromarray(numbered(1)[0]).save(inputs / "film_3d.png")
    before = {path: path.read_bytes() for path in inputs.glob("*.*")}
    code, _, err, files = run(inputs)
    assert code == 1 and "film_3d.png" in err and "--output" in err and "film_3d_3d.png" in files
    assert run("--keypoints", inputs / "points.npz", "--save", "npz")[0] == 2
    assert all(path.read_bytes() == content for path, content in before.items())


def test_saved_data_name_their_origin(run, folder, weights, tmp_path):
    argv = [folder / "images" / "a.png", "--no-render", "--height_m", "1.8"]
    code, out, _, files = run(*argv, "--save", *vis.KINDS, "--html", "--person", "2")
    endings = [".csv", ".html", ".json", ".npz"]
    endings += [f"_person_2{ending}" for ending in (".bvh", ".c3d", ".gltf", ".trc", "_angles.csv")]
    assert code == 0 and files == sorted(f"a{ending}" for ending in endings)
    assert all(name in out for name in files)
    saved = json.loads((tmp_path / "out" / "a.json").read_text())
    assert [each["id"] for each in saved["people"]] == [2] and "root_estimate" in saved["people"][0]
    assert saved["notes"]["lifter"].startswith(f"small/{weights.name} (")
    assert run(*argv, "--html", "--person", "3")[0] == 2


def test_done_inputs_are_skipped_until_they_change(run, folder):
    path = folder / "images" / "a.png"
    argv = [path, "--save", "npz", "bvh", "--skip_done"]
    assert "done already" not in run(*argv)[1]
    assert "done already" in run(*argv)[1]
    assert "done already" not in run(*argv, "--html")[1]
    os.utime(path, (time.time() + 60,) * 2)
    assert "done already" not in run(*argv)[1]


def test_output_that_is_no_folder_ends_with_1(run, folder, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, err, _ = run(folder / "images" / "a.png")
    assert code == 1 and "out" in err and "Traceback" not in err


# Videos


def test_video_gives_a_video_data_and_a_page(run, folder, tmp_path):
    detector = Scripted(*[[person(80 + n, 220)] for n in range(15)])
    argv = [folder / "film.mp4", "--save", "npz", "--html"]
    code, out, _, files = run(*argv, detector=detector)
    assert code == 0 and files == ["film.html", "film.npz", "film_3d.mp4"] and detector.resets == 1
    assert frame_count(tmp_path / "out" / "film_3d.mp4") == 15
    with np.load(tmp_path / "out" / "film.npz") as saved:
        assert saved["person_1_poses_camera_raw"].shape == (15, 17, 3)
        np.testing.assert_allclose(saved["person_1_times"], np.arange(15) / 25, atol=1e-3)
    assert "film.mp4: 1 person" in out.splitlines()[-1] and "write" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "first", "count"), [("--max_frames 4", 0, 4), ("--start 0.2 --end 0.4", 0.2, 5)]
)
def test_part_of_a_video_keeps_its_times(run, folder, tmp_path, options, first, count):
    assert run(folder / "film.mp4", *options.split(), "--save", "npz")[0] == 0
    assert frame_count(tmp_path / "out" / "film_3d.mp4") == count
    with np.load(tmp_path / "out" / "film.npz") as saved:
        np.testing.assert_allclose(saved["person_1_times"], first + np.arange(count) / 25, atol=1e-3)


def test_rendered_video_of_varying_rate_keeps_its_length(run, folder, tmp_path, monkeypatch):
    times = np.array([*np.arange(10) / 25, *(0.4 + np.arange(5) / 5)])
    monkeypatch.setattr(videos.Video, "times", property(lambda _: times))
    code, out, _, _ = run(folder / "film.mp4", "--save", "npz")
    assert code == 0 and "resampled to 25 frames per second" in out
    with np.load(tmp_path / "out" / "film.npz") as saved:
        np.testing.assert_allclose(saved["person_1_times"], times)
    assert frame_count(tmp_path / "out" / "film_3d.mp4") == round(times[-1] * 25) + 1


def test_numbered_images_are_one_video(run, tmp_path):
    for number, frame in enumerate(numbered(12)):
        Image.fromarray(frame).save(tmp_path / f"{number:04d}.png")
    assert run(tmp_path / "%04d.png", "--fps", "10", "--no-render", "--save", "npz")[0] == 0
    (saved,) = (tmp_path / "out").glob("*.npz")
    assert np.load(saved)["fps"] == 10 and np.load(saved)["frame_count"] == 12


def test_ctrl_c_leaves_no_parts_and_nobody_is_no_error(run, folder):
    class Interrupted(Scripted):
        def track(self, image):
            raise KeyboardInterrupt

    code, _, err, files = run(folder / "film.mp4", detector=Interrupted())
    assert code == 130 and "stopped" in err and files == []
    code, out, _, files = run(
        folder / "film.mp4", "--save", "npz", "bvh", "--person", "1", detector=Scripted()
    )
    assert code == 0 and files == ["film.npz", "film_3d.mp4"] and "nobody found" in out.splitlines()[-1]


def test_webcam_is_recorded_then_lifted(run, folder, tmp_path, monkeypatch):
    def record(index, path, most):
        path.parent.mkdir()
        path.write_bytes((folder / "film.mp4").read_bytes())
        return ["the camera gave no more frames"]

    monkeypatch.setattr(videos, "record", record)
    code, _, _, files = run("--webcam", "0", "--save", "json")
    assert code == 0 and files == ["webcam_0.json", "webcam_0_3d.mp4", "webcam_0_recorded.mp4"]
    saved = json.loads((tmp_path / "out" / "webcam_0.json").read_text())
    assert saved["source"] == "webcam 0" and "no more frames" in saved["notes"]["video"]


# Keypoints


def test_keypoints_give_a_video_data_and_a_page(run, folder, tmp_path):
    points = folder / "points.npz"
    argv = ["--keypoints", points, "--save", "npz", "--fps", "10", "--html"]
    code, out, err, files = run(*argv, detector="unused")
    assert code == 0 and err == "" and files == ["points.html", "points.npz", "points_3d.mp4"]
    assert out.startswith(f"2D pose: keypoints of {points}\n")
    with np.load(tmp_path / "out" / "points.npz") as saved:
        np.testing.assert_allclose(saved["person_1_times"], np.arange(12) / 10, atol=1e-6)
        assert "person_1_poses_camera_raw" in saved and str(points) in str(saved["notes"])


def test_rate_of_keypoints_is_the_files_or_unknown(run, folder, tmp_path):
    argv = ["--keypoints", folder / "points.npz", "--no-render"]
    code, out, _, _ = run(*argv, "--html")
    assert code == 0 and "lifted alone" in out and "--fps" in out
    with np.load(folder / "points.npz") as saved:
        np.savez(folder / "points.npz", **saved, fps=12.5)
    code, out, _, _ = run(*argv, "--save", "json", "--fps", "50")
    assert code == 0 and "12.5 frames per second" in out
    assert json.loads((tmp_path / "out" / "points.json").read_text())["fps"] == 12.5


# The real networks, in a process


def test_image_of_the_project_and_sigterm_in_a_video(tmp_path):
    if not any(lifting.CHECKPOINTS.glob("open/*.pth")) or not any(api.DETECTORS.glob("*.tflite")):
        pytest.skip("needs ckpt/open and BlazePose: python -m demo.fetch")
    photo = np.asarray(Image.open(ROOT / "demo" / "figure" / "astronaut.jpg").resize((320, 320)))
    with videos.VideoWriter(tmp_path / "film.mp4", 25.0) as writer:
        for _ in range(120):  # enough for the signal to come in it
            writer.write(photo)
    command = [
        sys.executable,
        "demo/vis.py",
        "demo/figure",
        tmp_path / "film.mp4",
        "--output",
        tmp_path / "out",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)
    line = ""
    while "astronaut.jpg: " not in line and process.poll() is None:
        line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143 and "1 person" in line and "half seen" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["astronaut_3d.png"]

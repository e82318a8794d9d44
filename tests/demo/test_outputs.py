import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from walkers import walkers

from common.skeleton import BONES, JOINT_NAMES
from demo.lib import export, render, viewer
from demo.lib.bvh import FROM_CAMERA
from demo.lib.export import joint_angles, save
from demo.lib.result import Result
from demo.lib.stage import MAX_STAGE_M, set_stage

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def frames_of(result: Result) -> list[np.ndarray]:
    width, height = result.image_size
    return [np.full((height, width, 3), 90, np.uint8) for _ in range(result.frame_count)]


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(image.astype(int) - colour).max(axis=-1) < 12).any())


def test_rendered_frames_show_both_sides_and_keep_one_size() -> None:
    result = walkers(frames=4)
    images = list(render.rendered(result, frames_of(result)))
    assert len({image.shape for image in images}) == 1
    assert all(side % 2 == 0 for side in images[0].shape[:2])
    width = images[0].shape[1] // 2
    for half in (images[0][:, :width], images[0][:, width:]):
        assert has(half, BLUE)
        assert has(half, VERMILION)
    empty = list(render.rendered(Result("a", (64, 48), 1, None), [np.zeros((48, 64, 3), np.uint8)]))
    assert not has(empty[0][:, : empty[0].shape[1] // 2], BLUE)


def test_stage_keeps_people_apart_and_bounds_the_floor() -> None:
    result = walkers(placed=False)
    stage = set_stage(result)
    first, second = (poses[..., :2].reshape(-1, 2) for poses in stage.poses)
    assert first[:, 0].max() < second[:, 0].min() or second[:, 0].max() < first[:, 0].min()
    for track in result.tracks:
        track.upright = track.upright * 1000  # poses in millimetres by mistake
    low, high = np.array(set_stage(result).view[:2])
    assert (high - low <= MAX_STAGE_M + 1).all()


def test_npz_json_and_csv_hold_the_same_values(tmp_path: Path) -> None:
    result = walkers()
    assert [path.name for path in save(result, tmp_path / "a", ["npz", "json", "csv"])] == [
        "a.npz",
        "a.json",
        "a.csv",
    ]
    arrays = np.load(tmp_path / "a.npz")
    document = json.loads((tmp_path / "a.json").read_text())
    with open(tmp_path / "a.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    track = result.tracks[1]
    np.testing.assert_array_equal(arrays["person_2_poses_camera"], track.poses)
    person = document["people"][1]
    np.testing.assert_allclose(person["poses_camera"], track.poses, atol=1e-6)
    np.testing.assert_allclose(person["times"], track.frames / 25, atol=1e-6)
    rows = [line for line in lines if line["person"] == "2"]
    table = np.array([[float(row[f"{axis}_camera_m"]) for axis in "xyz"] for row in rows])
    np.testing.assert_allclose(table.reshape(-1, 17, 3), track.poses, atol=1e-6)
    assert [row["joint"] for row in rows[:17]] == list(JOINT_NAMES)
    assert document["joint_names"] == arrays["joint_names"].tolist() == list(JOINT_NAMES)


def test_saved_times_are_the_frames_own(tmp_path: Path) -> None:
    result = walkers()
    result.frame_times = np.cumsum(np.r_[0, np.tile([0.04, 0.2], result.frame_count)])[: result.frame_count]
    save(result, tmp_path / "a", ["json", "trc", "bvh"])
    person = json.loads((tmp_path / "a.json").read_text())["people"][1]
    np.testing.assert_allclose(person["times"], result.frame_times[result.tracks[1].frames], atol=1e-6)
    lines = (tmp_path / "a_person_2.trc").read_text().splitlines()
    assert float(lines[6].split("\t")[1]) == pytest.approx(result.frame_times[11], abs=1e-6)
    bvh = (tmp_path / "a_person_2.bvh").read_text()
    span = np.ptp(result.frame_times[result.tracks[1].frames])
    assert int(bvh.split("Frames: ")[1].split()[0]) == round(span * 25) + 1


def test_source_names_are_escaped(tmp_path: Path) -> None:
    result = walkers(frames=2)
    result.source = "=cmd|\x1b[31m</script>\udce9.mp4"
    save(result, tmp_path / "a", export.KINDS)
    viewer.write_viewer(result, tmp_path / "a.html")
    for path in tmp_path.iterdir():
        assert b"\x1b" not in path.read_bytes() or path.suffix in (".npz", ".c3d")
    assert (tmp_path / "a.html").read_text().count("</script>") == 2
    assert not (tmp_path / "a.csv").read_text().startswith("=")


def forward(path: Path) -> dict[str, np.ndarray]:
    """(T, 3) positions of a BVH file's joints in its own axes: an independent forward kinematics."""
    head, motion = path.read_text().split("MOTION")
    names, parents, offsets, stack = [], [], [], []
    for line in head.splitlines():
        words = line.split()
        if words and words[0] in ("ROOT", "JOINT", "End"):
            parents.append(stack[-1] if stack else -1)
            stack.append(len(names))
            names.append(words[1] if words[0] != "End" else f"end_{len(names)}")
        elif words and words[0] == "OFFSET":
            offsets.append([float(word) for word in words[1:]])
        elif words and words[0] == "}":
            stack.pop()
    values = np.array([[float(word) for word in line.split()] for line in motion.strip().splitlines()[2:]])
    at, rotations, places = 3, [], []
    for number, (name, parent) in enumerate(zip(names, parents)):
        rotation = None
        if not name.startswith("end_"):
            rotation = Rotation.from_euler("ZXY", values[:, at : at + 3], degrees=True)
            at += 3
        if parent < 0:
            places.append(values[:, :3])
        else:
            places.append(places[parent] + rotations[parent].apply(offsets[number]))
            rotation = rotations[parent] * rotation if rotation else None
        rotations.append(rotation)
    return dict(zip(names, places))


def test_bvh_read_back_gives_the_poses(tmp_path: Path) -> None:
    result = walkers()
    track = result.tracks[0]
    track.poses = _constant_bones(track.poses)
    save(result, tmp_path / "a", ["bvh"])
    places = forward(tmp_path / "a_person_1.bvh")
    expected = (track.poses + (0 if track.root is None else track.root[:, None])) * FROM_CAMERA
    for joint, name in enumerate(JOINT_NAMES):
        np.testing.assert_allclose(places[name], expected[:, joint], atol=0.1)  # centimetres


def _constant_bones(poses: np.ndarray) -> np.ndarray:
    fixed = poses.astype(np.float64)
    for joint, parent in BONES:
        bone = poses[:, joint] - poses[:, parent]
        length = np.linalg.norm(bone, axis=1, keepdims=True)
        fixed[:, joint] = fixed[:, parent] + bone / length * np.median(length)
    return fixed.astype(np.float32)


def test_c3d_and_trc_read_back_give_the_poses(tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    result = walkers()
    save(result, tmp_path / "a", ["c3d", "trc"])
    track = result.tracks[0]
    expected = (track.poses + (0 if track.root is None else track.root[:, None])) * [1, -1, -1]
    file = ezc3d.c3d(str(tmp_path / "a_person_1.c3d"))
    points = file["data"]["points"][:3].transpose(2, 1, 0)  # (3, 17, T) -> (T, 17, 3)
    np.testing.assert_allclose(points, expected * 1000, atol=0.01)
    assert file["parameters"]["POINT"]["RATE"]["value"][0] == pytest.approx(25)
    lines = (tmp_path / "a_person_1.trc").read_text().splitlines()
    table = np.array([[float(word) for word in line.split("\t")[2:]] for line in lines[5:]])
    np.testing.assert_allclose(table.reshape(-1, 17, 3), expected, atol=1e-5)
    assert lines[2].split("\t")[2:5] == [str(len(track.frames)), "17", "m"]


def test_joint_angles_of_known_poses() -> None:
    pose = walkers().tracks[0].poses[:1].astype(np.float64)
    at = {name: index for index, name in enumerate(JOINT_NAMES)}
    pose[0, at["left_shoulder"]] = [0, 0, 0]
    pose[0, at["left_elbow"]] = [0, 0.3, 0]  # straight down
    pose[0, at["left_wrist"]] = [0.3, 0.3, 0]
    pose[0, at["pelvis"]], pose[0, at["thorax"]] = [0, 0.5, 0], [0, 0, 0]
    angles = joint_angles(pose)
    assert angles["left_elbow_flexion"][0] == pytest.approx(90)
    assert angles["left_shoulder_elevation"][0] == pytest.approx(0)
    assert angles["trunk_lean"][0] == pytest.approx(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    page.set_page_load_timeout(60)
    yield page
    page.quit()


def test_viewer_plays_and_rotates_in_a_browser(tmp_path: Path, browser: Any) -> None:
    result = walkers()
    result.source = "<b>walk.mp4"
    viewer.write_viewer(result, tmp_path / "a.html", frames_of(result))
    browser.get(f"file://{tmp_path / 'a.html'}")
    assert browser.execute_script("return document.getElementById('title').textContent") == result.source
    assert browser.get_log("browser") == []
    sharp = "return document.getElementById('scene').toDataURL()"
    before = browser.execute_script(sharp)
    browser.execute_script("state.azimuth += 60; invalidate()")
    waited = """
        const done = arguments[0];
        const timer = setInterval(() => state.at > 5 && (clearInterval(timer), done(true)), 50);"""
    browser.execute_script("document.getElementById('play').click()")
    assert browser.execute_async_script(waited)
    assert browser.execute_script(sharp) != before


def test_viewer_stays_small_for_a_long_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "MAX_IMAGE_BYTES", 20_000)
    result = walkers()
    noise = np.random.default_rng(0).integers(0, 255, (*result.image_size[::-1], 3)).astype(np.uint8)
    viewer.write_viewer(result, tmp_path / "a.html", [noise] * result.frame_count)
    data = json.loads((tmp_path / "a.html").read_text().split('id="data">')[1].split("</script>")[0])
    assert data["images"]["step"] > 1
    assert sum(len(each) for each in data["images"]["jpeg"]) < 200_000

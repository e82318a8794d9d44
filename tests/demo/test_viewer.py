"""The viewer: what is in the file, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import PROGRAM, Chromium, Page
from walkers import pictures, walkers

from demo.lib import viewer
from demo.lib.result import Result
from demo.lib.viewer import write_viewer

browsing = pytest.mark.skipif(
    PROGRAM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
HOSTILE = '</script><img src=x onerror=alert(1)>{{data}} & "co".mp4'


def embedded(path: Path) -> dict[str, Any]:
    """The data in a written file."""
    match = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert match
    return json.loads(match[1])


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


# ---- The file.


def test_poses_come_back_to_the_millimetre_and_keypoints_to_the_pixel(tmp_path):
    result = walkers(placed=True)
    write_viewer(result, tmp_path / "v.html")
    data = embedded(tmp_path / "v.html")
    for track, person in zip(result.tracks, data["people"], strict=True):
        poses = (
            numbers(person["poses"], "<i2").reshape(-1, 17, 3) * data["unit"]
        )  # (T * 17 * 3,) -> (T, 17, 3)
        np.testing.assert_array_equal(numbers(person["frames"], "<i4"), track.frames)
        bones = np.linalg.norm(np.diff(track.upright, axis=1), axis=-1)
        np.testing.assert_allclose(np.linalg.norm(np.diff(poses, axis=1), axis=-1), bones, atol=2e-3)
        np.testing.assert_allclose(poses[..., 2], track.upright[..., 2], atol=1e-3)
        points = numbers(person["points"], "<i2").reshape(-1, 17, 2) * data["pixel"]  # -> (T, 17, 2)
        np.testing.assert_allclose(points, track.keypoints, atol=0.1)
        np.testing.assert_array_equal(numbers(person["filled"], "u1").astype(bool), track.interpolated)


def test_a_file_refers_to_nothing_outside(tmp_path):
    result = walkers(frames=12)
    write_viewer(result, tmp_path / "v.html", pictures(result))
    text = re.sub(
        r'<script type="application/json".*?</script>', "", (tmp_path / "v.html").read_text(), flags=re.S
    )
    assert not re.search(r"https?:|//\w+\.\w|@import|url\(", text)
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,"]


def test_pictures_are_scaled_down_and_thinned_to_their_budget(tmp_path, monkeypatch):
    result = replace(walkers(frames=12), image_size=(1920, 1080))
    write_viewer(result, tmp_path / "all.html", pictures(result))
    everything = embedded(tmp_path / "all.html")["pictures"]
    assert everything["step"] == 1 and len(everything["jpeg"]) == 12
    sizes = [len(base64.b64decode(jpeg)) for jpeg in everything["jpeg"]]
    image = cv2.imdecode(numbers(everything["jpeg"][0], "u1"), cv2.IMREAD_COLOR)
    assert image.shape[:2] == (480, 853)

    monkeypatch.setattr(viewer, "MAX_PICTURE_BYTES", sum(sizes) // 2)
    write_viewer(result, tmp_path / "some.html", pictures(result))
    some = embedded(tmp_path / "some.html")["pictures"]
    assert some["step"] == 4 or some["step"] == 2
    assert some["jpeg"] == everything["jpeg"][:: some["step"]]
    assert sum(len(base64.b64decode(jpeg)) for jpeg in some["jpeg"]) <= viewer.MAX_PICTURE_BYTES


def test_poses_are_thinned_to_their_number(tmp_path, monkeypatch):
    result = replace(walkers(frames=40), image_size=(100, 100))  # 40 and 30 poses
    monkeypatch.setattr(viewer, "MAX_POSES", 24)
    write_viewer(result, tmp_path / "v.html", pictures(result))
    data = embedded(tmp_path / "v.html")
    assert data["step"] == 3 and data["pictures"]["step"] % 3 == 0
    assert [numbers(person["frames"], "<i4").tolist() for person in data["people"]] == [
        list(range(0, 40, 3)),
        list(range(12, 40, 3)),
    ]


def test_a_track_of_another_shape_is_named_and_leaves_no_file(tmp_path):
    result = walkers()
    result.tracks[1].upright = result.tracks[1].upright[:, :16]
    with pytest.raises(
        ValueError, match=r"person 2: upright: expected shape \(30, 17, 3\), found \(30, 16, 3\)"
    ):
        write_viewer(result, tmp_path / "v.html")
    assert not list(tmp_path.iterdir())


# ---- In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The viewer of a video of two people, 40 frames."""
    path = tmp_path_factory.mktemp("film") / "film.html"
    result = replace(walkers(), source=HOSTILE, notes={"detector": HOSTILE})
    write_viewer(result, path, pictures(result))
    return path


def assert_clean(page: Page, path: Path) -> None:
    """No exception, no message in the console, no request but for the file itself and what it holds."""
    for event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
        assert page.events(event) == []
    asked = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [path.resolve().as_uri()]


@browsing
def test_a_film_plays_and_stops(browser, film):
    page = browser.open(film, 1280, 800)
    assert page.run("state.at") == 0
    page.click("#play")
    page.wait("state.at >= 3")
    page.click("#play")
    at = page.run("state.at")
    page.settle()
    assert page.run("state.at") == at and not page.run("state.playing")
    page.key(" ")
    page.wait(f"state.at !== {at}")
    assert page.run("document.querySelector('#play').textContent") == "Pause"
    assert_clean(page, film)


@browsing
def test_dragging_turns_the_poses_and_only_them(browser, film):
    page = browser.open(film, 1280, 800)
    page.run("seek(15)")
    page.wait("picture(15).complete")
    page.settle()
    scene, picture = page.pixels("#scene"), page.pixels("#picture")
    x, y = page.middle("#scene")
    page.drag((x, y), (x + 120, y + 20))
    assert page.run("[state.azimuth, state.elevation]") == pytest.approx([-60, 18])
    assert page.pixels("#scene") != scene and page.pixels("#picture") == picture
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    page.settle()
    assert page.run("state.zoom") > 1.2
    page.click("[data-view=camera]")
    assert page.pixels("#scene") == scene
    assert_clean(page, film)


@browsing
def test_the_slider_and_the_arrows_step_through_the_frames(browser, film):
    page = browser.open(film, 1280, 800)
    page.settle()
    before = page.pixels("#scene")
    x, y = page.middle("#scrub")
    page.mouse("mousePressed", x, y)
    page.mouse("mouseReleased", x, y)
    page.wait("picture(state.at).complete")
    page.settle()
    assert page.run("state.at") in range(18, 22) and page.pixels("#scene") != before
    page.run("seek(30)")
    page.key("ArrowRight")
    assert page.run("[state.at, state.azimuth]") == [31, 0]
    assert page.run("document.querySelector('#time').textContent") == "frame 31 / 39 · 1.24 s"
    page.run("document.querySelector('#scene').focus()")
    page.key("ArrowRight")
    assert page.run("[state.at, state.azimuth]") == [31, -6]
    assert_clean(page, film)


@browsing
def test_people_are_shown_where_the_camera_saw_them_and_can_be_left_out(browser, film):
    page = browser.open(film, 1280, 800)
    page.run("seek(22)")
    page.wait("picture(22).complete")
    page.settle()
    # The walker is on the left and the kicker on the right, in the input and on the floor.
    flat = (
        "present(22).map(({person, row}) => camera(600, 400)([0, 1, 2].map(axis => "
        "person.poses[row * 51 + axis] * data.unit))[0])"
    )
    walker, kicker = page.run(flat)
    assert walker < 300 < kicker
    both, picture = page.pixels("#scene"), page.pixels("#picture")
    page.click("#people button:nth-child(2)")
    assert page.run("present(22).map(one => one.person.id)") == [1]
    assert page.pixels("#scene") != both and page.pixels("#picture") != picture
    assert page.run("document.querySelector('#people button:nth-child(2)').ariaPressed") == "false"
    assert_clean(page, film)


@browsing
def test_a_hostile_name_is_text(browser, film):
    page = browser.open(film, 800, 600)
    name = HOSTILE.rpartition("/")[2]  # a page is passed on, and folders are private
    assert page.run("document.title") == name
    assert page.run("document.querySelector('h1').textContent") == name
    assert page.run("document.images.length") == 0
    assert_clean(page, film)


@browsing
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_has_it_all_in_its_width(browser, film, dark):
    page = browser.open(film, 390, 844, dark=dark, phone=True)
    page.settle()
    assert page.run("document.documentElement.scrollWidth") <= 390
    ends = page.run("[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right)")
    assert max(ends) <= 390
    # Bones stand out from the ground in both schemes, and buttons suit a thumb.
    ground = page.run("getComputedStyle(document.querySelector('#scene')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
    assert page.run("Math.min(...[...document.querySelectorAll('button')].map(b => b.offsetHeight))") >= 36
    x, y = page.middle("#scene")
    page.touch("touchStart", (x, y))
    page.touch("touchMove", (x + 60, y))
    page.touch("touchEnd")
    page.settle()
    assert page.run("state.azimuth") == pytest.approx(-30)
    page.touch("touchStart", (x - 20, y), (x + 20, y))
    page.touch("touchMove", (x - 40, y), (x + 40, y))
    page.touch("touchEnd")
    assert page.run("state.zoom") > 1.5
    assert_clean(page, film)


@browsing
def test_a_picture_has_no_player_and_its_arrows_turn(browser, tmp_path):
    result = walkers(frames=11)
    tracks = [
        replace(
            track,
            **{
                name: getattr(track, name)[-1:]
                for name in ("keypoints", "scores", "interpolated", "poses", "upright", "root")
            },
            frames=np.array([0]),
        )
        for track in result.tracks
    ]
    single = Result("photo.jpg", result.image_size, 1, None, tracks)
    write_viewer(single, tmp_path / "photo.html", [next(pictures(result))])
    page = browser.open(tmp_path / "photo.html", 1280, 800)
    assert page.run("document.querySelector('#player').offsetHeight") == 0
    page.key("ArrowLeft")
    assert page.run("state.azimuth") == 6
    assert page.run("present(0).length") == 2
    assert_clean(page, tmp_path / "photo.html")


@browsing
def test_a_thinned_film_says_so_and_keeps_its_speed(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "MAX_POSES", 24)
    monkeypatch.setattr(viewer, "MAX_PICTURE_BYTES", 7000)
    result = replace(walkers(frames=40), image_size=(100, 100))
    write_viewer(result, tmp_path / "v.html", pictures(result))
    page = browser.open(tmp_path / "v.html", 1280, 800)
    assert "one in 3 frames is in this file" in page.run("document.querySelector('#summary').textContent")
    assert page.run("[steps, rate]") == pytest.approx([14, 25 / 3])
    page.run("seek(13)")
    page.wait("picture(state.picture).complete")
    page.settle()
    assert page.run("document.querySelector('#time').textContent") == "frame 39 / 39 · 1.56 s"
    # The picture is not of that frame, and its key points are the picture's own.
    kept = page.run("pictures.step")
    assert kept > 3 and kept % 3 == 0
    shown = page.run("document.querySelector('#pictureName').textContent")
    assert shown == f"Input · every {kept} frames, now {39 // kept * kept}"
    assert_clean(page, tmp_path / "v.html")


@browsing
def test_an_input_without_people_says_so(browser, tmp_path):
    empty = Result("empty.mp4", (320, 240), 5, 25.0)
    write_viewer(empty, tmp_path / "empty.html", (np.full((240, 320, 3), 90, np.uint8) for _ in range(5)))
    page = browser.open(tmp_path / "empty.html", 1280, 800)
    page.run(
        "CanvasRenderingContext2D.prototype.fillText = function (text) { window.said = text; }, invalidate()"
    )
    page.settle()
    assert page.run("window.said") == "Nobody was found in this input."
    assert "no people" in page.run("document.querySelector('#summary').textContent")
    assert_clean(page, tmp_path / "empty.html")

"""Videos: whole, turned, cut, lying, and none at all."""

import struct

import cv2
import numpy as np
import pytest

from demo.lib import video
from demo.lib.inputs import InputError
from demo.lib.video import Video, webcam

UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
TURNED = struct.pack(">9I", 0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000)  # A quarter, clockwise.


def written(path, frames=20, fps=25.0, size=(64, 48)):
    """Frames with a red upper half, each a little brighter in blue than the one before."""
    code = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size)
    for index in range(frames):
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        frame[: size[1] // 2, :, 2] = 200
        frame[size[1] // 2 :, :, 0] = 6 * index
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_frames_come_in_order_as_rgb(tmp_path, suffix):
    with Video(written(tmp_path / f"film{suffix}")) as film:
        assert film.size == (64, 48) and film.fps == 25 and film.frame_count == 20
        frames = list(film)
    assert len(frames) == 20 and frames[0].shape == (48, 64, 3)
    assert np.abs(frames[3][8, 30].astype(int) - (200, 0, 0)).max() < 30
    assert all(np.diff([int(frame[40, 30, 2]) for frame in frames]) > 0)
    assert film.notes == []


def test_phone_videos_are_turned_upright(tmp_path):
    content = written(tmp_path / "plain.mp4").read_bytes()
    start = content.index(UPRIGHT, content.index(b"tkhd"))
    path = tmp_path / "phone.mp4"
    path.write_bytes(content[:start] + TURNED + content[start + len(TURNED) :])
    with Video(path) as film:
        frame = next(iter(film))
    assert film.size == (48, 64) and frame.shape == (64, 48, 3)
    assert frame[30, 40, 0] > 150 and frame[30, 8, 0] < 50  # What was above is on the right.


def test_a_video_that_breaks_off_ends_with_a_note(tmp_path):
    whole = written(tmp_path / "whole.avi", frames=40).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: 2 * len(whole) // 3])
    with Video(path) as film:
        count = sum(1 for _ in film)
    assert 0 < count < 40
    assert len(film.notes) == 1 and f"after {count} of 40" in film.notes[0]


def test_a_video_without_its_index_is_refused_by_name(tmp_path):
    whole = written(tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.mp4: .*cut short"):
        Video(path)


def test_a_video_without_frames_is_refused_by_name(tmp_path):
    path = tmp_path / "none.avi"
    content = written(path, frames=1).read_bytes()
    start = content.index(b"movi")
    path.write_bytes(content[: start + 4])
    with pytest.raises(InputError, match=r"none\.avi: "):
        Video(path)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    for name in ("empty.mp4", "text.mp4", "gone.mp4", "."):
        with pytest.raises(InputError) as caught:
            Video(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_a_name_with_a_number_pattern_is_a_name(tmp_path):
    with Video(written(tmp_path / "take%03d.avi")) as film:
        assert film.frame_count == 20


class FakeCapture:
    """A camera or container that says and gives what a test wants."""

    def __init__(self, frames, **says):
        self.frames = list(frames)
        self.says = {getattr(cv2, f"CAP_PROP_{name.upper()}"): value for name, value in says.items()}

    def get(self, what):
        return self.says.get(what, 0.0)

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.released = True


def opened(monkeypatch, capture, source="film.avi"):
    monkeypatch.setattr(video, "_open_camera" if isinstance(source, int) else "_open_file", lambda _: capture)
    return Video(source)


@pytest.mark.parametrize("claim", [0.0, -25.0, float("nan"), float("inf"), 90000.0])
def test_a_rate_that_cannot_be_is_replaced_with_a_note(monkeypatch, claim):
    film = opened(monkeypatch, FakeCapture([np.zeros((4, 6, 3), np.uint8)], fps=claim))
    assert film.fps == 30 and "30" in film.notes[0]


@pytest.mark.parametrize("claim", [-1.0, 0.0, float("nan"), -9.2e18, 9.2e18])
def test_a_length_that_cannot_be_is_none(monkeypatch, claim):
    film = opened(monkeypatch, FakeCapture([np.zeros((4, 6, 3), np.uint8)], fps=25.0, frame_count=claim))
    assert film.frame_count is None and len(list(film)) == 1 and film.notes == []


def test_huge_frames_are_refused_before_one_is_read(monkeypatch):
    capture = FakeCapture([np.zeros((4, 6, 3), np.uint8)], frame_width=30000.0, frame_height=20000.0)
    with pytest.raises(InputError, match=r"film\.avi: 30000 x 20000"):
        opened(monkeypatch, capture)
    assert len(capture.frames) == 1 and capture.released


def test_frames_that_change_size_end_the_video_with_a_note(monkeypatch):
    frames = [np.zeros((4, 6, 3), np.uint8)] * 3 + [np.zeros((6, 4, 3), np.uint8)]
    film = opened(monkeypatch, FakeCapture(frames, fps=25.0))
    assert len(list(film)) == 3 and "change size after 3" in film.notes[0]


def test_a_webcam_is_a_video_without_a_length(monkeypatch):
    capture = FakeCapture([np.full((4, 6, 3), (1, 2, 3), np.uint8)] * 2, fps=30.0, frame_count=99.0)
    camera = opened(monkeypatch, capture, source=0)
    assert camera.name == "webcam 0" and camera.size == (6, 4) and camera.frame_count is None
    assert [frame[0, 0].tolist() for frame in camera] == [[3, 2, 1]] * 2


@pytest.mark.parametrize("index", [77, -1])
def test_a_missing_webcam_is_named(index, capfd):
    with pytest.raises(InputError, match=f"webcam {index}: "):
        webcam(index)
    assert capfd.readouterr().err == ""

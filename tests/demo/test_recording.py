"""Recordings of a webcam: whole, whenever Ctrl-C comes, and at the rate at which frames come."""

import signal
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from common.errors import RunError
from demo.lib import recording, video, video_writer
from demo.lib.inputs import InputError
from demo.lib.recording import record


class Camera:
    """A webcam that claims 30 frames a second and gives them as slowly as it is told to."""

    def __init__(self, frames: int, pause: float = 0.0, interrupt_at: int | None = None) -> None:
        self.left, self.pause, self.given, self.interrupt_at = frames, pause, 0, interrupt_at

    def get(self, what: int) -> float:
        return 30.0 if what == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        time.sleep(self.pause)
        self.given += 1
        if self.given == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return self.given <= self.left, np.full((49, 65, 3), self.given % 200, np.uint8)

    def release(self) -> None:
        pass


def recorded(monkeypatch, tmp_path, camera: Camera, most: int | None = None) -> tuple[int, float, int, float]:
    monkeypatch.setattr(video, "_open_camera", lambda _: camera)
    with video.webcam(0) as source:
        count, fps = record(source, tmp_path / "out.mp4", most)
    reader = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    return count, fps, int(reader.get(cv2.CAP_PROP_FRAME_COUNT)), reader.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("at", [2, 15, 16, 40])
def test_ctrl_c_while_waiting_for_a_frame_ends_a_whole_recording(monkeypatch, tmp_path, at):
    count, _, found, _ = recorded(monkeypatch, tmp_path, Camera(1000, interrupt_at=at))
    assert count == found == at


@pytest.mark.parametrize("at", [1, 20])
def test_ctrl_c_while_a_frame_is_written_ends_a_whole_recording(monkeypatch, tmp_path, at):
    written = []
    write = video_writer.VideoWriter.write

    def interrupted(self, frame):
        written.append(frame)
        if len(written) == at:
            signal.raise_signal(signal.SIGINT)
        write(self, frame)

    monkeypatch.setattr(video_writer.VideoWriter, "write", interrupted)
    count, _, found, _ = recorded(monkeypatch, tmp_path, Camera(1000))
    assert count == found == max(at, 15)


def test_the_rate_is_the_one_at_which_frames_come(monkeypatch, tmp_path):
    count, fps, found, written = recorded(monkeypatch, tmp_path, Camera(1000, pause=0.1), most=6)
    assert count == found == 6
    assert 3 < fps <= 10.5 and written == pytest.approx(fps, abs=0.1)


def test_frames_that_nobody_waited_for_tell_no_rate(monkeypatch, tmp_path):
    assert recorded(monkeypatch, tmp_path, Camera(1000), most=20) == (20, 30.0, 20, pytest.approx(30))


def test_a_camera_that_falls_silent_leaves_what_it_gave(monkeypatch, tmp_path):
    count, _, found, _ = recorded(monkeypatch, tmp_path, Camera(9))
    assert count == found == 9


def test_ctrl_c_works_as_ever_afterwards(monkeypatch, tmp_path):
    recorded(monkeypatch, tmp_path, Camera(3))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


class Failing(Camera):
    """One that gives nothing at some calls, from 1 on, and pictures of another size from one call on."""

    def __init__(self, frames: int, fails=(), claim: float = 30.0, other_from: int | None = None) -> None:
        super().__init__(frames)
        self.fails, self.claim, self.other_from = set(fails), claim, other_from

    def get(self, what: int) -> float:
        return self.claim if what == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        taken, frame = super().read()
        if self.other_from and self.given >= self.other_from:
            frame = frame[:40]
        return (False, None) if self.given in self.fails else (taken, frame)


def noted(monkeypatch, tmp_path, camera, most=None) -> tuple[int, list[str]]:
    """Frames of a recording that can be read back, and what was said of it."""
    monkeypatch.setattr(video, "_open_camera", lambda _: camera)
    monkeypatch.setattr(video, "PATIENCE", 0.1)
    monkeypatch.setattr(video, "PAUSE", 0.001)
    with video.webcam(0) as source:
        count, _ = record(source, tmp_path / "out.mp4", most)
    reader = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert count == int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    return count, source.notes


def test_frames_that_fail_are_missing_and_the_recording_goes_on(monkeypatch, tmp_path):
    count, notes = noted(monkeypatch, tmp_path, Failing(1000, {1, 2, 10, 40, 41}), most=50)
    assert count == 50 and notes == ["frames that failed and are missing: 5"]


def test_a_camera_that_is_unplugged_leaves_what_it_gave_and_a_note(monkeypatch, tmp_path):
    count, notes = noted(monkeypatch, tmp_path, Failing(40, {12}))
    assert count == 39
    assert notes == ["the camera gave no more frames after 39", "frames that failed and are missing: 1"]


def test_the_wait_for_a_camera_that_is_gone_tells_no_rate(monkeypatch, tmp_path):
    monkeypatch.setattr(video, "PATIENCE", 0.5)
    _, fps, _, _ = recorded(monkeypatch, tmp_path, Camera(9))
    assert fps == 30


def test_a_camera_without_a_picture_is_named(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="webcam 0: it gives no picture"):
        noted(monkeypatch, tmp_path, Camera(0))


def test_a_camera_that_changes_its_size_leaves_what_came_before_and_a_note(monkeypatch, tmp_path):
    count, notes = noted(monkeypatch, tmp_path, Failing(100, other_from=31))
    assert count == 30 and notes == ["frames change size after 30: the rest is left out"]


@pytest.mark.parametrize("claim", [0.0, float("nan"), -1.0])
def test_a_camera_that_knows_no_rate_is_measured(monkeypatch, tmp_path, claim):
    camera = Failing(100, claim=claim)
    camera.pause = 0.05
    monkeypatch.setattr(video, "_open_camera", lambda _: camera)
    with video.webcam(0) as source:
        _, fps = record(source, tmp_path / "out.mp4", 8)
    assert 3 < fps <= 21


def test_a_rate_that_changes_is_told(monkeypatch, tmp_path):
    clock = iter(range(10**6))
    camera = Failing(100)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) * 0.1 if camera.given < 16 else 1e4)
    _, notes = noted(monkeypatch, tmp_path, camera, most=60)
    assert len(notes) == 1 and "at first and at 0.0 on the whole: times are a guess" in notes[0]


def test_sigterm_ends_a_whole_recording_and_then_the_program(monkeypatch, tmp_path):
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(list(tmp_path.iterdir())))
    read = Camera.read

    def terminated(self):
        if self.given == 25:
            signal.raise_signal(signal.SIGTERM)
        return read(self)

    monkeypatch.setattr(Camera, "read", terminated)
    try:
        count, _ = noted(monkeypatch, tmp_path, Camera(1000))
    finally:
        assert signal.signal(signal.SIGTERM, before) is not before
    assert count == 26 and ended == [[tmp_path / "out.mp4"]]


def test_a_disk_that_fills_up_ends_a_whole_recording(monkeypatch, tmp_path):
    free = iter([200 << 20, 100 << 20, 65 << 20, 63 << 20])
    monkeypatch.setattr(recording.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    count, notes = noted(monkeypatch, tmp_path, Camera(1000))
    assert count == 90 and notes == ["the disk is nearly full: the recording ends after 90 frames"]


def test_a_disk_that_is_full_is_told_before_anything_is_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(recording.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(RunError, match=r"out\.mp4: expected at least 64 MB .*found 1"):
        noted(monkeypatch, tmp_path, Camera(1000))
    assert list(tmp_path.iterdir()) == []

"""Recordings of a webcam: whole, whenever Ctrl-C comes, and at the rate at which frames come."""

import signal
import time

import cv2
import numpy as np
import pytest

from demo.lib import video, video_writer
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

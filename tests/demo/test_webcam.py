"""The webcam's command as a real process that is stopped: files are whole or not there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from model import HTNet

ROOT = Path(__file__).parents[2]
PROGRAM = """
import runpy, sys, time
import numpy as np
from demo.lib import detectors, outputs, video
from demo_people import Scripted, person

class Camera:
    given = 0
    def get(self, what):
        return 0.0
    def read(self):
        self.given += 1
        if self.given == 20:
            print("filming", flush=True)
        time.sleep(0.02)
        return True, np.full((100, 150, 3), 30, np.uint8)
    def release(self):
        pass

class Slow(Scripted):
    def track(self, image):
        if len(self.seen) == 5:
            print("looking", flush=True)
            time.sleep(SLEEP)
        return super().track(image)

class Writer(outputs.VideoWriter):
    def write(self, frame):
        if self.frames == 5:
            print("rendering", flush=True)
            time.sleep(60)
        super().write(frame)

video._open_camera = lambda _: Camera()
detectors.load = lambda *_: Slow(*[[person(80, 90, 80)]] * 10_000)
outputs.VideoWriter = Writer
runpy.run_path("demo/vis.py", run_name="__main__")
"""


def stopped(tmp_path, steps: dict[str, signal.Signals], *, sleep: float = 60) -> tuple[int, str, list[str]]:
    """Sends each signal when the process has said its word; gives exit code, errors, and what it left."""
    torch.manual_seed(0)
    torch.save(HTNet(layers=1, channel=24, d_hid=24).state_dict(), tmp_path / "small.pth")
    output = tmp_path / "out"
    call = ["--webcam", "0", "--previous_dir", tmp_path / "small.pth", "--device", "cpu", "--save", "json"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("SLEEP", str(sleep)), *call, "--output", output],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    waiting = list(steps.items())
    for line in process.stdout:
        if waiting and line.startswith(waiting[0][0]):
            process.send_signal(waiting.pop(0)[1])
    _, errors = process.communicate(timeout=120)
    assert not waiting
    recorded = cv2.VideoCapture(str(output / "webcam_0_recorded.mp4"))
    assert recorded.get(cv2.CAP_PROP_FRAME_COUNT) > 0, "a recording is whole"
    return process.returncode, errors, sorted(os.listdir(output))


def test_sigterm_while_recording_keeps_the_recording_and_ends(tmp_path):
    found = stopped(tmp_path, {"filming": signal.SIGTERM})
    assert found == (143, "", ["webcam_0_recorded.mp4"])


def test_sigterm_after_ctrl_c_while_people_are_found_keeps_the_recording_alone(tmp_path):
    found = stopped(tmp_path, {"filming": signal.SIGINT, "looking": signal.SIGTERM})
    assert found == (143, "", ["webcam_0_recorded.mp4"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGINT, (130, "stopped\n")), (signal.SIGTERM, (143, ""))]
)
def test_a_signal_while_the_video_is_written_leaves_no_part_of_it(tmp_path, number, ended):
    found = stopped(tmp_path, {"filming": signal.SIGINT, "rendering": number}, sleep=0)
    assert found == (*ended, ["webcam_0_recorded.mp4"])

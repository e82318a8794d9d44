"""The soak of the webcam path: a minute of frames without a leak, and with leaks that are planted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.made_up_webcam import Knowing
from benchmarks.soak import soak
from demo import vis
from demo.lib.blazepose import DETECTOR, LANDMARKS
from model import HTNet

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc, that is Linux")


@pytest.fixture
def minute(tmp_path, capsys):
    """Soaks for a minute of frames with a detector of ours and a small lifter."""
    torch.manual_seed(0)
    torch.save(HTNet(layers=1, channel=24, d_hid=24).state_dict(), tmp_path / "small.pth")
    options = ["--previous_dir", str(tmp_path / "small.pth"), "--smooth", "--no-render", "--save", "json"]

    def minute(detector):
        found = soak(1, tmp_path / "out", options, detector)
        return found, capsys.readouterr()

    return minute


def test_a_minute_of_frames_goes_all_the_way_and_leaves_nothing(minute, tmp_path):
    found, said = minute(Knowing())
    assert found["exit_code"] == 0 and found["leaks"] == []
    assert found["recording"]["frames"] == found["looking"]["frames"] == 1500
    assert found["failed"] == 1 and "are missing: 1" in said.out
    saved = json.loads((tmp_path / "out" / "webcam_0.json").read_text())
    assert len(saved["people"][0]["frames"]) == found["poses"] == 501
    assert "missing" in saved["notes"]["video"]


def test_a_detector_that_keeps_pictures_and_files_is_found_out(minute):
    kept = []

    class Leaking(Knowing):
        def track(self, image):
            kept.append(image[::2, ::2].copy())
            if len(kept) % 500 == 0:
                kept.append(open(__file__))
            return super().track(image)

    found, _ = minute(Leaking())
    for each in kept:
        getattr(each, "close", lambda: None)()
    memory, files = found["leaks"]
    assert memory.startswith("looking: ") and "MB beyond" in memory
    assert files.startswith("looking: files went from ")
    assert 50 < found["looking"]["beyond_mb"] < 80, "1250 pictures of 57.6 kB"


@pytest.mark.slow
def test_blazepose_and_everything_that_is_written_leave_nothing(tmp_path):
    if not all((vis.DETECTORS / name).is_file() for name in (DETECTOR, LANDMARKS)):
        pytest.skip("BlazePose's networks are not there: run `python -m demo.fetch blazepose`")
    out = tmp_path / "soak.json"
    call = ["-m", "benchmarks.soak", "--minutes", "5", "--render", "--json", str(out)]
    subprocess.run([sys.executable, *call], cwd=ROOT, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["leaks"] == [] and found["rendering"]["frames"] == 7500 and found["poses"] > 1500

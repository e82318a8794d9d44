"""A detector's errors, measured from files in Human3.6M's layout."""

import numpy as np
import pytest

from common import keypoint_noise
from common.skeleton import JOINT_NAMES
from dataset import prepare

WRIST, PELVIS = JOINT_NAMES.index("left_wrist"), 0


@pytest.fixture
def detected(files, write_files):
    """Files with a detector whose wrists are five times worse than its pelvis."""
    positions, pixels = files
    rng = np.random.default_rng(0)
    scale = np.full(17, 2.0)
    scale[WRIST] = 10.0
    found = {
        subject: {
            action: [view + rng.standard_t(4, view.shape) * scale[:, None] for view in views]
            for action, views in takes.items()
        }
        for subject, takes in pixels.items()
    }
    folder = write_files(positions, pixels)
    write_files(positions, found, keypoints="made_up")
    return folder


def test_what_is_written_is_what_the_detector_does(detected, tmp_path, capsys):
    output = tmp_path / "noise.json"
    argv = ["noise", "-k", "made_up", "--root_path", str(detected), "--output", str(output)]
    assert prepare.main(argv) == 0
    noise = keypoint_noise.named(str(output))
    assert noise.scales[WRIST] / noise.scales[PELVIS] == pytest.approx(5, rel=0.3)
    assert 2 < noise.degrees < 12
    assert f"--keypoint_noise {output}" in capsys.readouterr().out


def test_a_detector_that_is_not_there(detected, tmp_path, capsys):
    argv = ["noise", "-k", "none", "--root_path", str(detected), "--output", str(tmp_path / "n.json")]
    assert prepare.main(argv) == 2
    assert "data_2d_h36m_none.npz" in capsys.readouterr().err


def test_the_truth_has_no_errors(detected, tmp_path, capsys):
    output = tmp_path / "n.json"
    assert prepare.main(["noise", "-k", "gt", "--root_path", str(detected), "--output", str(output)]) == 2
    assert "-k gt: pelvis: expected errors, found mostly none" in capsys.readouterr().err
    assert not output.exists()

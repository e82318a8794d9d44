"""The command line of ``python -m dataset.prepare``, and its command ``noise``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.files import read_npz
from common.noise import keypoint_noise
from common.skeleton import JOINT_NAMES
from dataset import h36m, prepare

SAMPLE = Path(prepare.__file__).parent / "sample"


def test_help_imports_no_library() -> None:
    code = (
        "import sys; from dataset import prepare\ntry: prepare.main(['mocap', '--help'])\n"
        "except SystemExit: assert not {'numpy', 'torch', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SAMPLE.parent.parent).returncode == 0


@pytest.mark.parametrize(
    "call",
    [
        "", "other", "h36m", "mocap --source . --name h36m", "mocap --source . --name ../up",
        "mocap --source . --name x --fps 1", "mocap --source . --name x --test_share 2",
        "mocap --source . --name dataset",
        "mocap --source missing --name x", "3dhp --source missing", "3dhp --source . --cameras 14",
        "3dhp --source . --cameras a", "h36m --source missing",
    ],
)  # fmt: skip
def test_invalid_calls_end_with_code_2(call: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dataset/dataset").mkdir(parents=True)
    try:
        code = prepare.main(call.split())
    except SystemExit as ended:
        code = ended.code  # type: ignore[assignment]
    assert code == 2 and "Traceback" not in capsys.readouterr().err
    assert not [*Path("dataset/dataset").iterdir()]


@pytest.fixture
def detected(tmp_path: Path) -> Path:
    """The sample's files, and keypoints of a detector whose errors grow along the limbs."""
    rng, scales = np.random.default_rng(0), np.linspace(0.005, 0.02, len(JOINT_NAMES))[:, None]
    keypoints = read_npz(SAMPLE / "data_2d_sample_gt.npz")["positions_2d"]
    for takes in keypoints.values():
        for views in takes.values():
            for number, view in enumerate(views):
                size = np.ptp(view, axis=1).max(axis=-1)[:, None, None]
                views[number] = (view + size * scales * rng.standard_t(4, view.shape)).astype(np.float32)
    h36m.save(tmp_path / "data_2d_sample_net.npz", positions_2d=keypoints, metadata=h36m.metadata())
    for path in SAMPLE.glob("*.npz"):
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def noise(folder: Path, source: str) -> int:
    data = ["--dataset", "sample", "--root_path", str(folder)]
    return prepare.main(["noise", "-k", source, "--output", str(folder / "noise.json"), *data])


def test_noise_is_that_of_the_detector(detected: Path) -> None:
    assert noise(detected, "net") == 0
    measured = keypoint_noise(detected / "noise.json")
    np.testing.assert_allclose(measured.scales, np.linspace(0.005, 0.02, len(JOINT_NAMES)), rtol=0.1)
    assert measured.degrees == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("damage", ["git lfs", "cut", "empty", "missing", "truth"])
def test_noise_of_damaged_detector_files_is_one_error(detected: Path, damage: str, capsys: Any) -> None:
    path = detected / "data_2d_sample_net.npz"
    content = {"git lfs": b"version https://git-lfs.github.com/spec/v1\n", "empty": b""}
    path.write_bytes(content.get(damage, path.read_bytes()[:-200]))
    if damage == "missing":
        path.unlink()
    assert noise(detected, "gt" if damage == "truth" else "net") == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ") and "Traceback" not in error and (damage == "truth" or path.name in error)
    )
    assert not (detected / "noise.json").exists()

"""The exported lifter: what it computes, says of itself, and when it is not written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fill import fill

import main
from common import checkpoint, export
from common.camera import normalize_pixels
from common.errors import RunError
from common.files import sha256
from common.flip import lift
from common.skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS, PARENTS, ROOT
from model import HTNet
from model.refine import RefineHead

ROOT_FOLDER = Path(__file__).parents[2]
KINDS = ("onnx", "torch")

FORMATS = (ROOT_FOLDER / "docs" / "formats.md").read_text(encoding="utf-8")
SHOWN = dict(zip(KINDS, re.findall(r"```py\n(.*?)```", FORMATS, re.DOTALL), strict=True))
"""What the documentation shows to use each kind."""

KEEP = {
    "onnx": """
import json, sys
np.save("pose.npy", pose)
json.dump(lifter.get_modelmeta().custom_metadata_map, open("facts.json", "w"))
assert not {"torch", "onnx", "common", "model"} & sys.modules.keys()
""",
    "torch": """
import sys, numpy as np
points = torch.from_numpy(np.load("keypoints.npy")).float()
points = points / 1920 * 2 - torch.tensor([1, 1080 / 1920])
np.save("pose.npy", lifter(points).detach())
facts = {"htnet.json": ""}
torch.export.load("lifter.pt2", extra_files=facts)
open("facts.json", "w").write(facts["htnet.json"])
assert not {"common", "model"} & sys.modules.keys()
""",
}


@pytest.fixture(scope="module")
def lifter():
    return fill(HTNet(layers=1, channel=24, d_hid=32)).eval()


@pytest.fixture(scope="module")
def weights(lifter, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "ckpt" / "small" / "model_1_100.pth"
    path.parent.mkdir(parents=True)
    torch.save(lifter.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(weights):
    """Files by kind, with averaging, written from the command line beside the weights."""
    for kind in KINDS:
        argv = ["--export", kind, "--previous_dir", "small", "--checkpoint_dir", str(weights.parents[1])]
        assert main.main(argv) == 0
    return {kind: weights.with_suffix(suffix) for kind, suffix in export.SUFFIXES.items()}


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, NUM_JOINTS, 2)).astype(np.float32)


def scored(lifter, keypoints, *, flip=True):
    with torch.no_grad():
        return lift(lifter, torch.from_numpy(keypoints).unsqueeze(1), flip=flip).squeeze(1).numpy()


# What is written


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_gives_the_poses_that_are_scored_without_this_project(
    exported, lifter, weights, tmp_path, kind
):
    pixels = np.random.default_rng(0).uniform(0, (1920, 1080), (5, NUM_JOINTS, 2))
    np.save(tmp_path / "keypoints.npy", pixels)
    (tmp_path / "lifter").with_suffix(export.SUFFIXES[kind]).write_bytes(exported[kind].read_bytes())
    # Isolated: neither the working folder nor PYTHONPATH can be imported from.
    command = [sys.executable, "-I", "-c", SHOWN[kind] + KEEP[kind]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    pose = np.load(tmp_path / "pose.npy")
    expected = scored(lifter, normalize_pixels(pixels, 1920, 1080).astype(np.float32))
    np.testing.assert_allclose(pose, expected, atol=1e-5)
    assert pose.dtype == np.float32 and np.all(pose[:, ROOT] == 0)

    facts = json.loads((tmp_path / "facts.json").read_text())
    assert json.loads(facts["joint_names"]) == list(JOINT_NAMES)
    assert json.loads(facts["joint_parents"]) == list(PARENTS)
    assert facts["weights_sha256"] == sha256(weights) and facts["weights"] == "small/model_1_100.pth"
    assert [json.loads(facts[name]) for name in ("layers", "channel", "d_hid")] == [1, 24, 32]
    assert facts["units"] == "metres" and json.loads(facts["mirror_averaged"]) is True
    assert "x / width * 2 - 1, y / width * 2 - height / width" in facts["normalization"]
    table = FORMATS[FORMATS.index("Both describe themselves") :]
    assert not [name for name in facts if f"`{name}`" not in table]


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_onnx_takes_any_number_of_poses(exported, lifter, count):
    session = onnxruntime.InferenceSession(str(exported["onnx"]), providers=["CPUExecutionProvider"])
    (poses,) = session.run(None, {"keypoints": points(count)})
    np.testing.assert_allclose(poses, scored(lifter, points(count)), atol=1e-5)


def test_averaging_can_be_left_out(lifter, weights, tmp_path):
    path = tmp_path / "plain.onnx"
    argv = ["--export", "onnx", "--previous_dir", str(weights), "--output", str(path)]
    assert main.main([*argv, "--test_augmentation", "false"]) == 0
    run, keypoints = export._read_onnx(path), points(3)
    poses = run(keypoints)
    np.testing.assert_allclose(poses, scored(lifter, keypoints, flip=False), atol=1e-5)
    mirrored = run(keypoints[:, MIRROR] * np.float32([-1, 1]))[:, MIRROR] * [-1, 1, 1]
    assert np.abs(mirrored - poses).max() > 1e-3


def test_onnx_is_one_file_of_standard_operators_that_tells_nothing_of_this_machine(exported):
    model = onnx.load(exported["onnx"], load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", export.OPSET)]
    assert model.ir_version == export.IR_VERSION and not model.functions
    assert not any(tensor.HasField("data_location") for tensor in model.graph.initializer)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["keypoints", "pose"]
    root = str(ROOT_FOLDER)
    for path in exported.values():
        content = path.read_bytes()
        assert root.encode() not in content and b"htnet.py" not in content


def test_the_weights_are_not_stored_twice(exported, lifter):
    sizes = sum(tensor.nbytes for tensor in lifter.state_dict().values())
    model = onnx.load(exported["onnx"])
    stored = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    assert stored < 1.2 * sizes


# What is not written


def test_a_file_that_computes_something_else_is_not_left(exported, weights, tmp_path, monkeypatch, capsys):
    right = export.Exported.forward
    monkeypatch.setattr(export.Exported, "forward", lambda self, x: right(self, x) + 2e-5)
    path = tmp_path / "out.pt2"
    argv = ["--export", "torch", "--previous_dir", str(weights), "--output", str(path)]
    path.write_bytes(b"an older one")
    assert main.main(argv) == 1
    said = capsys.readouterr().err
    assert "was not written" in said and "1e-05" in said and "Traceback" not in said
    assert [file.name for file in tmp_path.iterdir()] == ["out.pt2"]
    assert path.read_bytes() == b"an older one"


def test_weights_with_nan_are_not_exported(lifter, tmp_path):
    broken = HTNet(layers=1, channel=24, d_hid=32)
    broken.load_state_dict(lifter.state_dict())
    with torch.no_grad():
        broken.fcn.bias[0] = torch.nan
    with pytest.raises(RunError, match="nan m away"):
        export.write_lifter("torch", broken, tmp_path / "broken", {}, flip=True)
    assert not list(tmp_path.iterdir())


def test_a_network_that_pytorch_cannot_export_is_a_failure_in_words(tmp_path):
    class Choosing(torch.nn.Module):
        def forward(self, keypoints):
            poses = keypoints.sum(-1, keepdim=True).expand(-1, -1, -1, 3)
            return poses if keypoints.sum() > 0 else -poses

    with pytest.raises(RunError, match="could not export"):
        export.write_lifter("torch", Choosing(), tmp_path / "none.pt2", {}, flip=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_to_install(weights, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    argv = ["--export", "onnx", "--previous_dir", str(weights), "--output", str(tmp_path / "a.onnx")]
    assert main.main(argv) == 2
    said = capsys.readouterr().err
    assert f"package {package} " in said and "pip install onnx onnxscript onnxruntime" in said
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_read_is_told_in_one_line(weights, tmp_path, capsys):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save(RefineHead().state_dict(), tmp_path / "refine_1.pth")
    calls = {
        f"--previous_dir {weights} --output {tmp_path}/a.pt2": "ends in .onnx",
        f"--previous_dir {weights} --output {tmp_path}/folder.onnx": "this is a folder",
        f"--previous_dir {weights} --output {tmp_path}/file/a.onnx": "cannot be written",
        f"--previous_dir {tmp_path}/none": "no file or folder",
        f"--previous_dir {tmp_path}/junk.pth": "damaged",
        f"--previous_dir {tmp_path}/refine_1.pth": "another network",
    }
    for call, words in calls.items():
        assert main.main(["--export", "onnx", *call.split()]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and words in said and "Traceback" not in said


def test_the_state_of_a_run_can_be_exported(lifter, tmp_path):
    checkpoint.save(tmp_path / "last.pth", {"model": lifter.state_dict(), "epoch": 1})
    assert main.main(["--export", "torch", "--previous_dir", str(tmp_path / "last.pth")]) == 0
    poses = export._read_torch(tmp_path / "last.pt2")(points(2))
    np.testing.assert_allclose(poses, scored(lifter, points(2)), atol=1e-5)


def test_only_exporting_imports_what_it_alone_needs():
    program = "import sys, common.export, common.commands, demo.lib.onnx_lifter; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT_FOLDER)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert not {"onnx", "onnxscript", "onnx_ir", "onnxruntime"} & set(done.stdout.split())

"""Exported lifters: the network's poses, metadata, and which files are refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from common import checkpoint
from common.console import RunError, UserError
from common.evaluate import lift
from common.export import INPUT, METADATA_FILE, export, load_onnx
from common.files import sha256
from common.skeleton import JOINT_NAMES
from model import HTNet

KEYPOINTS = np.random.default_rng(0).uniform(-1, 1, (5, 17, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.pth"
    checkpoint.save(path, HTNet(layers=1, channel=24, d_hid=8).state_dict())
    return path


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    """An ONNX file that averages over the mirror image."""
    return export("onnx", weights)


@pytest.fixture(scope="module")
def program(weights: Path) -> Path:
    """A .pt2 that averages."""
    return export("torch", weights)


def expected(weights: Path, flip: bool = True) -> np.ndarray:
    network, keypoints = checkpoint.load_htnet(weights).eval(), torch.from_numpy(KEYPOINTS)
    with torch.inference_mode():
        return lift(network, keypoints[:, None], flip)[:, 0].numpy()


def test_onnx_equals_pytorch_with_the_mirror_inside_and_outside(
    weights: Path, exported: Path, tmp_path: Path
) -> None:
    outside = export("onnx", weights, tmp_path / "outside.onnx", flip=False)
    for path in (exported, outside):
        np.testing.assert_allclose(load_onnx(path)(KEYPOINTS), expected(weights), atol=1e-5)


def test_exported_program_equals_pytorch(weights: Path, program: Path, tmp_path: Path) -> None:
    plain = export("torch", weights, tmp_path / "plain.pt2", flip=False)
    for path, flip in ((program, True), (plain, False)):
        found = torch.export.load(path).module()(torch.from_numpy(KEYPOINTS)).detach()
        np.testing.assert_allclose(found, expected(weights, flip), atol=1e-5)


def test_documented_example_runs_without_this_project(exported: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    example = text[text.index("import numpy as np\nimport onnxruntime") :].split("```")[0]
    (tmp_path / "lifter.onnx").write_bytes(exported.read_bytes())
    np.save(tmp_path / "keypoints.npy", (KEYPOINTS + np.array([1, 1080 / 1920])) * 960)
    code = f"{example}\nimport sys\nassert 'torch' not in sys.modules\nnp.save('pose.npy', pose)"
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    pose = np.load(tmp_path / "pose.npy")
    np.testing.assert_allclose(pose, load_onnx(exported)(KEYPOINTS), atol=1e-5)
    assert np.all(pose[:, 0] == 0)


def test_metadata_describe_the_lifter_and_hide_this_machine(
    weights: Path, exported: Path, program: Path
) -> None:
    extra = {METADATA_FILE: ""}
    torch.export.load(io.BytesIO(program.read_bytes()), extra_files=extra)
    found = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(extra[METADATA_FILE]) == found
    assert json.loads(found["joint_names"]) == list(JOINT_NAMES)
    assert [json.loads(found[name]) for name in ("layers", "channel", "d_hid")] == [1, 24, 8]
    assert json.loads(found["mirror_averaged"]) is True
    assert found["weights_sha256"] == sha256(weights)
    for path in (exported, program):
        assert b"htnet.py" not in path.read_bytes() and os.fsencode(Path.cwd()) not in path.read_bytes()


def test_a_file_that_differs_from_the_network_is_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.export.lift", lambda *arguments: lift(*arguments) + 2e-5)
    (tmp_path / "a.pt2").write_bytes(b"an older file")
    with pytest.raises(RunError, match=r"differs .* not kept"):
        export("torch", weights, tmp_path / "a.pt2")
    assert (tmp_path / "a.pt2").read_bytes() == b"an older file"
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_package_is_named(weights: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
        export("onnx", weights)
    with pytest.raises(UserError, match="pip install onnx onnxruntime"):
        load_onnx(exported)


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def external_constant(model: Any) -> None:
    external(model)
    tensor = model.graph.initializer.pop(0)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))


def loop(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], [], body=body))


def custom(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Add", [INPUT, INPUT], ["x"], domain="my.domain"))


def function(model: Any) -> None:
    model.functions.add(name="f", domain="local")


def huge(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [10**6, 10**6]


def bomb(model: Any) -> None:
    """A column of 40 kB whose outer product takes 400 MB."""
    column = onnx.numpy_helper.from_array(np.ones((10**4, 1), np.float32), "column")
    model.graph.initializer.append(column)
    model.graph.node.append(onnx.helper.make_node("Transpose", ["column"], ["row"]))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["column", "row"], ["square"]))


def fixed_batch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other(model: Any) -> None:
    del model.metadata_props[:]


REFUSED = {
    external: "inside the file",
    external_constant: "inside the file",
    loop: "Loop",
    custom: "my.domain",
    function: "functions",
    huge: "no larger than the file",
    bomb: "for two poses",
    fixed_batch: "batch",
    other: "metadata",
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.items())
def test_other_graphs_are_refused(exported: Path, tmp_path: Path, change: Any, reason: str) -> None:
    model = onnx.load(exported)
    change(model)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=rf"a\.onnx.*{reason}"):
        load_onnx(tmp_path / "a.onnx")


def test_damaged_onnx_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"a\.onnx"):
        load_onnx(tmp_path / "a.onnx")

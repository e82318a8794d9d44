"""The reader of TensorFlow.js graph models, by values of the real networks and by a graph built here."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from common.console import UserError
from demo.lib.detectors import CHECKPOINT
from demo.lib.nanodet import NanoDet, Thunder, around, sigmoid
from demo.lib.regions import Region
from demo.lib.tfjs import GraphModel

EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "tfjs_networks.json").read_text())
needs_networks = pytest.mark.skipif(
    not (CHECKPOINT / "nanodet.json").is_file() or not (CHECKPOINT / "movenet-thunder.json").is_file(),
    reason="needs nanodet and movenet-thunder of `python -m demo.fetch`",
)


def check(found: np.ndarray, expected: dict) -> None:
    values = np.array(expected["values"])
    np.testing.assert_allclose(found.ravel()[expected["at"]], values, atol=1e-3 * np.abs(values).max())


@needs_networks
def test_nanodet_matches_the_reference() -> None:
    reference = EXPECTED["nanodet"]
    x = np.random.default_rng(reference["input_seed"]).standard_normal(reference["input_shape"])
    outputs = NanoDet(CHECKPOINT, 1, 0.3).network(x.astype(np.float32))
    for number, output in enumerate(outputs):
        rows = output.reshape(1, 124, -1).transpose(0, 2, 1)  # (B, C, H, W) -> (B, H * W, C)
        classes = f"Identity_{number}:0" if number else "Identity:0"
        check(sigmoid(rows[..., :80]), reference["outputs"][classes])
        check(rows[..., 80:], reference["outputs"][f"Identity_{number + 3}:0"])


@needs_networks
def test_thunder_matches_the_reference() -> None:
    reference = EXPECTED["movenet-thunder"]
    crop = np.random.default_rng(reference["input_seed"]).integers(0, 256, reference["input_shape"])
    points, scores = Thunder(CHECKPOINT, 1).read(crop[0].astype(np.uint8))
    check(np.column_stack([points[:, ::-1] / 256, scores]), reference["outputs"]["Identity:0"])


def test_thunder_looks_next_around_the_keypoints_and_turns_with_the_body() -> None:
    points = np.zeros((17, 2))
    points[:, 1] = np.linspace(0, 100, 17)  # from head to feet, downward
    region = around(points, np.ones(17), Region(0, 0, 100, 100))
    assert region[:3] == pytest.approx((0, 50, 135))
    assert region.angle == 0
    lying = around(points[:, ::-1], np.ones(17), Region(0, 0, 100, 100))
    np.testing.assert_allclose(lying, (50, 0, 135, 135, -np.pi / 2), atol=1e-9)
    assert around(points, np.zeros(17), region) == region


def write_model(folder: Path, weight: np.ndarray) -> Path:
    """A convolution of stride 2 with bias and ReLU6, its weights in 16 bits."""

    def node(name: str, op: str, inputs: list[str], **attributes: dict) -> dict:
        return {"name": name, "op": op, "input": inputs, "attr": attributes}

    attributes = {
        "strides": {"list": {"i": ["1", "2", "2", "1"]}},
        "padding": {"s": base64.b64encode(b"SAME").decode()},
        "fused_ops": {"list": {"s": [base64.b64encode(name).decode() for name in (b"BiasAdd", b"Relu6")]}},
    }
    nodes = [node("end", "_FusedConv2D", ["start", "weight", "bias"], **attributes)]
    bias = np.ones(weight.shape[-1], np.float16)
    half = {"dtype": "float32", "quantization": {"dtype": "float16"}}
    entries = [
        {"name": "weight", "shape": weight.shape, **half},
        {"name": "bias", "shape": bias.shape, **half},
    ]
    graph = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["net.bin"], "weights": entries}],
    }
    (folder / "net.json").write_text(json.dumps(graph))
    (folder / "net.bin").write_bytes(weight.astype("<f2").tobytes() + bias.tobytes())
    return folder / "net.json"


def test_graph_model_pads_as_tensorflow_does(tmp_path: Path) -> None:
    path = write_model(tmp_path, np.ones((3, 3, 1, 1)))
    model = GraphModel(path, 1, start="start", shape=(1, 4, 4, 1), ends=["end"])
    (found,) = model(np.ones((1, 4, 4, 1), np.float32) / 4)
    # With an even side, TensorFlow adds its one row of zeros at the end.
    np.testing.assert_allclose(found[0, :, :, 0], [[3.25, 2.5], [2.5, 2]])
    (found,) = model(np.full((1, 4, 4, 1), 100, np.float32))
    assert (found == 6).all()


@pytest.mark.parametrize("damage", ["cut", "operator", "json"])
def test_graph_model_refuses_damaged_files(tmp_path: Path, damage: str) -> None:
    path = write_model(tmp_path, np.ones((3, 3, 1, 1)))
    if damage == "cut":
        (tmp_path / "net.bin").write_bytes(b"1234")
    else:
        text = path.read_text()
        path.write_text(text.replace("_FusedConv2D", "Run") if damage == "operator" else text[:-20])
    with pytest.raises(UserError, match=r"net\.json"):
        GraphModel(path, 1, start="start", shape=(1, 4, 4, 1), ends=["end"])

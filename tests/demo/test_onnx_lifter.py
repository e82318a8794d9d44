"""The demo's lifter out of an ONNX file: the poses of PyTorch, and nothing from files that are not ours."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest
import torch
from fill import fill
from onnx import TensorProto, helper, numpy_helper

from common import export
from common.errors import CheckpointError
from common.skeleton import MIRROR, NUM_JOINTS
from demo import vis
from demo.lib import onnx_lifter
from demo.lib.lifting import lift_keypoints
from demo.lib.onnx_lifter import find_onnx, load_onnx
from model import HTNet

CPU = torch.device("cpu")
SIZE = (640, 480)
SIZES = {"layers": 1, "channel": 24, "d_hid": 32}


@pytest.fixture(scope="module")
def lifter():
    return fill(HTNet(**SIZES)).eval()


@pytest.fixture(scope="module")
def folder(lifter, tmp_path_factory):
    """Weights and, beside them, ``small.onnx``, which averages, and ``plain.onnx``, which does not."""
    folder = tmp_path_factory.mktemp("onnx") / "ckpt" / "run"
    folder.mkdir(parents=True)
    weights = folder / "small.pth"
    torch.save(lifter.state_dict(), weights)
    for name, flip in (("small.onnx", True), ("plain.onnx", False)):
        facts = export.facts(SIZES, weights, flip=flip)
        export.write_lifter("onnx", lifter, folder / name, facts, flip=flip)
    return folder


def keypoints(count, seed=0):
    return np.random.default_rng(seed).uniform(0, SIZE, (count, NUM_JOINTS, 2))


# Poses


@pytest.mark.parametrize("name", ["small.onnx", "plain.onnx"])
@pytest.mark.parametrize("window", [True, False])
def test_its_poses_are_those_of_pytorch_averaged_or_not(folder, lifter, name, window):
    points, run = keypoints(5), load_onnx(folder / name)
    poses = lift_keypoints(run, points, SIZE, device=CPU, window=window, batch_size=2)
    expected = lift_keypoints(lifter, points, SIZE, device=CPU, window=window)
    np.testing.assert_allclose(poses, expected, atol=1e-5)
    assert poses.dtype == np.float32
    mirrored = np.stack([SIZE[0] - points[..., 0], points[..., 1]], axis=-1)[:, MIRROR]
    other = lift_keypoints(run, mirrored, SIZE, device=CPU, window=window)
    np.testing.assert_allclose(other[:, MIRROR] * [-1, 1, 1], poses, atol=1e-5)


def test_the_input_is_left_as_it_was(folder):
    points = keypoints(2).astype(np.float32) / 640
    before = points.copy()
    load_onnx(folder / "plain.onnx")(points)
    assert np.array_equal(points, before)


# The command line


@pytest.fixture
def demo(folder, tmp_path, monkeypatch, capsys):
    """Runs the demo on key points; gives its exit code, its words and the poses, where there are any."""
    monkeypatch.setattr(vis, "CHECKPOINTS", folder.parent)
    np.savez(tmp_path / "points.npz", keypoints=keypoints(3), format="h36m17", image_size=SIZE)

    def run(*argv):
        out = tmp_path / "out"
        call = ["--keypoints", str(tmp_path / "points.npz"), "--no-render", "--save", "npz"]
        code = vis.main([*call, "--device", "cpu", "--output", str(out), *map(str, argv)])
        said = capsys.readouterr()
        poses = np.load(out / "points.npz")["person_1_poses_camera"] if code == 0 else None
        return code, said.out, said.err, poses

    return run


def test_the_demo_gives_the_same_poses_with_both_backends(demo, folder):
    *_, expected = demo("--previous_dir", folder / "small.pth")
    calls = [
        ["--previous_dir", folder / "plain.onnx"],  # the name says which backend
        ["--previous_dir", folder / "small.onnx", "--backend", "onnx"],
        ["--previous_dir", "run", "--backend", "onnx"],
    ]
    for call in calls:
        code, out, err, poses = demo(*call)
        assert code == 0 and ".onnx" in out and not err
        np.testing.assert_allclose(poses, expected, atol=1e-4)


def test_weights_that_were_not_exported_come_with_the_command_that_does_it(demo, lifter, tmp_path):
    weights = tmp_path / "my run" / "model_2_200.pth"
    weights.parent.mkdir()
    torch.save(lifter.state_dict(), weights)
    code, _, err, _ = demo("--previous_dir", weights, "--backend", "onnx")
    assert code == 2 and f"python main.py --export onnx --previous_dir '{weights}'" in err
    assert err.count("\n") == 1


def test_what_was_exported_from_other_weights_is_used_with_a_warning(demo, folder, lifter, tmp_path):
    (tmp_path / "last.onnx").write_bytes((folder / "small.onnx").read_bytes())
    torch.save(fill(HTNet(**SIZES), seed=1).state_dict(), tmp_path / "last.pth")
    code, out, *_ = demo("--previous_dir", tmp_path / "last.pth", "--backend", "onnx")
    assert code == 0 and "exported from other weights than last.pth" in out
    assert find_onnx(str(tmp_path / "last.pth"), tmp_path) == tmp_path / "last.onnx"


def test_a_damaged_file_ends_the_demo_with_2_and_one_line(demo, folder, tmp_path):
    content = (folder / "small.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    code, _, err, _ = demo("--previous_dir", tmp_path / "cut.onnx")
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "--export onnx" in err


# Files that are not ours


def refusal(path):
    with pytest.raises(CheckpointError) as refused:
        load_onnx(path)
    message = str(refused.value)
    assert str(path) in message and "\n" not in message and len(message) < 1000
    return message


def forged(path, nodes, inits=(), *, shapes=(["batch", 17, 2], ["batch", 17, 3]), **facts):
    """Writes a made-up graph that says of itself what ours say."""
    ours = {"format": export.FORMAT, "version": export.VERSION, "mirror_averaged": "true"}
    ours |= {"joint_names": json.dumps(export.JOINT_NAMES)} | facts
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("keypoints", "pose"), shapes, strict=True)
    ]
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in inits]
    graph = helper.make_graph(nodes, "forged", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, ours)
    onnx.save(model, path)
    return path


# (B, 17, 2) times (2, 3): the smallest graph of our shapes.
LINEAR = [helper.make_node("MatMul", ["keypoints", "matrix"], ["pose"])]
MATRIX = ("matrix", np.ones((2, 3), np.float32))


def test_a_made_up_graph_of_our_shapes_is_taken(tmp_path):
    poses = load_onnx(forged(tmp_path / "a.onnx", LINEAR, [MATRIX]))(np.ones((4, 17, 2), np.float32))
    assert np.all(poses == 2)


def test_cut_and_garbled_files_are_refused(folder, tmp_path):
    content, path = (folder / "small.onnx").read_bytes(), tmp_path / "a.onnx"
    rng = np.random.default_rng(0)
    damaged = [content[:end] for end in (0, 1, 100, len(content) // 3, len(content) - 1)]
    damaged += [b"text", rng.bytes(5000), (folder / "small.pth").read_bytes()]
    for junk in damaged:
        path.write_bytes(junk)
        refusal(path)


@pytest.mark.parametrize(
    ("facts", "shapes", "words"),
    [
        ({"format": "another"}, None, "format: expected htnet-lifter, found 'another'"),
        ({"version": "2"}, None, "version"),
        ({"joint_names": '["nose"]'}, None, "joint_names"),
        ({"mirror_averaged": "maybe\x1b[31m"}, None, r"found 'maybe\x1b[31m'"),
        ({}, (["batch", 16, 2], ["batch", 16, 3]), "['batch', 16, 2]"),
        ({}, ([1, 17, 2], [1, 17, 3]), "[1, 17, 2]"),
        ({}, (["batch", "joints", 2], ["batch", "joints", 3]), "joints"),
    ],
)
def test_what_says_it_is_something_else_is_refused(tmp_path, facts, shapes, words):
    more = {"shapes": shapes} if shapes else {}
    assert words in refusal(forged(tmp_path / "a.onnx", LINEAR, [MATRIX], **more, **facts))


def test_a_file_that_lies_about_its_output_is_refused(tmp_path):
    nodes = [
        helper.make_node("Identity", ["keypoints"], ["same"]),
        helper.make_node("Reshape", ["same", "shape"], ["pose"]),
    ]
    shape = ("shape", np.array([-1, 17, 1]))
    message = refusal(forged(tmp_path / "a.onnx", nodes, [shape], shapes=(["b", 17, 2], ["c", 17, 3])))
    assert "expected" in message
    nan = ("matrix", np.full((2, 3), np.nan, np.float32))
    assert "NaN" in refusal(forged(tmp_path / "b.onnx", LINEAR, [nan]))


def test_a_small_file_that_asks_for_gigabytes_is_refused(tmp_path):
    """As one constant, and as an outer product, whose size its parts do not tell."""
    to_pose = [
        helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0),
        helper.make_node("MatMul", ["keypoints", "matrix"], ["linear"]),
        helper.make_node("Add", ["linear", "largest"], ["pose"]),
    ]
    column = np.ones((40_000, 1), np.float32)
    bombs = {
        "constant": ([helper.make_node("ConstantOfShape", ["n"], ["large"])], [("n", np.array([2**30]))]),
        "product": (
            [helper.make_node("MatMul", ["a", "b"], ["large"])],
            [("a", column), ("b", column.T.copy())],
        ),
    }
    for name, (nodes, inits) in bombs.items():
        path = forged(tmp_path / f"{name}.onnx", nodes + to_pose, [*inits, MATRIX])
        assert "could not lift two poses" in refusal(path)


def test_a_file_that_never_ends_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_lifter, "TRIAL_SECONDS", 0.3)
    true = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), true, ends[0]],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), ends[1]],
    )
    nodes = [
        helper.make_node("Loop", ["", "always", "keypoints"], ["looped"], body=body),
        helper.make_node("MatMul", ["looped", "matrix"], ["pose"]),
    ]
    message = refusal(forged(tmp_path / "a.onnx", nodes, [MATRIX, ("always", np.array(True))]))
    assert "could not lift two poses within 0.3 s" in message


def test_files_beside_it_are_not_read(tmp_path, monkeypatch):
    """A file may keep its weights in others, wherever it says they lie."""
    model = onnx.load(forged(tmp_path / "a.onnx", LINEAR, [MATRIX]))
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="c.bin", size_threshold=0)
    assert (tmp_path / "c.bin").stat().st_size >= 24
    monkeypatch.chdir(tmp_path)
    refusal(tmp_path / "b.onnx")
    moved = onnx.load(tmp_path / "b.onnx", load_external_data=False)
    for entry in moved.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = str(tmp_path / "c.bin")
    (tmp_path / "b.onnx").write_bytes(moved.SerializeToString())
    refusal(tmp_path / "b.onnx")


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "a.onnx"
    with open(path, "wb") as file:
        file.truncate(onnx_lifter.MAX_FILE + 1)
    assert "expected at most" in refusal(path)


def test_without_onnx_runtime_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install onnxruntime" in refusal(folder / "small.onnx")

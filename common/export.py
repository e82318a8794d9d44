"""A lifter in one file that runs without this project: ONNX, or PyTorch's exported program (``.pt2``).

The file takes normalised keypoints, gives root-relative poses and describes itself in its metadata. It is
read again and compared with the network before it is kept.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoint import load_htnet, network_sizes
from common.console import RunError, UserError
from common.evaluate import lift
from common.files import read_bytes, replacing, sha256
from common.skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS, PARENTS, ROOT, mirror
from model.accelerate import fuse

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
FORMAT, VERSION = "htnet-lifter", "1"
INPUT, OUTPUT = "keypoints", "pose"
METADATA_FILE = "htnet.json"  # among the extra files of a .pt2
OPSET, IR_VERSION = 18, 8  # of February 2023, the oldest that PyTorch's exporter writes
TOLERANCE_M = 1e-5  # largest difference from the network
MAX_ONNX = 2**28  # bytes; the published size takes 12 million
MAX_ACTIVATION = 2**22  # values in one tensor of the graph for two poses; the published size takes 2**17

# All that the exporter writes, and in the last line what other versions of it may; others are refused.
OPERATORS = set(
    "Add Concat Div Erf Gather LayerNormalization MatMul Mul Reshape Shape Slice Softmax Split Squeeze "
    "Transpose Unsqueeze "
    "Cast Constant Expand Gelu Identity Pow ReduceMean Sqrt Sub".split()
)

Run = Callable[[np.ndarray], np.ndarray]
"""Lifts (B, 17, 2) float32 normalised keypoints to (B, 17, 3)."""


class Exported(nn.Module):
    """The lifter as it is exported: from (B, 17, 2) to (B, 17, 3), the root at 0, averaged with ``flip``."""

    order: Tensor
    sign: Tensor
    kept: Tensor

    def __init__(self, lifter: nn.Module, flip: bool) -> None:
        super().__init__()
        self.lifter, self.flip = lifter, flip
        self.register_buffer("order", torch.tensor(MIRROR))
        self.register_buffer("sign", torch.tensor([-1.0, 1.0, 1.0]))
        self.register_buffer("kept", (torch.arange(NUM_JOINTS) != ROOT).float().unsqueeze(1))  # (J, 1)

    def forward(self, keypoints: Tensor) -> Tensor:
        if not self.flip:
            return self.lifter(keypoints.unsqueeze(1)).squeeze(1) * self.kept
        # The mirror image is a second frame: halving a batch of unknown size would fix the graph to one size.
        frames = torch.stack([keypoints, self._mirror(keypoints)], dim=1)  # (B, 2, J, 2)
        straight, mirrored = self.lifter(frames).unbind(1)  # 2 x (B, J, 3)
        return (straight + self._mirror(mirrored)) / 2 * self.kept

    def _mirror(self, points: Tensor) -> Tensor:
        return points.index_select(1, self.order) * self.sign[: points.shape[2]]


def export(kind: str, weights: Path, output: Path | None = None, *, flip: bool = True) -> Path:
    """Writes weights as one file, which is kept only if it computes what the network does.

    Args:
        kind: "onnx" or "torch".
        weights: A file of weights.
        output: The file to write; beside the weights when None.
        flip: Average over the mirrored input inside the file.

    Returns:
        The file's path.

    Raises:
        UserError: The weights are invalid, or a package that exporting needs is missing.
        RunError: The file computes something else.
    """
    try:
        for package in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ():
            importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"--export onnx: {error}; pip install onnx onnxscript onnxruntime") from error
    lifter = load_htnet(weights).eval()
    module, example = Exported(fuse(lifter), flip), torch.zeros(2, NUM_JOINTS, 2)
    metadata = _metadata(weights, flip, network_sizes(lifter.state_dict()))
    path = output or weights.with_suffix(SUFFIXES[kind])
    write, read = (_write_onnx, load_onnx) if kind == "onnx" else (_write_torch, _read_torch)
    logging.disable(logging.WARNING)  # the exporters write hundreds of lines about each step
    try:
        with replacing(path) as temporary, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = ({0: torch.export.Dim("batch")},)
            write(torch.export.export(module, (example,), dynamic_shapes=shapes), temporary, metadata)
            _compare(lifter, read(temporary), flip=flip or kind == "onnx")
    finally:
        logging.disable(logging.NOTSET)
    return path


def load_onnx(path: Path) -> Run:
    """Loads a lifter that ``export`` wrote; any other graph is refused before ONNX Runtime sees it.

    Returns:
        Lifts (B, 17, 2) normalised keypoints to (B, 17, 3) poses averaged with the mirror image, in camera
        space, metres, root at 0, in one thread.

    Raises:
        UserError: The file is damaged or no lifter of this project, or a package is missing.
    """
    content = read_bytes(path, MAX_ONNX)
    try:
        import onnx
        import onnxruntime

        model = onnx.load_model_from_string(content)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        _check(model, metadata, len(content))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions
        options.intra_op_num_threads = 1  # the layers are so small that threads wait for each other
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except ImportError as error:
        raise UserError(f"{path}: {error}; pip install onnx onnxruntime") from error
    except Exception as error:  # a damaged file can make the readers fail in any way
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: expected a lifter that main.py --export onnx wrote; {reason}; export it again"
        ) from error

    def run(keypoints: np.ndarray) -> np.ndarray:
        return session.run([OUTPUT], {INPUT: keypoints})[0]

    def run_both(keypoints: np.ndarray) -> np.ndarray:
        return (run(keypoints) + mirror(run(mirror(keypoints)))) / 2

    return run if metadata["mirror_averaged"] == "true" else run_both


def _check(model: Any, metadata: dict[str, str], size: int) -> None:
    """Raises a ValueError unless an ONNX model of a file of ``size`` bytes is one that ``export`` writes."""
    import onnx

    expected = {"format": FORMAT, "version": VERSION, "joint_names": json.dumps(JOINT_NAMES)}
    if not metadata.items() >= expected.items() or metadata.get("mirror_averaged") not in ("true", "false"):
        raise ValueError(f"expected metadata mirror_averaged and {expected}")
    graph = model.graph
    ends = [(end.name, end.type.tensor_type.elem_type, *_shape(end)) for end in (*graph.input, *graph.output)]
    if ends != [(INPUT, 1, 0, NUM_JOINTS, 2), (OUTPUT, 1, 0, NUM_JOINTS, 3)]:  # 1: float32
        raise ValueError(f"expected {INPUT} (batch, 17, 2) and {OUTPUT} (batch, 17, 3), found {ends}")
    others = {node.op_type for node in graph.node} - OPERATORS
    others |= {item.domain for item in (*model.opset_import, *graph.node)} - {"", "ai.onnx"}
    if others or model.functions:
        raise ValueError(f"expected the exporter's operators alone, found {sorted(others) or 'functions'}")
    tensors = [*graph.initializer, *(attribute.t for node in graph.node for attribute in node.attribute)]
    if graph.sparse_initializer or any(each.external_data or each.data_location for each in tensors):
        raise ValueError("expected all weights inside the file, dense")
    if sum(math.prod(each.dims) for each in tensors) > size:
        raise ValueError("expected weights no larger than the file")
    graph.ClearField("value_info")
    for end in (*graph.input, *graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 2
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.value_info
    sizes = [math.prod(_shape(value)) for value in inferred]
    count = sum(len(node.output) for node in graph.node) - 1
    if len(sizes) < count or not all(0 < size <= MAX_ACTIVATION for size in sizes):
        raise ValueError(f"expected tensors of at most {MAX_ACTIVATION:,} values for two poses")


def _shape(value: Any) -> list[int]:
    kind = value.type.tensor_type  # a size of 0 stands for an unknown one
    return [dim.dim_value for dim in kind.shape.dim] if kind.HasField("shape") else [0]


def _metadata(weights: Path, flip: bool, sizes: dict[str, int]) -> dict[str, str]:
    """What whoever gets the file must know, as text; lists and numbers as JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "input": f"{INPUT}: (batch, {NUM_JOINTS}, 2) float32, 2D joints x, y as joint_names, normalised",
        "normalization": "x / width * 2 - 1, y / width * 2 - height / width, of pixels in an image of width "
        "x height: x to the right, y down, -1 to 1 across the width, the centre of the image at 0",
        "output": f"{OUTPUT}: (batch, {NUM_JOINTS}, 3) float32, 3D joints x, y, z as joint_names",
        "units": "metres",
        "axes": "camera: x to the right, y down, z away from the camera",
        "root": f"{JOINT_NAMES[ROOT]}, always at 0: where the person stands is not estimated",
        "mirror_averaged": json.dumps(flip),
        "joint_names": json.dumps(JOINT_NAMES),
        "joint_parents": json.dumps(PARENTS),
        "weights": f"{weights.resolve().parent.name}/{weights.name}",
        "weights_sha256": sha256(weights),
        **{name: json.dumps(size) for name, size in sizes.items()},
        "made_by": f"HTNet, PyTorch {torch.__version__}",
    }


def _compare(lifter: nn.Module, run: Run, flip: bool) -> None:
    for count in (1, 2, 37):
        keypoints = np.random.default_rng(count).uniform(-1, 1, (count, NUM_JOINTS, 2)).astype(np.float32)
        expected = lift(lifter, torch.from_numpy(keypoints).unsqueeze(1), flip).squeeze(1).numpy()
        difference = float(np.abs(run(keypoints) - expected).max())
        if not difference <= TOLERANCE_M:  # also for NaN
            raise RunError(
                f"the exported file differs from the network by {difference:.1e} m; it is not kept"
            )


def _write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    exported = torch.onnx.export(program, (), **names, opset_version=OPSET, dynamo=True, verbose=False)
    assert exported is not None  # None is returned only where a file is named
    model = exported.model_proto
    graph = model.graph
    # PyTorch notes for each node which line of which file on this machine it comes from.
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for entry in [entry for entry in model.opset_import if entry.domain]:
        model.opset_import.remove(entry)  # of the exporter's own functions, which the optimiser has inlined
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "HTNet", VERSION
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _write_torch(program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which line of which file on this machine it comes from
    buffer = io.BytesIO()  # a path would have to end in .pt2, and the temporary one does not
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata, indent=1)})
    path.write_bytes(buffer.getvalue())


def _read_torch(path: Path) -> Run:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return lambda keypoints: module(torch.from_numpy(keypoints)).detach().numpy()

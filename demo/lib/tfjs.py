"""Convolutional parts of TensorFlow.js graph models as ONNX: what NanoDet and MoveNet use, no TensorFlow.

A graph model is a JSON of nodes (operator, inputs, attributes) and a manifest of the weights in one binary.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.console import UserError
from common.files import read_bytes, read_json

MAX_WEIGHTS = 2**28  # bytes
TO_NCHW, TO_NHWC = (
    [0, 3, 1, 2],
    [0, 2, 3, 1],
)  # TensorFlow's images are (B, H, W, C), those of ONNX (B, C, H, W)


class GraphModel:
    """The part of a graph model from one node to others, run by ONNX Runtime.

    Args:
        path: The JSON file; the weights lie beside it.
        threads: Threads that it runs on.
        start: Node whose output is given.
        shape: Shape of that output.
        ends: Nodes whose outputs are computed.

    Raises:
        UserError: A file is missing, damaged, or another network.
    """

    def __init__(
        self, path: Path, threads: int, *, start: str, shape: Sequence[int], ends: Sequence[str]
    ) -> None:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        graph = read_json(path)
        try:
            builder = _Builder(
                graph["modelTopology"]["node"], _weights(graph["weightsManifest"][0], path.parent)
            )
            builder.names[start] = "start"
            outputs = [builder.tensor(end) for end in ends]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: expected a TensorFlow.js graph model with {ends[0]} ({error!r}); "
                "remove it and run `python -m demo.fetch`"
            ) from error
        inputs = [helper.make_tensor_value_info("start", TensorProto.FLOAT, shape)]
        wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        constants = [numpy_helper.from_array(array, name) for name, array in builder.constants.items()]
        onnx = helper.make_model(
            helper.make_graph(builder.nodes, "graph", inputs, wanted, constants),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=8,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin between runs would take the CPU from the other networks.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            onnx.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, start: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs of the end nodes, in their order, for one input."""
        return self.session.run(None, {"start": start})


class _Builder:
    """ONNX nodes for a graph's nodes, from the wanted ones backward."""

    def __init__(self, nodes: list[dict[str, Any]], weights: dict[str, NDArray[Any]]) -> None:
        self.graph, self.weights = {node["name"]: node for node in nodes}, weights
        self.names: dict[str, str] = {}  # TensorFlow's name -> that in ONNX
        self.constants: dict[str, NDArray[Any]] = {}
        self.nodes: list[Any] = []

    def tensor(self, name: str) -> str:
        """ONNX name of a node's output."""
        if name not in self.names:
            if name in self.weights:
                self.names[name] = self.constant(self.weights[name])
            else:
                self.names[name] = self.convert(self.graph[name])
        return self.names[name]

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def convert(self, node: dict[str, Any]) -> str:
        op, inputs, attributes = node["op"], node["input"], node.get("attr", {})
        x = self.tensor(inputs[0])
        argument = self.weights.get(inputs[-1], np.empty(0))
        if "Conv2" in op or "Conv2d" in op:
            return self.convolution(x, "Depthwise" in op, inputs, attributes)
        if op in ("Add", "AddV2"):
            return self.add("Add", x, self.tensor(inputs[1]))
        if op == "Transpose":
            return self.add(op, x, perm=argument.tolist())
        if op in ("Pad", "PadV2"):
            pads = self.weights[inputs[1]].T.ravel().astype(np.int64)  # all begins, then all ends
            value = argument if op == "PadV2" else np.float32(0)
            return self.add("Pad", x, self.constant(pads), self.constant(np.float32(value)))
        if op == "LeakyRelu":
            return self.add(op, x, alpha=float(attributes["alpha"]["f"]))
        if op == "ConcatV2":
            return self.add("Concat", *map(self.tensor, inputs[:-1]), axis=int(argument))
        if op == "MaxPool":
            sizes = {"kernel_shape": _inner(attributes["ksize"]), "strides": _inner(attributes["strides"])}
            y = self.add("MaxPool", self.add("Transpose", x, perm=TO_NCHW), **sizes)
            return self.add("Transpose", y, perm=TO_NHWC)
        if op == "ResizeBilinear":
            y, size = self.add("Transpose", x, perm=TO_NCHW), self.constant(argument.astype(np.int64))
            return self.add(
                "Transpose", self.add("Resize", y, "", "", size, mode="linear", axes=[2, 3]), perm=TO_NHWC
            )
        raise ValueError(f"unknown operator {op}")

    def convolution(self, x: str, depthwise: bool, inputs: list[str], attributes: Any) -> str:
        weight = self.weights[inputs[1]]
        if depthwise:  # (H, W, C, M) -> (C * M, 1, H, W)
            weight = weight.transpose(2, 3, 0, 1).reshape(-1, 1, *weight.shape[:2])
        else:  # (H, W, in, out) -> (out, in, H, W)
            weight = weight.transpose(3, 2, 0, 1)
        y = self.add(
            "Conv",
            self.add("Transpose", x, perm=TO_NCHW),
            self.constant(weight),
            *map(self.tensor, inputs[2:3]),  # the bias
            strides=_inner(attributes["strides"]),
            auto_pad="SAME_UPPER" if base64.b64decode(attributes["padding"]["s"]) == b"SAME" else "VALID",
            group=len(weight) if depthwise else 1,
        )
        for fused in attributes.get("fused_ops", {}).get("list", {}).get("s", ()):
            if (kind := base64.b64decode(fused)) in (b"Relu", b"Relu6"):
                most = [self.constant(np.float32(6))] if kind == b"Relu6" else []
                y = self.add("Clip", y, self.constant(np.float32(0)), *most)
        return self.add("Transpose", y, perm=TO_NHWC)


def _weights(manifest: Any, folder: Path) -> dict[str, NDArray[Any]]:
    content = b"".join(read_bytes(folder / Path(name).name, MAX_WEIGHTS) for name in manifest["paths"])
    values, start = {}, 0
    for entry in manifest["weights"]:
        kind = entry.get("quantization", {}).get("dtype", entry["dtype"])  # 16-bit floats of 32-bit ones
        array = np.frombuffer(content, kind, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
        start += array.nbytes
        values[entry["name"]] = array.astype(entry["dtype"])
    if start != len(content):
        raise ValueError(f"{start} bytes of weights expected, {len(content)} found")
    return values


def _inner(attribute: Any) -> list[int]:
    return [int(number) for number in attribute["list"]["i"][1:3]]  # those of (B, H, W, C) that are not 1

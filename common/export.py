"""A lifter in one file that runs without this project: ONNX, or PyTorch's exported program (``.pt2``).

What is written takes normalised key points and gives root-relative poses. It describes itself (``facts``),
and it is read again and compared with the network before it takes its name.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import RunError, UserError
from common.files import replacing, sha256
from common.skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS, PARENTS, ROOT

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
FORMAT, VERSION = "htnet-lifter", "1"
INPUT, OUTPUT = "keypoints", "pose"
FACTS_FILE = "htnet.json"
"""Where the facts lie among the extra files of a ``.pt2``."""

OPSET, IR_VERSION = 18, 8
"""The oldest that PyTorch's exporter writes, of February 2023. Opset 20 would have GELU as one operator, but
runtimes put it together from its parts anyway, and as fast."""

TOLERANCE = 1e-5
"""Largest difference from the network, metres."""

CHECKED_BATCHES = (1, 2, 37)

Run = Callable[[np.ndarray], np.ndarray]
"""Lifts (B, 17, 2) normalised key points to (B, 17, 3)."""


class Exported(nn.Module):
    """The lifter as it is exported: one pose a row, the root at 0.

    Args:
        lifter: Network from (B, F, 17, 2) to (B, F, 17, 3).
        flip: Average with the mirrored-back output of the mirrored input.
    """

    order: Tensor
    towards_left: Tensor
    kept: Tensor

    def __init__(self, lifter: nn.Module, *, flip: bool) -> None:
        super().__init__()
        self.lifter = lifter
        self.flip = flip
        kept = torch.ones(NUM_JOINTS, 1)
        kept[ROOT] = 0
        self.register_buffer("kept", kept)
        self.register_buffer("order", torch.tensor(MIRROR))
        self.register_buffer("towards_left", torch.tensor([-1.0, 1.0, 1.0]))

    def forward(self, keypoints: Tensor) -> Tensor:
        """Maps (B, 17, 2) normalised image coordinates to (B, 17, 3) metres, root at 0."""
        if not self.flip:
            return self.lifter(keypoints.unsqueeze(1)).squeeze(1) * self.kept
        # The mirror image goes as a second frame: halving a batch of unknown size would tie the graph to one.
        frames = torch.stack([keypoints, self._mirror(keypoints)], dim=1)  # (B, 2, J, 2)
        straight, flipped = self.lifter(frames).unbind(1)  # 2 x (B, J, 3)
        return (straight + self._mirror(flipped)) / 2 * self.kept

    def _mirror(self, points: Tensor) -> Tensor:
        return points.index_select(1, self.order) * self.towards_left[: points.shape[2]]


def facts(lifter_sizes: dict[str, int], weights: Path, *, flip: bool) -> dict[str, str]:
    """What whoever gets the file must know, all of it text; lists and numbers as JSON.

    Args:
        lifter_sizes: The arguments of HTNet.
        weights: The file of weights.
        flip: Whether the mirrored input is averaged inside.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        made_by = f"HTNet {version('htnet')}"
    except PackageNotFoundError:
        made_by = "HTNet, not installed"
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
        **{name: json.dumps(size) for name, size in lifter_sizes.items()},
        "made_by": f"{made_by}, PyTorch {torch.__version__}",
    }


def write_lifter(kind: str, lifter: nn.Module, path: Path, described: dict[str, str], *, flip: bool) -> float:
    """Writes a lifter, in one piece and only if what was written computes what the network does.

    Args:
        kind: "onnx" or "torch".
        lifter: HTNet on the CPU.
        path: The file; one of that name is replaced.
        described: See ``facts``.
        flip: Average over the mirrored input inside the file.

    Returns:
        The largest difference from the network that was seen, metres.

    Raises:
        UserError: A package that exporting needs is missing.
        RunError: PyTorch could not export the network, or the file computes something else.
    """
    packages = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}[kind]
    _need(packages)
    write, read = {"onnx": (_write_onnx, _read_onnx), "torch": (_write_torch, _read_torch)}[kind]
    lifter.eval()
    with replacing(path) as temporary:
        try:
            with _quiet(), torch.no_grad():
                batch = torch.export.Dim("batch")
                example = torch.zeros(2, NUM_JOINTS, 2)
                program = torch.export.export(
                    Exported(lifter, flip=flip), (example,), dynamic_shapes=({0: batch},)
                )
                write(program, temporary, described)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"PyTorch {torch.__version__} could not export the network: {reason}") from error
        with _quiet():
            return _difference(lifter, read(temporary), path, flip=flip)


def _need(packages: tuple[str, ...]) -> None:
    import importlib

    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            wanted = " ".join(packages)
            raise UserError(
                f"--export needs the package {name} ({error}): pip install {wanted}, or -r requirement.txt"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out the hundreds of lines that the exporters say of each step."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _difference(lifter: nn.Module, run: Run, path: Path, *, flip: bool) -> float:
    """The largest difference of a file's poses from those that are scored, metres."""
    from common.flip import lift

    largest = 0.0
    for count in CHECKED_BATCHES:
        drawn = np.random.default_rng(count).uniform(-1, 1, (count, NUM_JOINTS, 2)).astype(np.float32)
        with torch.no_grad():
            expected = lift(lifter, torch.from_numpy(drawn).unsqueeze(1), flip=flip).squeeze(1).numpy()
        found = run(drawn)
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= TOLERANCE:  # NaN is not either
            raise RunError(
                f"{path} was not written: a batch of {count} poses came out {difference:.1e} m away from "
                f"PyTorch's, expected {TOLERANCE:g} at most"
            )
        largest = max(largest, difference)
    return largest


def _write_onnx(program: torch.export.ExportedProgram, path: Path, described: dict[str, str]) -> None:
    import onnx

    exported = torch.onnx.export(
        program,
        (),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamo=True,  # the exporter that is maintained
        verbose=False,
    )
    assert exported is not None  # it is where no file is named
    model = exported.model_proto
    graph = model.graph
    # PyTorch notes for each node which line of which file on this machine it comes from.
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "HTNet", VERSION
    onnx.helper.set_model_props(model, described)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda keypoints: session.run([OUTPUT], {INPUT: keypoints})[0]


def _write_torch(program: torch.export.ExportedProgram, path: Path, described: dict[str, str]) -> None:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which line of which file on this machine it comes from
    buffer = io.BytesIO()  # a path would have to end in .pt2, which the temporary one does not
    torch.export.save(program, buffer, extra_files={FACTS_FILE: json.dumps(described, indent=1)})
    path.write_bytes(buffer.getvalue())


def _read_torch(path: Path) -> Run:
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(keypoints: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(keypoints)).numpy()

    return run

"""A lifter out of an ONNX file that ``main.py --export onnx`` wrote, run by ONNX Runtime on the CPU.

Such a file cannot run code or open files, but it is a program: one made to do harm could ask for any amount
of memory or never end. So it is tried on two poses, within bounds, before anything in it is computed ahead.
"""

from __future__ import annotations

import json
import logging
import shlex
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import checkpoint
from common.errors import CheckpointError
from common.export import FORMAT, INPUT, OUTPUT, SUFFIXES, VERSION, Run
from common.files import sha256
from common.skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MAX_FILE = 2**28
"""Bytes; a lifter at its published size takes 12 million."""

MAX_MEMORY = 2**30
"""Bytes for weights and activations of all sessions; a batch of 128 at the published size takes a tenth."""

TRIAL_SECONDS = 20.0

_POOL = threading.Lock()

EXPECTED = (INPUT, [NUM_JOINTS, 2], OUTPUT, [NUM_JOINTS, 3])

log = logging.getLogger("demo")


def find_onnx(name: str, checkpoints: Path) -> Path:
    """The ONNX file that a name stands for: a file, or what was exported beside the weights of that name.

    Args:
        name: A file, a folder, or the name of a folder under ``checkpoints``.
        checkpoints: Folder of all runs.

    Raises:
        CheckpointError: There is none; with the command that makes it.
    """
    path = checkpoint.find_weights(name, checkpoints)
    exported = path.with_suffix(SUFFIXES["onnx"])
    if not exported.is_file():
        command = shlex.join(["python", "main.py", "--export", "onnx", "--previous_dir", str(path)])
        raise CheckpointError(f"--backend onnx: there is no {exported}; write it by: {command}")
    return exported


def load_onnx(path: Path) -> Run:
    """Loads an exported lifter.

    Args:
        path: The file.

    Returns:
        What lifts (B, 17, 2) normalised key points to (B, 17, 3) poses averaged with the mirror image, in
        camera space, metres, root at 0, in one thread.

    Raises:
        CheckpointError: The file is damaged or no lifter of this project, or ONNX Runtime is missing.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise CheckpointError(f"{path} needs ONNX Runtime ({error}): pip install onnxruntime") from None
    content = _content(path)
    try:
        trial = _session(content, optimized=False)
        facts = trial.get_modelmeta().custom_metadata_map
        _check(path, trial, facts)
        _try(path, trial)
        session = _session(content, optimized=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can make the runtime fail in any way
        raise CheckpointError(
            f"{path} ({len(content)} bytes): expected a lifter written by main.py --export onnx; it is "
            f"damaged, or a file of another kind ({_short(error)})"
        ) from error

    def run(keypoints: np.ndarray) -> np.ndarray:
        return session.run([OUTPUT], {INPUT: keypoints})[0]

    weights = path.with_suffix(".pth")
    if weights.is_file() and sha256(weights) != facts.get("weights_sha256"):
        log.warning("warning: %s was exported from other weights than %s holds now", path, weights.name)
    return run if facts["mirror_averaged"] == "true" else _averaged(run)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{path}: {size:,} bytes, expected at most {MAX_FILE:,}")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache
def _bound_memory() -> None:
    """Makes the one pool that the sessions of this module take their memory from; ``_POOL`` guards it."""
    import onnxruntime

    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # Strategy 1: take what is asked for, and not the next power of two.
    limits = onnxruntime.OrtArenaCfg({"max_mem": MAX_MEMORY, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(info, limits)


def _session(content: bytes, *, optimized: bool) -> InferenceSession:
    import onnxruntime

    with _POOL:
        _bound_memory()
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception, and need not be printed too
    # As with PyTorch: the layers are too small for threads to be worth waiting for.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _check(path: Path, session: InferenceSession, facts: dict[str, str]) -> None:
    """Compares what a file says of itself with what this project writes."""
    wanted: dict[str, tuple[str, ...]] = {
        "format": (FORMAT,),
        "version": (VERSION,),
        "joint_names": (json.dumps(JOINT_NAMES),),
        "mirror_averaged": ("true", "false"),
    }
    for name, values in wanted.items():
        if (found := facts.get(name)) not in values:
            shown = "nothing" if found is None else ascii(found[:100])
            raise CheckpointError(
                f"{path}: no lifter of this project and version: {name}: expected {' or '.join(values)}, "
                f"found {shown}; write one by main.py --export onnx"
            )
    ends = (*session.get_inputs(), *session.get_outputs())
    found_ends: list[Any] = [part for end in ends for part in (end.name, end.shape[1:])]
    batches = [end.shape[0] if end.shape else 0 for end in ends]
    if (
        tuple(found_ends) != EXPECTED
        or any(end.type != "tensor(float)" for end in ends)
        or any(isinstance(batch, int) for batch in batches)
    ):
        shown = ", ".join(f"{ascii(end.name)[:40]} {end.type} {end.shape}"[:120] for end in ends[:4])
        raise CheckpointError(
            f"{path}: expected {INPUT} (batch, {NUM_JOINTS}, 2) and {OUTPUT} (batch, {NUM_JOINTS}, 3), "
            f"float, found {shown}"
        )


def _try(path: Path, session: InferenceSession) -> None:
    """Lifts two poses, for so long and no longer."""
    import onnxruntime

    limits = onnxruntime.RunOptions()
    clock = threading.Timer(TRIAL_SECONDS, setattr, (limits, "terminate", True))
    clock.start()
    try:
        points = np.linspace(-0.5, 0.5, 2 * NUM_JOINTS * 2, dtype=np.float32).reshape(2, NUM_JOINTS, 2)
        (poses,) = session.run([OUTPUT], {INPUT: points}, limits)
    except Exception as error:
        raise CheckpointError(
            f"{path}: no lifter of this project: it could not lift two poses within {TRIAL_SECONDS:g} s and "
            f"{MAX_MEMORY:,} bytes of memory ({_short(error)})"
        ) from error
    finally:
        clock.cancel()
    if poses.shape != (2, NUM_JOINTS, 3) or not np.isfinite(poses).all():
        raise CheckpointError(
            f"{path}: expected finite poses (2, {NUM_JOINTS}, 3) for two people, found {poses.shape}"
            + ("" if np.isfinite(poses).all() else " with NaN or infinity")
        )


def _short(error: Exception) -> str:
    return ascii(" ".join(str(error).split())[:200])[1:-1]


def _averaged(run: Run) -> Run:
    """Averages with the mirrored-back output of the mirrored input, where a file does not do so itself."""

    def mirror(points: np.ndarray) -> np.ndarray:
        mirrored = points[:, MIRROR]
        mirrored[..., 0] *= -1
        return mirrored

    return lambda keypoints: (run(keypoints) + mirror(run(mirror(keypoints)))) / 2

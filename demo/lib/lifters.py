"""Which lifter turns key points into poses, and getting it ready."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from common import checkpoint
from common.errors import UserError
from demo.lib.onnx_lifter import find_onnx, load_onnx
from model import HTNet
from model.folding import folded

PREFERRED = ("open", "cpn", "sample")
"""Names under ckpt/ whose weights are taken unless others are named, the first that is there."""


def find(name: str | None, checkpoints: Path, backend: str = "auto") -> Path:
    """The file of a lifter.

    Args:
        name: A file, a folder, or the name of a folder under ``checkpoints``; None for the first of
            ``PREFERRED`` that is there.
        checkpoints: Folder of all runs.
        backend: "onnx" for what was exported beside the weights of that name; "auto" and "torch" for the
            weights themselves, or the file that is named.

    Raises:
        UserError: There is none; with what was looked for.
    """
    if name is None:
        there = [name for name in PREFERRED if any((checkpoints / name).glob("*.pth"))]
        if not there:
            names = " and no ".join(PREFERRED)
            raise UserError(
                f"no lifter: {checkpoints} holds no {names}; train one, or name one: --previous_dir, "
                "in Python weights="
            )
        name = there[0]
    return (find_onnx if _is_onnx(name, backend) else checkpoint.find_weights)(name, checkpoints)


def load(
    path: Path, device: torch.device, backend: str = "auto"
) -> nn.Module | Callable[[np.ndarray], np.ndarray]:
    """A lifter as ``lifting.lift_keypoints`` takes it, from a file of weights or an exported one.

    Args:
        path: What ``find`` gave.
        device: Where to put HTNet; exported files run on the CPU.
        backend: As for ``find``.

    Raises:
        CheckpointError: The file is damaged or holds something else.
    """
    if _is_onnx(path, backend):
        return load_onnx(path)
    sizes: dict[str, Any] = checkpoint.network_sizes(checkpoint.read_weights(path))
    with _Undrawn():
        model = HTNet(**sizes)
    checkpoint.load_weights(model, path)
    return ready(model, device)


def ready(network: HTNet, device: torch.device) -> nn.Module:
    """A copy of a network as it is now, to be called on a device."""
    # Moved first: what folding lays out would not move with the rest.
    return folded(copy.deepcopy(network).to(device))


def short_name(path: Path, described: str) -> str:
    """What ``checkpoint.describe`` says of a file, with its folder and name alone: for notes beside data."""
    return described.replace(str(path), f"{path.parent.name}/{path.name}", 1)


def _is_onnx(name: str | Path, backend: str) -> bool:
    return backend == "onnx" or (backend == "auto" and Path(name).suffix == ".onnx")


class _Undrawn(TorchFunctionMode):
    """Leaves weights without their random start, in this thread alone.

    They are read from a file anyway, and PyTorch's random numbers are the whole program's: whoever trains
    beside a lifter gets the same ones with and without it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__ or func is torch.Tensor.uniform_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)

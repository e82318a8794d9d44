"""Choice of the device that networks run on."""

from __future__ import annotations

import torch

from common.errors import UserError


def choose(name: str, gpu: int = 0) -> torch.device:
    """The device of a name, "cpu", "cuda" or "mps"; "auto" takes CUDA, then MPS, then the CPU.

    Args:
        name: What the user asked for.
        gpu: Index of the CUDA device.

    Raises:
        UserError: The machine, or this build of PyTorch, lacks the device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(candidate for candidate, there in available.items() if there)
    if not available[name]:
        there = ", ".join(candidate for candidate, there in available.items() if there)
        raise UserError(f"--device {name}: PyTorch {torch.__version__} does not see one here; it has {there}")
    if name != "cuda":
        return torch.device(name)
    if gpu >= torch.cuda.device_count():
        raise UserError(f"--gpu {gpu}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return torch.device("cuda", gpu)

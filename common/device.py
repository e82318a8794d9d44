"""Choice of the device that networks run on, and of the precision that they compute in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common import distributed
from common.errors import UserError

LOW_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str, gpu: int = 0) -> torch.device:
    """The device of a name, "cpu", "cuda" or "mps"; "auto" takes CUDA, then MPS, then the CPU.

    Args:
        name: What the user asked for.
        gpu: Index of the CUDA device; of several processes on a machine each takes the next one.

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
    number, processes = distributed.on_this_machine()
    if gpu + processes > torch.cuda.device_count():
        each = f" for each of {processes} processes from there on" if processes > 1 else ""
        raise UserError(
            f"--gpu {gpu}{each}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    return torch.device("cuda", gpu + number)


def check_precision(amp: str, device: torch.device) -> None:
    """Refuses a precision that a device does not compute in: see ``in_precision``.

    Raises:
        UserError: With what to take instead.
    """
    if amp == "fp16" and device.type != "cuda":
        raise UserError(f"--amp fp16: it is for CUDA, not for {device.type}; take --amp bf16, or none")
    if amp == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise UserError("--amp bf16: this GPU does not compute in bfloat16; take --amp fp16, or none")


class LowPrecision(nn.Module):
    """A network whose products are computed in low precision; it takes and gives float32."""

    def __init__(self, network: nn.Module, device_type: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.device_type, self.dtype = network, device_type, dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(self.device_type, self.dtype):
            output = self.network(*inputs)
        return output.float()


def in_precision(network: nn.Module, amp: str, device: torch.device) -> nn.Module:
    """The network as it is called in a precision: "off" (float32), "bf16" or "fp16"."""
    return network if amp == "off" else LowPrecision(network, device.type, LOW_PRECISIONS[amp])

"""The device that networks run on, and the precision of their products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common import distributed
from common.console import UserError

LOW_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, gpu: int = 0) -> torch.device:
    """The device "cpu", "cuda" or "mps"; "auto" takes CUDA, then MPS, then the CPU.

    Args:
        name: What the user asked for.
        gpu: Index of the CUDA device; of several processes on a machine, each takes the next one.

    Raises:
        UserError: The machine or this build of PyTorch lacks the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [candidate for candidate, there in available.items() if there]
    name = found[0] if name == "auto" else name
    if name not in found:
        raise UserError(f"--device {name}: PyTorch {torch.__version__} finds {', '.join(found)} alone")
    if name != "cuda":
        return torch.device(name)
    number, processes = distributed.local()
    if gpu + processes > torch.cuda.device_count():
        wanted = f"--gpu {gpu}" + (f" and the {processes - 1} after it" if processes > 1 else "")
        raise UserError(f"{wanted}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return torch.device("cuda", gpu + number)


def check_precision(amp: str, device: torch.device) -> None:
    """Refuses a precision that the device lacks.

    Raises:
        UserError: With what to use instead.
    """
    if amp == "fp16" and device.type != "cuda":
        raise UserError(f"--amp fp16: needs CUDA, found {device.type}; use --amp bf16 or off")
    if amp == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise UserError("--amp bf16: this GPU lacks bfloat16; use --amp fp16 or off")


class LowPrecision(nn.Module):
    """A network whose products are computed in low precision; input and output are float32."""

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

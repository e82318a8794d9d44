"""Matrix products: ``nn.Linear``'s, by way of oneDNN on processors where that is faster.

PyTorch gives products in float32 to MKL, which keeps its AVX-512 code for one maker's processors. oneDNN,
which comes with PyTorch too, has it for all: on an AMD EPYC (Zen 5) it is more than twice as fast. In
bfloat16, and on other devices, PyTorch's own choice is the right one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ONEDNN_FROM = 1_000_000
"""Multiplications of a product from which on oneDNN's longer way in (some 10 microseconds) pays."""


def is_traced() -> bool:
    """Whether a program is being made of what is called: then it must not depend on this batch or machine."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class Linear(nn.Linear):
    """``nn.Linear`` by ``linear``."""

    def fold(self, dtype: torch.dtype | None) -> None:
        """Keeps the weights in the precision of the products: see ``model.folding``."""
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def in_float32(device_type: str) -> AbstractContextManager[object]:
    """Switches autocast off within its block; where it is off, as in an exported program, nothing happens."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: (..., in), (out, in) and (out,) to (..., out), with other rounding."""
    if is_traced() or not _onednn_is_faster(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.gelu`` of ``linear``; without gradients oneDNN computes both in one pass over the memory."""
    if torch.is_grad_enabled() or is_traced():
        return F.gelu(linear(x, weight, bias))
    if _is_bfloat16(x) and _onednn_is_there():
        return _product(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), "gelu")
    if _onednn_is_faster(x, weight):
        return _product(x, weight, bias, "gelu")
    return F.gelu(linear(x, weight, bias))


def _is_bfloat16(x: Tensor) -> bool:
    """Whether autocast would have a product of the CPU computed in bfloat16."""
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= ONEDNN_FROM
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and _onednn_is_there()
        and torch._C._functorch.peek_interpreter_stack() is None  # torch.func has no rule for it
    )


@lru_cache(maxsize=1)
def _onednn_is_there() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not in PyTorch's documented interface
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    # The last words ask for the exact GELU, not the one by tanh.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none")


class _Linear(torch.autograd.Function):
    """``_product`` with its gradients, which oneDNN computes as well."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(grad, weight.t())  # (..., in)
        rows = grad.reshape(-1, grad.shape[-1])  # (..., out) -> (rows, out)
        if ctx.needs_input_grad[1]:
            inputs = x.reshape(-1, x.shape[-1])  # (..., in) -> (rows, in)
            # The first factor is copied into rows of its own, so the smaller one comes first.
            if rows.shape[1] <= inputs.shape[1]:
                of_weight = _product(rows.t(), inputs.t())  # (out, in)
            else:
                of_weight = _product(inputs.t(), rows.t()).t()  # (in, out) -> (out, in)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)  # (out,)
        return of_x, of_weight, of_bias

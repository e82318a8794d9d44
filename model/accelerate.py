"""Faster modules for a finished HTNet on CPUs: the same parameters and names, other kernels.

PyTorch gives float32 products to MKL, which keeps its AVX-512 code for one maker's processors. oneDNN, in
the same wheel, has it for all (on an AMD EPYC, Zen 5, more than twice as fast) and fuses GELU with a product.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.htnet import HTNet, Mlp, ModulatedGraphConv, PartConv

MIN_PRODUCT = 1_000_000  # multiplications from which oneDNN's longer call (about 10 microseconds) pays
PIECE = 256  # poses whose features fit into a processor's cache


def accelerate(network: nn.Module) -> nn.Module:
    """Swaps modules of a network on the CPU in place for faster ones; parameters and their names stay.

    Args:
        network: HTNet, or any network of its modules, for training or inference.

    Returns:
        The same network.
    """
    for module in network.modules():
        # The layers of the 2D input and the 3D output stay: small, and float32 under autocast too.
        if not isinstance(module, nn.Linear) or min(module.weight.shape) > 3:
            module.__class__ = _FAST.get(type(module), type(module))
    return network


def fuse(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """An accelerated copy for inference: in evaluation mode, without gradients, the graphs precomputed.

    The copy stays on the network's device and does not follow later changes of the network's weights.

    Args:
        network: HTNet, or any network of its modules, on any device.
        dtype: Precision of the products' weights, for a copy that is only called under autocast to it; None
            keeps theirs.
    """
    network = accelerate(copy.deepcopy(network)).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, _FastGraphConv):
            module.fused = module.graph()
            module.W.data = module.W.data.to(dtype or module.W.dtype)
        elif isinstance(module, (_FastLinear, _FastPartConv)):
            module.to(dtype)
        if isinstance(module, _FastPartConv):
            # The memory order of its product spares a copy per call.
            module.weight.data = module.weight.data.transpose(1, 2).contiguous().transpose(1, 2)
    return network


class _FastHTNet(HTNet):
    def forward(self, keypoints: Tensor) -> Tensor:
        if keypoints.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(keypoints)
        poses = PIECE // keypoints.shape[1]  # (B, F, J, 2)
        return torch.cat([super(_FastHTNet, self).forward(piece) for piece in keypoints.split(poses)])


class _FastGraphConv(ModulatedGraphConv):
    fused: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        own, others = self.fused or self.graph()
        itself, neighbours = (_linear(x, weight.t()) for weight in self.W)
        neighbours = others @ (neighbours * self.M.to(neighbours.dtype))
        return torch.addcmul(self.bias, itself, own) + neighbours


class _FastPartConv(PartConv):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.transpose(1, 2).flatten(1)
        parts = x.index_select(1, self.joints).reshape(x.shape[0], -1, weight.shape[1])
        return _linear(parts, weight, self.bias)


class _FastLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias)


class _FastMlp(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(_linear(x, self.fc1.weight, self.fc1.bias, gelu=True))))


class _FastDropout(nn.Dropout):
    """Draws 16 random bits per value; ``F.dropout`` draws 64, a sixth of a training step on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0 or not self.training:
            return x
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * keep.to(x.dtype).mul_(2**16 / (2**16 - dropped))


_CLASSES = (_FastHTNet, _FastGraphConv, _FastPartConv, _FastLinear, _FastMlp, _FastDropout)
_FAST: dict[type | None, type] = {fast.__base__: fast for fast in _CLASSES}


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """``F.linear`` of (..., in), (out, in) and (out,), and maybe ``F.gelu``, with other rounding."""
    product: Callable[..., Tensor] = F.linear
    if x.device.type == "cpu" and _has_onednn() and not torch.compiler.is_compiling():
        learning, large = torch.is_grad_enabled(), x.numel() * len(weight) >= MIN_PRODUCT
        if torch.is_autocast_enabled("cpu"):  # to bfloat16, where PyTorch itself takes oneDNN for products
            if gelu and bias is not None and not learning:
                return _product(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), "gelu")
        elif large and x.dtype == weight.dtype == torch.float32:
            if not learning:
                return _product(x, weight, bias, "gelu" if gelu else "none")
            product = _Product.apply
    y = product(x, weight, bias)
    return F.gelu(y) if gelu else y


class _Product(torch.autograd.Function):
    """oneDNN's product with its gradients, which oneDNN computes as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _product(grad, weight.t())  # (..., in)
        rows = grad.reshape(-1, grad.shape[-1])  # (..., out) -> (rows, out)
        if ctx.needs_input_grad[1]:
            inputs = x.reshape(-1, x.shape[-1])  # (..., in) -> (rows, in)
            if rows.shape[1] <= inputs.shape[1]:  # the first factor is copied, so the smaller one comes first
                grad_weight = _product(rows.t(), inputs.t())  # (out, in)
            else:
                grad_weight = _product(inputs.t(), rows.t()).t()  # (in, out) -> (out, in)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(dim=0)  # (out,)
        return grad_x, grad_weight, grad_bias


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    # The last argument chooses the exact GELU, not tanh's.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # outside PyTorch's documented interface
    )

"""Small layers that the three levels of HTNet share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.linear import Linear, in_float32, linear, linear_gelu


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zeroes whole samples of a residual branch, and scales the others so that the mean stays.

    Stochastic depth: Huang et al., *Deep Networks with Stochastic Depth*, ECCV 2016.

    Args:
        x: (B, ...) output of the branch.
        rate: Probability that a sample is dropped, in [0, 1).
        training: Without it, x is returned as it is.
    """
    if rate == 0 or not training:
        return x
    keep = 1 - rate
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)  # (B, 1, ...)
    return x * mask.div_(keep)


class DropPath(nn.Module):
    """``drop_path`` as a layer."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.rate, self.training)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zeroes single values, and scales the others so that the mean stays, as ``F.dropout`` does.

    On the CPU ``F.dropout`` draws 64 random bits for each value, which took a sixth of a training step. Here
    four values share them: 16 bits each, so that the rate is met to 1 / 131072.

    Args:
        x: Any shape.
        rate: Probability that a value is dropped, in [0, 1).
        training: Without it, x is returned as it is.
    """
    if rate == 0 or not training:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    dropped = min(round(rate * 2**16), 2**16 - 1)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * keep.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """``dropout`` as a layer."""

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1), got {rate}")
        super().__init__(rate)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class Mlp(nn.Module):
    """Linear, GELU, dropout, linear, dropout on the last dimension."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.fc2 = Linear(hidden, channels)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(linear_gelu(x, self.fc1.weight, self.fc1.bias))))


class Attention(nn.Module):
    """Multi-head self-attention over joints (Vaswani et al., *Attention Is All You Need*, NeurIPS 2017)."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(channels, channels * 3)
        self.proj = Linear(channels, channels)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, J, C) to (B, J, C)."""
        B, J, C = x.shape
        qkv = self.qkv(x).view(B, J, 3, self.heads, C // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, heads, J, C / heads)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Of so few joints attention is half as fast in bfloat16 as in float32.
            with in_float32("cpu"):
                mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, J, C / heads)
        mixed = mixed.transpose(1, 2).reshape(B, J, C)  # (B, J, C)
        return self.drop(self.proj(mixed))


class JoinedConv(nn.Conv1d):
    """A ``Conv1d`` over joints whose stride is its kernel: each run of K joints becomes one token.

    Without overlap it is one matrix product on the joints of a part laid side by side, which spares the two
    transposes that the convolution's channel order would ask for.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, stride=kernel)
        self.folded: Tensor | None = None

    def fold(self, dtype: torch.dtype | None) -> None:
        """Lays the weight out once for all: see ``model.folding``."""
        self.to(dtype)
        self.folded = self._laid_out().detach()

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, P * K, C) joints, part after part, to (B, P, C), one token a part."""
        weight = self._laid_out() if self.folded is None else self.folded
        B, _, C = tokens.shape
        return linear(tokens.reshape(B, -1, weight.shape[1]), weight, self.bias).view(B, -1, C)  # (B, P, C)

    def _laid_out(self) -> Tensor:
        return self.weight.transpose(1, 2).flatten(1)  # (C, C, K) -> (C, K * C)

"""Weights that need no file: each tensor of a network is drawn from its own name."""

from __future__ import annotations

import zlib
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def fill(module: Network, seed: int = 0, scale: float = 0.05) -> Network:
    """Fills a network in place, so that two with the same names hold the same numbers on any machine.

    Biases, running means and matrices are normal with deviation ``scale``, weights of norms 1 plus that,
    running variances 1 plus its absolute value, kernels of 2D convolutions normal with variance 0.5 / fan-in.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(_draw(name, tuple(tensor.shape), seed, scale)))
    return module


def _draw(name: str, shape: tuple[int, ...], seed: int, scale: float) -> np.ndarray:
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = generator.standard_normal(shape).astype(np.float32) * scale
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        # Scaled twice, to round as the weights did that the reference values were made with.
        values *= np.float32((0.5 / fan_in) ** 0.5 / scale)
    if name.endswith("running_var"):
        return np.abs(values) + 1
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + values
    return values

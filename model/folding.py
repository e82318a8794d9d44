"""Networks made ready for inference: what follows from the weights alone is computed once."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def folded(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of a network for inference, in evaluation mode and without gradients.

    The graph convolutions' adjacency is formed and the convolutions' weights are laid out once, not for
    every batch. The copy does not follow when the network's weights change, takes no others, and stays on the
    device that the network is on.

    Args:
        network: The network.
        dtype: Keep the weights of the products in this precision, for a copy that is only called under
            autocast to it; None leaves them as they are.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in network.modules():
        if callable(fold := getattr(module, "fold", None)):
            fold(dtype)
    network.register_load_state_dict_pre_hook(_refuse)
    return network


def _refuse(*_: Any) -> None:
    raise RuntimeError("a folded network takes no weights: load them into the network itself, and fold that")

"""The rows of the table of lifters: which networks are trained, on which key points, how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from benchmarks.ablations import ABLATIONS
from benchmarks.baselines import JointTransformer, ModulatedGCN, ResidualMlp
from common.records import REFINED
from model import HTNet

SOURCES = ("gt", "cpn_ft_h36m_dbb")
"""Key points that ``--all`` trains on; the ablations on the first alone."""


@dataclass(frozen=True)
class Row:
    """A row of the table of lifters, or of that of recipes.

    Attributes:
        title: What stands in the table.
        build: Makes the network.
        seeds: How many seeds it is trained with, from 1 on.
        sources: The key points that it is trained on.
        refine: Train and score it with the refine head.
        options: What of ``main.py``'s options for training differs from the published recipe.
        recipe: It belongs to the table of recipes; it is scored on other data too.
    """

    title: str
    build: Callable[[], nn.Module]
    seeds: int = 1
    sources: tuple[str, ...] = SOURCES
    refine: bool = False
    options: tuple[str, ...] = ()
    recipe: bool = False


ROWS = {
    "htnet": Row("HTNet", HTNet, seeds=3),
    "mgcn": Row("Modulated GCN (Zou and Tang 2021)", ModulatedGCN, seeds=3),
    "transformer": Row("joint transformer of HTNet's size", JointTransformer),
    "martinez": Row("residual MLP (Martinez et al. 2017)", ResidualMlp),
    "htnet_refine": Row(f"HTNet, {REFINED}", HTNet, refine=True),
} | {name: Row(title, build, sources=SOURCES[:1]) for name, (title, build) in ABLATIONS.items()}

RECIPES = {
    "published": "",
    "cosine": "--recipe cosine",
    "bones": "--bone_loss 0.5 --symmetry_loss 0.1",
    "cameras": "--virtual_cameras",
    "open": "--recipe open",
}
"""Options that are added to those of the published recipe."""
ROWS |= {
    name: Row(
        f"`{options}`" if options else "published recipe",
        HTNet,
        sources=SOURCES[:1],
        options=tuple(options.split()),
        recipe=True,
    )
    for name, options in RECIPES.items()
}

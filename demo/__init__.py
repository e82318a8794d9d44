"""From images and keypoints to 3D poses: ``estimate`` and ``lift``; docs/api.md has examples.

The names are loaded when they are first used, so that importing this package is quick.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.api import Estimator, Lifter, Person, Result, Track, estimate, fit_motion, lift

__all__ = ["Estimator", "Lifter", "Person", "Result", "Track", "estimate", "fit_motion", "lift"]

# Without a handler, Python would print the warnings in programs that set up no logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("demo.api"), name)

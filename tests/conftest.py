"""Fixtures for all tests: small made-up files in Human3.6M's layout."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.camera import h36m_cameras, project, world_to_camera
from common.skeleton import H36M_32_KEPT

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ACTIONS = ("Directions", "Directions 1", "Walking")

Files = tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]


def _made_up() -> Files:
    """Positions (T, 32, 3) in world metres and, for each camera, pixels (T' >= T, 17, 2).

    As in the real files, S11 lacks a take in 3D that the key points have, and key points run on after the
    motion capture's end, by another number of frames in every camera.
    """
    rng = np.random.default_rng(0)
    positions: dict[str, dict[str, Any]] = {}
    pixels: dict[str, dict[str, Any]] = {}
    for number, (subject, cameras) in enumerate((name, h36m_cameras()[name]) for name in SUBJECTS):
        positions[subject], pixels[subject] = {}, {}
        for action in ACTIONS:
            frames = 5 + number + len(action) % 3
            world = rng.normal((0, 0, 1), 0.4, (frames, 32, 3)).astype(np.float32)
            pose = world[:, H36M_32_KEPT].astype(np.float64)  # (T, 32, 3) -> (T, 17, 3)
            views = [project(world_to_camera(pose, camera), camera) for camera in cameras]
            tails = [rng.uniform(0, 1000, (extra, 17, 2)) for extra in range(4)]
            pixels[subject][action] = [
                np.concatenate([view, tail]).astype(np.float32)
                for view, tail in zip(views, tails, strict=True)
            ]
            positions[subject][action] = world
    del positions["S11"]["Directions"]
    return positions, pixels


_MADE_UP: list[Files] = []


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """``main`` logs to the output of the test that calls it, which is closed when that test is over."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def files() -> Files:
    """Positions and pixels as the files hold them, a copy of one's own to damage at will."""
    if not _MADE_UP:
        _MADE_UP.append(_made_up())
    return copy.deepcopy(_MADE_UP[0])


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[..., Path]:
    """Writes positions and pixels as the npz files of a data set: ``write_files(positions, pixels)``.

    Other folders, names and key point sources than those of the defaults can be given by keyword. The
    folder is returned.
    """

    def write(
        positions: Any, pixels: Any, *, folder: Path | None = None, name: str = "h36m", keypoints: str = "gt"
    ) -> Path:
        folder = folder or tmp_path / "data"
        folder.mkdir(parents=True, exist_ok=True)
        # As pickled objects, which is how the field's files hold dictionaries.
        entries: dict[str, Any] = {"positions_3d": np.array(positions, dtype=object)}
        np.savez(folder / f"data_3d_{name}.npz", **entries)
        entries = {"positions_2d": np.array(pixels, dtype=object), "metadata": np.array({}, dtype=object)}
        np.savez(folder / f"data_2d_{name}_{keypoints}.npz", **entries)
        return folder

    return write


@pytest.fixture
def folder(files: Files, write_files: Callable[..., Path]) -> Path:
    """A folder with the made-up data set h36m, key points gt."""
    return write_files(*files)

"""Fixtures for all tests: small synthetic files in Human3.6M's layout."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.camera import h36m_cameras
from common.skeleton import H36M_32_KEPT, PARENTS

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ACTIONS = ("Directions", "Directions 1", "Walking")
BONES_M = (0, 0.13, 0.45, 0.44, 0.13, 0.45, 0.44, 0.24, 0.26, 0.12, 0.12, 0.15, 0.28, 0.25, 0.15, 0.28, 0.25)

Files = tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]


def bodies(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(T, 17, 3) bodies of usual bone lengths in random poses near the origin, world metres."""
    directions = rng.normal(0, 1, (1, 17, 3)) + rng.normal(0, 0.05, (frames, 17, 3)).cumsum(axis=0)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    pose = np.zeros((frames, 17, 3)) + np.array([0, 0, 1])
    for joint in range(1, 17):
        pose[:, joint] = pose[:, PARENTS[joint]] + directions[:, joint] * BONES_M[joint]
    return pose + rng.normal(0, 0.2, 3) * np.array([1, 1, 0])


@lru_cache(maxsize=1)
def _synthetic() -> Files:
    """Positions (T, 32, 3) in world metres and, for each camera, pixels (T' >= T, 17, 2).

    As in the real files, S11 lacks a take in 3D that the keypoints have, and keypoints run on after the end
    of the motion capture, by another number of frames in every camera.
    """
    rng = np.random.default_rng(0)
    positions: dict[str, dict[str, Any]] = {}
    pixels: dict[str, dict[str, Any]] = {}
    for number, subject in enumerate(SUBJECTS):
        positions[subject], pixels[subject] = {}, {}
        for action in ACTIONS:
            frames = 5 + number + len(action) % 3
            pose = bodies(rng, frames).astype(np.float32).astype(np.float64)
            world = np.zeros((frames, 32, 3), np.float32)
            world[:, H36M_32_KEPT] = pose
            views = [camera.project(camera.to_camera(pose)) for camera in h36m_cameras()[subject]]
            tails = [rng.uniform(0, 1000, (extra, 17, 2)) for extra in range(4)]
            pixels[subject][action] = [
                np.concatenate([view, tail]).astype(np.float32)
                for view, tail in zip(views, tails, strict=True)
            ]
            positions[subject][action] = world
    del positions["S11"]["Directions"]
    return positions, pixels


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """``main`` logs to the output of the test that calls it, which is closed when that test is over."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def files() -> Files:
    """Positions and pixels as the files hold them, a copy to damage at will."""
    return copy.deepcopy(_synthetic())


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[..., Path]:
    """Writes positions and pixels as the npz files of a data set, and returns their folder."""

    def write(
        positions: Any,
        pixels: Any,
        *,
        folder: Path | None = None,
        name: str = "h36m",
        keypoints: str = "gt",
        metadata: Any = None,
    ) -> Path:
        folder = folder or tmp_path / "data"
        folder.mkdir(parents=True, exist_ok=True)
        # As pickled objects, which is how the field's files hold dictionaries.
        members: dict[str, Any] = {"positions_3d": np.array(positions, dtype=object)}
        np.savez(folder / f"data_3d_{name}.npz", **members)
        members = {
            "positions_2d": np.array(pixels, dtype=object),
            "metadata": np.array(metadata or {}, dtype=object),
        }
        np.savez(folder / f"data_2d_{name}_{keypoints}.npz", **members)
        return folder

    return write


@pytest.fixture
def folder(files: Files, write_files: Callable[..., Path]) -> Path:
    """A folder with the synthetic data set h36m, keypoints gt."""
    return write_files(*files)

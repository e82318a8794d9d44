"""What the process of ``benchmarks.soak`` holds, all along: memory, open files and threads."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.demo import resident_mb
from benchmarks.made_up_webcam import FPS

EVERY = round(10 * FPS)
"""Frames from one reading to the next."""
POSE, INDEX_ENTRY = 212, 80
"""Bytes kept of a pose until it is lifted (51 float32 numbers, and the frame's), and of a frame until FFmpeg
writes the recording's index."""


class Meter:
    """Reads what the process holds, every few seconds of frames of each phase."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.poses = 0
        self.rows: list[dict[str, Any]] = []

    def frame(self, phase: str) -> None:
        """Counts a frame."""
        if not self.frames[phase]:
            _trim()
        if self.frames[phase] % EVERY == 0:
            row = {"phase": phase, "frames": self.frames[phase], "poses": self.poses, "mb": resident_mb()}
            row |= {"files": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
            self.rows.append(row)
            print(*(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)
        self.frames[phase] += 1

    def growth(self, phase: str) -> dict[str, Any]:
        """What has grown from the first five minutes of frames, or the first sixth of them, to the last."""
        warm = min(300 * FPS, self.frames[phase] / 6)
        rows = [row for row in self.rows if row["phase"] == phase and row["frames"] >= warm]
        first, last = rows[0], rows[-1]
        frames, poses, mb = np.array([[row[name] for name in ("frames", "poses", "mb")] for row in rows]).T
        designed = (frames * (INDEX_ENTRY if phase == "recording" else 0) + poses * POSE) / 1e6
        beyond = mb - designed
        return {
            "frames": self.frames[phase],
            "mb": [round(first["mb"], 1), round(last["mb"], 1)],
            "by_design_mb": round(float(designed[-1] - designed[0]), 1),
            "beyond_mb": round(float(beyond[-1] - beyond[0]), 1),
            "files": [first["files"], last["files"]],
            "threads": [first["threads"], last["threads"]],
        }


def _trim() -> None:
    """Has glibc give back what is free, or what is kept later would fill that first and not be seen."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)

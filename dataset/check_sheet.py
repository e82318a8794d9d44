"""A contact sheet: poses of a data set, spread over its takes, as key points and from two sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.camera import rotate
from common.draw import (
    FRONT,
    LEFT_COLOUR,
    RIGHT_COLOUR,
    SIDE,
    TRUNK_COLOUR,
    draw_pose_2d,
    draw_pose_3d,
    write_png,
)
from common.skeleton import ROOT
from dataset.check_samples import Take, View

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

ROWS, COLUMNS = 6, 2
"""Poses under and beside each other."""
PANELS = (("key points in the picture", 0.37), ("from the camera", 0.31), ("from the side", 0.32))
"""What is shown of a pose, and its share of the width."""
PERSON = 1.6
"""Metres of the largest extent of a pose that is drawn smaller or larger than it is, as no person is so."""
SIZES = (0.4, 4.0)
"""Metres of the largest extent of a pose that is drawn as it is."""

# Inches.
_WIDTH, _ROW, _HEAD, _CAPTION, _GAP = 12.0, 2.15, 0.95, 0.24, 0.08
_DPI = 110


def contact_sheet(path: Path, samples: dict[Take, list[View]], title: str) -> None:
    """Writes a PNG of up to twelve poses, of other takes, cameras and frames each.

    Args:
        path: The PNG to write, which appears whole or not at all.
        samples: Views of takes, at least one.
        title: Heading of the picture.
    """
    takes = list(samples.values())
    picked = np.unique(np.linspace(0, len(takes) - 1, ROWS * COLUMNS).round().astype(int))
    rows = -(-len(picked) // COLUMNS)
    height = _HEAD + rows * _ROW + _GAP
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    _draw_head(figure, title)
    for place, number in enumerate(picked):
        views = takes[number]
        view = views[place % len(views)]
        row, column = divmod(place, COLUMNS)
        frame = len(view.frames) * (1 + place % 3) // 4
        _draw_pose(figure, view, frame, left=column * _WIDTH / COLUMNS, top=height - _HEAD - row * _ROW)
    write_png(figure, path, dpi=_DPI)


def _draw_head(figure: Figure, title: str) -> None:
    height = figure.get_figheight()
    left = _GAP / _WIDTH
    figure.text(left, 1 - 0.1 / height, title, fontsize=12, weight="bold", va="top", parse_math=False)
    handles = [
        Line2D([], [], color=colour, lw=2.5, label=name)
        for name, colour in (("left", LEFT_COLOUR), ("right", RIGHT_COLOUR), ("trunk", TRUNK_COLOUR))
    ]
    figure.legend(
        handles=handles, ncols=3, loc="upper left", bbox_to_anchor=(left, 1 - 0.36 / height), frameon=False,
        fontsize=9, handlelength=1.6, columnspacing=1.4, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    for column in range(COLUMNS):
        for name, place, width in _panels(column * _WIDTH / COLUMNS):
            middle = (place + width / 2) / _WIDTH
            figure.text(
                middle, 1 - (_HEAD - 0.08) / height, name, fontsize=9, ha="center", color=TRUNK_COLOUR
            )


def _panels(left: float) -> list[tuple[str, float, float]]:
    """Name, left edge and width in inches of a pose's panels, the first of which begins at ``left``."""
    placed, whole = [], _WIDTH / COLUMNS
    for name, share in PANELS:
        placed.append((name, left + _GAP, share * whole - 2 * _GAP))
        left += share * whole
    return placed


def _draw_pose(figure: Figure, view: View, frame: int, *, left: float, top: float) -> None:
    height = figure.get_figheight()
    pose = levelled(view, frame)
    pose = pose - pose[ROOT]
    extent = float(np.ptp(pose, axis=0).max())
    shown = "" if SIZES[0] < extent < SIZES[1] else f", {extent:.3g} m large, drawn as if {PERSON} m"
    pose = pose * (PERSON / max(extent, 1e-9) if shown else 1.0)
    number = view.sequence.first_frame + int(view.frames[frame]) * view.sequence.step
    caption = f"{view.sequence}, frame {number}{shown}"
    figure.text((left + _GAP) / _WIDTH, (top - 0.04) / height, _cut(caption), fontsize=9, va="top",
                parse_math=False)  # fmt: skip
    bottom, tall = (top - _ROW + _GAP) / height, (_ROW - _CAPTION - _GAP) / height
    boxes = [(place / _WIDTH, bottom, width / _WIDTH, tall) for _, place, width in _panels(left)]
    flat = figure.add_axes(boxes[0])
    width, tall_px = view.sequence.image_size
    flat.plot([0, width, width, 0, 0], [0, 0, tall_px, tall_px, 0], color=TRUNK_COLOUR, lw=0.8, gid="picture")
    draw_pose_2d(flat, view.keypoints[frame])
    for line in flat.lines[1:]:  # People are small in whole pictures.
        line.set(linewidth=1.2, markersize=2.0)
    for box, side in zip(boxes[1:], (FRONT, SIDE), strict=True):
        draw_pose_3d(cast("Axes3D", figure.add_axes(box, projection="3d")), pose, view=side)


def levelled(view: View, frame: int) -> np.ndarray:
    """(17, 3) a pose in axes x right, y down, z away, turned so that what should be up in the world is up.

    Without an orientation the pose stays in the camera's axes, which look down a little.
    """
    orientation = view.sequence.orientation
    if orientation is None:
        return view.positions[frame]
    ahead = rotate(np.array([0.0, 0.0, 1.0]), orientation)[:2]
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    x, y, z = np.moveaxis(rotate(view.positions[frame], orientation), -1, 0)
    return np.stack([x * ahead[1] - y * ahead[0], -z, x * ahead[0] + y * ahead[1]], axis=-1)


def _cut(text: str, length: int = 88) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"

"""Pictures of poses: key points, 3D poses on a floor, and rows of predictions beside their truth.

Left is blue and right is vermillion in every picture of the project: two colours of Okabe and Ito's palette
("Color Universal Design", 2008), which colour-blind readers tell apart too. The figures are made without
pyplot, so that no window opens and nothing is shared between callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.proj3d import proj_transform

from common.files import replacing
from common.skeleton import BONES, JOINT_NAMES, LEFT, NUM_JOINTS, RIGHT, ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d import Axes3D

LEFT_COLOUR = "#0072B2"
RIGHT_COLOUR = "#D55E00"
TRUNK_COLOUR = "#4D4D4D"
TRUTH_COLOUR = "#7A7A7A"
PANEL_COLOUR = "#F3F4F6"
FLOOR_COLOUR = "#D0D4DA"

FRONT = (12.0, -70.0)
"""Elevation and azimuth in degrees: from the camera's place, a little to its right."""
SIDE = (8.0, -8.0)
"""From the side, where errors in depth, the hard direction, show."""

FLOOR_CELL = 0.5
"""Side of a square of the floor grid, metres."""

Row = tuple[np.ndarray, np.ndarray, np.ndarray, str]
"""Key points (17, 2), predicted pose (17, 3), true pose (17, 3) and a caption."""

# Layout of a picture of rows, inches: 9 inches are about the 900 px that a README or a report shows.
_WIDTH, _ROW, _HEAD, _CAPTION, _GAP = 9.0, 2.05, 0.86, 0.24, 0.08
_DPI = 144
_COLUMNS = ("2D input", "prediction", "truth", "both, from the side")


def bone_colour(joint: int) -> str:
    """The colour of the bone from a joint to its parent: its side's, or the trunk's."""
    return LEFT_COLOUR if joint in LEFT else RIGHT_COLOUR if joint in RIGHT else TRUNK_COLOUR


def upright(pose: np.ndarray) -> np.ndarray:
    """Camera axes (x right, y down, z away) to plot axes (right, away, up), for points (..., 3)."""
    x, y, z = np.moveaxis(pose, -1, 0)
    return np.stack([x, z, -y], axis=-1)


def draw_pose_2d(axes: Axes, keypoints: np.ndarray) -> None:
    """Draws key points as a skeleton, with equal scales.

    Args:
        axes: Plain axes of matplotlib.
        keypoints: (17, 2) pixels or normalised image coordinates, y down.

    Raises:
        ValueError: If the key points have another shape, or are not finite.
    """
    keypoints = _checked(keypoints, 2, "key points")
    for joint, parent in BONES:
        axes.plot(*keypoints[[joint, parent]].T, **_bone_style(joint))
    axes.margins(0.08)
    axes.yaxis.set_inverted(True)
    axes.set_aspect("equal", adjustable="datalim")  # the panel keeps its size, and shows more of the plane
    axes.set_facecolor(PANEL_COLOUR)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_pose_3d(
    axes: Axes3D,
    pose: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    view: tuple[float, float] = FRONT,
    around: Sequence[np.ndarray] = (),
) -> None:
    """Draws a pose upright on a floor of half-metre squares, with one scale for all three axes.

    Args:
        axes: Axes made with ``projection="3d"``.
        pose: (17, 3) camera space, metres.
        truth: (17, 3) a pose to lay over it, thin and dashed; same space.
        view: Elevation and azimuth in degrees, such as ``FRONT`` or ``SIDE``.
        around: Further (17, 3) poses that must fit in: panels of the same poses share their scale and floor.

    Raises:
        ValueError: If a pose has another shape, or is not finite.
    """
    overlaid = [] if truth is None else [truth]
    points, *others = (upright(_checked(each, 3, "pose")) for each in (pose, *overlaid, *around))
    low, high = _box(np.concatenate([points, *others]))  # M poses: (17 M, 3)
    _look_at(axes, low, high, view)
    _draw_floor(axes, low, high)
    # Lines are painted in the order in which they are added: the nearest bone comes last.
    nearness = points @ _towards_viewer(view)
    for joint, parent in sorted(BONES, key=lambda bone: nearness[list(bone)].sum()):
        axes.plot(*points[[joint, parent]].T, **_bone_style(joint))
    for true_points in others[: len(overlaid)]:
        for joint, parent in BONES:
            style = {"color": TRUTH_COLOUR, "lw": 1.1, "ls": (0, (3, 1.5)), "gid": "truth"}
            axes.plot(*true_points[[joint, parent]].T, **style)


def prediction_picture(path: str | Path, rows: Sequence[Row], title: str = "") -> None:
    """Writes a PNG with a row per sample: 2D input, prediction, truth, and both from the side.

    Poses are laid over each other at the root, as MPJPE compares them. The file appears whole or not at all.

    Args:
        path: The PNG to write; its folder is made if it is missing.
        rows: Key points (17, 2), predicted and true pose (17, 3; camera space, metres) and a caption each.
        title: Heading of the picture.

    Raises:
        ValueError: If there is no row, or an array of a row has another shape or is not finite.
    """
    if not rows:
        raise ValueError("Cannot draw predictions: expected at least one row, found none.")
    height = _HEAD + _ROW * len(rows)
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    _draw_head(figure, title)
    for number, row in enumerate(rows):
        _draw_row(figure, row, top=height - _HEAD - _ROW * number)
    write_png(figure, path)


def write_png(figure: Figure, path: str | Path, dpi: int = _DPI) -> None:
    """Writes a figure as PNG under a temporary name and then moves it to ``path``: never half a picture."""
    with replacing(path) as temporary:
        # Without the version of matplotlib in the file, the same picture gives the same bytes.
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})


def _checked(array: np.ndarray, dims: int, what: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.shape != (NUM_JOINTS, dims):
        raise ValueError(f"Cannot draw {what}: expected shape {(NUM_JOINTS, dims)}, found {array.shape}.")
    if not np.isfinite(array).all():
        joints = ", ".join(JOINT_NAMES[joint] for joint in np.flatnonzero(~np.isfinite(array).all(axis=1)))
        raise ValueError(f"Cannot draw {what}: expected finite numbers, found NaN or infinity at {joints}.")
    return array


def _bone_style(joint: int) -> dict:
    style = {"color": bone_colour(joint), "lw": 2.0, "solid_capstyle": "round", "gid": JOINT_NAMES[joint]}
    # The marker stands on the bone's own joint: the line's first point.
    return style | {"marker": "o", "markersize": 3.2, "markevery": [0]}


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of a box around points (N, 3): its floor is a square of whole cells."""
    low, high = points.min(axis=0), points.max(axis=0)
    cells = max(np.ceil((high - low)[:2].max() / FLOOR_CELL), 2)
    middle, half = (low + high)[:2] / 2, cells * FLOOR_CELL / 2
    return np.array([*(middle - half), low[2]]), np.array([*(middle + half), max(high[2], low[2] + 1.0)])


def _towards_viewer(view: tuple[float, float]) -> np.ndarray:
    elevation, azimuth = np.radians(view)
    level = np.cos(elevation)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])


def _look_at(axes: Axes3D, low: np.ndarray, high: np.ndarray, view: tuple[float, float]) -> None:
    """Sets limits, one scale for all axes, and the zoom at which the whole box just fits the panel."""
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_proj_type("ortho")
    axes.view_init(*view)
    axes.set_axis_off()
    axes.set_box_aspect(tuple(high - low))
    corners = np.array(list(product(*zip(low, high, strict=True))))  # (8, 3)
    x, y, _ = np.abs(proj_transform(*corners.T, axes.get_proj()))
    # The box's middle is at 0; the panel reaches a little less far on one side of it than on the other.
    zoom = min(np.abs(axes.viewLim.intervalx).min() / x.max(), np.abs(axes.viewLim.intervaly).min() / y.max())
    axes.set_box_aspect(tuple(high - low), zoom=0.99 * zoom)


def _draw_floor(axes: Axes3D, low: np.ndarray, high: np.ndarray) -> None:
    cells = round((high - low)[0] / FLOOR_CELL)
    style = {"color": FLOOR_COLOUR, "lw": 0.7, "zorder": 0, "gid": "floor"}
    for step in np.linspace(0, 1, cells + 1):
        x, y = low[:2] + step * (high - low)[:2]
        axes.plot([x, x], [low[1], high[1]], [low[2]] * 2, **style)
        axes.plot([low[0], high[0]], [y, y], [low[2]] * 2, **style)


def _columns() -> list[tuple[float, float]]:
    """Left edge and width of each column, in fractions of the picture's width."""
    share, gap = 1 / len(_COLUMNS), _GAP / _WIDTH
    return [(share * column + gap, share - 2 * gap) for column in range(len(_COLUMNS))]


def _draw_head(figure: Figure, title: str) -> None:
    """Title, legend and names of the columns, on a line each."""
    height, left = figure.get_figheight(), _GAP / _WIDTH
    # Captions and titles hold names from files, in which a "$" is no formula.
    figure.text(left, 1 - 0.08 / height, title, fontsize=11, weight="bold", va="top", parse_math=False)
    keys = (
        ("left", LEFT_COLOUR, 2.5, "-"),
        ("right", RIGHT_COLOUR, 2.5, "-"),
        ("truth, where overlaid", TRUTH_COLOUR, 1.2, "--"),
        (f"floor squares: {FLOOR_CELL} m", FLOOR_COLOUR, 1.2, "-"),
    )
    handles = [Line2D([], [], color=colour, lw=lw, ls=ls, label=name) for name, colour, lw, ls in keys]
    figure.legend(
        handles=handles, ncols=len(keys), loc="upper left", bbox_to_anchor=(left, 1 - 0.32 / height),
        frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.4, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    for (left, width), name in zip(_columns(), _COLUMNS, strict=True):
        middle, line = left + width / 2, 1 - (_HEAD - 0.06) / height
        figure.text(middle, line, name, fontsize=9.5, ha="center", color=TRUNK_COLOUR)


def _draw_row(figure: Figure, row: Row, top: float) -> None:
    keypoints, predicted, true, caption = row
    height = figure.get_figheight()
    figure.text(_GAP / _WIDTH, (top - 0.03) / height, caption, fontsize=9, va="top", parse_math=False)
    predicted, true = (_checked(pose, 3, "pose") for pose in (predicted, true))
    predicted, true = predicted - predicted[ROOT], true - true[ROOT]
    bottom, tall = (top - _ROW + _GAP) / height, (_ROW - _CAPTION - _GAP) / height
    boxes = [(left, bottom, width, tall) for left, width in _columns()]
    draw_pose_2d(figure.add_axes(boxes[0]), keypoints)
    first, second, third = (cast("Axes3D", figure.add_axes(box, projection="3d")) for box in boxes[1:])
    draw_pose_3d(first, predicted, around=[true])
    draw_pose_3d(second, true, around=[predicted])
    draw_pose_3d(third, predicted, truth=true, view=SIDE)

"""Plots of errors and images of poses, as matplotlib figures without pyplot.

Left is blue and right is vermillion in every image of the project; other colours are metrics or runs. All are
from Okabe and Ito's palette, which colour-blind readers can tell apart, or grey. Hatching and dashes mean
"refined". Names from files are made printable, and "$" in them is no formula.
"""

from __future__ import annotations

import io
from collections.abc import Sequence as List
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.proj3d import proj_transform

from common.console import number, printable
from common.files import replacing
from common.metrics import AUC_THRESHOLDS, PCK_THRESHOLD, PDOF_GROUPS, action_order
from common.skeleton import BONES, JOINT_NAMES, LEFT, MIRROR, NUM_JOINTS, RIGHT, ROOT

LEFT_COLOUR, RIGHT_COLOUR, TRUNK_COLOUR, TRUTH_COLOUR = "#0072B2", "#D55E00", "#4D4D4D", "#7A7A7A"
PANEL_COLOUR, FLOOR_COLOUR = "#F3F4F6", "#D0D4DA"
METRIC_COLOURS = {"P1": "#009E73", "P2": "#CC79A7"}
RUN_COLOURS = ("#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FRONT, SIDE = (12.0, -70.0), (8.0, -8.0)  # elevation and azimuth, degrees; depth errors show from the side
FLOOR_CELL = 0.5  # side of a square of the floor, metres
MAX_CELLS = 20  # squares along the floor; what is larger is no person in metres, and has no floor
CURVE_END = 250  # mm; beyond the 150 mm of PCK and AUC

_BAR = 0.2  # inches
_STYLE: Any = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": TRUNK_COLOUR,
    "grid.color": FLOOR_COLOUR,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
}

Summary = dict[str, Any]
Row = tuple[np.ndarray, np.ndarray, np.ndarray, str]
"""Keypoints (17, 2), predicted pose (17, 3), true pose (17, 3; camera space, metres) and a caption."""


def write_png(figure: Figure, path: str | Path, dpi: int = 200) -> bytes:
    """Writes a figure as PNG, atomically, and returns its bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def shortened(name: str, longest: int = 30) -> str:
    """A name from a file, printable, without its middle where it is longer than ``longest`` characters."""
    name, half = printable(name), longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def bone_colour(joint: int) -> str:
    """Colour of the bone from a joint to its parent: its side's, or the trunk's."""
    return LEFT_COLOUR if joint in LEFT else RIGHT_COLOUR if joint in RIGHT else TRUNK_COLOUR


def draw_pose_2d(axes: Axes, keypoints: np.ndarray) -> None:
    """Draws keypoints (17, 2), y down, as a skeleton with equal scales."""
    for joint, parent in BONES:
        axes.plot(*keypoints[[joint, parent]].T, **_bone(joint))
    axes.margins(0.08)
    axes.yaxis.set_inverted(True)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[], facecolor=PANEL_COLOUR)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_pose_3d(
    axes: Any,
    pose: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    view: tuple[float, float] = FRONT,
    around: List[np.ndarray] = (),
) -> None:
    """Draws a pose upright on a floor of half-metre squares, with one scale for all axes.

    Args:
        axes: Axes made with ``projection="3d"``.
        pose: (17, 3) camera space (x right, y down, z away), metres.
        truth: (17, 3) a pose to overlay, dashed.
        view: Elevation and azimuth, degrees, such as ``FRONT`` or ``SIDE``.
        around: More (17, 3) poses that the axes have room for, so that panels share their scale.
    """
    overlaid = [] if truth is None else [truth]
    points, *others = (each[:, [0, 2, 1]] * (1, 1, -1) for each in (pose, *overlaid, *around))
    low, high = _box(np.concatenate([points, *others]))  # M poses: (17 M, 3)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_proj_type("ortho")
    axes.view_init(*view)
    axes.set_axis_off()
    axes.set_box_aspect(tuple(high - low))
    corners = np.array(list(product(*zip(low, high, strict=True))))  # (8, 3)
    x, y, _ = np.abs(proj_transform(*corners.T, axes.get_proj()))
    zoom = min(np.abs(axes.viewLim.intervalx).min() / x.max(), np.abs(axes.viewLim.intervaly).min() / y.max())
    axes.set_box_aspect(tuple(high - low), zoom=0.99 * zoom)  # at which the box just fits
    cells = round((high - low)[0] / FLOOR_CELL)
    for share in np.linspace(0, 1, cells + 1) if cells <= MAX_CELLS else ():
        x, y = low[:2] + share * (high - low)[:2]
        style = {"color": FLOOR_COLOUR, "lw": 0.7, "zorder": 0, "gid": "floor"}
        axes.plot([x, x], [low[1], high[1]], [low[2]] * 2, **style)
        axes.plot([low[0], high[0]], [y, y], [low[2]] * 2, **style)
    # Lines are painted in the order in which they are added: the bone closest to the viewer comes last.
    elevation, azimuth = np.radians(view)
    level = np.cos(elevation)
    closeness = points @ (level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation))
    for joint, parent in sorted(BONES, key=lambda bone: closeness[list(bone)].sum()):
        axes.plot(*points[[joint, parent]].T, **_bone(joint))
    for true_points, (joint, parent) in product(others[: len(overlaid)], BONES):
        style = {"color": TRUTH_COLOUR, "lw": 1.1, "ls": (0, (3, 1.5)), "gid": "truth"}
        axes.plot(*true_points[[joint, parent]].T, **style)


def _bone(joint: int) -> dict[str, Any]:
    style = {"color": bone_colour(joint), "lw": 2.0, "solid_capstyle": "round", "gid": JOINT_NAMES[joint]}
    return style | {"marker": "o", "markersize": 3.2, "markevery": [0]}  # on the bone's own joint


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a box around points (N, 3) whose floor is a square of whole cells."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(np.ceil((high - low)[:2].max() / FLOOR_CELL), 2) * FLOOR_CELL / 2
    middle = (low + high)[:2] / 2
    return np.array([*(middle - half), low[2]]), np.array([*(middle + half), max(high[2], low[2] + 1.0)])


@rc_context(_STYLE)
def pose_figure(rows: List[Row], title: str) -> Figure:
    """A row per sample: keypoints, prediction, truth, and both from the side, overlaid at the pelvis."""
    row_height, head, caption_height = 2.05, 0.86, 0.24  # inches
    height = head + row_height * len(rows)
    figure = Figure(figsize=(9.0, height), facecolor="white")
    figure.text(0.01, 1 - 0.08 / height, shortened(title, 110), fontsize=11, weight="bold", va="top")
    colours = {"left": LEFT_COLOUR, "right": RIGHT_COLOUR, "truth, where overlaid (dashed)": TRUTH_COLOUR}
    colours[f"floor squares: {FLOOR_CELL} m"] = FLOOR_COLOUR
    keys = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in colours.items()]
    figure.legend(handles=keys, ncols=4, loc="upper left", bbox_to_anchor=(0, 1 - 0.25 / height), fontsize=9)
    for column, name in enumerate(("2D input", "prediction", "truth", "both, from the side")):
        figure.text((column + 0.5) / 4, 1 - (head - 0.06) / height, name, ha="center", color=TRUNK_COLOUR)
    for index, (keypoints, predicted, true, caption) in enumerate(rows):
        top = 1 - (head + row_height * index + 0.03) / height
        figure.text(0.01, top, shortened(caption, 130), fontsize=9, va="top")
        bottom, tall = top - (row_height - 0.1) / height, (row_height - caption_height - 0.1) / height
        boxes = [(column / 4 + 0.01, bottom, 0.23, tall) for column in range(4)]
        draw_pose_2d(figure.add_axes(boxes[0]), keypoints)
        predicted, true = predicted - predicted[ROOT], true - true[ROOT]
        panels = [figure.add_axes(box, projection="3d") for box in boxes[1:]]
        draw_pose_3d(panels[0], predicted, around=[true])
        draw_pose_3d(panels[1], true, around=[predicted])
        draw_pose_3d(panels[2], predicted, truth=true, view=SIDE)
    return figure


@dataclass(frozen=True)
class Bars:
    """A series of bars: values and their [low, high] in mm, None where unknown; a colour or one per bar."""

    label: str
    values: List[float | None]
    colour: Any
    refined: bool = False
    intervals: List[Any] | None = None


def summary_plots(summaries: dict[str, Summary]) -> dict[str, Figure]:
    """Bars of the errors per action, joint and PDoF group.

    Args:
        summaries: See ``common.metrics.summarize``: the lifter's by "", that of refined poses by "refined".
    """
    trunk = [joint for joint in range(NUM_JOINTS) if joint not in LEFT + RIGHT]
    order = trunk + [joint for left in LEFT for joint in (left, int(MIRROR[left]))]
    actions, joints, groups = [], [], []
    for label, summary in summaries.items():
        refined = label == "refined"
        for metric, colour in METRIC_COLOURS.items():
            average, bounds = (summary[part]["action_wise"][metric] for part in ("average", "interval_95"))
            values = [row[metric] for row in summary["per_action"].values()]
            intervals = [None] * len(values) + [bounds]
            name = f"{metric} {label}".strip()
            actions.append(Bars(name, [*values, average], colour, refined, intervals))
        values = [summary["per_joint"][JOINT_NAMES[joint]] for joint in order]
        joints.append(Bars(label, values, [bone_colour(joint) for joint in order], refined))
        groups.append(Bars(label, list(summary["per_pdof"].values()), METRIC_COLOURS["P1"], refined))
    action_names = [*summaries[""]["per_action"], "average"]
    joint_names = [JOINT_NAMES[joint].replace("_", " ") for joint in order]
    return {
        "error_per_action": bar_plot("Error per action", action_names, actions),
        "error_per_joint": bar_plot("Error per joint (all 17 joints)", joint_names, joints),
        "error_per_pdof": bar_plot("Error by distance to the torso (PDoF)", PDOF_GROUPS, groups),
    }


@rc_context(_STYLE)
def bar_plot(title: str, names: List[str], series: List[Bars]) -> Figure:
    """Horizontal bars beside their names."""
    figure = Figure(figsize=(5.0, 1.2 + _BAR * len(names) * len(series)), layout="constrained")
    axes = figure.add_subplot()
    _draw_bars(axes, names, series)
    return _titled(figure, title, axes)


@rc_context(_STYLE)
def error_curve(errors: dict[str, np.ndarray]) -> Figure:
    """Percentage of joint errors (N, J), mm, below each distance; of the lifter by "", and of "refined"."""
    figure = Figure(figsize=(5.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(AUC_THRESHOLDS[0], AUC_THRESHOLDS[-1], color=PANEL_COLOUR, zorder=0)
    for label, values in errors.items():
        below = percent_below(values, np.arange(CURVE_END + 1))
        area, pck = below[list(AUC_THRESHOLDS)].mean(), below[round(PCK_THRESHOLD)]
        text = f"{label} PCK at 150 mm {pck:.2f} %, AUC (shaded) {area:.2f} %".strip()
        axes.plot(below, "--" if label == "refined" else "-", color=METRIC_COLOURS["P1"], lw=2, label=text)
    axes.set(xlim=(0, CURVE_END), ylim=(0, 100), xlabel="distance to the true position, mm")
    axes.set_ylabel("joints closer than that, %")
    axes.grid()
    return _titled(figure, "Cumulative joint error", axes)


def percent_below(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Percentage of all errors that are below each threshold."""
    return 100 * np.searchsorted(np.sort(errors, axis=None), thresholds, side="left") / errors.size


@rc_context(_STYLE)
def training_plot(history: List[dict[str, float]]) -> Figure:
    """Loss, errors and learning rate by epoch; with "base_P1", P1 and P2 are of refined poses."""
    curves = {name: np.array([record[name] for record in history]) for name in history[0]}
    figure = Figure(figsize=(5.0, 5.6), layout="constrained")
    loss, error, rate = figure.subplots(3, sharex=True, height_ratios=(2, 3, 2))
    style: dict[str, Any] = {"marker": "o", "ms": 3, "lw": 1.5, "color": TRUNK_COLOUR}
    refined = " refined" if "base_P1" in curves else ""
    loss.plot(curves["epoch"], 1000 * curves["loss"], **style)
    for name, colour in METRIC_COLOURS.items():
        look = style | {"color": colour, "label": f"{name}{refined}"}
        error.plot(curves["epoch"], curves[name], **look)
    if refined:
        error.plot(curves["epoch"], curves["base_P1"], label="P1", **style)
    best = int(curves["P1"].argmin())
    label = f"lowest P1{refined}: {curves['P1'][best]:.2f} mm, epoch {curves['epoch'][best]:.0f}"
    error.plot(curves["epoch"][best], curves["P1"][best], "o", ms=9, mfc="none", color="black", label=label)
    rate.plot(curves["epoch"], curves["learning_rate"], **style)
    rate.set(ylim=(0, None), xlabel="epoch")
    rate.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axes, name in ((loss, "loss, mm"), (error, "error, mm"), (rate, "learning rate")):
        axes.set_ylabel(name)
        axes.grid()
    return _titled(figure, "Training", error, columns=3)


@rc_context(_STYLE)
def comparison_plot(runs: dict[str, Summary], differences: dict[str, dict[str, Any]]) -> Figure:
    """Averages of runs, and paired differences of P1 per action.

    Args:
        runs: "average" and "interval_95" of each run, as in a summary, by its title.
        differences: ``common.metrics.paired_difference`` of pairs of runs, by their title.
    """
    actions = {name for pair in differences.values() for name in pair} - {"average"}
    names = [*sorted(actions, key=action_order), "average"]
    heights = [0.7 + 2.5 * _BAR * len(runs), 0.7 + _BAR * (len(names) + 1) * max(1.0, 0.7 * len(differences))]
    figure = Figure(figsize=(7.0, 0.8 + sum(heights)), layout="constrained")
    upper, lower = figure.subplots(2, height_ratios=heights)
    series = []
    for metric, colour in METRIC_COLOURS.items():
        values = [run["average"]["action_wise"][metric] for run in runs.values()]
        intervals = [run["interval_95"]["action_wise"][metric] for run in runs.values()]
        series.append(Bars(metric, values, colour, intervals=intervals))
    _draw_bars(upper, list(runs), series)
    for index, (title, pair) in enumerate(differences.items()):
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        lower.plot([], [], "o", color=colour, label=title)
        for name, found in pair.items():
            y = names.index(name) + _offset(index, len(differences))
            lower.plot(found["average"]["action_wise"]["P1"], y, "o", ms=4.5, color=colour)
            bounds = found["interval_95"]["action_wise"]["P1"]
            lower.plot(bounds or [np.nan] * 2, [y, y], color=colour, lw=1.6)
    lower.axvline(0, color="black", lw=1)
    lower.set_xlabel("mm; below 0, the first run has the lower error")
    _name_rows(lower, names)
    lower.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
    return _titled(figure, "Action-wise averages with 95 % intervals; paired differences of P1", upper, 2)


def _draw_bars(axes: Axes, names: List[str], series: List[Bars]) -> None:
    longest = 0.0
    for index, bars in enumerate(series):
        rows = np.arange(len(names)) + _offset(index, len(series))
        fill = {"facecolor": "white", "hatch": "/////"} if bars.refined else {"facecolor": bars.colour}
        widths = [value or 0 for value in bars.values]
        axes.barh(rows, widths, 0.7 / len(series), edgecolor=bars.colour, label=bars.label, **fill)
        for y, value, bounds in zip(rows, bars.values, bars.intervals or [None] * len(names), strict=True):
            end = max(value or 0, *(bounds or [0]))
            axes.plot(bounds or [np.nan] * 2, [y, y], color="black", lw=1, marker="|", ms=4)
            style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7.5}
            axes.annotate(number(value, 1), (end, y), (4, 0), **style)
            longest = max(longest, end * 1.14)
    axes.set_xlim(0, longest or 1)
    axes.set_xlabel("mm")
    _name_rows(axes, names)


def _offset(index: int, count: int) -> float:
    return (index + 0.5) / count * 0.8 - 0.4  # rows are 1 apart


def _name_rows(axes: Axes, names: List[str]) -> None:
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _titled(figure: Figure, title: str, axes: Axes, columns: int = 1) -> Figure:
    """The figure with its title and the legend of some axes above everything."""
    head: dict[str, Any] = {"title_fontproperties": {"size": 11, "weight": "bold"}, "alignment": "left"}
    handles = axes.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside upper left", title=title, ncols=columns, **head)
    return figure

"""Plots of errors: bars, the cumulative curve, training curves, several runs side by side.

A colour says which metric or run it is, and hatching or dashes that a figure is refined. Blue and vermillion
are kept for left and right (see ``common/draw.py``); all colours are of Okabe and Ito's palette, or grey.

The plots of one evaluation take its summary (``common.summary.summarize``) and, where there is one, that of
the same poses after the refine head.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as List
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common.draw import LEFT_COLOUR, RIGHT_COLOUR, TRUNK_COLOUR, bone_colour, write_png
from common.metrics import AUC_THRESHOLDS, PCK_THRESHOLD
from common.records import METRICS, REFINED, Run
from common.skeleton import JOINT_NAMES, LEFT, MIRROR, NUM_JOINTS, RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from common.compare import Pair

Summary = dict[str, Any]

METRIC_COLOURS = {"P1": "#009E73", "P2": "#CC79A7"}
RUN_COLOURS = ("#4D4D4D", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
RUN_MARKERS = "osD^vP"
GRID_COLOUR = "#D0D4DA"
CURVE_END = 250
"""Where the cumulative curve ends, mm: beyond the 150 mm of PCK and AUC, to show what they do not see."""
NOT_DRAWN = "left out, since much larger:\nwhat refining changes within a run; the text has it"

# At 5 inches a plot is readable on a phone, and two of them stand side by side on a page.
_WIDTH, _DPI = 5.0, 200
_BAR, _GAP = 0.155, 0.1
"""Inches: a bar, and the space between groups of bars."""
_STYLE: Any = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": TRUNK_COLOUR,
    "grid.color": GRID_COLOUR,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    # Names come from data files, and a "$" in one is no formula.
    "text.parse_math": False,
}

_HEAD: Any = {"title_fontproperties": {"size": 11, "weight": "bold"}, "alignment": "left"}


@dataclass(frozen=True)
class _Bars:
    """A bar for each name of a plot: value in mm, colour, whether it is refined, interval if there is one."""

    values: List[float | None]
    colours: List[str]
    refined: List[bool]
    intervals: List[list[float] | None] | None = None


def action_plot(path: Path, summary: Summary, refined: Summary | None = None) -> None:
    """Draws P1 and P2 of each action, and their action-wise averages with intervals."""
    names = [*summary["per_action"], "average"]
    series: list[_Bars] = []
    keys: list[Any] = []
    for metric in METRICS:
        for found in filter(None, (summary, refined)):
            values = [row[metric] for row in found["per_action"].values()]
            average, bounds = (found[part]["action_wise"][metric] for part in ("average", "interval_95"))
            colour, is_refined = METRIC_COLOURS[metric], found is refined
            intervals = [None] * len(values) + [bounds]
            refinement = [is_refined] * len(names)
            series.append(_Bars([*values, average], [colour] * len(names), refinement, intervals))
            keys.append(_patch(f"{metric}, {REFINED}" if is_refined else metric, colour, is_refined))
    if summary["interval_95"]["action_wise"]["P1"]:
        keys.append(Line2D([], [], color="black", lw=1, label="95 % interval of the average"))
    _bar_picture(path, "Error per action (average: action-wise)", names, series, keys)


def joint_plot(path: Path, summary: Summary, refined: Summary | None = None) -> None:
    """Draws the mean error of each joint, left joints beside their right ones."""
    trunk = [joint for joint in range(NUM_JOINTS) if joint not in LEFT + RIGHT]
    order = trunk + [joint for left in LEFT for joint in (left, int(MIRROR[left]))]
    names = [JOINT_NAMES[joint] for joint in order]
    colours = [bone_colour(joint) for joint in order]
    series = [
        _Bars([found["per_joint"][name] for name in names], colours, [found is refined] * len(names))
        for found in filter(None, (summary, refined))
    ]
    sides = {"left": LEFT_COLOUR, "right": RIGHT_COLOUR, "trunk": TRUNK_COLOUR}
    keys = [_patch(side, colour) for side, colour in sides.items()]
    if refined:
        keys.append(_patch(REFINED, TRUNK_COLOUR, refined=True))
    _bar_picture(
        path, "Error per joint (all 17 joints)", [name.replace("_", " ") for name in names], series, keys
    )


def pdof_plot(path: Path, summary: Summary, refined: Summary | None = None) -> None:
    """Draws the mean joint error of each PDoF group."""
    names = list(summary["per_pdof"])
    colour, size = METRIC_COLOURS["P1"], len(names)
    series = [
        _Bars(list(found["per_pdof"].values()), [colour] * size, [found is refined] * size)
        for found in filter(None, (summary, refined))
    ]
    keys = [_patch("base", colour), _patch(REFINED, colour, refined=True)] if refined else []
    _bar_picture(path, "Error by distance to the torso (PDoF, all 17 joints)", names, series, keys)


def error_curve(path: Path, errors: np.ndarray, refined: np.ndarray | None = None) -> None:
    """Draws the share of joints nearer than each distance (PCK), with AUC and PCK at 150 mm in words.

    Args:
        path: The PNG to write.
        errors: (N, J) joint errors, mm; every pose and joint counts alike, as in frame-wise averages.
        refined: (N, J) the same after the refine head.
    """
    with _picture(path, 3.7 if refined is None else 4.1) as figure:
        axes = figure.add_subplot()
        axes.axvspan(AUC_THRESHOLDS[0], AUC_THRESHOLDS[-1], color="#F3F4F6", zorder=0)
        axes.axvline(PCK_THRESHOLD, color=TRUNK_COLOUR, lw=0.8, ls=":")
        distances = np.arange(0, CURVE_END + 1)
        for values, label, dashes in ((errors, "", "-"), (refined, f"{REFINED}\n", "--")):
            if values is not None:
                auc = share_below(values, AUC_THRESHOLDS).mean()
                at_threshold = share_below(values, (PCK_THRESHOLD,))[0]
                label += f"AUC {auc:.4f} (0 to 150 mm, shaded), PCK at 150 mm {at_threshold:.4f}"
                shares = share_below(values, distances)
                axes.plot(distances, shares, dashes, color=METRIC_COLOURS["P1"], lw=2, label=label)
        axes.set(xlim=(0, CURVE_END), ylim=(0, 1), xlabel="distance to the true place, mm")
        axes.set_ylabel("share of joints nearer (PCK)")
        axes.grid()
        _head(figure, "Cumulative joint error", axes.get_legend_handles_labels()[0])


def share_below(errors: np.ndarray, thresholds: List[float] | np.ndarray) -> np.ndarray:
    """Share of all errors that are below each of the thresholds."""
    return np.searchsorted(np.sort(errors, axis=None), thresholds, side="left") / errors.size


def training_plot(path: Path, history: List[dict[str, Any]]) -> None:
    """Draws loss, P1 and P2, and learning rate by epoch; ``history`` is that of a run's history.json.

    Records with "base_P1" are of a run with the refine head: their P1 and P2 are drawn as refined, and the
    P1 before the head beside them.
    """
    epochs = [record["epoch"] for record in history]
    refined = any("base_P1" in record for record in history)
    with _picture(path, 5.6) as figure:
        loss, error, rate = figure.subplots(3, sharex=True, height_ratios=(2, 3, 2))
        style: dict[str, Any] = {"marker": "o", "ms": 3, "lw": 1.5}
        loss.plot(epochs, [record["loss"] * 1000 for record in history], color=TRUNK_COLOUR, **style)
        loss.set_ylabel("loss, mm")
        for metric, marker in zip(METRICS, "os", strict=True):
            look = {"color": METRIC_COLOURS[metric], "marker": marker, "ls": "--" if refined else "-"}
            values = [record[metric] for record in history]
            label = f"{metric}, {REFINED}" if refined else metric
            error.plot(epochs, values, **style | look, label=label)
        if refined:
            values = [record.get("base_P1", np.nan) for record in history]
            error.plot(epochs, values, color=METRIC_COLOURS["P1"], **style, label="base P1")
        best = min(history, key=lambda record: record["P1"])
        lowest = f"lowest P1{', refined' * refined}: {best['P1']:.2f} mm, epoch {best['epoch']}"
        error.plot(best["epoch"], best["P1"], "o", ms=9, mfc="none", color="black", ls="none", label=lowest)
        error.set_ylabel("error, mm")
        rate.plot(epochs, [record["learning_rate"] for record in history], color=TRUNK_COLOUR, **style)
        rate.set(ylim=(0, None), ylabel="learning rate", xlabel="epoch")
        rate.yaxis.set_major_formatter("{x:g}")
        rate.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        for axes in (loss, error, rate):
            axes.grid(axis="both")
        _head(figure, "Training", error.get_legend_handles_labels()[0], columns=1 if refined else 3)


def comparison_plot(path: Path, runs: List[Run], titles: List[str], pairs: List[Pair]) -> None:
    """Draws the averages of runs under their titles, and the paired differences of P1 per action."""
    pairs = [pair for pair in pairs if len(pair)]
    actions = sorted({s.action_name for pair in pairs for s in pair.sequences})
    heights = [1.4 + len(runs) * (2 * _BAR + _GAP)]
    if pairs:
        heights.append(0.9 + 0.2 * len(pairs) + (len(actions) + 1) * (len(pairs) * _BAR + _GAP))
    with _picture(path, sum(heights), width=7.0) as figure:
        panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
        series, refined = [], [run.refined for run in runs]
        for metric in METRICS:
            average, bounds = (
                [run.summary[part]["action_wise"][metric] for run in runs]
                for part in ("average", "interval_95")
            )
            series.append(_Bars(average, [METRIC_COLOURS[metric]] * len(runs), refined, bounds))
        _draw_bars(panels[0], titles, series)
        keys = [_patch(metric, METRIC_COLOURS[metric]) for metric in METRICS]
        keys += [_patch(REFINED, TRUNK_COLOUR, refined=True)] * any(refined)
        _axes_head(panels[0], "Action-wise averages with 95 % intervals", keys)
        if pairs:
            _draw_differences(panels[1], actions, pairs)
            if any(refined):
                panels[1].set_xlabel(f"{panels[1].get_xlabel()}\n{NOT_DRAWN}")


def _draw_differences(axes: Axes, actions: List[str], pairs: List[Pair]) -> None:
    """A dot with its interval for each action and pair, and for the action-wise averages."""
    names = [*actions, "average"]
    axes.axvline(0, color="black", lw=1)
    for number, (pair, places) in enumerate(zip(pairs, _places(len(names), len(pairs)), strict=True)):
        there = {sequence.action_name for sequence in pair.sequences}
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        marker = RUN_MARKERS[number % len(RUN_MARKERS)]
        for name, y in zip(names, places, strict=True):
            if name == "average" or name in there:
                found = pair.difference("P1", name if name in there else None)
                if bounds := found["interval_95"]["action_wise"]:
                    axes.plot(bounds, [y, y], color=colour, lw=1.6, marker="|", ms=5)
                axes.plot(found["difference"]["action_wise"], y, color=colour, marker=marker, ms=4.5)
        axes.plot([], [], color=colour, marker=marker, ms=4.5, lw=1.6, label=str(pair))
    title = "Paired differences of P1 with 95 % intervals"
    _axes_head(axes, title, axes.get_legend_handles_labels()[0])
    axes.set_xlabel("mm; below 0, the run that is named first has the lower error")
    _name_groups(axes, names, len(pairs))
    axes.grid(axis="x")


@contextmanager
def _picture(path: Path, height: float, width: float = _WIDTH) -> Iterator[Figure]:
    """A figure that is written when the block ends; texts look alike in all of them."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield figure
        write_png(figure, path, dpi=_DPI)


def _bar_picture(path: Path, title: str, names: List[str], series: List[_Bars], keys: List[Any]) -> None:
    height = 0.85 + 0.2 * len(keys) + len(names) * (len(series) * _BAR + _GAP)
    with _picture(path, height) as figure:
        _draw_bars(figure.add_subplot(), names, series)
        _head(figure, title, keys)


def _draw_bars(axes: Axes, names: List[str], series: List[_Bars]) -> None:
    ends = [0.0]
    for bars, places in zip(series, _places(len(names), len(series)), strict=True):
        intervals = bars.intervals or [None] * len(names)
        rows = zip(places, bars.values, bars.colours, bars.refined, intervals, strict=True)
        for y, value, colour, refined, bounds in rows:
            if value is not None:
                axes.barh(y, value, height=_BAR * 0.88, lw=0.8, **_fill(colour, refined))
            if bounds:
                axes.plot(bounds, [y, y], color="black", lw=1, marker="|", ms=4)
            ends.append(max(value or 0.0, *(bounds or [0.0])))
            text = "-" if value is None else f"{value:.1f}"
            axes.annotate(text, (ends[-1], y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_xlim(0, max(ends) * 1.12 or 1)
    axes.set_xlabel("mm")
    axes.grid(axis="x")
    _name_groups(axes, names, len(series))


def _places(groups: int, size: int) -> np.ndarray:
    """(size, groups) vertical places, in inches, of the bars of groups under each other."""
    offsets = (np.arange(size) - (size - 1) / 2) * _BAR
    return offsets[:, None] + np.arange(groups) * (size * _BAR + _GAP)


def _name_groups(axes: Axes, names: List[str], size: int) -> None:
    """Writes the name of each group beside it, the first at the top."""
    middles = _places(len(names), size).mean(axis=0)
    half = (size * _BAR + _GAP) / 2
    axes.set_yticks(middles, [shortened(name) for name in names])
    axes.set_ylim(middles[-1] + half, middles[0] - half)
    axes.tick_params(axis="y", length=0)


def shortened(name: str, longest: int = 30) -> str:
    """A name with its middle left out where it is longer than so many characters."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _fill(colour: str, refined: bool) -> dict[str, Any]:
    if refined:
        return {"facecolor": "white", "edgecolor": colour, "hatch": "/////"}
    return {"facecolor": colour, "edgecolor": colour}


def _patch(label: str, colour: str, refined: bool = False) -> Patch:
    return Patch(label=label, **_fill(colour, refined))


def _head(figure: Figure, title: str, keys: List[Any], columns: int = 1) -> None:
    """The title and the legend, above all axes and as wide as the figure, so that long labels have room."""
    figure.legend(handles=keys, loc="outside upper left", title=title, ncols=columns, **_HEAD)


def _axes_head(axes: Axes, title: str, keys: List[Any]) -> None:
    """The title and the legend, above some axes."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
    axes.legend(handles=keys, title=title, borderaxespad=0, **place, **_HEAD)

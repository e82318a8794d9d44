"""The records of ``benchmarks.lifters`` side by side: Markdown, a plot, the paper's claim on end joints."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.lifter_rows import ROWS, SOURCES
from common.errors import UserError
from common.summary import PDOF_GROUPS

END = PDOF_GROUPS[-1]
CLAIM = 18.7
"""Percent by which HTNet's error on the end joints is below Modulated GCN's (HTNet, section 1)."""
SAME = ("samples", "batch_size", "amp", "data", "training_poses", "test_poses")
"""What the records of a table must have in common, for each source of key points."""
PRECISIONS = {"off": "float32", "bf16": "bfloat16"}
FIGURES = (
    "seed",
    "samples",
    "batch_size",
    "training_poses",
    "test_poses",
    "parameters",
    "seconds",
    "P1",
    "P2",
)

Record = dict[str, Any]


def read_records(folder: Path) -> list[Record]:
    """The records of a folder.

    Raises:
        UserError: There are none, a file is not one, or they are not of the same data and number of samples.
    """
    records = {path: _read(path) for path in sorted(folder.glob("*.json"))}
    if not records:
        raise UserError(f"{folder}: there are no records (*.json); train rows with --all or --row first")
    first: dict[str, Record] = {}
    runs: dict[tuple[Any, ...], Path] = {}
    for path, record in records.items():
        twin = runs.setdefault(tuple(record[name] for name in ("row", "keypoints", "seed")), path)
        if twin != path:
            raise UserError(f"{path} and {twin} are of the same row, key points and seed: remove one")
        other = first.setdefault(record["keypoints"], record)
        if mixed := [name for name in SAME if record[name] != other[name]]:
            raise UserError(
                f"{path} differs from other records beside it in {', '.join(mixed)}: only rows of the same "
                "data and number of samples can stand side by side; move it to a folder of its own"
            )
    return list(records.values())


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        figures = [record[name] for name in FIGURES] + [record["per_pdof"][group] for group in PDOF_GROUPS]
        if not {"keypoints", "data", "seconds_lack_what_a_stop_cost"} <= record.keys():
            raise LookupError("keypoints, data, seconds_lack_what_a_stop_cost")
        if (
            record["row"] not in ROWS
            or record["amp"] not in PRECISIONS
            or not all(map(math.isfinite, figures))
        ):
            raise ValueError("an unknown row or precision, or a figure that is not finite")
        if ROWS[record["row"]].recipe:
            others = [each[name] for each in record["elsewhere"].values() for name in ("P1", "P2")]
            if not all(map(math.isfinite, others)):
                raise ValueError("a figure that is not finite")
        return record
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{path}: expected a record that benchmarks.lifters writes, found {error!r}; move it away"
        ) from error


def table(records: list[Record]) -> str:
    """Markdown: for each source of key points a table with a line for each row, and the paper's claim."""
    parts = []
    for source in _sources(records):
        if not (rows := _rows(records, source)):
            continue
        some = next(iter(rows.values()))[0]
        head = ["lifter", "parameters", "seeds", "P1", "P2", *PDOF_GROUPS, "minutes"]
        lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
        lines += [[ROWS[name].title, *_cells(own)] for name, own in rows.items()]
        parts += [
            f"`-k {source}`: {some['samples']:,} samples each, in steps of {some['batch_size']}, "
            f"products in {PRECISIONS[some['amp']]}; "
            f"{some['training_poses']:,} poses to train on, {some['test_poses']:,} to score; errors in mm:\n",
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            *_claim(rows),
        ]
    return "\n".join(parts + _recipes(records))


def _recipes(records: list[Record]) -> list[str]:
    """Lines of Markdown: what each recipe gave, on the test subjects, on other data and on photos."""
    rows = [(ROWS[name].title, own) for name, own in _rows(records, SOURCES[0], recipe=True).items()]
    if not rows:
        return []
    elsewhere = list(rows[0][1][0]["elsewhere"])
    if any(list(record["elsewhere"]) != elsewhere for _, own in rows for record in own):
        raise UserError("the recipes' records were scored on different other data: train them again, alike")
    head = ["recipe", "P1 / P2", "end joints", *(f"{name}, P1 / P2" for name in elsewhere), "photos"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for title, own in rows:
        found = [own, *([record["elsewhere"][name] for record in own] for name in elsewhere)]
        pairs = [" / ".join(_mean_and_spread([each[m] for each in f]) for m in ("P1", "P2")) for f in found]
        ends = _mean_and_spread([record["per_pdof"][END] for record in own])
        photos = [
            error for record in own for picture in record.get("photos", {}).values() for error in picture
        ]
        lines.append([title, pairs[0], ends, *pairs[1:], f"{statistics.fmean(photos):.0f}" if photos else ""])
    some = rows[0][1][0]
    return [
        f"Recipes, HTNet, `-k {SOURCES[0]}`, {some['samples']:,} samples each, "
        f"in steps of {some['batch_size']}; errors in mm:\n",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]


def _sources(records: list[Record]) -> list[str]:
    found = {record["keypoints"] for record in records}
    return [name for name in SOURCES if name in found] + sorted(found - set(SOURCES))


def _rows(records: list[Record], source: str, *, recipe: bool = False) -> dict[str, list[Record]]:
    """The records of a source by row, in the order of ROWS: those of lifters, or those of recipes."""
    own = [r for r in records if r["keypoints"] == source and ROWS[r["row"]].recipe == recipe]
    rows = {name: [record for record in own if record["row"] == name] for name in ROWS}
    return {name: found for name, found in rows.items() if found}


def _cells(records: list[Record]) -> list[str]:
    errors = [[record[metric] for record in records] for metric in ("P1", "P2")]
    errors += [[record["per_pdof"][group] for record in records] for group in PDOF_GROUPS]
    minutes = statistics.fmean(record["seconds"] for record in records) / 60
    # A stop loses up to two minutes of what was measured, so a time with one is a lower bound.
    least = "> " if any(record["seconds_lack_what_a_stop_cost"] for record in records) else ""
    return [
        f"{records[0]['parameters']:,}",
        str(len(records)),
        *map(_mean_and_spread, errors),
        f"{least}{minutes:.0f}",
    ]


def _mean_and_spread(values: list[float]) -> str:
    """The mean, and with several seeds the standard deviation of a single one."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _claim(rows: dict[str, list[Record]]) -> list[str]:
    if not {"htnet", "mgcn"} <= rows.keys():
        return ["The paper's claim needs the rows htnet and mgcn.\n"]
    ours, theirs = ([record["per_pdof"][END] for record in rows[name]] for name in ("htnet", "mgcn"))
    means = statistics.fmean(ours), statistics.fmean(theirs)
    pairs = [_less(*pair) for pair in product(ours, theirs)]
    ends = f"from {_in_words(min(pairs))} to {_in_words(max(pairs))}"
    spread = f" (of two single seeds: {ends})" if len(pairs) > 1 else ""
    return [
        f"End joints (PDoF 3: wrists and ankles): HTNet {means[0]:.2f} mm, Modulated GCN {means[1]:.2f} mm, "
        f"which is {_in_words(_less(*means))}{spread}. "
        f"The paper says {CLAIM} % less.\n",
    ]


def _in_words(less: float) -> str:
    return f"{abs(less):.1f} % {'less' if less >= 0 else 'more'}"


def _less(ours: float, theirs: float) -> float:
    """By how many percent the first is below the second."""
    return 100 * (1 - ours / theirs)


def write_plot(path: Path, records: list[Record]) -> None:
    """Draws P1 and the error of the end joints of each row, a panel for each source of key points."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from common.draw import write_png

    found = {source: rows for source in _sources(records) if (rows := _rows(records, source))}
    if not found:
        return
    heights = [len(rows) + 1 for rows in found.values()]
    with rc_context({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 1.2 + 0.38 * sum(heights)), layout="constrained", facecolor="white")
        panels = figure.subplots(len(found), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (source, rows) in zip(panels, found.items(), strict=True):
            axes.set_title(f"key points: {source}", loc="left")
            _draw_rows(axes, rows)
        panels[-1].set_xlabel("mean joint error, mm (strokes: single seeds, where there are several)")
        handles = panels[0].get_legend_handles_labels()[0]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
        write_png(figure, path, dpi=150)


def _draw_rows(axes: Any, rows: dict[str, list[Record]]) -> None:
    """A line of the panel for each row, the first at the top."""
    looks = (("P1 (MPJPE)", "o", "#009E73"), ("end joints (PDoF 3: wrists and ankles)", "D", "#E69F00"))
    for place, own in enumerate(rows.values()):
        values = [record["P1"] for record in own], [record["per_pdof"][END] for record in own]
        for (label, marker, colour), errors in zip(looks, values, strict=True):
            mean = statistics.fmean(errors)
            axes.plot(mean, place, marker, ms=8, color=colour, label=label if place == 0 else None)
            if len(errors) > 1:
                axes.plot(errors, [place] * len(errors), "k|", ms=11, mew=1)
            axes.annotate(
                f"{mean:.1f}", (mean, place), (0, 8), textcoords="offset points", ha="center", fontsize=7.5
            )
    axes.set_yticks(range(len(rows)), [textwrap.fill(ROWS[name].title, 36) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.grid(axis="x", color="#D0D4DA", lw=0.7)
    axes.set_axisbelow(True)

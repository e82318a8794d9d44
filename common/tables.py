"""Averages written out: tables of text for the terminal, and CSV."""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from common.files import write_bytes
from common.summary import GROUPINGS


def action_table(summary: dict[str, Any], metrics: tuple[str, ...] = ("P1", "P2")) -> str:
    """Plain text: a row per action and one for each average, a column for each of the metrics (mm)."""
    rows = dict(summary["per_action"])
    rows["average (action-wise)"] = summary["average"]["action_wise"]
    rows["average (frame-wise)"] = summary["average"]["frame_wise"]
    cells = [[name, *(text_number(row[metric]) for metric in metrics)] for name, row in rows.items()]
    return text_table([["action", *(f"{metric} (mm)" for metric in metrics)], *cells])


def part_table(summary: dict[str, Any], metrics: tuple[str, ...] = ("PCK", "AUC", "P1")) -> str:
    """Plain text: a row per group of test subjects, per subject and for all, each the mean over its poses."""
    everything = {"poses": summary["poses"], **summary["average"]["frame_wise"]}
    parts = [*summary["per_group"].items(), *summary["per_subject"].items(), ("all (frame-wise)", everything)]
    units = summary["metric units"]
    rows = [["part", "poses", *(f"{name} (mm)" if units[name] == "mm" else name for name in metrics)]]
    for part, row in parts:
        cells = [text_number(row[name], 2 if units[name] == "mm" else 4) for name in metrics]
        rows.append([part, str(row["poses"]), *cells])
    return text_table(rows)


def side_by_side(tables: dict[str, str]) -> str:
    """Tables of the same number of rows beside each other, each under its title if it has one."""
    columns = []
    for title, text in tables.items():
        lines = ([title] if title else []) + text.splitlines()
        width = max(map(len, lines))
        columns.append([line.ljust(width) for line in lines])
    return "\n".join("   |   ".join(row).rstrip() for row in zip(*columns, strict=True))


def average_table(summary: dict[str, Any]) -> str:
    """Plain text: a row per metric with both averages and their intervals."""
    table = [["metric", "action-wise", "95 % interval", "frame-wise", "95 % interval", "unit"]]
    for metric, unit in summary["metric units"].items():
        row, decimals = [metric], 2 if unit.startswith("mm") else 4
        for kind in ("action_wise", "frame_wise"):
            bounds = summary["interval_95"][kind][metric] or [None, None]
            row.append(text_number(summary["average"][kind][metric], decimals))
            row.append(" to ".join(text_number(bound, decimals) for bound in bounds))
        table.append([*row, unit])
    return text_table(table)


def write_csv(path: str | os.PathLike[str], summaries: dict[str, dict[str, Any]]) -> None:
    """Writes summaries as one table, a row per group and average; the file appears whole or not at all.

    The first column says of which summary a row is. Joints and PDoF groups have their error in the column P1.
    What is not known is an empty cell.
    """
    metrics = list(next(iter(summaries.values()))["metric units"])
    rows = [["poses are", "group", "name", "poses", "sequences", *metrics]]
    for title, summary in summaries.items():
        rows += [[title, *row] for row in _csv_rows(summary, metrics)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _csv_rows(summary: dict[str, Any], metrics: list[str]) -> list[list[Any]]:
    rows = []
    columns = ["poses", "sequences", *metrics]
    size = [summary["poses"], summary["sequences"]]
    for kind, means in summary["average"].items():
        rows.append(["average", kind, *size, *(means[metric] for metric in metrics)])
        for end, which in enumerate(("low", "high")):
            bounds = [summary["interval_95"][kind][metric] or [None, None] for metric in metrics]
            rows.append([f"interval_95 {which}", kind, *size, *(pair[end] for pair in bounds)])
    for group in GROUPINGS:
        for name, row in summary.get(group, {}).items():
            rows.append([group, name, *(row[column] for column in columns)])
    for group in ("per_joint", "per_pdof"):
        for name, error in summary[group].items():
            rows.append([group, name, *size, *(error if metric == "P1" else None for metric in metrics)])
    return rows


def text_number(value: float | None, decimals: int = 2) -> str:
    """A figure for a table, a dash where it is not known."""
    return "-" if value is None else f"{value:.{decimals}f}"


def text_table(rows: list[list[str]]) -> str:
    """Rows of text under each other, the first column to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    padded = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        for row in rows
    ]
    return "\n".join("  ".join(row) for row in padded)

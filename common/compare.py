"""Evaluations compared: their averages, and paired differences over the poses that two of them share."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from common.console import UserError, number, printable, text_table
from common.files import read_json
from common.metrics import PDOF_GROUPS, paired_difference
from common.poses import Sequence
from common.report import AVERAGES_HEAD, FORMAT, KINDS, METRICS, NOTE, average_cells, frames_of

Errors = dict[str, np.ndarray]
"""(N,) errors of the poses by metric, mm."""


@dataclass(frozen=True)
class Run:
    """Results from a record: P1 and P2 of the poses, mm, and the means of the summary that are compared."""

    name: str
    file: str
    sequences: list[Sequence]
    errors: Errors
    summary: dict[str, Any]


def compare(paths: List[str | Path], picture: str | Path | None = None) -> str:
    """The averages of evaluations, and paired differences over the poses that two of them have in common.

    Each is compared with the first, refined poses with refined ones; and refined poses with their own base.

    Args:
        paths: Files of ``write_record``, at least two.
        picture: PNG to write, with the averages and the differences per action.

    Raises:
        UserError: A file is no such record, there is only one, or other joints were scored.
    """
    if len(paths) < 2:
        raise UserError(f"--compare: expected at least two files of --metrics_json, found {len(paths)}")
    letters = [ascii_uppercase[index % 26] + str(index // 26 or "") for index in range(len(paths))]
    metadata, records = [], []
    for path, letter in zip(paths, letters, strict=True):
        found, own = _read_record(path, letter)
        metadata.append(found)
        records.append(own)
    runs = [run for own in records for run in own]
    if len(joints := {run.summary["joints"] for run in runs}) > 1:
        raise UserError(f"--compare: expected the same --joints in all files, found {sorted(joints)}")
    means = [["run", "file", "metric", *AVERAGES_HEAD, "poses"]]
    pdof = [["run", *PDOF_GROUPS]]
    for run in runs:
        for metric, values in run.errors.items():
            means.append([run.name, run.file, metric, *average_cells(run.summary, metric), str(len(values))])
        pdof.append([run.name, *(number(run.summary["per_pdof"][group]) for group in PDOF_GROUPS)])
    pairs = [pair for own in records[1:] for pair in zip(own, records[0], strict=False)]
    alike = len(pairs)
    pairs += [(own[1], own[0]) for own in records if len(own) > 1]
    differences, plotted = [["difference", "metric", *AVERAGES_HEAD, "poses in common"]], {}
    for index, (run, against) in enumerate(pairs):
        title = f"{run.name} minus {against.name}"
        if not (shared := _common(run, against)):
            differences.append([title, "-", "-", "-", "-", "-", "0"])
            continue
        by_action = paired_difference(*shared)
        for metric, values in shared[0].items():
            cells = average_cells(by_action["average"], metric, "+")
            differences.append([title, metric, *cells, str(len(values))])
        if index < alike:  # what refining gains would dwarf the others
            plotted[title] = by_action
    if picture:
        from common import plots

        shown = {f"{run.name}: {Path(run.file).name}": run.summary for run in runs}
        plots.write_png(plots.comparison_plot(shown, plotted), picture)
    parts = [f"averages, mm\n{text_table(means)}"]
    parts += [f"mean joint error by distance to the torso (PDoF), all 17 joints, mm\n{text_table(pdof)}"]
    head = "paired differences per pose, mm; below 0, the first run has the lower error"
    parts += [f"{head}\n{text_table(differences)}"]
    parts += [NOTE] * (len(runs) > len(records))
    for name in dict.fromkeys(name for found in metadata for name in found):
        texts = [found.get(name, "unknown") for found in metadata]
        if len(set(texts)) > 1:
            lines = [f"  {letter}: {text}" for letter, text in zip(letters, texts, strict=True)]
            parts.append("\n".join([f"they differ in: {name}", *lines]))
    return "\n\n".join(parts)


def _common(run: Run, against: Run) -> tuple[Errors, Errors, list[Sequence]] | None:
    """Errors (M,) of both runs, and sequences, of the poses with one subject, action, camera and frame."""
    known = {(each.subject, each.action, each.camera): each for each in against.sequences}
    sequences: list[Sequence] = []
    rows = []
    for own in run.sequences:
        if other := known.get((own.subject, own.action, own.camera)):
            _, here, there = np.intersect1d(frames_of(own), frames_of(other), return_indices=True)
            start = sequences[-1].stop if sequences else 0
            if len(here):
                sequences.append(replace(own, start=start, stop=start + len(here)))
                rows.append(np.stack([own.start + here, other.start + there]))
    if not sequences:
        return None
    ours, theirs = np.concatenate(rows, axis=1)
    errors = {metric: values[ours] for metric, values in run.errors.items()}
    return errors, {metric: against.errors[metric][theirs] for metric in errors}, sequences


def _read_record(path: str | Path, name: str) -> tuple[dict[str, str], list[Run]]:
    """Metadata of a file of ``write_record``, and its runs: the lifter's, then that of refined poses."""
    try:
        content = read_json(path)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        found = content.get("metadata", content.get("facts"))  # its name in earlier versions
        metadata = {printable(str(key)): printable(str(value)) for key, value in found.items()}
        sequences, start = [], 0
        for subject, action, *values in content["poses"]["sequences"]:
            camera, first, step, length = map(int, values)
            if not all(0 <= each < 2**31 for each in (camera, first, step - 1, length - 1)):
                raise ValueError(f"sequences: {values}")
            names, lens = (printable(subject), printable(action)), ((1.0, 1.0, 0.0, 0.0), (1, 1))  # no camera
            sequences.append(Sequence(*names, camera, start, start + length, *lens, first, step))
            start += length
        runs = []
        for label in ["", *(["refined"] if "refined" in content else [])]:
            poses = content[label or "poses"]
            summary = (poses if label else content)["metrics"]
            errors = {metric: np.array(_numbers(poses[metric], start)) for metric in METRICS}
            kept: dict[str, Any] = {"average": {}, "interval_95": {}}
            for kind in KINDS:
                means, bounds = (summary[part][kind] for part in ("average", "interval_95"))
                values = _numbers([means[metric] for metric in METRICS], len(METRICS))
                kept["average"][kind] = dict(zip(METRICS, values, strict=True))
                kept["interval_95"][kind] = {
                    each: bounds[each] and _numbers(bounds[each], 2) for each in METRICS
                }
            pdof = _numbers([summary["per_pdof"][group] for group in PDOF_GROUPS], len(PDOF_GROUPS))
            kept["per_pdof"] = dict(zip(PDOF_GROUPS, pdof, strict=True))
            kept["joints"] = int(summary.get("joints") or metadata.get("joints", "17")[:2])
            runs.append(Run(f"{name} {label}".strip(), printable(str(path)), sequences, errors, kept))
        return metadata, runs
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: expected a file of --metrics_json, found {error!r}") from error


def _numbers(values: Any, count: int) -> list[float]:
    found = np.array(values, dtype=np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"expected {count} finite numbers")
    return found.tolist()

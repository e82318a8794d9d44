"""Runs side by side: their averages, and paired differences over the poses that two runs have both scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as List
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from common.errors import UserError
from common.records import KINDS, METRICS, Record, Run, frames_and_rows, read_record
from common.sequences import Sequence
from common.summary import PDOF_GROUPS, paired_difference
from common.tables import text_table


@dataclass(frozen=True)
class Pair:
    """Two runs on the poses that both have scored.

    Attributes:
        run: The one that is compared.
        against: The one that it is compared with.
        sequences: The runs of the M common poses, one for each take and camera.
        errors: (2, M) of ``run`` and of ``against``, by metric, mm.
    """

    run: Run
    against: Run
    sequences: tuple[Sequence, ...]
    errors: dict[str, np.ndarray]

    def __len__(self) -> int:
        return sum(map(len, self.sequences))

    def __str__(self) -> str:
        return f"{self.run.name} minus {self.against.name}"

    def difference(self, metric: str, action: str | None = None) -> dict[str, Any]:
        """``paired_difference`` of a metric, over all common poses or those of one action."""
        sequences: list[Sequence] = []
        rows = []
        for sequence in self.sequences:
            if action in (None, sequence.action_name):
                start = sequences[-1].stop if sequences else 0
                sequences.append(replace(sequence, start=start, stop=start + len(sequence)))
                rows.append(np.arange(sequence.start, sequence.stop))
        errors, others = self.errors[metric][:, np.concatenate(rows)]
        return paired_difference(errors, others, sequences)


def compare(paths: List[str | Path], *, plot: Path | None = None) -> str:
    """Says how runs differ: a text with their averages and the paired differences to the first.

    The runs are called A, B and so on, in the order of the files. Every further one is compared with the
    first, refined figures with refined ones alone, and besides with those of their own run unrefined.

    Args:
        paths: Files of ``--metrics_json``, at least two.
        plot: Where to draw the averages and the differences per action, as PNG.

    Raises:
        UserError: A file is not such a record, there is only one, two of them have scored other joints, or
            the plot cannot be written.
    """
    if len(paths) < 2:
        raise UserError(f"--compare: expected at least two files of --metrics_json, found {len(paths)}")
    records = [_lettered(read_record(path), number) for number, path in enumerate(paths)]
    _check_same_joints(records, paths)
    names = _names(paths)
    against_first = _pairs(records)
    by_refining = [pair(record.refined, record.base) for record in records if record.refined]
    if plot is not None:
        _plot(plot, records, names, against_first)
    parts = [
        _averages(records, names),
        _pdof(records, names),
        _differences([*against_first, *by_refining]),
        _facts(records),
    ]
    return "\n\n".join(part for part in parts if part)


def pair(run: Run, against: Run) -> Pair:
    """Brings together the poses of two runs by subject, action, camera and frame; there may be none."""
    others = frames_and_rows(against.sequences)
    known = {(s.subject, s.action, s.camera): s for s in run.sequences}
    sequences: list[Sequence] = []
    rows = [np.empty((2, 0), dtype=np.int64)]
    for take, (frames, own_rows) in frames_and_rows(run.sequences).items():
        frames_there, rows_there = others.get(take, np.empty((2, 0), dtype=np.int64))
        _, here, there = np.intersect1d(frames, frames_there, assume_unique=True, return_indices=True)
        if len(here):
            start = sequences[-1].stop if sequences else 0
            sequences.append(replace(known[take], start=start, stop=start + len(here)))
            rows.append(np.stack([own_rows[here], rows_there[there]]))
    own, other = np.concatenate(rows, axis=1)
    errors = {
        metric: np.stack([run.errors[metric][own], against.errors[metric][other]]) for metric in METRICS
    }
    return Pair(run, against, tuple(sequences), errors)


def _check_same_joints(records: List[Record], paths: List[str | Path]) -> None:
    """Refuses means over other joints, which would differ though the poses were the same."""
    stated = [
        (str(path), record.facts["joints"])
        for path, record in zip(paths, records, strict=True)
        if "joints" in record.facts
    ]
    for path, joints in stated:
        if joints != stated[0][1]:
            raise UserError(
                f"{path}: expected scores over the same joints as {stated[0][0]} ({stated[0][1]}), "
                f"found {joints}: score both alike with --joints"
            )


def _pairs(records: List[Record]) -> list[Pair]:
    first, *others = records
    pairs = [pair(record.base, first.base) for record in others]
    return pairs + [pair(r.refined, first.refined) for r in others if r.refined and first.refined]


def _names(paths: List[str | Path]) -> list[str]:
    """File stems, or whole paths where two stems are the same."""
    stems = Counter(Path(path).stem for path in paths)
    return [Path(path).stem if stems[Path(path).stem] == 1 else str(path) for path in paths]


def _lettered(record: Record, number: int) -> Record:
    """Calls a record's runs by a letter, so that "B minus A" stays short whatever the files are called."""
    round_, letter = divmod(number, len(ascii_uppercase))
    name = ascii_uppercase[letter] + (str(round_ + 1) if round_ else "")
    refined = record.refined and replace(record.refined, name=f"{name} refined")
    return replace(record, base=replace(record.base, name=name), refined=refined)


def _runs(records: List[Record], names: List[str]) -> list[tuple[Run, str]]:
    """Every run with the name of its file."""
    pairs = [(run, name) for record, name in zip(records, names) for run in (record.base, record.refined)]
    return [(run, name) for run, name in pairs if run is not None]


def _plot(path: Path, records: List[Record], names: List[str], pairs: List[Pair]) -> None:
    from common.plots import comparison_plot

    runs = _runs(records, names)
    titles = [f"{run.name}: {name}" for run, name in runs]
    try:
        comparison_plot(path, [run for run, _ in runs], titles, pairs)
    except OSError as error:
        raise UserError(
            f"{path}: the plot cannot be written: {error.strerror or error}. Name another file."
        ) from error


def _facts(records: List[Record]) -> str:
    """The facts in which the runs differ: a difference of data or of key points explains a lot."""
    names = dict.fromkeys(name for record in records for name in record.facts)
    lines = []
    for name in names:
        texts = [record.facts.get(name, "not said") for record in records]
        if len(set(texts)) > 1:
            lines.append(f"  {name}")
            lines += [f"    {record.base.name}: {text}" for record, text in zip(records, texts)]
    return "\n".join(["The runs differ in", *lines]) if lines else ""


def _averages(records: List[Record], names: List[str]) -> str:
    rows = [["run", "file", "metric", *_heads(), "poses", "sequences"]]
    runs = _runs(records, names)
    for run, name in runs:
        size = [str(run.summary["poses"]), str(len(run.sequences))]
        for metric in METRICS:
            cells = []
            for kind in KINDS:
                cells += [f"{run.summary['average'][kind][metric]:.2f}"]
                cells += [_interval(run.summary["interval_95"][kind][metric])]
            rows.append([run.name, name, metric, *cells, *size])
    note = "\nRefined figures use the true root depth and the camera: set them beside refined ones alone."
    return f"Averages, mm\n{text_table(rows)}" + (note if len(runs) > len(records) else "")


def _pdof(records: List[Record], names: List[str]) -> str:
    rows = [["run", "file", *PDOF_GROUPS]]
    for run, name in _runs(records, names):
        rows.append([run.name, name, *(f"{run.summary['per_pdof'][group]:.2f}" for group in PDOF_GROUPS)])
    return "Mean joint error by distance to the torso (PDoF), all 17 joints, mm\n" + text_table(rows)


def _differences(pairs: List[Pair]) -> str:
    rows, notes = [["difference", "metric", *_heads(), "poses"]], []
    for each in pairs:
        ours, theirs = (run.sequences[-1].stop for run in (each.run, each.against))
        if not len(each):
            notes.append(f"{each}: no poses in common, of {ours} and {theirs}")
            continue
        notes.append(f"{each}: over the {len(each)} poses that both scored, of {ours} and {theirs}")
        for metric in METRICS:
            found = each.difference(metric)
            cells = []
            for kind in KINDS:
                cells += [f"{found['difference'][kind]:+.2f}", _interval(found["interval_95"][kind], "+.2f")]
            rows.append([str(each), metric, *cells, str(len(each))])
    table = [text_table(rows)] if len(rows) > 1 else []
    head = "Paired differences per pose, mm: below 0, the run that is named first has the lower error"
    words = (
        "95 % intervals: bootstrap over takes, all cameras of a take together; too narrow for few takes, "
        "and they know of no other subjects."
    )
    return "\n".join([head, *table, *notes, words])


def _heads() -> list[str]:
    return [head for kind in KINDS.values() for head in (kind, "95 % interval")]


def _interval(bounds: list[float] | None, how: str = ".2f") -> str:
    return "-" if bounds is None else f"{bounds[0]:{how}} to {bounds[1]:{how}}"

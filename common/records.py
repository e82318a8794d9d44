"""The record that an evaluation leaves on disk for comparisons: made here, and read strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from common.sequences import Sequence
from common.summary import PDOF_GROUPS

if TYPE_CHECKING:
    from common.evaluate import Evaluation

FORMAT = 1
METRICS = ("P1", "P2")
KINDS = {"action_wise": "action-wise", "frame_wise": "frame-wise"}
REFINED = "refined (uses the true root depth and the camera)"
"""How refined figures are labelled wherever they stand: they may not be compared with others unsaid."""
FIELDS = ("subject", "action", "camera", "first_frame", "step", "length")
"""What the record says of a sequence."""

Take = tuple[str, str, int]
"""Subject, action and camera."""


@dataclass(frozen=True)
class Run:
    """The scores of one run.

    Attributes:
        name: What to call it.
        summary: Its averages: see ``common.summary.summarize``.
        sequences: The runs of the N rows; of the camera they know the number alone.
        errors: (N,) "P1" and "P2", mm.
        refined: Whether it is after the refine head.
    """

    name: str
    summary: dict[str, Any]
    sequences: tuple[Sequence, ...]
    errors: dict[str, np.ndarray]
    refined: bool = False


@dataclass(frozen=True)
class Record:
    """What a record holds: facts by name, a run, and the same run after the refine head if it has one."""

    facts: dict[str, str]
    base: Run
    refined: Run | None


def metrics_record(
    evaluation: Evaluation, facts: dict[str, str], refined: Evaluation | None = None
) -> dict[str, Any]:
    """An evaluation in plain values, for ``common.files.write_json``; ``read_record`` reads it.

    Args:
        evaluation: What was scored.
        facts: What a reader should know of it, by name, such as the file of the weights.
        refined: The same poses after the refine head.

    Returns:
        "format"; "facts"; "metrics", the summary; "poses" with "sequences", each a list of the ``FIELDS``,
        and "P1" and "P2" of every pose, rounded to 0.001 mm; and, if there is one, "refined" with "metrics",
        "P1" and "P2".

    Raises:
        ValueError: If ``refined`` is of other poses.
    """
    sequences = evaluation.poses.sequences
    rows = [[s.subject, s.action, s.camera, s.first_frame, s.step, len(s)] for s in sequences]
    record = {
        "format": FORMAT,
        "facts": dict(facts),
        "metrics": evaluation.summary,
        "poses": {"sequences": rows, **_rounded(evaluation)},
    }
    check_same_poses(evaluation, refined)
    if refined is not None:
        record["refined"] = {"metrics": refined.summary, **_rounded(refined)}
    return record


def check_same_poses(evaluation: Evaluation, refined: Evaluation | None) -> None:
    """Raises a ValueError if a refined evaluation is not of the poses of its base."""
    if refined is not None and refined.poses.sequences != evaluation.poses.sequences:
        raise ValueError(f"expected refined poses of {evaluation.poses}, found those of {refined.poses}")


def read_record(path: str | os.PathLike[str]) -> Record:
    """Reads and checks a file that ``--metrics_json`` wrote; its runs are named after it.

    Raises:
        UserError: It cannot be read, or is not what ``metrics_record`` makes; with what is wrong.
    """
    try:
        return _record(_parsed(Path(path)), Path(path).stem)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(
            f"{path}: {error}. Files to compare are made by --reload with --metrics_json."
        ) from error


def frames_and_rows(sequences: Iterable[Sequence]) -> dict[Take, np.ndarray]:
    """The frames of each take and camera, and the rows that hold them: (2, M) each."""
    parts: dict[Take, list[np.ndarray]] = {}
    for sequence in sequences:
        frames = sequence.first_frame + sequence.step * np.arange(len(sequence))
        take = sequence.subject, sequence.action, sequence.camera
        parts.setdefault(take, []).append(np.stack([frames, np.arange(sequence.start, sequence.stop)]))
    return {take: np.concatenate(own, axis=1) for take, own in parts.items()}


def _rounded(evaluation: Evaluation) -> dict[str, list[float]]:
    return {metric: np.round(evaluation.scores[metric], 3).tolist() for metric in METRICS}


def _parsed(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"expected finite numbers, found {name}")

    content = path.read_bytes()
    try:
        return json.loads(content, parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"expected JSON, found something else ({error})") from error


def _record(content: Any, name: str) -> Record:
    found = content.get("format") if isinstance(content, dict) else None
    if type(found) is not int or found != FORMAT:
        raise ValueError(f"expected a record of metrics, format {FORMAT}, found format {str(found)[:80]}")
    facts = _at(content, "facts")
    if not isinstance(facts, dict) or not all(isinstance(text, str) for text in facts.values()):
        raise ValueError("facts: expected texts by name")
    sequences = _sequences(_at(content, "poses", "sequences"))
    base = _run(name, _at(content, "metrics"), content["poses"], sequences)
    if "refined" not in content:
        return Record(facts, base, None)
    refined = content["refined"]
    run = _run(f"{name}, {REFINED}", _at(refined, "metrics"), refined, sequences)
    return Record(facts, base, replace(run, refined=True))


def _sequences(entries: Any) -> tuple[Sequence, ...]:
    if not isinstance(entries, list) or not entries:
        raise ValueError("poses.sequences: expected a list with at least one sequence")
    sequences: list[Sequence] = []
    for number, entry in enumerate(entries):
        if not _is_sequence(entry):
            listed = ", ".join(FIELDS)
            raise ValueError(f"poses.sequences[{number}]: expected [{listed}], found {str(entry)[:80]}")
        subject, action, camera, first_frame, step, length = entry
        start = sequences[-1].stop if sequences else 0
        # No comparison looks at the image, so the record leaves it out.
        lens, size = (1.0, 1.0, 0.0, 0.0), (1, 1)
        sequences.append(
            Sequence(subject, action, camera, start, start + length, lens, size, first_frame, step)
        )
    return tuple(sequences)


def _is_sequence(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != len(FIELDS):
        return False
    names, numbers = entry[:2], entry[2:]
    return (
        all(isinstance(name, str) and name for name in names)
        and all(type(number) is int and 0 <= number < 2**31 for number in numbers)
        and 0 not in numbers[2:]  # neither a step nor a length of 0
    )


def _run(name: str, summary: Any, poses: Any, sequences: tuple[Sequence, ...]) -> Run:
    """A run whose averages and errors per pose fit each other."""
    for metric in METRICS:
        for kind in KINDS:
            _number(summary, "average", kind, metric)
            bounds = _at(summary, "interval_95", kind, metric)
            if bounds is not None and not (isinstance(bounds, list) and len(bounds) == 2):
                raise ValueError(
                    f"interval_95.{kind}.{metric}: expected [low, high], found {str(bounds)[:80]}"
                )
            for bound in bounds or []:
                _number({metric: bound}, metric)
    for group in PDOF_GROUPS:
        _number(summary, "per_pdof", group)
    errors = {metric: _errors(_at(poses, metric), metric) for metric in METRICS}
    counts = {"metrics": _number(summary, "poses"), "sequences": sequences[-1].stop}
    counts |= {metric: len(values) for metric, values in errors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{where} {count}" for where, count in counts.items())
        raise ValueError(f"expected the same number of poses everywhere, found {listed}")
    if any(len(np.unique(frames)) < len(frames) for frames, _ in frames_and_rows(sequences).values()):
        raise ValueError("poses.sequences: expected every pose once, found frames that are there twice")
    for metric, values in errors.items():
        mean = summary["average"]["frame_wise"][metric]
        if abs(values.mean() - mean) > 1e-3:
            raise ValueError(
                f"expected poses with a mean {metric} of {mean:.3f} mm, as its metrics say, "
                f"found {values.mean():.3f} mm"
            )
    return Run(name, summary, sequences, errors)


def _at(value: Any, *keys: str) -> Any:
    for depth, key in enumerate(keys, start=1):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"expected {'.'.join(keys[:depth])}, found nothing there")
        value = value[key]
    return value


def _number(value: Any, *keys: str) -> float:
    value = _at(value, *keys)
    if type(value) not in (int, float) or not abs(value) < 1e300:  # NaN is not less either
        raise ValueError(f"{'.'.join(keys)}: expected a finite number, found {str(value)[:80]}")
    return value


def _errors(values: Any, metric: str) -> np.ndarray:
    """(N,) errors from a list."""
    if not isinstance(values, list):
        raise ValueError(f"{metric}: expected a list of numbers, found {str(values)[:80]}")
    for row, value in enumerate(values):
        if type(value) not in (int, float) or not 0 <= value < 1e300:
            raise ValueError(f"{metric} of pose {row}: expected a finite error, found {str(value)[:80]}")
    return np.array(values, dtype=np.float64)

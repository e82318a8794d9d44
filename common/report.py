"""What a reader gets to see of an evaluation beyond the table: pictures, and a page that shows everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as List
from pathlib import Path
from typing import Any

import numpy as np

from common import page, plots
from common.camera import denormalize_pixels
from common.draw import Row, prediction_picture
from common.errors import UserError
from common.evaluate import Evaluation, root_relative
from common.files import write_bytes
from common.records import KINDS, METRICS, REFINED, check_same_poses
from common.summary import GROUPINGS
from common.tables import text_number

SHOWN_POSES, POSES_A_PICTURE = 10, 5
"""How many worst poses a report shows, and as many median ones; five rows fit on a printed page."""

PICTURES = (
    "error_per_action", "error_per_joint", "error_per_pdof", "error_curve", "training",
    "worst_poses_1", "worst_poses_2", "median_poses_1", "median_poses_2",
)  # fmt: skip
"""Names of the pictures of a report, without ".png"."""

CAPTIONS = {
    "error_per_joint": (
        "Mean error over all poses, of all 17 joints, whichever are scored. The pelvis is the root, whose "
        "error is always 0."
    ),
    "error_per_pdof": (
        "Mean error over all poses, of all 17 joints, whichever are scored. The torso's group holds the "
        "pelvis and its 0."
    ),
    "error_curve": "Frame-wise, over all joints that are scored. The step at 0 is the pelvis, always at 0.",
    "training": "P1 and P2 are those of the poses that the run scored after each epoch.",
}

WORDS = {
    "P1": "MPJPE: mean distance of the joints to their true places, poses laid over each other at the pelvis",
    "P2": "P-MPJPE: the same after each pose is turned, scaled and moved to fit its truth best, not mirrored",
    "P3": "N-MPJPE: the same after each pose is scaled to fit its truth best, not turned",
    "MPJVE": "mean error of the joints' motion from one scored frame to the next within a sequence",
    "PCK": "share of the joints that are nearer than 150 mm to their true places",
    "AUC": "mean of such shares for 0, 5, ... 150 mm: the area under the cumulative curve",
    "bone_length": "mean absolute error of the 16 bone lengths, of all 17 joints always",
    "symmetry": "mean difference of left and right bone lengths of a predicted pose",
    "refined": (
        "after the refine head, which is given the true depth of the root and the camera. Such figures may "
        "not be compared with those of methods that are not given them"
    ),
    "action-wise": "mean over the poses of each action, then over the actions: the protocol's average",
    "frame-wise": "mean over all poses",
    "95 % interval": (
        "percentile bootstrap over whole takes, all cameras of a take together, drawn within each action "
        "where every action has two takes or more. It tells how far an average would move with other takes "
        "of the same subjects; it is too narrow for few takes and knows of no other subjects. A single take "
        "has none"
    ),
    "PDoF": "part degree of freedom: how many joints along the limb a joint is away from the torso",
}


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    *,
    facts: Mapping[str, str],
    refined: Evaluation | None = None,
    history: List[dict[str, Any]] | None = None,
    joints: tuple[int, ...] | None = None,
) -> Path:
    """Writes a page that holds all it shows, ``index.html``, and its pictures as PNG files beside it.

    Args:
        folder: Where to; it is made if it is missing. Pictures of an earlier report are replaced.
        evaluation: What was scored.
        facts: What a reader should know of it, by name, such as the weights and how the epoch was chosen.
        refined: The same poses after the refine head.
        history: Records with "epoch", "learning_rate", "loss" (m), "P1" and "P2" (mm), of the run's training;
            with "base_P1" too, P1 and P2 are those of refined poses.
        joints: The joints that the metrics were taken over, for the cumulative curve; all 17 when None.

    Returns:
        The page.

    Raises:
        UserError: If the folder cannot be written to.
        ValueError: If ``refined`` is of other poses.
    """
    check_same_poses(evaluation, refined)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PICTURES:
            (folder / f"{name}.png").unlink(missing_ok=True)
        shown = _draw(folder, evaluation, refined, history or [], joints)
        parts = _parts(shown, evaluation, refined, facts)
        write_bytes(folder / "index.html", page.page("HTNet: report of an evaluation", parts).encode())
    except OSError as error:
        raise UserError(
            f"{folder}: the report cannot be written: {error.strerror or error}. Name another folder."
        ) from error
    return folder / "index.html"


def spread_rows(evaluation: Evaluation, count: int) -> np.ndarray:
    """Indices of poses spread evenly over the test set, for a look that nobody has chosen by error."""
    return np.linspace(0, len(evaluation.poses) - 1, count + 2).round().astype(int)[1:-1]


def worst_rows(evaluation: Evaluation, count: int = SHOWN_POSES) -> np.ndarray:
    """Indices of the poses with the highest P1, the highest first, at most one of each sequence."""
    return _one_per_sequence(evaluation, np.argsort(-evaluation.scores["P1"], kind="stable"), count)


def median_rows(evaluation: Evaluation, count: int = SHOWN_POSES) -> np.ndarray:
    """Indices of the poses with P1 nearest to the median, the nearest first, at most one of each sequence."""
    errors = evaluation.scores["P1"]
    order = np.argsort(np.abs(errors - np.median(errors)), kind="stable")
    return _one_per_sequence(evaluation, order, count)


def _one_per_sequence(evaluation: Evaluation, order: np.ndarray, count: int) -> np.ndarray:
    """The first of an order of poses, without poses of a sequence that has had its turn."""
    lengths = [len(sequence) for sequence in evaluation.poses.sequences]
    sequence_of = np.repeat(np.arange(len(lengths)), lengths)  # (N,)
    _, first = np.unique(sequence_of[order], return_index=True)
    return order[np.sort(first)[:count]]


def pose_rows(evaluation: Evaluation, indices: Iterable[int]) -> list[Row]:
    """Poses for ``common.draw.prediction_picture``: key points in pixels, poses in metres, a caption."""
    truth = root_relative(evaluation.poses)
    rows = []
    for index in indices:
        sequence = next(s for s in evaluation.poses.sequences if s.start <= index < s.stop)
        frame = sequence.first_frame + (index - sequence.start) * sequence.step
        p1, p2 = (evaluation.scores[name][index] for name in ("P1", "P2"))
        rows.append(
            (
                denormalize_pixels(evaluation.poses.keypoints[index], *sequence.image_size),
                evaluation.predicted[index] / 1000,
                truth[index],
                f"{plots.shortened(str(sequence), 80)}, frame {frame}: P1 {p1:.1f} mm, P2 {p2:.1f} mm",
            )
        )
    return rows


def _draw(
    folder: Path,
    evaluation: Evaluation,
    refined: Evaluation | None,
    history: List[dict[str, Any]],
    joints: tuple[int, ...] | None,
) -> dict[str, str]:
    """Draws all pictures; returns them as HTML by name."""
    files = {name: folder / f"{name}.png" for name in PICTURES}
    both = [each for each in (evaluation, refined) if each is not None]
    summaries = [each.summary for each in both]
    plots.action_plot(files["error_per_action"], *summaries)
    plots.joint_plot(files["error_per_joint"], *summaries)
    plots.pdof_plot(files["error_per_pdof"], *summaries)
    chosen = slice(None) if joints is None else list(joints)
    plots.error_curve(files["error_curve"], *(each.scores["joint_errors"][:, chosen] for each in both))
    if history:
        plots.training_plot(files["training"], history)
    for kind, rows in (("worst", worst_rows(evaluation)), ("median", median_rows(evaluation))):
        for start in range(0, len(rows), POSES_A_PICTURE):
            part = rows[start : start + POSES_A_PICTURE]
            title = f"{kind.title()} poses by P1: {start + 1} to {start + len(part)} of {len(rows)}"
            path = files[f"{kind}_poses_{start // POSES_A_PICTURE + 1}"]
            prediction_picture(path, pose_rows(evaluation, part), title)
    return {
        name: page.picture(path, name.replace("_", " "), CAPTIONS.get(name, ""))
        for name, path in files.items()
        if path.exists()
    }


def _parts(
    shown: dict[str, str], evaluation: Evaluation, refined: Evaluation | None, facts: Mapping[str, str]
) -> list[str]:
    """The page's sections, the most asked for first."""
    summaries = [each.summary for each in (evaluation, refined) if each is not None]
    size = f"{len(evaluation.poses)} poses in {len(evaluation.poses.sequences)} sequences"
    parts = [
        page.definitions({**facts, "scored": size}),
        page.section("Averages", page.paragraph(_headline(summaries[0])), _average_table(summaries)),
        page.section("Plots", page.gallery(*(html for name, html in shown.items() if "poses" not in name))),
        page.section(
            "Tables",
            *(_group_table(grouping, summaries) for grouping in GROUPINGS if grouping in summaries[0]),
            page.beside(*(_error_table(grouping, summaries) for grouping in ("per_joint", "per_pdof"))),
        ),
    ]
    for kind, which in (("worst", "the highest P1"), ("median", "P1 nearest to the median of all poses")):
        words = (
            f"The poses with {which}, at most one of each sequence, since neighbouring frames look alike. "
            "Prediction and truth are laid over each other at the pelvis."
        )
        words += " The predictions are those before the refine head." if refined else ""
        pictures = [page.wide(html) for name, html in shown.items() if name.startswith(kind)]
        parts.append(page.section(f"{kind.title()} poses", page.paragraph(words), *pictures))
    units = summaries[0]["metric units"]
    words_used = {
        _name(word): f"{text} ({units[word]})" if word in units else text for word, text in WORDS.items()
    }
    return [*parts, page.section("What the words mean", page.definitions(words_used))]


def _headline(summary: dict[str, Any]) -> str:
    average = summary["average"]
    texts = [
        ", ".join(f"{metric} {text_number(average[kind][metric])} mm" for metric in METRICS) + f" ({name})"
        for kind, name in KINDS.items()
    ]
    return "; ".join(texts) + "."


def _average_table(summaries: List[dict[str, Any]]) -> str:
    head, groups = ["metric"], {"": 1}
    for label in _labels(summaries):
        head += [text for name in KINDS.values() for text in (name, "95 % interval")]
        groups[label] = 2 * len(KINDS)
    rows = []
    for metric, unit in summaries[0]["metric units"].items():
        row = [f"{_name(metric)} (mm)" if unit.startswith("mm") else metric]
        for summary in summaries:
            for kind in KINDS:
                bounds = summary["interval_95"][kind][metric] or [None]
                row.append(_number(summary, metric, summary["average"][kind][metric]))
                row.append(" to ".join(_number(summary, metric, bound) for bound in bounds))
        rows.append(row)
    return page.table("All metrics", head, rows, groups)


def _group_table(grouping: str, summaries: List[dict[str, Any]]) -> str:
    """Every metric by action, subject or camera, and P1 and P2 again for refined poses."""
    units = summaries[0]["metric units"]
    head = [grouping.removeprefix("per_"), "poses", "sequences", *map(_name, units)]
    columns = {label: METRICS if label == REFINED else tuple(units) for label in _labels(summaries)}
    head += METRICS[: len(columns.get(REFINED, ()))]
    rows = []
    for name, row in summaries[0][grouping].items():
        cells = [name, str(row["poses"]), str(row["sequences"])]
        for metrics, summary in zip(columns.values(), summaries, strict=True):
            cells += [_number(summary, metric, summary[grouping][name][metric]) for metric in metrics]
        rows.append(cells)
    groups = {"": 3} | {label: len(metrics) for label, metrics in columns.items()}
    return page.table(f"Means {_name(grouping)}", head, rows, groups)


def _error_table(grouping: str, summaries: List[dict[str, Any]]) -> str:
    rows = [
        [_name(name), *(text_number(summary[grouping][name]) for summary in summaries)]
        for name in summaries[0][grouping]
    ]
    groups = {"": 1} | dict.fromkeys(_labels(summaries), 1)
    head = [_name(grouping).removeprefix("per "), *["mm"] * len(summaries)]
    return page.table(f"Mean error {_name(grouping)}, all 17 joints", head, rows, groups)


def _labels(summaries: List[dict[str, Any]]) -> List[str]:
    return ("base", REFINED) if len(summaries) > 1 else ("not refined",)


def _name(name: str) -> str:
    return name.replace("_", " ").replace("pdof", "PDoF")


def _number(summary: dict[str, Any], metric: str, value: float | None) -> str:
    return text_number(value, 2 if summary["metric units"][metric].startswith("mm") else 4)

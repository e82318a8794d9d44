"""The output of an evaluation: printed tables, files, and a page with plots.

Everywhere ``refined`` is the evaluation of the same poses after the refine head, if there is one.
"""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterable
from collections.abc import Sequence as List
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.camera import denormalize_pixels
from common.console import UserError, number, printable, text_table
from common.evaluate import Evaluation, root_relative
from common.files import read_json, replacing, write_json
from common.metrics import ACTIONS, GROUPINGS
from common.poses import Sequence
from common.skeleton import JOINT_NAMES

if TYPE_CHECKING:
    from common.plots import Row

FORMAT = 1  # of the JSON record
METRICS = ("P1", "P2")
KINDS = {"action_wise": "action-wise", "frame_wise": "frame-wise"}
NOTE = "Refined results use the true root depth and the camera: compare them with refined results only."
SHOWN_POSES, POSES_AN_IMAGE = 10, 5  # five rows fit on a printed page

Summary = dict[str, Any]


def action_table(base: Evaluation, refined: Evaluation | None = None, kind: str = "text") -> str:
    """What is printed of an evaluation: all tables, or for kind "markdown" or "latex" ``paper_rows``."""
    shown = {"": base.summary} | ({"refined ": refined.summary} if refined else {})
    if kind != "text":
        return paper_rows(shown, kind)
    columns = [(summary, metric) for summary in shown.values() for metric in METRICS]
    table = [["action", *(f"{label}{metric} (mm)" for label in shown for metric in METRICS)]]
    for name in base.summary["per_action"]:
        row = [number(summary["per_action"][name][metric]) for summary, metric in columns]
        table.append([printable(name), *row])
    for average, title in KINDS.items():
        row = [number(summary["average"][average][metric]) for summary, metric in columns]
        table.append([f"average ({title})", *row])
    parts = [text_table(table)]
    for label, summary in shown.items():
        table = [[f"{label}metric", *AVERAGES_HEAD, "unit"]]
        for metric, unit in summary["metric units"].items():
            table.append([metric, *average_cells(summary, metric), unit])
        parts.append(text_table(table))
        if "per_group" in summary:
            table = [[f"{label}part", "poses", "PCK (%)", "AUC (%)", "P1 (mm)"]]
            everything = {"poses": summary["poses"], **summary["average"]["frame_wise"]}
            rows = summary["per_group"] | summary["per_subject"] | {"all (frame-wise)": everything}
            for name, row in rows.items():
                values = [number(row[metric]) for metric in ("PCK", "AUC", "P1")]
                table.append([printable(name), str(row["poses"]), *values])
            parts.append(text_table(table))
        pdof = ", ".join(f"{name} {error:.2f} mm" for name, error in summary["per_pdof"].items())
        parts.append(f"{label}error by distance to the torso, all 17 joints: {pdof}")
    return "\n\n".join(parts + [NOTE] * bool(refined))


def paper_rows(summaries: dict[str, Summary], kind: str) -> str:
    """Rows for a paper's table, with the names, the order and the decimals of the field.

    Args:
        summaries: See ``common.metrics.summarize``, by the words to put before the rows' names. With groups
            of subjects (MPI-INF-3DHP) there is a row of PCK, else there are rows of P1 and P2 per action.
        kind: "markdown" or "latex".
    """
    table: list[list[str]] = []
    for label, summary in summaries.items():
        rows: dict[str, list[float]] = {}
        if "per_group" in summary:
            groups, everything = summary["per_group"], summary["average"]["frame_wise"]
            head = ["", *groups, "all", "AUC", "MPJPE"]
            rows["PCK"] = [row["PCK"] for row in groups.values()]
            rows["PCK"] += [everything[metric] for metric in ("PCK", "AUC", "P1")]
        else:
            head = ["mm", *(ACTIONS.get(name, name) for name in summary["per_action"]), "Avg."]
            for metric in METRICS:
                rows[metric] = [row[metric] for row in summary["per_action"].values()]
                rows[metric].append(summary["average"]["action_wise"][metric])
        table += [[f"{label}{name}", *(number(value, 1) for value in row)] for name, row in rows.items()]
    if kind == "latex":
        special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
        pattern = re.compile(r"[\\~^&%$#_{}]")
        head = [pattern.sub(lambda at: special.get(at[0], f"\\{at[0]}"), printable(name)) for name in head]
        return "\n".join(" & ".join(row) + r" \\" for row in [head, *table])
    head = [re.sub(r"([\\|<>*_`])", r"\\\1", printable(name)) for name in head]
    line = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, line, *table])


AVERAGES_HEAD = [head for title in KINDS.values() for head in (title, "95 % interval")]


def average_cells(found: Summary, metric: str, sign: str = "") -> list[str]:
    """Cells under ``AVERAGES_HEAD`` from ``common.metrics.averages``; a dash where unknown."""
    cells = []
    for kind in KINDS:
        mean, bounds = (found[part][kind][metric] for part in ("average", "interval_95"))
        cells.append("-" if mean is None else f"{mean:{sign}.2f}")
        cells.append(" to ".join(f"{bound:{sign}.2f}" for bound in bounds or ()) or "-")
    return cells


def write_record(
    path: str | Path, base: Evaluation, metadata: dict[str, str], refined: Evaluation | None = None
) -> None:
    """Writes all means, and P1 and P2 of every pose, as JSON that ``compare`` reads.

    Its "poses" has "sequences", lists of subject, action, camera, first frame, step and length, and "P1" and
    "P2" of their poses in this order, rounded to 0.001 mm.
    """
    sequences = [[s.subject, s.action, s.camera, s.first_frame, s.step, len(s)] for s in base.poses.sequences]
    record: dict[str, Any] = {"format": FORMAT, "metadata": metadata, "metrics": base.summary}
    record["poses"] = {"sequences": sequences, **_errors(base)}
    if refined:
        record["refined"] = {"metrics": refined.summary, **_errors(refined)}
    write_json(path, record)


def _errors(evaluation: Evaluation) -> dict[str, list[float]]:
    return {metric: np.round(evaluation.scores[metric], 3).tolist() for metric in METRICS}


def write_csv(path: str | Path, base: Evaluation, refined: Evaluation | None = None) -> None:
    """Writes all means as one table, a row per average and group; unknown values are empty cells.

    Its column "stage" says which poses a row is of: "lifted" or "refined". Joints and PDoF groups have their
    error in the column P1.
    """
    metrics = list(base.summary["metric units"])
    rows: list[list[Any]] = [["stage", "group", "name", "poses", "sequences", *metrics]]
    for stage, evaluation in (("lifted", base), ("refined", refined)):
        summary = evaluation.summary if evaluation else {}
        for group in [each for each in ("average", *GROUPINGS) if each in summary]:
            for name, row in summary[group].items():
                size = [row.get(each, summary[each]) for each in ("poses", "sequences")]
                rows.append([stage, group, printable(name), *size, *(row[metric] for metric in metrics)])
        for kind, bounds in summary.get("interval_95", {}).items():
            for index, side in enumerate(("low", "high")):
                values = [bounds[metric] and bounds[metric][index] for metric in metrics]
                rows.append([stage, f"interval_95 {side}", kind, None, None, *values])
        for group in ("per_joint", "per_pdof"):
            for name, error in summary.get(group, {}).items():
                rows.append([stage, group, name, None, None, error] + [None] * (len(metrics) - 1))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def save_predictions(path: str | Path, base: Evaluation, refined: Evaluation | None = None) -> None:
    """Writes every pose and its truth as an npz file of plain arrays.

    They are "subject", "action", "camera" and "frame" (N,), "predicted", "truth" and with a head "refined"
    (N, 17, 3) float32, mm, and texts that describe them.
    """
    sequences = base.poses.sequences
    arrays: dict[str, Any] = {}
    for name in ("subject", "action", "camera"):
        values = [getattr(each, name) for each in sequences]
        arrays[name] = np.repeat(values, [len(each) for each in sequences])
    arrays["frame"] = np.concatenate([frames_of(each) for each in sequences])
    arrays["predicted"] = base.predicted.astype(np.float32)
    arrays["truth"] = (root_relative(base.poses) * 1000).astype(np.float32)
    if refined:
        arrays |= {"refined": refined.predicted.astype(np.float32), "refined_note": np.array(NOTE)}
    frame = "camera space, x right, y down, z away from the camera, relative to the pelvis, which is at 0"
    arrays |= {"units": np.array("mm"), "coordinate_frame": np.array(frame)}
    arrays["joint_names"] = np.array(JOINT_NAMES)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def frames_of(sequence: Sequence) -> np.ndarray:
    """Number of the frame in its take, for each row of a sequence: (n,)."""
    return sequence.first_frame + sequence.step * np.arange(len(sequence))


def read_history(path: Path) -> list[dict[str, float]]:
    """Records of a run's history.json, for ``write_page``; an empty list where it is missing."""
    names = ("epoch", "loss", "learning_rate", "P1", "P2", "base_P1")
    try:
        records = read_json(path) if path.is_file() else []
        return [
            {name: float(each[name]) for name in names if name != "base_P1" or name in records[0]}
            for each in records
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected the history of a training, found {error!r}; remove it") from error


def write_page(
    folder: str | Path,
    base: Evaluation,
    metadata: dict[str, str],
    *,
    refined: Evaluation | None = None,
    history: List[dict[str, float]] | None = None,
) -> Path:
    """Writes ``index.html``, which contains all that it shows, and its images as PNG files beside it.

    Args:
        folder: Where to write; images of an earlier page are replaced.
        base: The lifter's evaluation.
        metadata: What to show first, by name, such as the command line and the weights.
        refined: The evaluation of the refined poses.
        history: Records of the training: see ``read_history``.

    Returns:
        The page.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    from common import plots

    folder = Path(folder)
    shown = {"": base} | ({"refined": refined} if refined else {})
    summaries = {label: each.summary for label, each in shown.items()}
    joints = list(range(len(JOINT_NAMES)) if base.joints is None else base.joints)
    figures = plots.summary_plots(summaries)
    errors = {label: each.scores["joint_errors"][:, joints] for label, each in shown.items()}
    figures["error_curve"] = plots.error_curve(errors)
    if history:
        figures["training"] = plots.training_plot(history)
    p1 = base.scores["P1"]
    for kind, order in (("worst", -p1), ("median", np.abs(p1 - np.median(p1)))):
        rows = one_per_take(base, np.argsort(order, kind="stable"))
        for start in range(0, len(rows), POSES_AN_IMAGE):
            part = pose_rows(base, rows[start : start + POSES_AN_IMAGE])
            title = f"{kind.title()} poses by P1: {start + 1} to {start + len(part)} of {len(rows)}"
            figures[f"{kind}_poses_{start // POSES_AN_IMAGE + 1}"] = plots.pose_figure(part, title)
    for old in ("training", "worst_poses_2", "median_poses_2"):  # of an earlier page
        (folder / f"{old}.png").unlink(missing_ok=True)
    images = {name: plots.write_png(figure, folder / f"{name}.png") for name, figure in figures.items()}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["number"] = number
    text = environment.get_template("report.html").render(
        metadata=metadata | {"evaluated on": str(base.poses)},
        summaries=summaries,
        kinds=KINDS,
        groupings=GROUPINGS,
        note=NOTE if refined else "",
        images={name: Markup(base64.b64encode(image).decode()) for name, image in images.items()},
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / "index.html"


def write_picture(path: str | Path, base: Evaluation, title: str, count: int = 4) -> None:
    """Draws predictions beside the truth, of poses spread evenly over the test set."""
    from common import plots

    rows = np.linspace(0, len(base.poses) - 1, count + 2).round().astype(int)[1:-1]
    plots.write_png(plots.pose_figure(pose_rows(base, rows), title), path, dpi=144)


def one_per_take(base: Evaluation, order: np.ndarray, count: int = SHOWN_POSES) -> np.ndarray:
    """The first ``count`` poses of an order, at most one of each take, whichever camera sees it."""
    sequences = base.poses.sequences
    takes = {(each.subject, each.action): index for index, each in enumerate(sequences)}
    take_of = np.repeat([takes[s.subject, s.action] for s in sequences], [len(s) for s in sequences])  # (N,)
    _, first = np.unique(take_of[order], return_index=True)
    return order[np.sort(first)[:count]]


def pose_rows(base: Evaluation, indices: Iterable[int]) -> list[Row]:
    """Poses for ``common.plots.pose_figure``: keypoints in pixels, poses in metres, a caption."""
    truth, rows = root_relative(base.poses), []
    for index in indices:
        sequence = next(each for each in base.poses.sequences if each.start <= index < each.stop)
        frame = frames_of(sequence)[index - sequence.start]
        p1, p2 = (base.scores[metric][index] for metric in METRICS)
        caption = f"{sequence}, frame {frame}: P1 {p1:.1f} mm, P2 {p2:.1f} mm"
        pixels = denormalize_pixels(base.poses.keypoints[index], *sequence.image_size)
        rows.append((pixels, base.predicted[index] / 1000, truth[index], caption))
    return rows

"""Tables, files and the page of an evaluation, comparisons, and hostile names in all of them."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from common import compare, plots, report
from common.console import UserError
from common.evaluate import evaluation, root_relative
from common.metrics import ACTIONS
from common.poses import PoseSet, Sequence
from common.skeleton import BONES, JOINT_NAMES, LEFT, RIGHT

TAKES = (
    ("S9", "Walking", 0, 5, 0, 1),
    ("S9", "Walking 1", 1, 4, 10, 5),
    ("S11", "Eating", 0, 3, 0, 1),
    ("S11", "Walking", 1, 4, 7, 2),
)
"""Subject, action, camera, poses, first frame and step of the sequences."""
HOSTILE = "<script>alert(1)</script>\x1b[2J\ud800$x_$|&"
METADATA = {"command": "python main.py --reload", "weights": "ckpt/model.pth"}
HISTORY = [
    {"epoch": n, "learning_rate": 5e-4 * 0.9**n, "loss": 0.1 / n, "P1": 50.0 + (n - 3) ** 2, "P2": 40.0}
    for n in range(1, 6)
]


def synthetic(takes=TAKES, noise=50.0, seed=0, group=""):
    """An evaluation of random poses with normal errors of ``noise`` mm per coordinate."""
    stops = np.cumsum([take[3] for take in takes]).tolist()
    sequences = [
        Sequence(
            *take[:3], stop - take[3], stop, (2.3, 2.3, 0, 0), (1000, 1000), take[4], take[5], group=group
        )
        for take, stop in zip(takes, stops, strict=True)
    ]
    rng = np.random.default_rng(seed)
    positions = rng.normal((0, 0, 4), 0.3, size=(stops[-1], 17, 3)).astype(np.float32)
    poses = PoseSet(positions[..., :2] / positions[..., 2:] * 2.3, positions, tuple(sequences))
    errors = np.random.default_rng(1).normal(scale=noise, size=positions.shape)
    errors[:, 0] = 0
    return evaluation(poses, root_relative(poses) * 1000 + errors)


def scaled(base, factor):
    """The same poses with all errors multiplied."""
    truth = root_relative(base.poses) * 1000
    return evaluation(base.poses, truth + factor * (base.predicted - truth))


@pytest.fixture(scope="module")
def base():
    return synthetic()


@pytest.fixture(scope="module")
def refined(base):
    return scaled(base, 0.5)


# Tables


def test_action_table_has_actions_averages_and_metrics(base, refined):
    text = report.action_table(base, refined)
    rows = {line.split("  ")[0]: re.split(r"\s{2,}", line)[1:] for line in text.splitlines()}
    for name, row in base.summary["per_action"].items():
        own = refined.summary["per_action"][name]
        assert rows[name] == [f"{each[metric]:.2f}" for each in (row, own) for metric in ("P1", "P2")]
    assert rows["average (action-wise)"][0] == f"{base.summary['average']['action_wise']['P1']:.2f}"
    assert rows["PCK"][-1] == "%" and 90 < float(rows["PCK"][0]) <= 100
    assert rows["MPJVE"][-1] == "mm/frame"
    assert report.NOTE in text and "refined" not in report.action_table(base)


def test_unknown_values_are_dashes():
    text = report.action_table(synthetic((("S9", "Walking", 0, 1, 0, 1),)))
    assert re.search(r"^MPJVE +- +- +- +- +mm/frame$", text, re.MULTILINE)


def test_paper_rows_have_the_order_names_and_decimals_of_papers():
    base = synthetic(tuple(("S9", action, 0, 2, 0, 1) for action in sorted(ACTIONS)))
    head, p1, p2 = report.action_table(base, None, "latex").splitlines()
    names = "Dir. Disc. Eat Greet Phone Photo Pose Purch. Sit SitD. Smoke Wait WalkD. Walk WalkT. Avg."
    assert head == " & ".join(["mm", *names.split()]) + r" \\"
    values = [base.summary["per_action"][name]["P1"] for name in ACTIONS]
    assert p1 == " & ".join(["P1", *(f"{v:.1f}" for v in [*values, np.mean(values)])]) + r" \\"
    markdown = report.action_table(base, scaled(base, 0.5), "markdown").splitlines()
    assert len(markdown) == 6 and markdown[4].startswith("| refined P1 | ")
    assert p2.startswith("P2 & ") and len({line.count("|") for line in markdown}) == 1


def test_groups_of_subjects_are_reported_by_pck():
    base = synthetic(group="outdoor")
    pck = f"{base.summary['average']['frame_wise']['PCK']:.1f}"
    assert report.action_table(base, None, "latex").splitlines()[1].startswith(f"PCK & {pck} & {pck} & ")
    assert re.search(r"^outdoor +16 ", report.action_table(base), re.MULTILINE)


# Files


def test_csv_has_every_mean(tmp_path, base, refined):
    report.write_csv(tmp_path / "a.csv", base, refined)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = {(row["stage"], row["group"], row["name"]): row for row in csv.DictReader(file)}
    for stage, source in (("lifted", base), ("refined", refined)):
        summary = source.summary
        row = rows[stage, "average", "action_wise"]
        found = {name: float(row[name]) for name in summary["metric units"]}
        assert found == summary["average"]["action_wise"] and row["poses"] == "16"
        high = rows[stage, "interval_95 high", "frame_wise"]["P2"]
        assert float(high) == summary["interval_95"]["frame_wise"]["P2"][1]
        assert float(rows[stage, "per_camera", "1"]["P1"]) == summary["per_camera"]["1"]["P1"]
        assert float(rows[stage, "per_joint", "head"]["P1"]) == summary["per_joint"]["head"]
        assert rows[stage, "per_pdof", "torso"]["P2"] == ""


def test_predictions_round_trip(tmp_path, base, refined):
    report.save_predictions(tmp_path / "new" / "a.npz", base, refined)
    with np.load(tmp_path / "new" / "a.npz", allow_pickle=False) as file:
        found = dict(file)
    np.testing.assert_array_equal(found["predicted"], base.predicted.astype(np.float32))
    np.testing.assert_array_equal(found["refined"], refined.predicted.astype(np.float32))
    errors = np.linalg.norm(found["predicted"] - found["truth"], axis=2).mean(axis=1)
    np.testing.assert_allclose(errors, base.scores["P1"], rtol=1e-5)
    names = ("subject", "action", "camera", "frame")
    places = list(zip(*(found[name].tolist() for name in names), strict=True))
    assert places[4:7] == [("S9", "Walking", 0, 4), ("S9", "Walking 1", 1, 10), ("S9", "Walking 1", 1, 15)]
    assert found["units"] == "mm" and tuple(found["joint_names"]) == JOINT_NAMES


@pytest.mark.parametrize("content", ["{", "[1]", '[{"epoch": 1}]', '[{"epoch": "x"}]', '{"epoch": 1}'])
def test_history_of_another_kind_is_a_user_error(tmp_path, content):
    assert report.read_history(tmp_path / "history.json") == []
    (tmp_path / "history.json").write_text(content)
    with pytest.raises(UserError, match=r"history\.json"):
        report.read_history(tmp_path / "history.json")


# The page


def tables(page):
    """Cells of the page's rows by caption and first cell."""
    found = {}
    for part in page.split("<caption>")[1:]:
        caption, _, rest = part.partition("</caption>")
        rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', rest.split("</table>")[0])
        found[caption] = {name: re.findall("<td>(.*?)</td>", cells) for name, cells in rows}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, base, refined):
    folder = tmp_path_factory.mktemp("page") / "new"
    report.write_page(folder, base, METADATA, refined=refined, history=HISTORY)
    return folder


def test_page_has_the_values_of_the_summary(folder, base, refined):
    page = (folder / "index.html").read_text(encoding="utf-8")
    found = tables(page)
    for label, source in (("", base), (", refined", refined)):
        rows = found[f"All metrics{label}"]
        mean = source.summary["average"]["action_wise"]["P1"]
        low, high = source.summary["interval_95"]["action_wise"]["P1"]
        assert rows["P1"][:2] == [f"{mean:.2f}", f"{low:.2f} to {high:.2f}"] and rows["PCK"][-1] == "%"
        eating = source.summary["per_action"]["Eating"]
        expected = ["3", "1", f"{eating['P1']:.2f}", f"{eating['P2']:.2f}"]
        assert found[f"Means per action{label}"]["Eating"][:4] == expected
    wrist = found["Mean error per joint, all 17 joints"]["left wrist"]
    assert wrist == [f"{each.summary['per_joint']['left_wrist']:.2f}" for each in (base, refined)]
    assert METADATA["command"] in page and report.NOTE in page and "S9, S11 (16 poses in 4 sequences)" in page


def test_page_is_self_contained(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe|object|a|form)\b|https?:", page)
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert len(sources) == len(list(folder.glob("*.png"))) == 7
    assert set(sources) == {"data:image/png;base64,"}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] >= 1000 and pixels.std() > 8, path
        assert (pixels[:, :2] > 250).all() and (pixels[:, -2:] > 250).all(), f"{path} is cut off"


def test_worst_poses_are_of_different_takes():
    takes = tuple(("S9", f"Walking {n}", camera, 6, 0, 1) for n in range(12) for camera in range(2))
    base = synthetic(takes)
    p1 = base.scores["P1"]
    p1[:12] += 1000  # one take has the 12 worst poses
    rows = report.one_per_take(base, np.argsort(-p1))
    assert p1[rows].tolist() == sorted(p1.reshape(12, 12).max(axis=1), reverse=True)[:10]


def test_picture_shows_pixels_metres_and_captions(base, tmp_path):
    ((keypoints, predicted, truth, caption),) = report.pose_rows(base, [6])
    np.testing.assert_allclose(keypoints, (base.poses.keypoints[6] + 1) * 500, rtol=1e-5)
    error = np.linalg.norm(predicted - truth, axis=1).mean() * 1000
    assert error == pytest.approx(base.scores["P1"][6])
    assert caption.startswith(f"S9, Walking 1, camera 1, frame 15: P1 {error:.1f} mm")
    report.write_picture(tmp_path / "a.png", base, "title")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] == 1296


def test_sides_have_their_colours_and_large_poses_no_floor():
    pose = np.random.default_rng(0).normal(scale=0.3, size=(17, 3))
    for projection, draw, points in (
        (None, plots.draw_pose_2d, pose[:, :2]),
        ("3d", plots.draw_pose_3d, pose),
        ("3d", plots.draw_pose_3d, pose * 1000),
    ):
        axes = Figure().add_subplot(projection=projection)
        draw(axes, points)
        colours = {line.get_gid(): line.get_color() for line in axes.lines}
        for joint, _ in BONES:
            side = plots.LEFT_COLOUR if joint in LEFT else plots.RIGHT_COLOUR if joint in RIGHT else None
            assert colours[JOINT_NAMES[joint]] == side or side is None
        assert len(axes.lines) < 100 and ("floor" in colours) == (points is pose)


# Comparison


@pytest.fixture
def write(tmp_path):
    def write_record(name, base, metadata=METADATA, refined=None):
        report.write_record(tmp_path / f"{name}.json", base, metadata, refined)
        return tmp_path / f"{name}.json"

    return write_record


def cells(text, *starts):
    """The cells of the one line that starts with some."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    (found,) = [line for line in lines if line[: len(starts)] == [*starts]]
    return found[len(starts) :]


def test_compare_has_averages_and_paired_differences(write, base, tmp_path):
    worse = scaled(base, 1.25)
    paths = [write("a", base), write("b", worse, {"weights": "other"})]
    text = compare.compare(paths, tmp_path / "plot.png")
    for name, path, source in zip("AB", paths, (base, worse), strict=True):
        mean = source.summary["average"]["action_wise"]["P2"]
        low, high = source.summary["interval_95"]["action_wise"]["P2"]
        found = cells(text, name, str(path), "P2")
        assert found[:2] == [f"{mean:.2f}", f"{low:.2f} to {high:.2f}"] and found[-1] == "16"
    difference, interval, *_ = cells(text, "B minus A", "P1")
    expected = 0.25 * base.summary["average"]["action_wise"]["P1"]
    assert float(difference) == pytest.approx(expected, abs=0.011)
    assert float(interval.split(" to ")[0]) > 0
    assert "weights" in text and "ckpt/model.pth" in text
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] == 1400


def test_compare_pairs_the_poses_that_both_have(write):
    first = synthetic((("S9", "Walking", 0, 10, 0, 1), ("S9", "Eating", 0, 3, 0, 1)))
    takes = (("S9", "Walking", 0, 8, 1, 2), ("S9", "Eating", 1, 3, 0, 1), ("S11", "Photo", 0, 2, 0, 1))
    second = synthetic(takes, seed=4)
    text = compare.compare([write("a", first), write("b", second)])
    found = cells(text, "B minus A", "P1")
    expected = (second.scores["P1"][:5] - first.scores["P1"][1:10:2]).mean()  # frames 1, 3, 5, 7, 9
    assert float(found[0]) == pytest.approx(expected, abs=0.006)
    assert found[1] == "-" and found[-1] == "5"  # a single take has no interval
    other = write("c", synthetic((("S11", "Photo", 0, 4, 0, 1),)))
    assert cells(compare.compare([write("a", first), other]), "B minus A")[-1] == "0"


def test_compare_sets_refined_runs_beside_refined_ones(write, base, refined):
    text = compare.compare(
        [write("a", base, refined=refined), write("b", scaled(base, 2), refined=scaled(base, 0.75))]
    )
    p1 = base.summary["average"]["action_wise"]["P1"]
    shares = {"B minus A": 1.0, "B refined minus A refined": 0.25, "A refined minus A": -0.5}
    for pair, share in shares.items():
        assert float(cells(text, pair, "P1")[0]) == pytest.approx(share * p1, abs=0.011)
    assert report.NOTE in text and "B refined minus A  " not in text


def test_compare_reads_records_of_earlier_versions_and_refuses_other_joints(write, base):
    path = write("a", base)
    record = json.loads(path.read_text())
    record["facts"] = record.pop("metadata") | {"joints": "16: all but the neck"}
    del record["metrics"]["joints"]
    path.write_text(json.dumps(record))
    assert cells(compare.compare([path, path]), "B minus A", "P1")[0] == "+0.00"
    with pytest.raises(UserError, match=r"\[16, 17\]"):
        compare.compare([path, write("b", base)])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 2),
        (("metadata",), 7),
        (("poses", "P1"), [1.0]),
        (("poses", "P1", 3), float("nan")),
        (("poses", "P1", 3), "x"),
        (("poses", "sequences"), {}),
        (("poses", "sequences", 1), ["S9", "Walking", 0, 0, 1]),
        (("poses", "sequences", 1), ["S9", "Walking", 0, 10**30, 1, 4]),
        (("poses", "sequences", 1), ["S9", 5, 0, 0, 0, -4]),
        (("metrics", "per_pdof"), None),
        (("refined",), 3),
    ],
)
def test_damaged_records_are_user_errors(write, base, place, value):
    path = write("a", base)
    record = json.loads(path.read_text())
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"a\.json"):
        compare.compare([path, path])


# Hostile names


def test_hostile_names_are_harmless_everywhere(tmp_path):
    base = synthetic(((HOSTILE, HOSTILE, 0, 3, 0, 1), ("S9", "Eating", 0, 3, 0, 1)))
    metadata = {HOSTILE: HOSTILE}
    report.write_record(tmp_path / "a.json", base, metadata)
    report.write_record(tmp_path / "b.json", base, {})
    text = "\n".join(report.action_table(base, None, kind) for kind in ("text", "latex", "markdown"))
    text += compare.compare([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "plot.png")
    assert text.isascii() and all(character.isprintable() or character == "\n" for character in text)
    report.write_csv(tmp_path / "a.csv", base)
    report.save_predictions(tmp_path / "a.npz", base)
    report.write_picture(tmp_path / "a.png", base, HOSTILE)
    (tmp_path / "training.png").write_text("of an earlier page")
    path = report.write_page(tmp_path, base, metadata)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page and "\x1b" not in page and "&lt;script&gt;" in page
    assert "refine" not in page and "training" not in page and not (tmp_path / "training.png").exists()

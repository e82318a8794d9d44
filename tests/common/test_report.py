"""The report: its figures are the summary's, it needs nothing from outside, and it shows the right poses."""

import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from evaluations import TAKES, evaluation_of, make_evaluation, make_poses

from common import plots, report
from common.errors import UserError
from common.evaluate import root_relative
from common.metrics import auc, pck
from common.records import REFINED
from common.skeleton import JOINT_NAMES, NECK

HOSTILE = "<script>alert('1')</script> & \"quoted\" </title> $x_$"
FACTS = {"weights": "ckpt/model.pth, SHA-256 " + 64 * "a", f"note {HOSTILE}": HOSTILE}
HISTORY = [
    {"epoch": n, "learning_rate": 5e-4 * 0.9**n, "loss": 0.1 / n, "P1": 50 + (n - 3) ** 2, "P2": 40.0}
    for n in range(1, 6)
]


class Page(HTMLParser):
    """Tags with attributes, all visible text, and the rows of the tables by caption."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.tables = [], [], {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        tag = self.tags[-1][0] if self.tags else ""
        self.texts.append(data)
        if tag == "caption" and data.strip():
            self.tables.setdefault(data, self.rows)
        if tag in ("td", "th") and data.strip():
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}", {}))

    def rows_of(self, caption):
        """The rows of a table by their first cell, without the two rows of its head."""
        return {name: cells for name, *cells in self.tables[caption][2:]}


@pytest.fixture
def quick(monkeypatch):
    """Leaves the painting out, which is slow; gives the captions of the poses that would have been drawn."""
    rows = {}

    def draw(path, drawn, title):
        rows[path.name] = [title, *(caption for *_, caption in drawn)]
        path.write_bytes(b"\x89PNG")

    monkeypatch.setattr(report, "prediction_picture", draw)
    monkeypatch.setattr(plots, "write_png", lambda figure, path, dpi: path.write_bytes(b"\x89PNG"))
    return rows


@pytest.fixture
def figures(monkeypatch):
    """The figures that would have been painted."""
    drawn = []

    def keep(figure, path, dpi):
        drawn.append(figure)
        path.write_bytes(b"\x89PNG")

    monkeypatch.setattr(plots, "write_png", keep)
    return drawn


@pytest.fixture(scope="module")
def evaluation():
    takes = ((HOSTILE.replace(" ", ""), HOSTILE.replace(" ", ""), 0, 3, 0, 1), *TAKES)
    return make_evaluation(takes)


@pytest.fixture(scope="module")
def refined(evaluation):
    truth = root_relative(evaluation.poses) * 1000
    return evaluation_of(evaluation.poses, (truth + evaluation.predicted) / 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, evaluation, refined):
    """A report with all that it can have."""
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    return report.write_report(folder, evaluation, facts=FACTS, refined=refined, history=HISTORY)


@pytest.fixture(scope="module")
def page(whole):
    return Page(whole)


def test_the_page_needs_nothing_from_outside(whole, page):
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    sources = [
        value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")
    ]
    assert len(sources) == len(list(whole.parent.glob("*.png"))) >= 7
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    text = whole.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[^\"]*", "", text))


def test_the_pictures_lie_beside_the_page(whole):
    found = sorted(path.name for path in whole.parent.iterdir())
    plain = ["error_curve", "error_per_action", "error_per_joint", "error_per_pdof", "training"]
    poses = ["median_poses_1", "worst_poses_1"]
    assert found == sorted([*(f"{name}.png" for name in plain + poses), "index.html"])
    for name in plain + poses:
        image = matplotlib.image.imread(whole.parent / f"{name}.png")[..., :3]
        assert image.shape[1] >= 1000 and image.std() > 0.03, name
        edge = np.concatenate([image[:, :4].reshape(-1, 3), image[:, -4:].reshape(-1, 3)])
        assert (edge > 0.99).all(), f"{name}: something is cut off at its edge"


def test_hostile_text_is_shown_as_text(whole, page):
    text = "".join(page.texts)
    assert text.count("alert('1')") >= 4 and f"note {HOSTILE}" in text
    assert "<script" not in whole.read_text(encoding="utf-8")


def test_facts_come_first_and_in_order(page):
    texts = [text for text in page.texts if text.strip()]
    places = [texts.index(text) for pair in FACTS.items() for text in pair]
    assert places == sorted(places) and places[-1] < texts.index("Averages")
    assert texts[texts.index("scored") + 1] == "19 poses in 5 sequences"


def test_averages_are_those_of_the_summary(page, evaluation, refined):
    assert page.tables["All metrics"][0] == ["", "base", REFINED]
    assert page.tables["All metrics"][1][1:5] == [
        "action-wise",
        "95 % interval",
        "frame-wise",
        "95 % interval",
    ]
    rows = {name.removesuffix(" (mm)"): cells for name, cells in page.rows_of("All metrics").items()}
    units = evaluation.summary["metric units"]
    assert list(rows) == [name.replace("_", " ") for name in units]
    for metric, unit in units.items():
        expected, decimals = [], 2 if unit.startswith("mm") else 4
        for summary in (evaluation.summary, refined.summary):
            for kind in ("action_wise", "frame_wise"):
                low, high = summary["interval_95"][kind][metric]
                expected.append(f"{summary['average'][kind][metric]:.{decimals}f}")
                expected.append(f"{low:.{decimals}f} to {high:.{decimals}f}")
        assert rows[metric.replace("_", " ")] == expected
    text = "".join(page.texts)
    means = evaluation.summary["average"]["action_wise"]
    assert f"P1 {means['P1']:.2f} mm, P2 {means['P2']:.2f} mm (action-wise)" in text
    assert "bootstrap over whole takes" in text


@pytest.mark.parametrize("grouping", ["per_action", "per_subject", "per_camera"])
def test_groups_are_those_of_the_summary(page, evaluation, refined, grouping):
    caption = f"Means {grouping.replace('_', ' ')}"
    rows = page.rows_of(caption)
    assert page.tables[caption][0] == ["", "base", REFINED]
    assert list(rows) == list(evaluation.summary[grouping])
    for name, row in evaluation.summary[grouping].items():
        cells = dict(zip(page.tables[caption][1][1:11], rows[name]))
        assert (cells["poses"], cells["sequences"]) == (str(row["poses"]), str(row["sequences"]))
        assert cells["P1"] == f"{row['P1']:.2f}" and cells["AUC"] == f"{row['AUC']:.4f}"
        assert cells["bone length"] == f"{row['bone_length']:.2f}"
        own = refined.summary[grouping][name]
        assert rows[name][-2:] == [f"{own['P1']:.2f}", f"{own['P2']:.2f}"]


@pytest.mark.parametrize(("grouping", "caption"), [("per_joint", "per joint"), ("per_pdof", "per PDoF")])
def test_joints_are_those_of_the_summary(page, evaluation, refined, grouping, caption):
    rows = page.rows_of(f"Mean error {caption}, all 17 joints")
    for name, error in evaluation.summary[grouping].items():
        own = refined.summary[grouping][name]
        assert rows.pop(name.replace("_", " ")) == [f"{error:.2f}", f"{own:.2f}"]
    assert not rows


def test_without_refine_and_history_nothing_speaks_of_them(tmp_path, quick, evaluation):
    for name in ("training", "worst_poses_2"):
        (tmp_path / f"{name}.png").write_bytes(b"of an earlier report")
    (tmp_path / "notes.txt").write_text("not of the report")
    path = report.write_report(tmp_path, evaluation, facts={})
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {"training.png", "worst_poses_2.png"} and "notes.txt" in names
    found = Page(path)
    assert found.tables["All metrics"][0] == ["", "not refined"]
    assert REFINED not in "".join(found.texts)
    assert f"{evaluation.average['P1']:.2f}" == found.rows_of("All metrics")["P1 (mm)"][0]


def test_unknown_figures_are_dashes(tmp_path, quick):
    path = report.write_report(tmp_path, make_evaluation((("S9", "Walking", 0, 1, 0, 1),)), facts={})
    rows = Page(path).rows_of("All metrics")
    assert rows["MPJVE (mm)"] == ["-", "-", "-", "-"] and rows["P1 (mm)"][1] == "-"


def test_the_worst_poses_are_the_worst_of_different_sequences():
    takes = tuple(("S9", f"Walking {n}", camera, 6, 0, 1) for n in range(4) for camera in range(4))
    evaluation = make_evaluation(takes)
    evaluation.scores["P1"][:6] += 1000  # one sequence holds the six worst poses of all
    rows = report.worst_rows(evaluation)
    errors, sequences = evaluation.scores["P1"], evaluation.poses.sequences
    highest = sorted((errors[s.start : s.stop].max() for s in sequences), reverse=True)
    assert errors[rows].tolist() == highest[:10]
    assert rows[0] == errors.argmax() and len({row // 6 for row in rows}) == 10


def test_median_poses_are_near_the_median():
    takes = tuple(("S9", f"Walking {n}", 0, 50, 0, 1) for n in range(12))
    evaluation = make_evaluation(takes)
    errors = evaluation.scores["P1"]
    rows = report.median_rows(evaluation)
    distances = np.abs(errors - np.median(errors))
    nearest = sorted(part.min() for part in np.split(distances, 12))
    assert distances[rows].tolist() == nearest[:10]
    assert len({row // 50 for row in rows}) == 10


def test_ten_worst_and_ten_median_poses_are_drawn(tmp_path, quick):
    takes = tuple(("S9", f"Walking {n}", 0, 3, 100, 5) for n in range(12))
    evaluation = make_evaluation(takes)
    path = report.write_report(tmp_path, evaluation, facts={})
    assert set(quick) == {f"{kind}_poses_{n}.png" for kind in ("worst", "median") for n in (1, 2)}
    assert quick["worst_poses_2.png"][0] == "Worst poses by P1: 6 to 10 of 10"
    captions = quick["worst_poses_1.png"][1:] + quick["worst_poses_2.png"][1:]
    assert len(captions) == len(set(captions)) == 10
    worst = evaluation.scores["P1"].argmax()
    frame = 100 + 5 * (worst % 3)
    assert captions[0].startswith(f"S9, Walking {worst // 3}, camera 0, frame {frame}: P1 ")
    assert f"P1 {evaluation.scores['P1'].max():.1f} mm" in captions[0]
    assert "at most one of each sequence" in "".join(Page(path).texts)


def test_spread_rows_are_spread(evaluation):
    assert report.spread_rows(evaluation, 3).tolist() == [4, 9, 14]


def test_rows_to_draw_are_in_pixels_and_metres(evaluation):
    ((keypoints, predicted, truth, caption),) = report.pose_rows(evaluation, [9])
    np.testing.assert_allclose(keypoints, (evaluation.poses.keypoints[9] + 1) * 500, rtol=1e-5)
    errors = np.linalg.norm(predicted - truth, axis=1) * 1000
    assert errors.mean() == pytest.approx(evaluation.scores["P1"][9])
    assert caption.startswith("S9, Walking 1, camera 1, frame 15: P1 ")


def test_the_cumulative_curve_agrees_with_the_metrics(evaluation):
    truth = root_relative(evaluation.poses) * 1000
    errors = evaluation.scores["joint_errors"]
    curve = plots.share_below(errors, np.arange(0, 151, 5))
    assert curve.mean() == pytest.approx(auc(evaluation.predicted, truth).mean())
    for threshold, share in zip((0, 50, 150), plots.share_below(errors, (0, 50, 150))):
        assert share == pytest.approx(pck(evaluation.predicted, truth, threshold).mean())


def test_joints_left_out_are_left_out_of_the_curve(tmp_path, quick, evaluation, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "error_curve", lambda path, *errors: seen.extend(errors))
    joints = tuple(range(1, 17))
    report.write_report(tmp_path, evaluation, facts={}, joints=joints)
    np.testing.assert_array_equal(seen[0], evaluation.scores["joint_errors"][:, 1:])


def test_errors_of_joints_that_are_not_scored_are_labelled(tmp_path, quick, figures, evaluation):
    joints = tuple(joint for joint in range(17) if joint != NECK)
    page = Page(report.write_report(tmp_path, evaluation, facts={}, joints=joints))
    for caption, rows in page.tables.items():
        if "neck" in (row[0] for row in rows) or any(row[0].startswith("torso") for row in rows):
            assert "all 17 joints" in caption
    titled = {figure.legends[0].get_title().get_text() for figure in figures if figure.legends}
    assert {
        "Error per joint (all 17 joints)",
        "Error by distance to the torso (PDoF, all 17 joints)",
    } <= titled


def training_axes(tmp_path, figures, history):
    plots.training_plot(tmp_path / "training.png", history)
    _, error, rate = figures[-1].axes
    return error, rate


def test_training_curves_of_refined_poses_say_so(tmp_path, figures):
    plain, _ = training_axes(tmp_path, figures, HISTORY)
    assert [line.get_label() for line in plain.lines][:2] == ["P1", "P2"]
    assert not any("refined" in line.get_label() for line in plain.lines)
    history = [record | {"base_P1": 70 + record["epoch"]} for record in HISTORY]
    error, _ = training_axes(tmp_path, figures, history)
    curves = {line.get_label(): line.get_ydata() for line in error.lines}
    assert list(curves["base P1"]) == [71, 72, 73, 74, 75]
    assert list(curves[f"P1, {REFINED}"]) == [record["P1"] for record in HISTORY]
    assert f"P2, {REFINED}" in curves and not {"P1", "P2"} & curves.keys()


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_ticks_are_whole_epochs(tmp_path, figures, epochs):
    _, rate = training_axes(tmp_path, figures, HISTORY[:epochs])
    low, high = rate.get_xlim()
    ticks = [tick for tick in rate.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == round(tick) for tick in ticks)


def test_left_and_right_bars_have_the_colours_of_their_sides(tmp_path, evaluation, figures):
    plots.joint_plot(tmp_path / "a.png", evaluation.summary)
    (axes,) = figures[0].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(name.replace("_", " ") for name in JOINT_NAMES)
    for name, bar in zip(names, axes.patches, strict=True):
        colours = {"left": plots.LEFT_COLOUR, "right": plots.RIGHT_COLOUR}
        expected = colours.get(name.split()[0], plots.TRUNK_COLOUR)
        assert matplotlib.colors.to_hex(bar.get_facecolor()).upper() == expected, name
        assert bar.get_width() == evaluation.summary["per_joint"][name.replace(" ", "_")]


def test_no_other_colour_could_be_taken_for_a_side():
    others = {*plots.METRIC_COLOURS.values(), *plots.RUN_COLOURS}
    assert not others & {plots.LEFT_COLOUR, plots.RIGHT_COLOUR}


def test_a_folder_that_cannot_be_written_to(tmp_path, quick, evaluation):
    (tmp_path / "file").write_text("kept")
    for folder in ("file", "file/report"):
        with pytest.raises(UserError, match=f"{folder}: the report cannot be written"):
            report.write_report(tmp_path / folder, evaluation, facts={})
    assert (tmp_path / "file").read_text() == "kept"


def test_refined_poses_of_another_set_are_refused(tmp_path, evaluation):
    with pytest.raises(ValueError, match="expected refined poses"):
        report.write_report(tmp_path, evaluation, facts={}, refined=make_evaluation(TAKES))
    assert len(make_poses(TAKES)) != len(evaluation.poses) and not list(tmp_path.iterdir())

"""Records of runs, and what comparing them says: by hand where it can be done."""

import copy
import json

import matplotlib.image
import numpy as np
import pytest
from evaluations import TAKES, evaluation_of, make_evaluation

from common import plots
from common.compare import compare, pair
from common.errors import UserError
from common.evaluate import root_relative
from common.files import write_json
from common.records import metrics_record, read_record


@pytest.fixture
def evaluation():
    return make_evaluation()


@pytest.fixture
def write(tmp_path):
    """Writes the record of an evaluation under a name and returns its path."""

    def write_record(name, evaluation, facts=None, refined=None):
        path = tmp_path / f"{name}.json"
        write_json(path, metrics_record(evaluation, facts or {}, refined))
        return path

    return write_record


def shifted(evaluation, factor):
    """The same poses with all errors multiplied: P1 grows by (factor - 1) P1."""
    truth = root_relative(evaluation.poses) * 1000
    return evaluation_of(evaluation.poses, truth + factor * (evaluation.predicted - truth))


def row(text, *starts):
    """The cells of the one line of a text that starts with some words, after them."""
    lines = [line.split() for line in text.splitlines()]
    found = [line[len(starts) :] for line in lines if tuple(line[: len(starts)]) == starts]
    assert len(found) == 1, f"{starts}: {found}"
    return found[0]


def test_a_record_reads_back(write, evaluation):
    refined = shifted(evaluation, 0.5)
    found = read_record(write("run", evaluation, {"weights": "a.pth"}, refined))
    assert found.facts == {"weights": "a.pth"}
    assert found.base.name == "run" and not found.base.refined and found.refined.refined
    assert found.base.summary == evaluation.summary and found.refined.summary == refined.summary
    for run, source in ((found.base, evaluation), (found.refined, refined)):
        for metric in ("P1", "P2"):
            np.testing.assert_allclose(run.errors[metric], source.scores[metric], atol=0.00051)
    places = [
        (s.subject, s.action, s.camera, s.start, s.stop, s.first_frame, s.step) for s in found.base.sequences
    ]
    expected = evaluation.poses.sequences
    assert places == [
        (s.subject, s.action, s.camera, s.start, s.stop, s.first_frame, s.step) for s in expected
    ]


def test_a_record_is_plain_json(evaluation):
    record = metrics_record(evaluation, {"weights": "a.pth"})
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["format"] == 1 and "refined" not in record
    assert record["poses"]["sequences"][1] == ["S9", "Walking 1", 1, 10, 5, 4]
    assert all(value == round(value, 3) for value in record["poses"]["P1"])


def test_a_run_does_not_differ_from_itself(write, evaluation):
    text = compare([write("first", evaluation), write("again", evaluation)])
    for metric in ("P1", "P2"):
        assert row(text, "B", "minus", "A", metric) == "+0.00 +0.00 to +0.00 +0.00 +0.00 to +0.00 16".split()
    assert "over the 16 poses that both scored, of 16 and 16" in text
    assert "differ in" not in text


def test_a_worse_run_lies_above_the_first_by_as_much_as_it_is_worse(write, evaluation):
    text = compare([write("first", evaluation), write("worse", shifted(evaluation, 1.25))])
    action_wise, low, _, high, frame_wise, *_ = row(text, "B", "minus", "A", "P1")
    for kind, found in (("action_wise", action_wise), ("frame_wise", frame_wise)):
        assert float(found) == pytest.approx(0.25 * evaluation.summary["average"][kind]["P1"], abs=0.011)
    assert 0 < float(low) < float(action_wise) < float(high)
    better = compare([write("worse", shifted(evaluation, 1.25)), write("first", evaluation)])
    assert float(row(better, "B", "minus", "A", "P1")[0]) == -float(action_wise)


def test_the_table_has_the_averages_and_intervals_of_each_file(write, evaluation):
    other = shifted(evaluation, 2)
    text = compare([write("first run", evaluation), write("second", other)])
    for starts, source in ((("A", "first", "run"), evaluation), (("B", "second"), other)):
        for metric in ("P1", "P2"):
            cells = row(text, *starts, metric)
            kinds = (("action_wise", cells[:4]), ("frame_wise", cells[4:8]))
            for kind, (mean, low, _, high) in kinds:
                assert mean == f"{source.summary['average'][kind][metric]:.2f}"
                bounds = source.summary["interval_95"][kind][metric]
                assert [low, high] == [f"{bound:.2f}" for bound in bounds]
            assert cells[8:] == ["16", "4"]
    pdof = [line for line in text.splitlines() if line.startswith("B") and "minus" not in line][-1]
    assert pdof.split()[2:] == [f"{value:.2f}" for value in other.summary["per_pdof"].values()]


def test_only_poses_that_both_scored_are_paired(write):
    # Every second frame of one take, from frame 1 on; another camera; a take that the first lacks.
    first = make_evaluation((("S9", "Walking", 0, 10, 0, 1), ("S9", "Eating", 0, 3, 0, 1)), seed=3)
    takes = (("S9", "Walking", 0, 8, 1, 2), ("S9", "Eating", 1, 3, 0, 1), ("S11", "Photo", 0, 2, 0, 1))
    second = make_evaluation(takes, seed=4)
    paths = write("a", first), write("b", second)
    found = pair(read_record(paths[1]).base, read_record(paths[0]).base)
    own, other = second.scores["P1"][:5], first.scores["P1"][1:10:2]  # frames 1, 3, 5, 7, 9
    np.testing.assert_allclose(found.errors["P1"], [own, other], atol=0.00051)
    text = compare(paths)
    assert "B minus A: over the 5 poses that both scored, of 13 and 13" in text
    cells = row(text, "B", "minus", "A", "P1")
    assert float(cells[0]) == pytest.approx((own - other).mean(), abs=0.006)
    assert cells[1] == "-"  # one sequence alone has no interval


def test_runs_without_a_pose_in_common(write, tmp_path):
    paths = [write(s, make_evaluation(((s, "Walking", 0, 4, 0, 1),))) for s in ("S9", "S11")]
    text = compare(paths, plot=tmp_path / "plot.png")
    assert "B minus A: no poses in common, of 4 and 4" in text
    assert matplotlib.image.imread(tmp_path / "plot.png")[..., :3].std() > 0.05


def test_the_order_of_sequences_does_not_matter(write):
    first, again = make_evaluation(TAKES), make_evaluation(TAKES[::-1])
    found = pair(read_record(write("a", again)).base, read_record(write("b", first)).base)
    expected = np.concatenate([again.scores["P1"][s.start : s.stop] for s in again.poses.sequences])
    np.testing.assert_allclose(found.errors["P1"][0], expected, atol=0.00051)
    by_take = {(s.subject, s.action): first.scores["P1"][s.start : s.stop] for s in first.poses.sequences}
    expected = np.concatenate([by_take[s.subject, s.action] for s in again.poses.sequences])
    np.testing.assert_allclose(found.errors["P1"][1], expected, atol=0.00051)


def test_refined_figures_are_set_beside_refined_ones_and_their_own_base(write, evaluation):
    first = write("a", evaluation, refined=shifted(evaluation, 0.5))
    second = write("b", shifted(evaluation, 2), refined=shifted(evaluation, 0.75))
    text = compare([first, second])
    assert "true root depth and the camera" in text
    p1 = evaluation.summary["average"]["action_wise"]["P1"]
    expected = {"B": ("A", 1.0), "B refined": ("A refined", 0.25), "A refined": ("A", -0.5)}
    for run, (against, share) in expected.items():
        starts = [*run.split(), "minus", *against.split(), "P1"]
        assert float(row(text, *starts)[0]) == pytest.approx(share * p1, abs=0.011)
    assert "B refined minus A:" not in text


def test_facts_that_differ_are_named(write, evaluation):
    facts = {"key points": "gt", "device": "cpu"}
    text = compare([write("a", evaluation, facts), write("b", evaluation, facts | {"key points": "cpn"})])
    assert row(text, "A:") == ["gt"] and row(text, "B:") == ["cpn"]
    assert "key points" in text and "device" not in text


def test_scores_over_other_joints_are_not_paired(write, evaluation):
    paths = [write(name, evaluation, {"joints": text}) for name, text in (("a", "17"), ("b", "16: no neck"))]
    said_nothing = write("c", evaluation)
    with pytest.raises(UserError, match=r"b\.json: expected .*a\.json \(17\), found 16: no neck: .*--joints"):
        compare([paths[0], said_nothing, paths[1]])
    assert "B minus A" in compare([paths[1], paths[1]])
    assert "B: not said" in compare([paths[0], said_nothing])


def test_intervals_are_over_takes_not_cameras(write):
    def text(cameras):
        takes = tuple(("S9", "Walking", camera, 4, 0, 1) for camera in range(cameras))
        return compare(
            [write(f"{name}", make_evaluation(takes, seed=seed)) for seed, name in enumerate("ab")]
        )

    assert row(text(4), "B", "minus", "A", "P1")[1] == "-"  # one take has no interval
    assert "bootstrap over takes" in text(1)


def test_files_of_one_name_are_told_apart(tmp_path, evaluation):
    paths = [tmp_path / folder / "scores.json" for folder in "xy"]
    for path in paths:
        write_json(path, metrics_record(evaluation, {}))
    text = compare(paths)
    assert str(paths[0]) in text and str(paths[1]) in text


def test_the_plot(write, tmp_path):
    odd = make_evaluation(tuple((s, a.replace("Walking", "$x_"), *rest) for s, a, *rest in TAKES))
    better = shifted(odd, 0.5)
    name = "a name $of_ a run that is " + "very " * 20 + "long"
    paths = [write("a", odd, refined=better), write(name, shifted(odd, 2), refined=odd)]
    compare(paths, plot=tmp_path / "new" / "plot.png")
    image = matplotlib.image.imread(tmp_path / "new" / "plot.png")[..., :3]
    assert image.shape[1] == 1400 and image.std() > 0.05
    assert (image[:, :4] > 0.99).all() and (image[:, -4:] > 0.99).all()  # nothing is cut off there


@pytest.mark.parametrize("refined", [False, True])
def test_the_plot_says_that_it_leaves_out_what_refining_changes(
    write, evaluation, tmp_path, monkeypatch, refined
):
    figures = []
    monkeypatch.setattr(plots, "write_png", lambda figure, path, dpi: figures.append(figure))
    paths = [write(name, evaluation, refined=evaluation if refined else None) for name in "ab"]
    compare(paths, plot=tmp_path / "plot.png")
    drawn = figures[0].axes[1].get_legend()
    assert len(drawn.get_texts()) == 1 + refined  # B minus A, B refined minus A refined
    assert (plots.NOT_DRAWN in figures[0].axes[1].get_xlabel()) == refined


def test_one_file_is_too_few(write, evaluation):
    with pytest.raises(UserError, match="at least two files"):
        compare([write("a", evaluation)])


def test_a_plot_that_cannot_be_written(write, evaluation, tmp_path):
    path = write("a", evaluation)
    with pytest.raises(UserError, match=r"plot\.png: the plot cannot be written"):
        compare([path, path], plot=path / "plot.png")


def damage(record, keys, value):
    """A copy of a record with another value, or none at all where it is ``...``, at one place."""
    record = copy.deepcopy(record)
    place = record
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return record


DAMAGES = (
    (("format",), 2, "format 1, found format 2"),
    (("format",), ..., "found format None"),
    (("facts",), {"weights": 1}, "facts: expected texts"),
    (("facts",), ..., "expected facts, found nothing"),
    (("metrics",), ..., "expected metrics, found nothing"),
    (("poses",), ..., "expected poses, found nothing"),
    (("poses", "P2"), ..., "expected P2, found nothing"),
    (("metrics", "average", "frame_wise"), ..., r"expected average\.frame_wise, found nothing"),
    (("metrics", "average", "action_wise", "P1"), None, r"action_wise\.P1: expected a finite number"),
    (("metrics", "interval_95", "frame_wise", "P2"), [1], r"frame_wise\.P2: expected \[low, high\]"),
    (("metrics", "interval_95", "frame_wise", "P2"), [1, "2"], "expected a finite number, found 2"),
    (("metrics", "per_pdof", "torso"), ..., r"expected per_pdof\.torso, found nothing"),
    (("metrics", "poses"), 17, "same number of poses everywhere, found metrics 17, sequences 16"),
    (("poses", "P1"), [1.0] * 15, "P1 15, P2 16"),
    (("poses", "P1"), [1.0] * 16, "expected poses with a mean P1 of"),
    (("poses", "P1", 3), True, "P1 of pose 3: expected a finite error, found True"),
    (("poses", "P1", 3), -1.0, "P1 of pose 3"),
    (("poses", "P1", 3), "7", "P1 of pose 3"),
    (("poses", "P1"), 7, "P1: expected a list"),
    (("poses", "sequences"), [], "at least one sequence"),
    (("poses", "sequences", 1), ["S9", "Walking", 0, 0, 1], r"sequences\[1\]: expected \[subject"),
    (("poses", "sequences", 1), ["S9", "Walking", 0.0, 0, 1, 4], r"sequences\[1\]"),
    (("poses", "sequences", 1), ["S9", "Walking", 0, 0, 0, 4], r"sequences\[1\]"),
    (("poses", "sequences", 1), ["S9", "Walking", 0, 10**30, 1, 4], r"sequences\[1\]"),
    (("poses", "sequences", 1), ["S9", "Walking", 0, 4, 1, 4], "every pose once"),
    (("poses", "sequences", 1, 5), 5, "sequences 17"),
    (("refined",), 3, "expected metrics, found nothing"),
    (("refined",), {}, "expected metrics, found nothing"),
)  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "message"), DAMAGES)
def test_damaged_records_are_named_with_what_is_wrong(tmp_path, write, evaluation, keys, value, message):
    good = write("good", evaluation)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(damage(json.loads(good.read_text()), keys, value)))
    with pytest.raises(UserError, match=message) as caught:
        compare([good, bad])
    assert str(bad) in str(caught.value) and "--metrics_json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"PK\x03\x04\xff", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"format": 1', "expected JSON"),
        (b'{"format": NaN}', "finite numbers, found NaN"),
        (b"[1, 2]", "found format None"),
        (b'"format"', "found format None"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN", "9" * 400])
def test_numbers_that_are_not_finite(tmp_path, evaluation, number):
    record = metrics_record(evaluation, {})
    record["poses"]["P1"][2] = "HERE"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(record).replace('"HERE"', number))
    with pytest.raises(UserError, match="finite"):
        read_record(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read_record(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path)


def test_refined_scores_of_other_poses_are_refused(evaluation):
    with pytest.raises(ValueError, match="expected refined poses of"):
        metrics_record(evaluation, {}, make_evaluation(TAKES[::-1]))

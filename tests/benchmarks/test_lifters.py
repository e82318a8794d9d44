"""Rows that are trained on equal terms, stopped and gone on with, and put side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import lifter_runs, lifter_table
from benchmarks.baselines import ResidualMlp
from benchmarks.lifter_rows import ROWS, Row
from benchmarks.lifter_runs import EPOCHS, BudgetBatches, epoch_samples
from benchmarks.lifters import main
from common import cache, training
from common.evaluate import evaluate
from common.h36m import DATASETS
from common.losses import lifting
from common.summary import PDOF_GROUPS
from model import HTNet

CPU = torch.device("cpu")
CPN = "cpn_ft_h36m_dbb"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def small(monkeypatch) -> None:
    """Rows small enough to train in a moment."""
    for name in ROWS.keys() - {"htnet", "mgcn", "htnet_refine", "no_ljc"}:
        monkeypatch.delitem(ROWS, name)
    mlp, htnet = partial(ResidualMlp, hidden=8), partial(HTNet, layers=1, channel=24, d_hid=24)
    monkeypatch.setitem(ROWS, "htnet", Row("HTNet", htnet, seeds=2))
    monkeypatch.setitem(ROWS, "mgcn", Row("Modulated GCN", mlp, seeds=2))
    monkeypatch.setitem(ROWS, "htnet_refine", Row("HTNet, refined", htnet, refine=True))
    monkeypatch.setitem(ROWS, "no_ljc", Row("HTNet without LJC", mlp, sources=("gt",)))


def call(folder: Path, out: Path, *more: str) -> int:
    """One command line, on 2 steps of 4 an epoch."""
    call = ["--root_path", str(folder), "--out", str(out), "--samples", "117", "--batch_size", "4"]
    return main([*call, "--device", "cpu", *more])


def read(path: Path) -> dict:
    return json.loads(path.read_text())


# The budget


@pytest.mark.parametrize(("samples", "batch_size"), [(512_000, 512), (1, 512), (7680, 512), (7681, 512)])
def test_the_budget_is_whole_batches_and_no_less_than_asked_for(samples, batch_size):
    own = epoch_samples(samples, batch_size)
    assert own % batch_size == 0
    assert EPOCHS * (own - batch_size) < samples <= EPOCHS * own


@pytest.mark.parametrize("size", [40, 968, 2000])
def test_every_sample_is_taken_once_before_one_is_taken_again(folder, size):
    poses = cache.load(DATASETS["h36m"], folder, "gt").subjects(["S1", "S5"])

    def batches(seed=1):
        return BudgetBatches(poses, samples=size, batch_size=8, mirrored=True, seed=seed, device=CPU)

    budget, whole = batches(), 2 * len(poses)
    epochs = range(1, 3 * whole // size + 2)
    assert {len(budget.order(epoch)) for epoch in epochs} == {size}
    order = torch.cat([budget.order(epoch) for epoch in epochs])
    rounds = [order[i * whole : (i + 1) * whole] for i in range(3)]
    assert all(torch.equal(one.sort().values, torch.arange(whole)) for one in rounds)
    assert not torch.equal(rounds[0], rounds[1])
    assert torch.equal(batches().order(2), budget.order(2))
    assert not torch.equal(batches(seed=2).order(2), budget.order(2))
    assert len(budget) == size // 8 == len(list(budget.epoch(1)))


# A row


def test_a_row_is_trained_scored_and_written_down(folder, tmp_path, small, monkeypatch):
    scored, orders, out = [], [], tmp_path / "out" / "row.json"
    steps = counted(monkeypatch)

    def evaluated(lifter, poses, **keywords):
        scored.append(len(poses))
        return evaluate(lifter, poses, **keywords)

    def ordered(batches, epoch):
        orders.append(order(batches, epoch))
        return orders[-1]

    order = BudgetBatches.order
    for module in (lifter_runs, training):
        monkeypatch.setattr(module, "evaluate", evaluated)
    monkeypatch.setattr(BudgetBatches, "order", ordered)
    assert call(folder, out, "--row", "htnet", "--seed", "3") == 0
    record = read(out)
    assert (record["samples"], record["steps"], record["batch_size"], record["seed"]) == (120, 30, 4, 3)
    assert steps == [(4, 1, 17, 2)] * 30
    assert record["training_poses"] <= int(torch.cat(orders).max()) < 2 * record["training_poses"]  # mirrored
    rates = [entry["learning_rate"] for entry in record["history"]]
    assert len(rates) == EPOCHS
    assert rates[:2] == pytest.approx([5e-4, 4.75e-4]) and rates[-1] == pytest.approx(5e-4 * 0.95**12 * 0.25)
    test_set = cache.load(DATASETS["h36m"], folder, "gt").subjects(["S9", "S11"])
    assert record["test_poses"] == len(test_set) == scored[-1]
    assert scored[:-1] == [len(test_set.sequences)] * EPOCHS  # one frame of each: they are short
    assert record["parameters"] == sum(p.numel() for p in ROWS["htnet"].build().parameters())
    assert record["P2"] < record["P1"] and list(record["per_pdof"]) == list(PDOF_GROUPS)
    ends = [record["per_joint"][f"{side}_{end}"] for side in ("left", "right") for end in ("wrist", "ankle")]
    assert record["per_pdof"]["PDoF 3 (end joints)"] == pytest.approx(sum(ends) / 4)
    assert record["seconds"] >= 0
    assert str(tmp_path) not in out.read_text()
    assert record["command"].startswith("python -m benchmarks.lifters --row htnet --seed 3 --keypoints gt")
    assert [path.name for path in out.parent.iterdir()] == ["row.json"]


def test_the_command_in_a_record_gives_the_record(folder, tmp_path, small):
    assert call(folder, tmp_path / "a.json", "--row", "mgcn", "--seed", "2") == 0
    first = read(tmp_path / "a.json")
    argv = first["command"].replace("DIR", str(folder)).replace("a.json", str(tmp_path / "b.json")).split()
    assert main(argv[3:]) == 0
    second = read(tmp_path / "b.json")
    for name in ("P1", "P2", "per_joint", "samples", "data"):
        assert first[name] == second[name]


def test_a_refined_row_has_both_figures(folder, tmp_path, small):
    assert call(folder, tmp_path / "a.json", "--row", "htnet_refine") == 0
    record = read(tmp_path / "a.json")
    assert record["before_refining"]["P1"] != record["P1"]
    assert record["parameters"] > sum(p.numel() for p in ROWS["htnet"].build().parameters()) + 100_000
    assert set(record["history"][0]) >= {"learning_rate", "learning_rate_refine"}


def test_a_recipe_is_trained_with_its_options_and_scored_on_other_data_too(
    files, write_files, tmp_path, small, monkeypatch
):
    folder = write_files(*files)
    assert call(folder, tmp_path / "a.json", "--row", "htnet") == 0
    options = ("--keypoint_noise", "--dropout", "0", "--lr", "0.002")
    row = Row("`noise`", ROWS["htnet"].build, sources=("gt",), options=options, recipe=True)
    monkeypatch.setitem(ROWS, "noise", row)
    out = tmp_path / "noise-gt-1.json"
    assert call(folder, out, "--row", "noise") == 2, "the other key points are missing"
    assert not out.exists()
    write_files(*files, keypoints=CPN)
    monkeypatch.setattr(lifter_runs, "EPOCHS", 1)
    chances, build = [], row.build
    seen = replace(row, build=lambda **chance: chances.append(chance) or build(**chance))
    monkeypatch.setitem(ROWS, "noise", seen)
    assert call(folder, tmp_path, "--recipes") == 0
    found = read(out)
    assert chances == [{"dropout": 0.0, "drop_path": (0.1, 0.3)}]
    assert found["history"][0]["learning_rate"] == 0.002
    assert found["history"][0]["loss"] != read(tmp_path / "a.json")["history"][0]["loss"]
    assert list(found["elsewhere"]) == [f"{CPN} key points", "the bundled sample"]
    assert len({found["P1"], *(each["P1"] for each in found["elsewhere"].values())}) == 3
    assert [path.name for path in tmp_path.glob("*.json")].count("htnet-gt-2.json") == 0  # --all's affair


def counted(monkeypatch) -> list[tuple[int, ...]]:
    """From here on, the shapes of the key points of all steps."""
    shapes = []

    def loss(lifter, **weights):
        def counting(batch):
            assert lifter.training
            shapes.append(tuple(batch.keypoints.shape))
            return lifting(lifter, **weights)(batch)

        return counting

    monkeypatch.setattr(training.losses, "lifting", loss)
    return shapes


def interrupted(monkeypatch, at: int):
    """From here on, SIGTERM comes within one step."""

    def loss(lifter, **weights):
        own, seen = lifting(lifter, **weights), 0

        def interrupting(batch):
            nonlocal seen
            seen += 1
            if seen == at:
                signal.raise_signal(signal.SIGTERM)
            return own(batch)

        return interrupting

    monkeypatch.setattr(training.losses, "lifting", loss)


@pytest.mark.parametrize("at", [1, 2, 17, 30])
def test_a_row_that_was_stopped_goes_on_to_the_same_end(folder, tmp_path, small, monkeypatch, capsys, at):
    assert call(folder, tmp_path / "unbroken.json", "--row", "htnet") == 0
    out = tmp_path / "a.json"
    with monkeypatch.context() as patch:
        interrupted(patch, at)
        assert call(folder, out, "--row", "htnet") == 0
    assert "the same command goes on" in capsys.readouterr().err
    assert not out.exists()
    assert call(folder, out, "--row", "htnet", "--seed", "2") == 2
    assert "remove it, or choose another --out" in capsys.readouterr().err
    steps = counted(monkeypatch)
    assert call(folder, out, "--row", "htnet") == 0
    assert len(steps) == 30 - at
    unbroken, record = read(tmp_path / "unbroken.json"), read(out)
    assert record["seconds_lack_what_a_stop_cost"] and not unbroken["seconds_lack_what_a_stop_cost"]
    for name in ("P1", "P2", "per_joint", "per_pdof"):
        assert record[name] == unbroken[name]
    losses = [[entry["loss"] for entry in found["history"]] for found in (record, unbroken)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--row", "mgnc"), "--row mgnc: expected one of htnet, mgcn"),
        (("--row", "htnet", "-k", "hrnet"), "data_2d_h36m_hrnet.npz"),
        (("--recipes", "-k", CPN), f"-k {CPN}: --recipes takes gt"),
        (("--row", "cosine", "-k", CPN), f"-k {CPN}: recipes are tried on gt alone"),
        (("--all", "-k", "hrnet"), "-k hrnet: --all takes gt or cpn_ft_h36m_dbb"),
    ],
)
def test_a_wrong_call_is_told(folder, tmp_path, capsys, argv, words):
    assert call(folder, tmp_path / "out", *argv) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_needs_no_pytorch():
    code = "import sys; from benchmarks.lifters import build_parser; build_parser().format_help(); "
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# All rows


def test_all_trains_what_is_missing_and_outlives_a_row_that_diverges(
    files, write_files, tmp_path, small, monkeypatch, capsys
):
    folder, out = write_files(*files), tmp_path / "out"
    write_files(*files, keypoints=CPN)
    monkeypatch.setattr(lifter_runs, "EPOCHS", 2)

    def diverging():
        model = ROWS["mgcn"].build()
        torch.nn.init.constant_(model.last.bias, float("nan"))
        return model

    with monkeypatch.context() as patch:
        patch.setitem(ROWS, "no_ljc", Row("diverges", diverging, sources=("gt",)))
        assert call(folder, out, "--all", "-k", "gt") == 1
    assert "no_ljc-gt-1.json: the loss became nan" in capsys.readouterr().err
    there = {f"{name}-gt-1.json" for name in ("htnet", "mgcn", "htnet_refine")}
    there |= {"htnet-gt-2.json", "mgcn-gt-2.json"}
    assert {path.name for path in out.glob("*.json")} == there
    before = {name: (out / name).stat().st_mtime_ns for name in there}

    monkeypatch.setattr(lifter_runs.shutil, "rmtree", seen := Removed())
    assert call(folder, out, "--all") == 0
    expected = [f"{name}-{CPN}-1" for name in ("htnet", "mgcn", "htnet_refine")]
    expected += [f"{name}-{CPN}-2" for name in ("htnet", "mgcn")]
    assert seen.names == ["no_ljc-gt-1", *expected]  # in this order: every row before a second seed
    assert {name: (out / name).stat().st_mtime_ns for name in there} == before
    assert read(out / f"htnet-{CPN}-2.json")["keypoints"] == CPN
    assert call(folder, out, "--all") == 0
    assert len(seen.names) == 6


class Removed:
    """Stands for shutil.rmtree, and keeps which runs came to their end."""

    def __init__(self):
        self.names = []

    def __call__(self, folder, **_):
        if folder.suffix == ".run":
            self.names.append(folder.stem)


# The table


def record(row: str, seed: int, p1: float, end: float, keypoints: str = "gt", **more) -> dict:
    per_pdof = dict(zip(PDOF_GROUPS, (10.0, 20.0, 30.0, end), strict=True))
    return {
        "row": row, "seed": seed, "keypoints": keypoints, "samples": 512_000, "batch_size": 512,
        "amp": "off", "data": "d", "training_poses": 5000, "test_poses": 1000, "parameters": 1234567,
        "P1": p1, "P2": p1 / 2,
        "per_pdof": per_pdof, "seconds": 120.0, "seconds_lack_what_a_stop_cost": False, **more,
    }  # fmt: skip


def write(folder: Path, *records: dict) -> Path:
    for number, entry in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(entry))
    return folder


def test_the_table_has_means_spreads_and_the_claim(tmp_path, capsys):
    write(
        tmp_path,
        record("mgcn", 1, 60.0, 100.0),
        record("htnet", 1, 50.0, 80.0),
        record("htnet", 2, 53.0, 90.0, seconds_lack_what_a_stop_cost=True),
        record("no_gbi", 1, 55.5, 91.0),
        record("htnet", 1, 80.0, 120.0, CPN),
        record("mgcn", 1, 79.0, 100.0, CPN),
    )
    assert main(["--table", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    htnet = (
        "| HTNet | 1,234,567 | 2 | 51.50 ± 2.12 | 25.75 ± 1.06 | 10.00 ± 0.00 | 20.00 ± 0.00 | 30.00 ± 0.00 |"
    )
    assert lines[2] == f"{htnet} 85.00 ± 7.07 | > 2 |"
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| HTNet", "| Modulated GCN (Zou and Tang 2021)", "| HTNet without GBI (body level)",
    ]  # fmt: skip
    assert (
        "HTNet 85.00 mm, Modulated GCN 100.00 mm, which is 15.0 % less "
        "(of two single seeds: from 10.0 % less to 20.0 % less)" in printed
    )
    assert (
        "HTNet 120.00 mm, Modulated GCN 100.00 mm, which is 20.0 % more. The paper says 18.7 % less."
        in printed
    )
    with Image.open(tmp_path / "lifters.png") as picture:
        assert min(picture.size) > 400


def test_recipes_have_a_table_of_their_own(tmp_path, capsys):
    there = {"P1": 90.0, "P2": 60.0}
    more = {"elsewhere": {"other data": there}, "photos": {"a.png": [80.0, 70.0], "b.png": [60.0]}}
    write(
        tmp_path,
        record("open", 1, 40.0, 60.0, **more),
        record("published", 1, 50.0, 70.0, **more | {"photos": {}}),
        record("htnet", 1, 99.0, 99.0),
    )
    assert main(["--table", str(tmp_path)]) == 0
    lifters, recipes = capsys.readouterr().out.split("Recipes, HTNet")
    assert "99.00" in lifters and "40.00" not in lifters and "99.00" not in recipes
    lines = [line for line in recipes.splitlines() if line.startswith("| ")]
    assert "| published recipe | 50.00 / 25.00 | 70.00 | 90.00 / 60.00 |  |" in lines
    (made_up,) = (line for line in lines if line.startswith("| `--recipe open`"))
    assert made_up.endswith("| 40.00 / 20.00 | 60.00 | 90.00 / 60.00 | 70 |")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ((), "there are no records"),
        (("[]",), "expected a record"),
        (({"row": "htnet"},), "KeyError('seed')"),
        ((record("unknown", 1, 1.0, 1.0),), "an unknown row"),
        ((record("cosine", 1, 1.0, 1.0),), "KeyError('elsewhere')"),
        ((record("cosine", 1, 1.0, 1.0, elsewhere={"b": {"P1": 1, "P2": float("nan")}}),), "not finite"),
        ((record("htnet", 1, float("nan"), 1.0),), "not finite"),
        (
            (record("htnet", 1, 1.0, 1.0), record("mgcn", 1, 1.0, 1.0, samples=1)),
            "1.json differs .* in samples",
        ),
        ((record("htnet", 1, 1.0, 1.0), record("mgcn", 1, 1.0, 1.0, data="e")), "differs .* in data"),
        (
            (record("htnet", 1, 1.0, 1.0), record("htnet", 1, 2.0, 2.0)),
            "1.json and .*0.json are of the same row",
        ),
    ],
)
def test_what_cannot_stand_side_by_side_is_refused(tmp_path, capsys, records, words):
    write(tmp_path, *records)
    with pytest.raises(lifter_table.UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        lifter_table.read_records(tmp_path)
    assert main(["--table", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")

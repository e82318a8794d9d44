"""Rows that are trained on equal terms, stopped and resumed, and compared; the baselines' sizes."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import lifters
from benchmarks.baselines import JointTransformer, ModulatedGCN, NonLocal, ResidualMlp, ablated
from benchmarks.lifters import ROWS, BudgetBatches, main, read_records, table
from common import losses
from common.console import UserError
from common.data import DATASETS, load
from model.htnet import HTNet

RESULTS = Path(lifters.__file__).with_name("results")


@pytest.fixture
def small(monkeypatch):
    """Rows small enough to train in a moment, for 3 epochs."""
    monkeypatch.setattr(lifters, "EPOCHS", 3)
    monkeypatch.setattr("os.fsync", lambda _: None)
    htnet = partial(HTNet, layers=1, channel=24, d_hid=24)
    small = {"htnet": htnet, "htnet_refine": htnet, "mgcn": partial(ResidualMlp, hidden=8)}
    monkeypatch.setattr(lifters, "LIFTERS", list(small))
    for name, build in small.items():
        monkeypatch.setitem(ROWS, name, ROWS[name]._replace(build=build))


def call(folder: Path, out: Path, *more: str) -> int:
    """One command line, with 2 steps of 4 samples per epoch."""
    options = ["--root_path", str(folder), "--out", str(out), "--samples", "17", "--batch_size", "4"]
    return main([*options, "--device", "cpu", *more])


def test_budget_takes_every_sample_once_before_one_is_repeated(folder):
    poses = load(DATASETS["h36m"], folder, "gt").subjects(["S1", "S5"])
    budget = BudgetBatches(poses, samples=40, batch_size=8, mirrored=True, seed=1, device=torch.device("cpu"))
    whole = 2 * len(poses)
    order = torch.cat([budget.order(epoch) for epoch in range(1, 2 * whole // 40 + 2)])
    first, second = order[:whole], order[whole : 2 * whole]
    assert torch.equal(first.sort().values, torch.arange(whole))
    assert torch.equal(second.sort().values, torch.arange(whole)) and not torch.equal(first, second)


@pytest.mark.slow
def test_row_resumes_to_the_same_record(folder, tmp_path, small, monkeypatch):
    assert call(folder, tmp_path / "a.json", "--row", "htnet_refine") == 0
    original, steps = losses.training_loss, 0

    def interrupted(*networks, **weights):
        def loss(batch):
            nonlocal steps
            steps += 1
            if steps == 4:
                signal.raise_signal(signal.SIGINT)
            return original(*networks, **weights)(batch)

        return loss

    with monkeypatch.context() as patch:
        patch.setattr(losses, "training_loss", interrupted)
        assert call(folder, tmp_path / "b.json", "--row", "htnet_refine") == 130
    assert call(folder, tmp_path / "b.json", "--row", "htnet_refine", "--seed", "2") == 2
    assert call(folder, tmp_path / "b.json", "--row", "htnet_refine") == 0
    whole, resumed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    for key in ("P1", "P2", "per_joint", "before_refining", "samples", "steps", "data", "parameters"):
        assert whole[key] == resumed[key], key
    assert [each["loss"] for each in whole["history"]] == [each["loss"] for each in resumed["history"]]
    assert whole["samples"] == 24 and len(whole["history"]) == 3
    assert whole["P1"] != whole["before_refining"]["P1"] and resumed["seconds_lack_what_a_stop_cost"]


@pytest.mark.slow
def test_all_trains_what_is_missing(folder, tmp_path, small):
    assert call(folder, tmp_path, "--all", "-k", "gt") == 0
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    names = {f"{name}-gt-{seed}" for name in ("htnet", "mgcn") for seed in (1, 2, 3)} | {"htnet_refine-gt-1"}
    assert {path.stem for path in times} == names
    assert call(folder, tmp_path, "--all", "-k", "gt") == 0
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}


def test_table_of_the_shipped_records_has_the_values_of_the_readme(tmp_path):
    text = table(read_records(RESULTS))
    readme = RESULTS.with_name("README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 20 and not [row for row in rows if row not in readme and "photos" not in row]
    assert "+2.4 % (two single seeds: -4.8 to +10.5 %)" in text


def test_records_of_other_data_are_refused(tmp_path):
    record = json.loads((RESULTS / "htnet-gt-1.json").read_text())
    for number, other in enumerate((record, record | {"seed": 2, "samples": 1})):
        (tmp_path / f"{number}.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"1\.json: .*samples"):
        read_records(tmp_path)
    assert main(["--table", str(tmp_path / "none")]) == 2


def test_baselines_have_their_published_sizes_and_lift_each_frame():
    sizes = {ResidualMlp: 4_296_755, ModulatedGCN: 2_731_840, JointTransformer: 3_165_443}
    for build, size in sizes.items():
        lifter = build().eval()
        assert sum(each.numel() for each in lifter.parameters()) == size
        for module in lifter.modules():
            if isinstance(module, NonLocal):  # the identity at the start
                torch.nn.init.ones_(module.norm.weight)
        keypoints = torch.randn(2, 3, 17, 2)
        together = lifter(keypoints)
        torch.testing.assert_close(together[1, 2], lifter(keypoints[1:, 2:])[0, 0])


@torch.no_grad()
@pytest.mark.parametrize("change", ["lgc", "ipc", "gbi", "parallel", "crossed_arms"])
def test_ablation_changes_one_thing(change):
    torch.manual_seed(4)
    whole = HTNet().eval()
    torch.manual_seed(4)
    model, keypoints = ablated(change).eval(), torch.randn(8, 1, 17, 2)
    assert not torch.allclose(model(keypoints), whole(keypoints), atol=1e-4)
    blocks = model.Hiremixer.blocks
    for number, (block, original) in enumerate(zip(blocks, whole.Hiremixer.blocks, strict=True)):
        if change == "parallel":
            blocks[number] = block.block
        elif change == "crossed_arms":
            block.ipc.conv1.source.copy_(original.ipc.conv1.source)
        else:
            setattr(block, change, getattr(original, change))
    assert torch.equal(model(keypoints), whole(keypoints))

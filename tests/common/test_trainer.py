"""Training that nothing leads to another end, on a lifter small enough to train it a hundred times."""

from __future__ import annotations

import json
import logging
import os
import signal
import struct
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common import checkpoint
from common.batches import Batches
from common.device import in_precision
from common.errors import CheckpointError, RunError
from common.losses import lifting, mean_joint_distance
from common.sequences import PoseSet, Sequence
from common.trainer import Part, Schedule, Stopped, Trainer

CPU = torch.device("cpu")
STEPS = 3
"""Batches of an epoch of the run below: 2 x 20 samples by 16."""


class Killed(BaseException):
    """The process ends here."""


class Lifter(nn.Module):
    """A linear lifter with dropout, so that the random state matters, and a hook that sees every step."""

    def __init__(self, at_step=lambda step: None) -> None:
        super().__init__()
        self.linear = nn.Linear(34, 51)
        self.at_step, self.seen = at_step, 0

    def forward(self, keypoints):
        self.at_step(self.seen)
        self.seen += 1
        x = nn.functional.dropout(keypoints.flatten(1), 0.5, self.training)  # (B, 34)
        return self.linear(x).unflatten(1, (1, 17, 3))  # (B, 1, 17, 3)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def pose_set() -> PoseSet:
    rng = np.random.default_rng(5)
    sequence = Sequence("S1", "Walking", 0, 0, 20, (2.0, 2.0, 0.0, 0.0), (1000, 1000))
    keypoints, positions = rng.normal(size=(20, 17, 2)), rng.normal(size=(20, 17, 3))
    return PoseSet(keypoints.astype(np.float32), positions.astype(np.float32), (sequence,))


def build(
    folder,
    *,
    p1=None,
    minutes=0.0,
    at_step=lambda step: None,
    at_score=lambda epoch: None,
    poses=None,
    keep="best",
    head=False,
    lifter_schedule=Schedule(),
    amp="off",
) -> Any:
    """A trainer of a new process: same seed, nothing else kept.

    ``p1`` gives each epoch's score; with ``head`` there is a second network, trained by the usual schedule.
    """
    torch.manual_seed(3)
    model = Lifter(at_step)

    def score():
        at_score(trainer.progress.epoch)
        weight = float(model.linear.weight.detach().abs().sum())
        epoch = trainer.progress.epoch
        value = p1[epoch - 1] if p1 else 1000 - 100 * epoch + weight
        return {"P1": value, "P2": value / 2, "MPJVE": None}

    batches = Batches(poses or pose_set(), batch_size=16, mirrored=True, seed=1, device=CPU)
    folder.mkdir(exist_ok=True)
    lift = in_precision(model, amp, CPU)
    parts, loss = {"model": Part(model, lifter_schedule)}, lifting(lift)
    if head:
        parts["refine"] = Part(nn.Linear(3, 3), Schedule())
        loss = lambda batch: mean_joint_distance(  # noqa: E731
            parts["refine"].network(model(batch.keypoints)), batch.target
        )
    trainer: Any = Trainer(
        parts, batches, loss, score, folder=folder, keep=keep, checkpoint_minutes=minutes, amp=amp
    )
    trainer.lifter = model
    return trainer


def resumed(folder, **keywords):
    trainer = build(folder, **keywords)
    if (folder / checkpoint.LAST).exists():
        trainer.restore()
    return trainer


def same(a, b) -> bool:
    """Equal to the last bit, through all dictionaries and lists."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def last(folder):
    return checkpoint.read(folder / checkpoint.LAST)


def history(folder):
    return json.loads((folder / "history.json").read_text())


def weights(folder) -> list[str]:
    return [path.name for path in folder.glob("model_*.pth")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run of two epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    build(folder).fit(2)
    return folder


def assert_as_unbroken(folder, unbroken) -> None:
    assert same(last(folder), last(unbroken))
    assert history(folder) == history(unbroken)
    assert weights(folder) == weights(unbroken)
    assert same(
        checkpoint.read(folder / weights(folder)[0]), checkpoint.read(unbroken / weights(unbroken)[0])
    )
    assert not list(folder.glob(".*"))


# The protocol


def test_the_schedule_is_the_protocols():
    rates = [Schedule().rate(epoch) for epoch in range(1, 16)]
    expected, rate = [], 0.0005
    for epoch in range(1, 16):  # after each epoch x 0.95, but x 0.5 after every fifth
        expected.append(rate)
        rate *= 0.5 if epoch % 5 == 0 else 0.95
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    np.testing.assert_allclose(rates[:4], [0.0005, 0.000475, 0.00045125, 0.0004286875], rtol=1e-12)
    np.testing.assert_allclose(rates[5] / rates[4], 0.5, rtol=1e-12)


def test_the_schedule_in_words_has_its_numbers(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        build(tmp_path / "a").fit(1)
    rule = "0.0005 in the first epoch; after each epoch x 0.95, but x 0.5 after every 5 epochs"
    assert f"learning rate of model: {rule}" in caplog.messages


def test_the_loss_is_the_mean_distance_of_the_joints():
    predicted, target = torch.randn(2, 1, 17, 3), torch.randn(2, 1, 17, 3)
    distances = [
        float((p - t).norm()) for p, t in zip(predicted.view(-1, 3), target.view(-1, 3), strict=True)
    ]
    assert float(mean_joint_distance(predicted, target)) == pytest.approx(np.mean(distances), rel=1e-5)


def test_each_epoch_has_its_rate_all_its_batches_and_a_mean_loss(tmp_path):
    rates, losses = [], []
    trainer: Any = build(
        tmp_path / "a",
        at_step=lambda _: rates.append(trainer.optimizer.param_groups[0]["lr"]),
        at_score=lambda _: losses.append(list(trainer.progress.losses)),
    )
    trainer.fit(7)
    np.testing.assert_allclose(rates, np.repeat([Schedule().rate(epoch) for epoch in range(1, 8)], STEPS))
    assert [record["epoch"] for record in history(tmp_path / "a")] == [1, 2, 3, 4, 5, 6, 7]
    assert [len(values) for values in losses] == [STEPS] * 7
    assert [r["loss"] for r in history(tmp_path / "a")] == [float(np.mean(values)) for values in losses]
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert trainer.optimizer.param_groups[0]["amsgrad"]


def test_training_is_in_training_mode_after_a_score_in_the_other(tmp_path):
    modes = []
    trainer: Any = build(
        tmp_path / "a",
        at_step=lambda _: modes.append(trainer.lifter.training),
        at_score=lambda _: trainer.lifter.eval(),
    )
    trainer.fit(2)
    assert modes == [True] * 2 * STEPS


# What is kept


def test_the_best_epoch_by_p1_is_the_only_one_kept(tmp_path):
    folder, kept = tmp_path / "a", []
    trainer = build(folder, p1=[50.0, 48.126, 49.0, 48.126], at_score=lambda _: kept.append(weights(folder)))
    states = {}
    trainer.lifter.at_step = lambda step: states.update({step: trainer.lifter.linear.weight.detach().clone()})
    trainer.fit(4)
    assert kept == [[], ["model_1_5000.pth"], ["model_2_4813.pth"], ["model_2_4813.pth"]]
    assert weights(folder) == ["model_2_4813.pth"]
    best = torch.load(folder / "model_2_4813.pth", weights_only=True)
    assert torch.equal(best["linear.weight"], states[2 * STEPS])  # as the third epoch found it
    assert torch.equal(last(folder)["model"]["linear.weight"], trainer.lifter.linear.weight)


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path):
    folder, kept = tmp_path / "a", []
    at_score = lambda _: kept.append(weights(folder))  # noqa: E731
    build(folder, p1=[50.0, 48.0, 49.0], keep="last", at_score=at_score).fit(3)
    assert [*kept, weights(folder)] == [[], ["model_1_5000.pth"], ["model_2_4800.pth"], ["model_3_4900.pth"]]


# Two networks


def test_each_network_has_a_rate_and_files_of_its_own(tmp_path):
    folder, rates = tmp_path / "a", []
    trainer: Any = build(
        folder,
        p1=[50.0, 48.0],
        head=True,
        lifter_schedule=Schedule(initial=1e-5, decay=0.5),
        at_step=lambda _: rates.append([group["lr"] for group in trainer.optimizer.param_groups]),
    )
    trainer.fit(2)
    np.testing.assert_allclose(rates, [[1e-5, 5e-4]] * STEPS + [[5e-6, 4.75e-4]] * STEPS)
    written = {name: [record[name] for record in history(folder)] for name in history(folder)[0]}
    np.testing.assert_allclose(written["learning_rate"], [1e-5, 5e-6])
    np.testing.assert_allclose(written["learning_rate_refine"], [5e-4, 4.75e-4])
    found = {(tag, step): value for tag, step, value in events(folder)}
    assert (found["learning_rate", 2], found["learning_rate_refine", 2]) == pytest.approx((5e-6, 4.75e-4))
    assert {path.name for path in folder.glob("*.pth")} == {
        "last.pth",
        "model_2_4800.pth",
        "refine_2_4800.pth",
    }
    for name, part in trainer.parts.items():
        saved = checkpoint.read(folder / f"{name}_2_4800.pth")
        assert same(saved, dict(part.network.state_dict()))
        assert same(saved, last(folder)[name])


def test_a_network_without_a_schedule_stays_as_it_is(tmp_path):
    modes: list[bool] = []
    trainer: Any = build(
        tmp_path / "a",
        head=True,
        lifter_schedule=None,
        at_step=lambda _: modes.append(trainer.lifter.training),
    )
    before = {name: value.clone() for name, value in trainer.lifter.state_dict().items()}
    head = trainer.parts["refine"].network.weight.detach().clone()
    trainer.fit(2)
    assert modes == [False] * 2 * STEPS
    (*_, record) = history(tmp_path / "a")
    assert record["learning_rate"] == pytest.approx(4.75e-4)  # that of the network that is trained
    assert "learning_rate_refine" not in record
    assert same(before, dict(trainer.lifter.state_dict()))
    assert not torch.equal(head, trainer.parts["refine"].network.weight)


@pytest.mark.parametrize("schedule", [None, Schedule()])
def test_two_networks_come_to_the_same_end_after_a_kill(tmp_path, schedule):
    build(tmp_path / "unbroken", head=True, lifter_schedule=schedule).fit(2)

    def kill(now):
        if now == 4:
            raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "a", head=True, lifter_schedule=schedule, at_step=kill).fit(2)
    resumed(tmp_path / "a", head=True, lifter_schedule=schedule).fit(2)
    assert same(last(tmp_path / "a"), last(tmp_path / "unbroken"))


def events(folder):
    """(tag, step, value) of every scalar in the event files, which are TFRecords of protocol buffers."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            place += 16 + length
    return found


def test_tensorboard_has_each_scalar_under_its_own_name(tmp_path):
    folder = tmp_path / "a"
    build(folder, p1=[50.0, 48.0]).fit(2)
    expected = {
        (tag, record["epoch"]): record[tag]
        for record in history(folder)
        for tag in ("learning_rate", "loss", "P1", "P2")
    }
    found = {(tag, step): value for tag, step, value in events(folder)}
    assert found == pytest.approx(expected)
    assert (found["P1", 2], found["P2", 2]) == (48, 24)
    assert "learning_rate_refine" not in history(folder)[0]
    assert len(events(folder)) == len(expected)


def test_tensorboard_goes_on_where_a_resumed_run_does(tmp_path):
    folder = tmp_path / "a"
    build(folder, p1=[50.0]).fit(1)
    resumed(folder, p1=[50.0, 48.0]).fit(2)
    assert [(step, value) for tag, step, value in events(folder) if tag == "P1"] == [(1, 50), (2, 48)]


# Kills


@pytest.mark.parametrize("late", [False, True], ids=["before the rename", "after the rename"])
def test_a_kill_at_any_write_leads_to_the_same_end(tmp_path, unbroken, monkeypatch, late):
    replace, count, end = os.replace, 0, None

    def counted(source, target):
        nonlocal count
        count += 1
        if late:
            replace(source, target)
        if count == end:
            raise Killed
        if not late:
            replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    build(tmp_path / "counted").fit(2)
    writes = count
    assert writes > 2 * STEPS
    for number in range(1, writes + 1):
        folder, count, end = tmp_path / f"killed at {number}", 0, number
        with pytest.raises(Killed):
            build(folder).fit(2)
        end = None
        resumed(folder).fit(2)
        assert_as_unbroken(folder, unbroken)


@pytest.mark.parametrize("step", range(2 * STEPS))
def test_a_kill_within_a_step_leads_to_the_same_end(tmp_path, unbroken, step):
    def kill(now):
        if now == step:
            raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "a", at_step=kill).fit(2)
    trainer = resumed(tmp_path / "a")
    trainer.fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)
    assert trainer.lifter.seen == 2 * STEPS - step, "steps were taken again, or left out"


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_while_scoring_leads_to_the_same_end(tmp_path, unbroken, epoch):
    def kill(now):
        if now == epoch:
            raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "a", at_score=kill).fit(2)
    resumed(tmp_path / "a").fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_how_often_it_is_saved_changes_nothing(tmp_path, unbroken):
    build(tmp_path / "a", minutes=1e9).fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_a_finished_run_can_be_made_longer_and_not_shorter(tmp_path, unbroken):
    build(tmp_path / "a").fit(1)
    trainer = resumed(tmp_path / "a")
    trainer.fit(1)
    assert trainer.lifter.seen == 0
    resumed(tmp_path / "a").fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_no_checkpoint_to_go_on_from_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"last\.pth is not there: .* without --resume"):
        build(tmp_path / "a").restore()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["model"],
        lambda state: {key: value for key, value in state.items() if key != "optimizer"},
        lambda state: state | {"progress": {"epoch": 1, "unknown": 2}},
        lambda state: state | {"optimizer": {"state": {}, "param_groups": []}},
        lambda state: state | {"optimizer": {"state": {}, "param_groups": [{}]}},
        lambda state: [state],
    ],
)
def test_a_last_checkpoint_of_another_make_is_refused(tmp_path, unbroken, change):
    trainer = build(tmp_path / "a")
    torch.save(change(last(unbroken)), tmp_path / "a" / "last.pth")
    with pytest.raises(CheckpointError, match=r"last\.pth"):
        trainer.restore()


def test_a_checkpoint_of_an_optimizer_that_is_not_fused_goes_on_fused(tmp_path, unbroken):
    build(tmp_path / "a").fit(1)
    state = last(tmp_path / "a")
    assert state["optimizer"]["param_groups"][0]["fused"] is True
    plain = torch.optim.Adam(nn.Linear(34, 51).parameters(), amsgrad=True).state_dict()
    state["optimizer"]["param_groups"] = plain["param_groups"]
    for name in ("scaler", "processes"):  # as before there were any
        del state[name]
    torch.save(state, tmp_path / "a" / "last.pth")
    trainer = resumed(tmp_path / "a")
    trainer.fit(2)
    assert trainer.optimizer.param_groups[0]["fused"] is True
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_steps_are_those_of_an_adam_that_is_not_fused(tmp_path):
    trainer, plain = build(tmp_path / "a"), build(tmp_path / "b")
    plain.step.optimizer = torch.optim.Adam(plain.lifter.parameters(), amsgrad=True)
    for each in (trainer, plain):
        each.fit(2)
    for name, value in plain.lifter.state_dict().items():
        torch.testing.assert_close(trainer.lifter.state_dict()[name], value, rtol=0, atol=1e-6)


# Parts and precision


@pytest.mark.parametrize("parts", [2, 3, 16, 99])
def test_a_step_in_parts_has_the_gradient_of_the_whole_and_its_loss(tmp_path, parts):
    whole, pieces = build(tmp_path / "a"), build(tmp_path / "b")
    pieces.step.accumulate = parts
    for trainer in (whole, pieces):
        trainer.lifter.train(False)  # no dropout
        trainer.loss = trainer.step(next(trainer.batches.epoch(1)))
    assert float(pieces.loss) == pytest.approx(float(whole.loss), rel=1e-6)
    assert pieces.lifter.seen == min(parts, 16)
    for ours, other in zip(pieces.lifter.parameters(), whole.lifter.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=0, atol=1e-6)


def test_float16_goes_on_with_the_scale_that_it_had(tmp_path):
    build(tmp_path / "unbroken", amp="fp16").fit(2)

    def kill(now):
        if now == 4:
            raise Killed

    with pytest.raises(Killed):
        build(tmp_path / "a", amp="fp16", at_step=kill).fit(2)
    assert last(tmp_path / "a")["scaler"]["_growth_tracker"] == 4
    resumed(tmp_path / "a", amp="fp16").fit(2)
    assert same(last(tmp_path / "a"), last(tmp_path / "unbroken"))


@pytest.mark.parametrize(("one", "other"), [("fp16", "off"), ("off", "fp16"), ("bf16", "off")])
def test_a_run_goes_on_in_another_precision(tmp_path, one, other):
    build(tmp_path / "a", amp=one).fit(1)
    resumed(tmp_path / "a", amp=other).fit(2)
    assert len(history(tmp_path / "a")) == 2


# Signals


def raising(number: signal.Signals, at: int):
    """Raises a signal within one step."""

    def raise_at(step: int) -> None:
        if step == at:
            signal.raise_signal(number)

    return raise_at


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("minutes", [0.0, 1e9])
def test_a_signal_in_mid_epoch_ends_the_step_and_saves(tmp_path, unbroken, number, code, minutes):
    handler = signal.getsignal(number)
    trainer = build(tmp_path / "a", minutes=minutes, at_step=raising(number, 4))
    with pytest.raises(Stopped, match=number.name) as caught:
        trainer.fit(2)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is handler
    assert (last(tmp_path / "a")["progress"]["epoch"], last(tmp_path / "a")["progress"]["step"]) == (2, 2)
    resumed(tmp_path / "a").fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_a_signal_in_the_last_step_of_an_epoch_loses_nothing(tmp_path, unbroken):
    trainer = build(tmp_path / "a", at_step=raising(signal.SIGINT, STEPS - 1))
    with pytest.raises(Stopped):
        trainer.fit(2)
    resumed(tmp_path / "a").fit(2)
    assert_as_unbroken(tmp_path / "a", unbroken)


def test_a_signal_while_scoring_ends_at_once_and_the_epoch_is_kept(tmp_path, unbroken):
    def stop(epoch):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    trainer = build(tmp_path / "a", minutes=1e9, at_score=stop)
    with pytest.raises(Stopped):
        trainer.fit(2)
    assert last(tmp_path / "a")["progress"]["step"] == STEPS
    trainer = resumed(tmp_path / "a")
    trainer.fit(2)
    assert trainer.lifter.seen == STEPS
    assert_as_unbroken(tmp_path / "a", unbroken)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_does_not_wait_for_the_step(tmp_path, number, code):
    def twice(step):
        signal.raise_signal(number)
        signal.raise_signal(number)
        raise AssertionError("went on")

    with pytest.raises(Stopped) as caught:
        build(tmp_path / "a", at_step=twice).fit(1)
    assert caught.value.exit_code == code  # nothing is kept, so it is no end to be content with


# What is not finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("minutes", [0.0, 1e9])
def test_a_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path, value, minutes):
    folder, poses = tmp_path / "a", pose_set()
    trainer = build(folder, poses=poses, minutes=minutes)
    order = trainer.batches.order(1).numpy() % 20
    first_place = [int(np.flatnonzero(order == row)[0]) for row in range(20)]
    step = max(first_place) // 16
    assert step > 0
    poses.positions[int(np.argmax(first_place)), 4, 1] = value
    with pytest.raises(RunError) as caught:
        trainer.fit(2)
    assert caught.value.exit_code == 1
    assert f"the loss became {value} in epoch 1, step {step}" in str(caught.value)
    assert "\n" not in str(caught.value)

    (path,) = folder.glob("not_finite_*")
    assert str(path) in str(caught.value)
    saved = torch.load(path, weights_only=True)
    assert (saved["epoch"], saved["step"]) == (1, step)
    batch = list(trainer.batches.epoch(1))[step]
    for name in ("keypoints", "root_depth", "intrinsics"):
        assert torch.equal(saved[name], getattr(batch, name))
    assert saved["target"].shape == batch.target.shape
    assert not saved["target"].isfinite().all()

    assert weights(folder) == []
    kept = (folder / checkpoint.LAST).exists()
    assert kept == (minutes == 0)
    assert ("still holds the last good state" in str(caught.value)) == kept
    if kept:
        assert last(folder)["progress"]["step"] == step
        assert all(tensor.isfinite().all() for tensor in last(folder)["model"].values())


def test_a_loss_is_looked_at_in_time_in_a_long_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("common.trainer.FINITE_CHECK", 2)
    poses = pose_set()
    poses.positions[:] = np.nan
    trainer = build(tmp_path / "a", poses=poses, minutes=1e9)
    with pytest.raises(RunError, match="step 0"):
        trainer.fit(1)
    assert trainer.lifter.seen == 2


def test_weights_that_are_not_finite_are_not_saved_even_after_a_finite_loss(tmp_path):
    folder = tmp_path / "a"
    trainer = build(folder)

    def spoil(gradient):
        return gradient * (float("inf") if trainer.lifter.seen == 2 * STEPS else 1)

    trainer.lifter.linear.bias.register_hook(spoil)
    with pytest.raises(RunError, match="the weights became NaN or infinite in epoch 2, step 2"):
        trainer.fit(3)
    assert torch.load(folder / "not_finite_2_2.pt", weights_only=True)["step"] == 2
    assert (last(folder)["progress"]["epoch"], last(folder)["progress"]["step"]) == (2, 2)
    assert all(tensor.isfinite().all() for tensor in last(folder)["model"].values())
    assert weights(folder) == [f"model_1_{history(folder)[0]['P1'] * 100:.0f}.pth"]


def test_progress_bars_are_silent_where_nobody_looks(tmp_path, capfd):
    build(tmp_path / "a").fit(1)
    assert capfd.readouterr().err == ""

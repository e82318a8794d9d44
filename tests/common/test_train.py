"""Training: golden curve, schedules, losses, resume bit for bit, what is kept, what stops a run."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training
from torch import nn
from training import damaged, last, pose_set, result

from common import checkpoint, train
from common.console import RunError, UserError
from common.losses import asymmetry, bone_distance, cosine, mean_joint_distance, step_decay
from common.skeleton import BONES, mirror
from common.train import Stopped, Trainer
from model.accelerate import accelerate
from model.htnet import HTNet

PUBLISHED = partial(step_decay, initial=5e-4, decay=0.95, large_decay=0.5, large_every=5)
STEPS = 3
"""Steps of an epoch of ``build``: 2 x 20 samples by 16."""

GOLDEN = (
    "1.29593229 1.10686016 1.05095291 1.00222647 1.0100913 0.935447156 0.806156039 0.889556706 0.820692003 "
    "0.759287655 0.789951086 0.721494317 0.713916659 0.76106739 0.758051991 0.72482121 0.799927473 "
    "0.73231715 0.704308331 0.745695651"
)
"""Losses of 20 steps, metres, by this project's first implementation."""


class Killed(BaseException):
    """The process ends here."""


class Lifter(nn.Module):
    """A linear lifter with dropout, so that random numbers matter, and a hook that sees every step."""

    def __init__(self, at_step) -> None:
        super().__init__()
        self.linear = nn.Linear(34, 51)
        self.at_step, self.seen = at_step, 0

    def forward(self, keypoints):
        self.at_step(self.seen)
        self.seen += 1
        x = nn.functional.dropout(keypoints.flatten(1), 0.5, self.training)  # (B, 34)
        return self.linear(x).unflatten(1, (1, 17, 3))  # (B, 1, 17, 3)


def build(
    folder: Path, *, at_step=lambda step: None, poses=None, resume: bool = False, **more: Any
) -> Trainer:
    """A run of the linear lifter, ``STEPS`` steps an epoch; ``at_step`` is called in each with its number."""
    torch.manual_seed(5)
    more = {"batch_size": 16, "mirrored": True, "checkpoint_minutes": 0, **more}
    more |= {"model": Lifter(at_step), "poses": poses or pose_set(20)}
    return (training.resumed if resume else training.build)(folder, **more)


def history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "history.json").read_text())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, and no waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def sigint():
    """Sets how the process takes SIGINT, whatever the shell of the tests does."""
    before = signal.getsignal(signal.SIGINT)
    yield partial(signal.signal, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, Any]:
    """The result of a run of two epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    build(folder).fit(2)
    return result(folder)


# Numbers


def test_training_follows_the_golden_curve(tmp_path):
    torch.manual_seed(3)
    lifter = HTNet(layers=2, channel=48, d_hid=64)
    accelerate(lifter)
    losses: list[float] = []

    def score(epoch: int) -> float:
        losses.extend(trainer.progress.losses)
        return 1.0

    trainer = training.build(
        tmp_path, model=lifter, poses=pose_set(200), batch_size=20, mirrored=True, score=score
    )
    trainer.schedules["model"] = PUBLISHED
    trainer.fit(1)
    np.testing.assert_allclose(losses, [float(loss) for loss in GOLDEN.split()], rtol=1e-5)


def test_published_schedule_decays_each_epoch_and_more_after_every_fifth():
    expected, rate = [], 0.0005
    for epoch in range(1, 16):
        expected.append(rate)
        rate *= 0.5 if epoch % 5 == 0 else 0.95
    np.testing.assert_allclose([PUBLISHED(epoch + 0.9) for epoch in range(1, 16)], expected, rtol=1e-12)


def test_cosine_warms_up_and_ends_at_zero():
    rates = [cosine(at, initial=1.0, epochs=10) for at in (1, 1.1, 1.2, 6.1, 11, 12)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0, 0])


def test_losses_agree_with_loops_over_joints():
    predicted, target = torch.randn(2, 3, 1, 17, 3).unbind(0)
    joints = [math.dist(p, t) for p, t in zip(predicted.view(-1, 3), target.view(-1, 3), strict=True)]
    assert float(mean_joint_distance(predicted, target)) == pytest.approx(np.mean(joints), rel=1e-5)
    bones = [
        math.dist(p[joint] - p[parent], t[joint] - t[parent])
        for p, t in zip(predicted[:, 0], target[:, 0], strict=True)
        for joint, parent in BONES
    ]
    assert float(bone_distance(predicted, target)) == pytest.approx(np.mean(bones), rel=1e-5)
    symmetric = (predicted + mirror(predicted)) / 2
    assert float(asymmetry(symmetric)) < 1e-6 < float(asymmetry(predicted))


def test_step_in_parts_is_the_same_step(tmp_path):
    for parts in (1, 3):
        training.build(tmp_path / str(parts), accumulate=parts).fit(1)
    whole, parts = (history(tmp_path / name)[0]["loss"] for name in "13")
    assert whole == pytest.approx(parts, rel=1e-5)


# Resume


@pytest.mark.parametrize("more", [{}, {"refine": True}, {"amp": "bf16"}], ids=str)
def test_run_that_is_killed_at_every_step_ends_as_an_unbroken_one(tmp_path, more):
    def kill(step: int) -> None:
        if step == 1:  # each process takes one step
            raise Killed

    build(tmp_path / "whole", **more).fit(2)
    for _ in range(2 * STEPS - 1):
        with pytest.raises(Killed):
            build(tmp_path / "killed", at_step=kill, resume=True, **more).fit(2)
    build(tmp_path / "killed", resume=True, **more).fit(2)
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.parametrize(("owner", "name"), [(checkpoint, "save"), (train, "write_json")])
def test_run_that_is_killed_at_every_write_ends_as_an_unbroken_one(
    tmp_path, unbroken, monkeypatch, owner, name
):
    write = getattr(owner, name)
    for writes in range(12):
        left = [None] * writes

        def killed(*arguments: Any, left=left) -> None:
            if not left:
                raise Killed
            left.pop()
            write(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            try:
                build(tmp_path / "a", resume=True).fit(2)
            except Killed:
                continue
    build(tmp_path / "a", resume=True).fit(2)
    assert result(tmp_path / "a") == unbroken


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_finishes_the_step_and_the_run_resumes(tmp_path, unbroken, sigint, number, code):
    sigint(signal.default_int_handler)
    at_step = lambda step: step == 1 and signal.raise_signal(number)  # noqa: E731
    with pytest.raises(Stopped) as caught:
        build(tmp_path / "a", at_step=at_step, checkpoint_minutes=99).fit(2)
    assert caught.value.exit_code == code
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert last(tmp_path / "a")["progress"]["step"] == 2
    build(tmp_path / "a", resume=True).fit(2)
    assert result(tmp_path / "a") == unbroken


def test_signal_while_scoring_stops_at_once(tmp_path, unbroken):
    with pytest.raises(Stopped) as caught:
        build(tmp_path / "a", score=lambda epoch: signal.raise_signal(signal.SIGTERM)).fit(2)
    assert caught.value.exit_code == 0 and not (tmp_path / "a" / "history.json").exists()
    build(tmp_path / "a", resume=True).fit(2)
    assert result(tmp_path / "a") == unbroken


def test_ignored_sigint_stays_ignored(tmp_path, unbroken, sigint):
    sigint(signal.SIG_IGN)
    build(tmp_path / "a", at_step=lambda step: signal.raise_signal(signal.SIGINT)).fit(2)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert result(tmp_path / "a") == unbroken


def test_restore_refuses_what_is_no_state_of_the_run(tmp_path):
    trainer = build(tmp_path / "a")
    with pytest.raises(UserError, match="no checkpoint"):
        trainer.restore()
    trainer.fit(1)
    content = (tmp_path / "a" / "last.pth").read_bytes()
    for damage in (b"", content[:1000]):
        (tmp_path / "a" / "last.pth").write_bytes(damage)
        with pytest.raises(UserError, match=r"last\.pth"):
            trainer.restore()


# What a run keeps


@pytest.mark.parametrize(("keep", "expected"), [("best", "model_2_5000.pth"), ("last", "model_4_6000.pth")])
def test_weights_of_the_chosen_epoch_are_kept(tmp_path, keep, expected):
    p1 = [70.0, 50.0, 50.0, 60.0]
    trainer = build(tmp_path / "a", score=lambda epoch: p1[epoch - 1], keep=keep)
    trainer.fit(4)
    assert [path.name for path in (tmp_path / "a").glob("model_*")] == [expected]
    assert trainer.kept()["epoch"] == int(expected.split("_")[1])
    assert [record["P1"] for record in history(tmp_path / "a")] == p1


@pytest.mark.parametrize("freeze", [False, True])
def test_refine_head_is_trained_with_the_lifter_or_alone(tmp_path, freeze):
    trainer = build(tmp_path / "a", refine=True, freeze=freeze)
    before = {name: network.state_dict() for name, network in trainer.networks.items()}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    trainer.fit(1)
    changed = {}
    for name, state in before.items():
        after = torch.load(tmp_path / "a" / f"{name}_1_9900.pth", weights_only=True)
        changed[name] = any(not torch.equal(after[key], value) for key, value in state.items())
    assert changed == {"model": not freeze, "refine": True}


def test_log_and_tensorboard_have_the_steps_where_there_is_no_terminal(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(train, "LOG_SECONDS", 0)
    monkeypatch.setattr(train, "SCALAR_STEPS", 1)
    build(tmp_path / "a").fit(1)
    assert any(
        line.startswith("epoch 1: ") and "loss" in line and "pose/s" in line for line in caplog.messages
    )
    assert any(line.startswith("epoch: 1, lr: 0.0100000, loss: ") for line in caplog.messages)
    (events,) = (tmp_path / "a" / "tensorboard").iterdir()
    content = events.read_bytes()
    assert content.count(b"step/loss") == STEPS and b"P1" in content


# What stops a run


def test_loss_that_is_not_finite_stops_the_run_and_saves_its_batch(tmp_path):
    with pytest.raises(RunError, match=r"the loss became nan in epoch 1, step \d") as caught:
        build(tmp_path / "a", poses=damaged()).fit(1)
    assert caught.value.exit_code == 1
    (path,) = (tmp_path / "a").glob("not_finite_*.pt")
    batch = torch.load(path, weights_only=True)
    assert batch["keypoints"].shape[1:] == (1, 17, 2) and not batch["target"].isfinite().all()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    trainer = build(tmp_path / "a")
    bias = trainer.networks["model"].linear.bias  # type: ignore[union-attr]
    trainer.optimizer.register_step_post_hook(lambda *_: bias.data.fill_(math.inf))
    with pytest.raises(RunError, match="the weights became"):
        trainer.fit(1)
    assert not (tmp_path / "a" / "last.pth").exists()

"""Learning rates, step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from common.batches import Batch
from common.step import Cosine, Part, Schedule, Step


def test_the_published_schedule_stays_within_an_epoch():
    schedule = Schedule()
    assert schedule.rate(3.0) == schedule.rate(3.99) == pytest.approx(5e-4 * 0.95**2)
    assert schedule.rate(6.0) == pytest.approx(5e-4 * 0.95**4 * 0.5)


def test_a_cosine_rises_and_falls_to_nothing():
    schedule = Cosine(1e-3, epochs=10, warm_up=0.1)
    places = np.linspace(1, 11, 201)
    rates = np.array([schedule.rate(place) for place in places])
    assert rates[0] == 0 and rates[20] == pytest.approx(1e-3) and rates[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert schedule.rate(1 + 10 * 0.55) == pytest.approx(5e-4), "half-way down"
    assert schedule.rate(12) == pytest.approx(0, abs=1e-12), "a run that goes on longer than it was meant to"


def step_of(part: Part) -> Step:
    def loss(batch):
        return part.network(batch.keypoints).square().mean()

    return Step({"model": part}, loss, device=torch.device("cpu"))


def some_batch() -> Batch:
    return Batch(torch.ones(4, 1, 17, 2), torch.zeros(4, 1, 17, 3), torch.ones(4, 1), torch.ones(4, 4))


def test_the_optimizer_takes_the_rate_of_the_place():
    network = nn.Linear(2, 3)
    step, batch = step_of(Part(network, Cosine(1e-2, epochs=2, warm_up=0.5))), some_batch()
    before = network.weight.detach().clone()
    step.set_rates(1)
    step(batch)
    assert torch.equal(network.weight, before), "the first step of all has no rate yet"
    step.set_rates(1.5)
    step(batch)
    assert (network.weight - before).abs().max().item() == pytest.approx(5e-3, rel=0.5)

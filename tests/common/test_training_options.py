"""From options to a trainer: each option must arrive where it matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.arguments import parse
from common.batches import Batch, Batches
from common.losses import asymmetry, bone_distance, mean_joint_distance
from common.sequences import PoseSet, Sequence
from common.step import Cosine, Schedule
from common.training import training


class Lifter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, keypoints):
        return self.linear(keypoints)


@pytest.fixture
def trainer(tmp_path):
    poses = PoseSet(
        torch.randn(8, 17, 2).numpy(),
        torch.randn(8, 17, 3).numpy(),
        (Sequence("S1", "Walking", 0, 0, 8, (2.0, 2.0, 0.0, 0.0), (1000, 1000)),),
    )
    batches = Batches(poses, batch_size=4, mirrored=False, seed=1, device=torch.device("cpu"))

    def build(*options: str):
        return training(parse(["--train", "-n", "a", *options]), Lifter(), None, batches, poses, tmp_path)

    return build


def test_the_losses_weights_are_those_of_the_options(trainer):
    built = trainer("--bone_loss", "2", "--symmetry_loss", "0.5")
    batch = Batch(torch.randn(4, 1, 17, 2), torch.randn(4, 1, 17, 3), torch.ones(4, 1), torch.ones(4, 4))
    pose = built.parts["model"].network(batch.keypoints)
    expected = mean_joint_distance(pose, batch.target) + 2 * bone_distance(pose, batch.target)
    torch.testing.assert_close(built.step.loss(batch), expected + 0.5 * asymmetry(pose))


def test_the_schedule_is_that_of_the_options(trainer):
    assert trainer("--lr", "0.1", "--lr_decay", "0.5").schedules["model"] == Schedule(0.1, 0.5, 0.5, 5)
    cosine = trainer("--recipe", "cosine", "--nepoch", "7").schedules["model"]
    assert cosine == Cosine(1e-3, 7)


def test_what_is_kept_and_how_often_is_that_of_the_options(trainer):
    built = trainer("--select", "last", "--checkpoint_minutes", "3", "--accumulate", "2")
    assert (built.keep, built.checkpoint_seconds, built.step.accumulate) == ("last", 180, 2)
    assert trainer().keep == trainer("--select", "S8").keep == "best"

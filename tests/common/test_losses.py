"""Losses on poses whose bones are known."""

import pytest
import torch
from torch import nn

from common.batches import Batch
from common.losses import asymmetry, bone_distance, lifting, mean_joint_distance


@pytest.fixture
def pose():
    return torch.randn(4, 1, 17, 3, generator=torch.Generator().manual_seed(1))


def test_bones_do_not_see_where_the_body_is_and_a_joint_that_is_off_moves_its_own_bones(pose):
    assert bone_distance(pose + torch.tensor([1.0, -2.0, 3.0]), pose).item() == pytest.approx(0, abs=1e-6)
    bent = pose.clone()
    bent[..., 13, 0] += 0.16  # the left wrist: one bone of 16 ends there
    assert bone_distance(bent, pose).item() == pytest.approx(0.16 / 16)
    bent = pose.clone()
    bent[..., 12, 1] -= 0.16  # the left elbow: one ends and one begins there
    assert bone_distance(bent, pose).item() == pytest.approx(2 * 0.16 / 16)


def test_the_lifters_loss_adds_what_has_a_weight(pose):
    class Same(nn.Module):
        def forward(self, _):
            return pose

    target = pose.roll(1, 0)
    batch = Batch(pose[..., :2], target, pose[..., 0, 2], torch.ones(4, 4))
    joints, bones, sides = mean_joint_distance(pose, target), bone_distance(pose, target), asymmetry(pose)
    assert lifting(Same())(batch).item() == joints.item()
    torch.testing.assert_close(lifting(Same(), bones=0.5)(batch), joints + 0.5 * bones)
    torch.testing.assert_close(
        lifting(Same(), bones=2, symmetry=0.1)(batch), joints + 2 * bones + 0.1 * sides
    )

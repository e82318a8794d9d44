"""Lifting with the mirrored input, evaluation, and the values of a shipped checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from common import checkpoint
from common.console import RunError
from common.data import DATASETS, load
from common.evaluate import evaluate, lift, predict, root_relative
from common.poses import PoseSet, Sequence, thin
from common.skeleton import JOINT_NAMES, mirror
from model.htnet import HTNet
from model.refine import RefineHead, refine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    """A small network with random weights everywhere."""
    torch.manual_seed(0)
    model = HTNet(layers=1, channel=24, d_hid=32).eval().requires_grad_(False)
    for value in model.parameters():
        value.add_(torch.randn_like(value) * 0.1)
    return model


@pytest.fixture
def poses():
    """35 poses of two sequences."""
    rng = np.random.default_rng(0)
    lens = (2.3, 2.3, 0.1, 0.0), (1000, 1000)
    sequences = (Sequence("S9", "Walking", 0, 0, 20, *lens), Sequence("S11", "Eating", 1, 20, 35, *lens))
    positions = rng.normal((0, 0, 4), 0.3, size=(35, 17, 3)).astype(np.float32)
    return PoseSet(positions[..., :2] / positions[..., 2:] * 2.3, positions, sequences)


def test_lift_averages_with_the_mirrored_input(model):
    keypoints = torch.randn(5, 1, 17, 2)
    before = keypoints.clone()
    swapped = [
        JOINT_NAMES.index(name.replace("left", "R").replace("right", "left").replace("R", "right"))
        for name in JOINT_NAMES
    ]
    straight = model(keypoints)
    mirrored = model(keypoints[:, :, swapped] * torch.tensor([-1, 1]))[:, :, swapped] * torch.tensor(
        [-1, 1, 1]
    )
    expected = (straight + mirrored) / 2
    expected[:, :, 0] = 0
    torch.testing.assert_close(lift(model, keypoints), expected, rtol=0, atol=1e-6)
    straight[:, :, 0] = 0
    torch.testing.assert_close(lift(model, keypoints, flip=False), straight, rtol=0, atol=0)
    assert torch.equal(keypoints, before)


def test_lifting_the_mirror_image_gives_the_mirror_image(model):
    keypoints = torch.randn(5, 1, 17, 2)
    torch.testing.assert_close(
        mirror(lift(model, mirror(keypoints))), lift(model, keypoints), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("flip", [True, False])
def test_predict_gives_every_pose_whatever_the_batch(model, poses, flip):
    expected = lift(model, torch.from_numpy(poses.keypoints)[:, None], flip)[:, 0]
    for batch_size in (None, 8, 1):
        [found] = predict(model, poses, device=CPU, flip=flip, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_predict_refines_with_the_root_depth_and_the_camera(model, poses):
    torch.manual_seed(0)
    head = RefineHead().eval()
    base, refined = predict(model, poses, device=CPU, head=head, batch_size=8)
    pose = torch.from_numpy(base).float()[:, None]
    depth = torch.from_numpy(poses.positions[:, :1, 2])
    intrinsics = torch.tensor(poses.sequences[0].intrinsics).expand(35, 4)
    with torch.no_grad():
        expected = refine(head, pose, torch.from_numpy(poses.keypoints)[:, None], depth, intrinsics)
    np.testing.assert_allclose(refined, expected[:, 0], atol=1e-5)
    assert np.abs(refined - base).max() > 0.01


def test_evaluation_is_relative_to_the_root(poses):
    class Truth(nn.Module):
        def forward(self, keypoints):
            return torch.from_numpy(root_relative(poses)).float()[:, None] + torch.tensor([0, 0, 0.01])

    [found] = evaluate(Truth(), poses, device=CPU, flip=False, joints=(1, 2), fps=50)
    assert found.predicted[:, 0] == pytest.approx(0)
    assert found.scores["P1"] == pytest.approx(np.full(35, 10), rel=1e-4)
    assert found.summary["average"]["action_wise"]["P3"] < 10
    assert (found.summary["joints"], found.joints) == (2, (1, 2))
    assert found.summary["metric units"]["MPJVE_s"] == "mm/s"


def test_poses_that_are_not_finite_are_an_error(model, poses):
    broken = HTNet(layers=1, channel=24, d_hid=32)
    nn.init.constant_(broken.fcn.bias, float("nan"))
    with pytest.raises(RunError, match="35 of 35"):
        evaluate(broken, poses, device=CPU)


def test_shipped_checkpoint_has_its_golden_values(tmp_path):
    sample = DATASETS["sample"]
    poses = thin(load(sample, cache_dir=tmp_path).subjects(sample.test), downsample=20)
    lifter = checkpoint.load_htnet(checkpoint.find_weights(str(checkpoint.CHECKPOINTS / "sample")))
    [found] = evaluate(lifter, poses, device=CPU)
    expected = {
        "P1": (123.995, [119.790, 128.200]),
        "P2": (91.332, [89.771, 92.893]),
        "P3": (115.317, [112.671, 117.964]),
        "MPJVE": (117.218 / 20, [110.952 / 20, 123.484 / 20]),
        "PCK": (75.152, [73.590, 76.546]),
        "AUC": (44.781, [43.208, 45.892]),
        "bone_length": (28.392, [27.230, 29.226]),
        "symmetry": (30.663, [29.536, 31.789]),
    }
    for metric, (mean, interval) in expected.items():
        assert found.summary["average"]["action_wise"][metric] == pytest.approx(mean, abs=0.01), metric
        assert found.summary["interval_95"]["action_wise"][metric] == pytest.approx(interval, abs=0.02), (
            metric
        )
    pdof = [109.932, 115.282, 159.044, 208.367]
    assert list(found.summary["per_pdof"].values()) == pytest.approx(pdof, abs=0.01)

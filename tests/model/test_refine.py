"""The refine head against values of the published code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill

from model.refine import RefineHead, back_project, refine

VALUES = json.loads((Path(__file__).parent.parent / "data" / "refine.json").read_text())


def draw(name: str, shape: tuple[int, ...], scale: float = 0.5) -> torch.Tensor:
    generator = np.random.default_rng(VALUES["seeds"][name])
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32) * scale)


def test_head_matches_the_published_code():
    head = fill(RefineHead(), VALUES["fill_seed"]).eval()
    assert {name: list(value.shape) for name, value in head.state_dict().items()} == VALUES["keys"]
    output = head(draw("pose", (3, 1, 17, 3)), draw("backprojected", (3, 1, 17, 3)))
    np.testing.assert_allclose(output.detach(), np.array(VALUES["output"]), atol=1e-5, rtol=0)


def test_back_projection_matches_the_published_code():
    uvd, camera = draw("uvd", (3, 1, 17, 3), 0.3), draw("cam", (3, 9)).abs() + 1
    root = draw("gt", (3, 1, 17, 3))[:, :, 0, 2] + 5
    pose = back_project(uvd[..., :2], uvd[..., 2], root, camera[:, :4])
    np.testing.assert_allclose(pose, np.array(VALUES["uvd2xyz"]), atol=1e-5, rtol=0)


def test_back_projection_of_true_depths_is_the_true_pose():
    torch.manual_seed(0)
    pose = torch.randn(4, 2, 17, 3) * 0.5 + torch.tensor([0.1, -0.2, 4.0])
    intrinsics = torch.tensor([2.3, 2.2, 0.02, -0.01]).repeat(4, 1)
    keypoints = pose[..., :2] / pose[..., 2:] * intrinsics[0, :2] + intrinsics[0, 2:]
    relative = pose - pose[:, :, :1]
    found = back_project(keypoints, relative[..., 2], pose[:, :, 0, 2], intrinsics)
    torch.testing.assert_close(found, relative, atol=1e-5, rtol=0)


def test_gradients_flow_through_the_back_projection():
    depths = torch.zeros(1, 1, 17, requires_grad=True)
    keypoints, intrinsics = torch.full((1, 1, 17, 2), 0.3), torch.tensor([[2.0, 2.0, 0.0, 0.0]])
    pose = back_project(keypoints, depths, torch.full((1, 1), 5.0), intrinsics)
    pose[..., 0].sum().backward()
    assert depths.grad is not None
    # x = u / f * z: a joint's depth moves its x by u / f; the root's predicted depth is ignored.
    assert depths.grad[0, 0, 0] == 0
    assert depths.grad[0, 0, 1:].tolist() == pytest.approx([0.15] * 16)


def test_refine_ignores_the_predicted_root():
    head = fill(RefineHead(), 1).eval()
    pose, keypoints = draw("pose", (3, 1, 17, 3)), draw("uvd", (3, 1, 17, 2))
    depth, intrinsics = torch.full((3, 1), 5.0), torch.tensor([[2.0, 2.0, 0.0, 0.0]]).repeat(3, 1)
    moved = pose.clone()
    moved[:, :, 0] += 1
    refined = refine(head, pose, keypoints, depth, intrinsics)
    assert torch.equal(refined, refine(head, moved, keypoints, depth, intrinsics))
    assert torch.all(refined[:, :, 0] == 0)

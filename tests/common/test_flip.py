"""The mirror image of a person, and the average over it."""

import numpy as np
import pytest
import torch

from common.flip import lift, mirror
from common.skeleton import JOINT_NAMES, LEFT, RIGHT
from model import HTNet

OTHER_SIDE = {4: 1, 5: 2, 6: 3, 11: 14, 12: 15, 13: 16}


@pytest.fixture(scope="module")
def model():
    """A small network whose every weight is random, so that no term of it is at rest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # More threads only get in each other's way on so little work.
    torch.manual_seed(0)
    model = HTNet(layers=2, channel=24, d_hid=32).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    yield model
    torch.set_num_threads(threads)


@pytest.fixture
def keypoints():
    return torch.randn(5, 1, 17, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(17, 2), (17, 3), (4, 17, 2), (3, 1, 17, 3), (2, 3, 4, 17, 2)])
def test_mirror_negates_x_and_exchanges_left_and_right(shape):
    points = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = points.clone()
    flipped = mirror(points)
    assert torch.equal(points, before), "the input is left alone"
    other = OTHER_SIDE | {right: left for left, right in OTHER_SIDE.items()}
    for joint in range(17):
        source = points[..., other.get(joint, joint), :]
        assert torch.equal(flipped[..., joint, 0], -source[..., 0])
        assert torch.equal(flipped[..., joint, 1:], source[..., 1:])
    assert torch.equal(mirror(flipped), points), "twice is not at all"


def test_sides_are_those_of_the_names():
    assert set(OTHER_SIDE) == set(LEFT) and set(OTHER_SIDE.values()) == set(RIGHT)
    for left, right in OTHER_SIDE.items():
        assert JOINT_NAMES[left].replace("left", "right") == JOINT_NAMES[right]


def test_mirror_first_used_while_evaluating_serves_training_too():
    """What is cached in inference mode must not be of use there alone."""
    mirror.__globals__["_order"].cache_clear()
    with torch.inference_mode():
        mirror(torch.zeros(17, 3))
    points = torch.randn(2, 17, 3, requires_grad=True)
    mirror(points)[..., 3, 0].sum().backward()
    expected = torch.zeros(2, 17, 3)
    expected[:, 6, 0] = -1
    assert torch.equal(points.grad, expected)


def test_lift_is_the_average_of_two_passes(model, keypoints):
    """Written out pass by pass and joint by joint in NumPy, one pose at a time."""
    with torch.inference_mode():
        lifted = lift(model, keypoints)
    assert lifted.shape == (5, 1, 17, 3)
    order = [OTHER_SIDE.get(j, {r: left for left, r in OTHER_SIDE.items()}.get(j, j)) for j in range(17)]
    for index in range(5):
        straight_in = keypoints[index].numpy()  # (1, 17, 2)
        flipped_in = straight_in[:, order] * np.array([-1, 1], np.float32)
        with torch.no_grad():
            straight, flipped = (
                model(torch.from_numpy(each[None])).numpy()[0] for each in (straight_in, flipped_in)
            )
        back = flipped[:, order] * np.array([-1, 1, 1], np.float32)
        expected = (straight + back) / 2
        assert np.abs(expected[0, 0]).max() > 1e-3, "setting the root to 0 is seen"
        expected[:, 0] = 0
        np.testing.assert_allclose(lifted[index].numpy(), expected, rtol=0, atol=1e-6)
        assert np.abs(straight - back)[:, 1:].max() > 1e-2, "the average is of different things"


def test_lift_without_the_mirror_image_is_one_pass(model, keypoints):
    with torch.no_grad():
        lifted, expected = lift(model, keypoints, flip=False), model(keypoints)
    expected[:, :, 0] = 0
    assert torch.equal(lifted, expected)


@pytest.mark.parametrize("flip", [True, False])
def test_lift_leaves_its_input_alone(model, keypoints, flip):
    before = keypoints.clone()
    with torch.inference_mode():
        lift(model, keypoints, flip=flip)
    assert torch.equal(keypoints, before)


def test_lifting_the_mirror_image_gives_the_mirror_image(model, keypoints):
    with torch.inference_mode():
        lifted, mirrored = lift(model, keypoints), lift(model, mirror(keypoints))
    torch.testing.assert_close(mirror(mirrored), lifted, rtol=0, atol=1e-6)


def test_a_pose_does_not_depend_on_those_beside_it(model, keypoints):
    with torch.inference_mode():
        together = lift(model, keypoints)
        alone = torch.cat([lift(model, each) for each in keypoints.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)

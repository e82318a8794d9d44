"""From keypoints to poses: weights, lifting, person windows, the upright view, positions."""

import numpy as np
import pytest
import torch

from common.camera import normalize_pixels
from common.console import UserError
from common.evaluate import lift
from common.skeleton import MIRROR, ROOT
from common.window import FOCAL_PER_SIDE
from demo.lib import lifting
from demo.lib.lifting import focal_length, lift_keypoints, load_lifter, place, stature, upright
from model import HTNet

CPU = torch.device("cpu")
SIZE = (640, 480)
RNG = np.random.default_rng(0)
KEYPOINTS = RNG.uniform(0, SIZE, (5, 17, 2))
POSES = RNG.normal(0, 0.4, (5, 17, 3))
POSES -= POSES[:, [ROOT]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return HTNet(layers=1, channel=24, d_hid=24)


@pytest.fixture(scope="module")
def lifter(network):
    return load_lifter(network, CPU)


def test_default_weights_are_the_first_there(tmp_path, monkeypatch):
    monkeypatch.setattr(lifting, "CHECKPOINTS", tmp_path)
    with pytest.raises(UserError, match="open, cpn, sample"):
        lifting.find_lifter(None)
    for name in ("sample", "cpn", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pth").touch()
        assert lifting.find_lifter(None).parent.name == name
    with pytest.raises(UserError, match="--export onnx"):
        lifting.find_lifter("sample", "onnx")
    (tmp_path / "sample" / "model.onnx").touch()
    assert lifting.find_lifter("sample", "onnx") == tmp_path / "sample" / "model.onnx"
    assert lifting.find_lifter("sample") == tmp_path / "sample" / "model.pth"


def test_file_lifts_like_its_network_and_leaves_the_random_numbers(network, lifter, tmp_path):
    torch.save(network.state_dict(), tmp_path / "model.pth")
    state = torch.get_rng_state()
    from_file = load_lifter(tmp_path / "model.pth", CPU)
    assert torch.equal(torch.get_rng_state(), state)
    expected = lift_keypoints(lifter, KEYPOINTS, SIZE)
    np.testing.assert_array_equal(lift_keypoints(from_file, KEYPOINTS, SIZE), expected)


def test_lifting_is_the_network_on_normalised_pixels_with_flip_averaging(network, lifter):
    poses = lift_keypoints(lifter, KEYPOINTS, SIZE, window=False, batch_size=2)
    network_input = torch.from_numpy(normalize_pixels(KEYPOINTS, *SIZE)).float()[:, None]
    with torch.no_grad():
        expected = lift(network.eval(), network_input)[:, 0]
    np.testing.assert_allclose(poses, expected, atol=1e-5)
    assert np.all(poses[:, ROOT] == 0) and poses.dtype == np.float32
    assert lift_keypoints(lifter, KEYPOINTS[:0], SIZE).shape == (0, 17, 3)


@pytest.mark.parametrize("window", [False, True])
def test_mirrored_keypoints_give_the_mirrored_pose(lifter, window):
    mirrored = (np.array([640, 0]) + KEYPOINTS * [-1, 1])[:, MIRROR]
    one, other = (lift_keypoints(lifter, points, SIZE, window=window) for points in (KEYPOINTS, mirrored))
    np.testing.assert_allclose(other[:, MIRROR] * [-1, 1, 1], one, atol=1e-5)


def test_window_is_independent_of_the_images_size(lifter):
    pose = lift_keypoints(lifter, KEYPOINTS, SIZE)
    np.testing.assert_allclose(lift_keypoints(lifter, KEYPOINTS * 3, (1920, 1440)), pose, atol=1e-4)
    # Shapes stay where people are moved; the whole pose is rotated with its ray.
    moved = lift_keypoints(lifter, KEYPOINTS * 0.1 + [300, 210], SIZE)
    spans = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (pose, moved)]
    assert np.abs(spans[0] - spans[1]).mean() < 0.1 * spans[0].mean()


def test_upright_rotates_and_stands_on_the_floor():
    rotated = upright(POSES)
    np.testing.assert_allclose(rotated[..., 2].min(axis=1), 0, atol=1e-6)
    lengths = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (POSES, rotated)]
    np.testing.assert_allclose(*lengths, atol=1e-5)
    volumes = [np.linalg.det(p[:, 1:4] - p[:, :1]) for p in (POSES, rotated)]  # left stays left
    np.testing.assert_allclose(*volumes, atol=1e-4)
    assert upright(np.linspace(0, 1.7, 17)[:, None] * [0, -1, 0])[-1, 2] > 1.6  # y is down


@pytest.mark.parametrize(("size", "focal", "known"), [((1280, 720), 900, 900), ((500, 1000), None, 1150)])
def test_place_is_exact_for_a_pinhole_camera(size, focal, known):
    roots = RNG.uniform((-2, -1, 3), (2, 1, 12), (5, 3))
    placed = POSES + roots[:, None]
    pixels = placed[..., :2] / placed[..., 2:] * known + np.array(size) / 2
    np.testing.assert_allclose(place(POSES, pixels, size, focal=focal), roots, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(place(POSES * 2, pixels, size, focal=focal), roots * 2, rtol=1e-6, atol=1e-6)


def test_stature_adds_trunk_head_and_legs():
    pose = np.zeros((1, 17, 3))
    pose[0, [7, 8, 9, 10, 2, 5, 3, 6], 1] = [-0.2, -0.45, -0.6, -0.7, 0.4, 0.4, 0.8, 0.8]
    assert stature(pose) == pytest.approx((0.7 + 0.8) * 1.1)


@pytest.mark.parametrize(
    ("focal", "pixels"),
    [(None, FOCAL_PER_SIDE * 1920), (900, 900), ("1e3", 1000), ("26mm", 1153.8), ("90deg", 960)],
)
def test_focal_length_is_read_in_its_units(focal, pixels):
    found = focal_length((1920, 0 if str(focal).endswith("mm") else 1080), focal)
    assert found == pytest.approx(pixels, rel=1e-3)


@pytest.mark.parametrize("focal", [0, "0", "nan", "180deg", "26 mm", "wide", "-5"])
def test_impossible_focal_length_is_refused(focal):
    with pytest.raises(ValueError, match="focal"):
        focal_length((1920, 1080), focal)

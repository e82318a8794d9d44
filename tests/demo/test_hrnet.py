import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import fill

from common.errors import CheckpointError
from demo.lib import hrnet
from demo.lib.crop import crop_people, crop_regions, leave_crops
from demo.lib.hrnet import CROP_SIZE, HEATMAP_SIZE, HRNetDetector, KeypointEstimator, decode, load_published
from demo.lib.hrnet_w48 import HRNet
from demo.lib.published import HRNET_W48, YOLOV3, WeightFile

DATA = Path(__file__).parent.parent / "data"
PATCH = np.random.default_rng(0).integers(0, 255, (300, 120, 3), np.uint8)
PICTURES = [(4000, 500, 1700, 100), (500, 4000, 200, 3000), (640, 640, 5, 330)]
"""Width and height of a picture, left and top of a patch within it."""


def reference(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def meta_network() -> HRNet:
    with torch.device("meta"):
        return HRNet().eval()


def pasted(width: int, height: int, left: int, top: int, patch: np.ndarray = PATCH) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return image


def box_at(left: int, top: int) -> np.ndarray:
    return np.array([[left, top, left + PATCH.shape[1], top + PATCH.shape[0]]], np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for cores which other work holds make a forward pass many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads(gzip.decompress((DATA / "hrnet_w48_state_dict.json.gz").read_bytes()))
    state = meta_network().state_dict()
    own = {name: list(value.shape) for name, value in state.items() if "num_batches_tracked" not in name}
    assert own == published


def test_heat_maps_match_the_published_code() -> None:
    figures = reference("hrnet_w48.json")
    network = fill(meta_network().to_empty(device="cpu"), figures["fill_seed"], figures["fill_scale"])
    normal = np.random.default_rng(figures["input_seed"]).standard_normal((1, 3, 384, 288))
    with torch.inference_mode():
        heatmaps = network(torch.from_numpy(normal.astype(np.float32) * 0.5)).numpy()
    assert list(heatmaps.shape) == figures["shape"]
    np.testing.assert_allclose(heatmaps[0, :, ::8, ::8], figures["sample_8"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(heatmaps.mean(), figures["mean"], rtol=1e-4)
    np.testing.assert_allclose(heatmaps.std(), figures["std"], rtol=1e-4)


def test_key_points_match_the_published_code() -> None:
    figures = reference("hrnet_decode.json")
    generator = np.random.default_rng(figures["seed"])
    peaks = generator.random((3, 17, 2)) * (71, 95)
    amplitudes = generator.uniform(0.2, 1, (3, 17))
    np.testing.assert_allclose(peaks, figures["peaks"], atol=1e-6)
    y, x = np.mgrid[:96, :72]
    squared = (x - peaks[..., 0, None, None]) ** 2 + (y - peaks[..., 1, None, None]) ** 2
    heatmaps = (np.exp(-squared / 18) * amplitudes[..., None, None]).astype(np.float32)

    points, scores = decode(heatmaps)
    boxes = np.array(figures["boxes"])
    keypoints = leave_crops(points, boxes, CROP_SIZE, HEATMAP_SIZE)
    np.testing.assert_allclose(keypoints, figures["keypoints"], rtol=1e-4)
    np.testing.assert_allclose(scores, figures["scores"], rtol=1e-4)


def test_peaks_at_the_edge_stay_on_their_pixel() -> None:
    heatmaps = np.zeros((1, 4, 96, 72), np.float32)
    corners = [(0, 0), (71, 0), (0, 95), (71, 95)]
    for joint, (x, y) in enumerate(corners):
        heatmaps[0, joint, y, x] = 1
    points, scores = decode(heatmaps)
    assert points[0].tolist() == [list(corner) for corner in corners]
    assert scores.tolist() == [[1, 1, 1, 1]]
    assert decode(heatmaps[:0])[0].shape == (0, 4, 2)


@pytest.mark.parametrize("box", [(10, 20, 50, 400), (10, 20, 500, 60), (30, 30, 30, 30)])
def test_a_region_holds_its_box_in_the_aspect_of_the_network(box: tuple[int, ...]) -> None:
    (centre,), (size,) = crop_regions(np.array([box]), CROP_SIZE)
    assert size[0] / size[1] == pytest.approx(288 / 384)
    assert centre.tolist() == [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    tightness = max((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    assert tightness == pytest.approx(1 / 1.25) or box[0] == box[2]


def test_a_crop_depends_on_the_box_and_not_on_the_picture_around_it() -> None:
    crops = [
        crop_people(pasted(width, height, left, top), box_at(left, top), CROP_SIZE)
        for width, height, left, top in PICTURES
    ]
    assert crops[0].any()
    assert all(np.array_equal(crops[0], crop) for crop in crops)


def test_points_return_from_the_crop_to_the_pixel_they_were_seen_at() -> None:
    image = np.zeros((500, 900, 3), np.uint8)
    spots = np.array([[400, 200], [450, 300], [395, 333]])
    box = np.array([[380, 180, 470, 350]])
    for spot in spots:
        image[:] = 0
        image[spot[1], spot[0]] = 255
        crop = crop_people(image, box, CROP_SIZE)[0, :, :, 0].astype(float)
        rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
        seen = np.array([[[(crop * columns).sum(), (crop * rows).sum()]]]) / crop.sum()
        np.testing.assert_allclose(leave_crops(seen, box, CROP_SIZE, CROP_SIZE)[0, 0], spot, atol=0.1)


def test_colours_are_normalised_in_the_order_red_green_blue() -> None:
    colour = np.array([10, 100, 200], np.uint8)
    x = hrnet.normalise(np.tile(colour, (2, 5, 4, 1)))
    assert x.shape == (2, 3, 5, 4)
    expected = (colour / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x[1, :, 3, 2], expected, rtol=1e-5)


class RedFinder(torch.nn.Module):
    """Stands in for the network: every heat map is how red the input is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[0] <= hrnet.CROPS_AT_ONCE and x.shape[1:] == (3, 384, 288)
        red = torch.nn.functional.avg_pool2d(x[:, :1] - x[:, 2:], 4)
        return (red / 8).expand(-1, 17, -1, -1)


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> KeypointEstimator:
    monkeypatch.setattr(hrnet, "load_published", lambda model, path: None)
    monkeypatch.setattr(hrnet, "HRNet", RedFinder)
    return KeypointEstimator(Path("unread"))


@pytest.mark.parametrize(("width", "height", "left", "top"), PICTURES)
def test_key_points_are_found_where_they_are(
    estimator: KeypointEstimator, width: int, height: int, left: int, top: int
) -> None:
    patch = np.zeros_like(PATCH)
    patch[200:208, 80:88] = (255, 0, 0)
    image = pasted(width, height, left, top, patch)
    keypoints, scores = estimator(image, box_at(left, top))
    assert keypoints.shape == (1, 17, 2) and scores.shape == (1, 17)
    pixel = PATCH.shape[0] * 1.25 / HEATMAP_SIZE[1]
    np.testing.assert_allclose(keypoints[0], np.tile([left + 83.5, top + 203.5], (17, 1)), atol=pixel)


def test_a_crowd_is_estimated_as_one_by_one(estimator: KeypointEstimator) -> None:
    image = np.random.default_rng(3).integers(0, 255, (400, 600, 3), np.uint8)
    corners = np.random.default_rng(4).uniform(0, 300, (hrnet.CROPS_AT_ONCE * 2 + 3, 2))
    boxes = np.hstack([corners, corners + np.array([60, 90])])
    keypoints, scores = estimator(image, boxes)
    for index in (0, hrnet.CROPS_AT_ONCE, len(boxes) - 1):
        alone, its_scores = estimator(image, boxes[index : index + 1])
        np.testing.assert_allclose(keypoints[index], alone[0])
        np.testing.assert_allclose(scores[index], its_scores[0])
    nobody, _ = estimator(image, boxes[:0])
    assert nobody.shape == (0, 17, 2)


def test_people_come_with_key_points_box_and_scores(
    monkeypatch: pytest.MonkeyPatch, estimator: KeypointEstimator
) -> None:
    boxes, confidence = np.array([[10, 10, 60, 150], [100, 20, 180, 190]]), np.array([0.9, 0.4])
    monkeypatch.setattr(hrnet, "check_all", lambda folder, files: None)
    monkeypatch.setattr(hrnet, "PersonDetector", lambda path, device: lambda image: (boxes, confidence))
    image = np.zeros((200, 200, 3), np.uint8)
    image[103:106, 33:36] = image[53:56, 123:126] = (255, 0, 0)
    first, second = HRNetDetector(Path("unread"))(image)
    np.testing.assert_allclose(first.keypoints, np.tile([34, 104], (17, 1)), atol=2)
    np.testing.assert_allclose(second.keypoints, np.tile([124, 54], (17, 1)), atol=2)
    assert first.box.tolist() == boxes[0].tolist() and first.score == pytest.approx(0.9)
    assert first.scores.shape == (17,) and (0 <= first.scores).all() and (first.scores <= 1).all()
    assert first.world is None


def test_missing_files_are_named_with_folder_size_and_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"yolov3\.weights.*248,007,048.*pjreddie") as error:
        HRNetDetector(tmp_path)
    first, second = str(error.value).splitlines()
    for line, file in ((first, YOLOV3), (second, HRNET_W48)):
        assert line.startswith(f"{file.name}: not found in {tmp_path}; ") and file.origin in line
    (tmp_path / HRNET_W48.name).touch()
    with pytest.raises(CheckpointError) as error:
        HRNetDetector(tmp_path)
    first, second = str(error.value).splitlines()
    assert YOLOV3.name in first and f"{tmp_path / HRNET_W48.name}: expected about 254 MB, found 0" in second
    (tmp_path / HRNET_W48.name).unlink()
    (tmp_path / YOLOV3.name).touch()
    monkeypatch.setattr(hrnet, "YOLOV3", YOLOV3._replace(sizes=(0, 0)))
    with pytest.raises(CheckpointError, match=r"pose_hrnet_w48_384x288\.pth.* 254 MB.*leoxiaobin") as error:
        HRNetDetector(tmp_path)
    assert str(tmp_path) in str(error.value) and YOLOV3.name not in str(error.value)


@pytest.fixture
def small_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights with the published names and shapes that take no room, since one number fills each tensor."""
    monkeypatch.setattr(hrnet, "HRNET_W48", WeightFile(HRNET_W48.name, (1, 10**7), HRNET_W48.origin))
    state = {
        name: torch.full((1,), float(number)).expand(value.shape)
        for number, (name, value) in enumerate(meta_network().state_dict().items())
        if not name.endswith("num_batches_tracked")
    }
    return tmp_path / HRNET_W48.name, state


@pytest.mark.parametrize("counters", [{}, {"bn1.num_batches_tracked": torch.tensor(9)}])
def test_published_weights_are_loaded_with_or_without_batch_counters(
    small_file: tuple[Path, dict[str, torch.Tensor]], counters: dict[str, torch.Tensor]
) -> None:
    path, state = small_file
    torch.save(state | counters, path)
    network = meta_network()
    load_published(network, path)
    loaded = network.state_dict()
    assert all(loaded[name].flatten()[0] == value.flatten()[0] for name, value in (state | counters).items())
    assert not any(value.is_meta for value in loaded.values())


def test_weights_of_another_network_are_refused_by_name(
    small_file: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    path, state = small_file
    del state["conv2.weight"]
    state["final_layer.weight"] = torch.zeros(16, 48, 1, 1)
    state["extra"] = torch.zeros(1)
    state["bn1.bias"] = torch.full((64,), float("nan"))
    torch.save(state, path)
    with pytest.raises(CheckpointError) as error:
        load_published(meta_network(), path)
    for part in (
        str(path),
        "conv2.weight: expected (64, 64, 3, 3), found nothing",
        "final_layer.weight: expected (17, 48, 1, 1), found (16, 48, 1, 1)",
        "extra: expected nothing, found (1,)",
        "bn1.bias: NaN",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("content", ["text", {"state_dict": {}}, [1, 2]])
def test_files_that_hold_no_weights_are_refused(
    small_file: tuple[Path, dict[str, torch.Tensor]], content: Any
) -> None:
    path, _ = small_file
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="expected"):
        load_published(meta_network(), path)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_the_published_size_is_accepted(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / HRNET_W48.name
    state = {name: torch.ones(value.shape) for name, value in meta_network().state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    try:
        assert KeypointEstimator(path).network.final_layer.weight.sum() == 17 * 48
    finally:
        path.unlink()

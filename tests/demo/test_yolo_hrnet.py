import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill

from common.console import UserError
from demo.lib import yolo
from demo.lib.hrnet import HEATMAP_SIZE, NAME, HRNet, HRNetDetector, decode
from demo.lib.regions import Region
from demo.lib.yolo import YOLOFinder, YOLOv3

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def darknet_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Darknet file whose weights are drawn from the reference's seed, convolution by convolution."""
    path = tmp_path_factory.mktemp("darknet") / yolo.NAME
    seed = json.loads((DATA / "yolov3.json").read_text())["seed"]
    with torch.device("meta"):
        kernels = [module for module in YOLOv3().modules() if isinstance(module, torch.nn.Conv2d)]
    with open(path, "wb") as file:
        file.write(np.array([0, 2, 0, 0, 0], "<i4").tobytes())
        for index, kernel in enumerate(kernels):
            normal = np.random.default_rng([seed, index]).standard_normal
            out = kernel.out_channels
            parts = [0.05 * normal(out)]
            if kernel.bias is None:
                parts += [1 + 0.05 * normal(out), 0.05 * normal(out), 1 + 0.05 * np.abs(normal(out))]
            parts.append(normal(kernel.weight.numel()) * np.sqrt(0.5 / kernel.weight[0].numel()))
            for part in parts:
                file.write(part.astype("<f4").tobytes())
    yield path
    path.unlink()  # a quarter of a gigabyte


def test_yolov3_predictions_match_the_reference(darknet_file: Path) -> None:
    expected = json.loads((DATA / "yolov3.json").read_text())
    size = expected["size"]
    x = np.random.default_rng(expected["input_seed"]).random((1, 3, size, size)).astype(np.float32)
    finder = YOLOFinder(darknet_file)
    with torch.inference_mode():
        predictions = finder.network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(predictions[0, ::97, :6], expected["every_97th_first_6"], rtol=1e-4)
    np.testing.assert_allclose(predictions[0].mean(axis=0), expected["col_mean"], rtol=1e-4)
    boxes, scores = finder(np.zeros((50, 80, 3), np.uint8))
    assert boxes.shape == (len(scores), 4)
    assert (boxes[:, 2] <= 80).all()


@pytest.mark.parametrize(("size", "start"), [(1000, b"<html>"), (yolo.BYTES, b"\1\0\0\0")])
def test_yolov3_refuses_another_file(tmp_path: Path, size: int, start: bytes) -> None:
    path = tmp_path / yolo.NAME
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)
    with pytest.raises(UserError, match=r"yolov3\.weights"):
        YOLOFinder(path)


def test_yolov3_zero_predictions_are_anchors_in_the_middle_of_their_cells() -> None:
    boxes = yolo.decode(torch.zeros(1, 2 * 85, 3, 4), 8, ((10, 20), (30, 40)))
    assert boxes[0, 2 * (1 * 4 + 2) :][:2, :5].tolist() == [[20, 12, 10, 20, 0.5], [20, 12, 30, 40, 0.5]]


def test_hrnet_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads(gzip.decompress((DATA / "hrnet_w48_state_dict.json.gz").read_bytes()))
    with torch.device("meta"):
        state = HRNet().state_dict()
    own = {name: list(value.shape) for name, value in state.items() if "num_batches_tracked" not in name}
    assert own == published


def test_hrnet_heatmaps_match_the_reference() -> None:
    expected = json.loads((DATA / "hrnet_w48.json").read_text())
    with torch.device("meta"):
        network = HRNet().eval()
    network = fill(network.to_empty(device="cpu"), expected["fill_seed"], expected["fill_scale"])
    normal = np.random.default_rng(expected["input_seed"]).standard_normal((1, 3, 384, 288))
    with torch.inference_mode():
        heatmaps = network(torch.from_numpy(normal.astype(np.float32) * 0.5)).numpy()
    np.testing.assert_allclose(heatmaps[0, :, ::8, ::8], expected["sample_8"], rtol=1e-4, atol=2e-5)


def test_hrnet_keypoints_match_the_reference() -> None:
    expected = json.loads((DATA / "hrnet_decode.json").read_text())
    generator = np.random.default_rng(expected["seed"])
    peaks = generator.random((3, 17, 2)) * (71, 95)
    amplitudes = generator.uniform(0.2, 1, (3, 17))
    y, x = np.mgrid[:96, :72]
    squared = (x - peaks[..., 0, None, None]) ** 2 + (y - peaks[..., 1, None, None]) ** 2
    points, scores = decode((np.exp(-squared / 18) * amplitudes[..., None, None]).astype(np.float32))
    regions = [Region.of_box(np.array(box), 288 / 384) for box in expected["boxes"]]
    keypoints = [region.to_image(each, HEATMAP_SIZE) for region, each in zip(regions, points)]
    np.testing.assert_allclose(keypoints, expected["keypoints"], rtol=1e-4)
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-4)


def test_hrnet_loads_published_weights_and_reads_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        shapes = HRNet().state_dict()
    state = {name: torch.zeros(each.shape) for name, each in shapes.items() if "num_batches" not in name}
    torch.save(state, tmp_path / NAME)
    boxes = np.array([[10, 20, 60, 120], [0, 0, 30, 90]], np.float32)
    monkeypatch.setattr(yolo, "YOLOFinder", lambda *_: lambda image: (boxes, np.array([0.9, 0.5])))
    first, second = HRNetDetector(tmp_path)(np.zeros((128, 96, 3), np.uint8))
    assert first.keypoints.shape == (17, 2)
    assert (first.score, second.score) == (0.9, 0.5)
    torch.save({**state, "conv1.weight": torch.zeros(1)}, tmp_path / NAME)
    with pytest.raises(UserError, match="published"):
        HRNetDetector(tmp_path)


def test_hrnet_missing_files_are_reported(tmp_path: Path) -> None:
    assert not HRNetDetector.is_there(tmp_path)
    with pytest.raises(UserError, match="pose_hrnet_w48"):
        HRNetDetector(tmp_path)

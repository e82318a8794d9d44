import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import CheckpointError
from demo.lib import yolo
from demo.lib.crop import leave_letterbox, letterbox
from demo.lib.darknet import YOLOv3, decode, load_darknet
from demo.lib.published import YOLOV3
from demo.lib.tiles import overlaps
from demo.lib.yolo import PersonDetector, people, suppress

FIGURES = json.loads((Path(__file__).parent.parent / "data" / "yolov3.json").read_text())
HEADER = np.array([0, 2, 0, 0, 0], "<i4").tobytes()


@pytest.fixture(scope="module")
def darknet_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Darknet file whose weights are drawn from the reference's seed, convolution by convolution."""
    path = tmp_path_factory.mktemp("darknet") / YOLOV3.name
    with torch.device("meta"):
        kernels = [module for module in YOLOv3().modules() if isinstance(module, torch.nn.Conv2d)]
    with open(path, "wb") as file:
        file.write(HEADER)
        for index, kernel in enumerate(kernels):
            normal = np.random.default_rng([FIGURES["seed"], index]).standard_normal
            out = kernel.out_channels
            parts = [0.05 * normal(out)]
            if kernel.bias is None:
                parts += [1 + 0.05 * normal(out), 0.05 * normal(out), 1 + 0.05 * np.abs(normal(out))]
            fan_in = kernel.weight[0].numel()
            parts.append(normal(kernel.weight.numel()) * np.sqrt(0.5 / fan_in))
            for part in parts:
                file.write(part.astype("<f4").tobytes())
    yield path
    path.unlink()  # a quarter of a gigabyte, which pytest would keep for three runs


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for cores which other work holds make a forward pass many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_predictions_match_the_published_code(darknet_file: Path) -> None:
    assert darknet_file.stat().st_size == 248_007_048
    network = PersonDetector(darknet_file).network
    size = FIGURES["size"]
    x = np.random.default_rng(FIGURES["input_seed"]).random((1, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        predictions = network(torch.from_numpy(x)).numpy()
    assert list(predictions.shape) == FIGURES["shape"]
    np.testing.assert_allclose(predictions[0, ::97, :6], FIGURES["every_97th_first_6"], rtol=1e-4)
    np.testing.assert_allclose(predictions[0].mean(axis=0), FIGURES["col_mean"], rtol=1e-4)


def sparse_file(folder: Path, size: int, start: bytes = b"", end: bytes = b"") -> Path:
    path = folder / YOLOV3.name
    with open(path, "wb") as file:
        file.write(start)
        file.seek(size - len(end))
        file.write(end)
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("size", "start", "end", "message"),
    [
        (1000, b"<html>", b"", "expected 248,007,048 bytes, found 1,000; download"),
        (248_007_049, HEADER, b"", "expected 248,007,048 bytes, found 248,007,049; download"),
        (248_007_048, b"\1\0\0\0", b"", "Darknet 0.2, found version 1.0"),
        (248_007_048, HEADER, np.float32("nan").tobytes(), "NaN"),
    ],
    ids=["web page", "too long", "header", "NaN"],
)
def test_a_file_that_is_not_the_published_one_is_refused(
    tmp_path: Path, size: int, start: bytes, end: bytes, message: str
) -> None:
    path = sparse_file(tmp_path, size, start, end)
    with torch.device("meta"):
        network = YOLOv3()
    with pytest.raises(CheckpointError, match=message) as error:
        load_darknet(network, path)
    assert str(path) in str(error.value)


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        PersonDetector(tmp_path / "yolov3.weights")
    for part in ("yolov3.weights", str(tmp_path), "248,007,048", "pjreddie.com/media/files/yolov3.weights"):
        assert part in str(error.value)


def test_zero_predictions_decode_to_anchors_in_the_middle_of_their_cells() -> None:
    boxes = decode(torch.zeros(1, 2 * 85, 3, 4), 8, ((10, 20), (30, 40)))
    assert boxes.shape == (1, 24, 85)
    second_row_third_cell = boxes[0, 2 * (1 * 4 + 2) :][:2, :5]
    assert second_row_third_cell.tolist() == [[20, 12, 10, 20, 0.5], [20, 12, 30, 40, 0.5]]


def test_overlap_is_the_shared_part_of_the_union() -> None:
    box = np.array([0, 0, 10, 10])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [30, 30, 40, 40], [2, 2, 4, 4]])
    np.testing.assert_allclose(overlaps(box[None], others)[0], [1, 1 / 3, 0, 0, 0.04])


def test_of_boxes_that_overlap_the_best_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 5, 10, 15], [50, 50, 60, 60]], float)
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6])).tolist() == [1, 2, 3]
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]), limit=0.2).tolist() == [1, 3]
    assert suppress(boxes[:0], np.zeros(0)).tolist() == []


def prediction(box: tuple[float, ...], objectness: float, kind: int = yolo.PERSON) -> np.ndarray:
    row = np.zeros(85, np.float32)
    left, top, right, bottom = box
    row[:5] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, objectness
    row[5 + kind] = 0.9
    return row


def test_only_sure_people_are_kept() -> None:
    rows = [
        prediction((0, 0, 10, 20), 0.6),
        prediction((50, 50, 70, 90), 0.8),
        prediction((50, 50, 70, 88), 0.7),
        prediction((100, 100, 120, 140), 0.2),
        prediction((200, 200, 220, 240), 0.9, kind=16),
    ]
    boxes, scores = people(np.stack(rows), threshold=0.3)
    np.testing.assert_allclose(boxes, [[50, 50, 70, 90], [0, 0, 10, 20]])
    np.testing.assert_allclose(scores, [0.8, 0.6])


@pytest.mark.parametrize(("width", "height"), [(4000, 500), (500, 4000), (416, 416), (33, 21), (3000, 1)])
def test_boxes_return_from_the_letterbox(width: int, height: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    square, placed = letterbox(image, 416)
    assert square.shape == (416, 416, 3)
    rows, columns = np.nonzero((square == 255).all(axis=2))
    assert (square[(square != 255).any(axis=2)] == 128).all()
    assert max(np.ptp(rows), np.ptp(columns)) == 415
    assert abs(rows.min() - (415 - rows.max())) <= 1 and abs(columns.min() - (415 - columns.max())) <= 1

    whole = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    np.testing.assert_allclose(leave_letterbox(whole, placed, (width, height)), [[0, 0, width, height]])
    everywhere = leave_letterbox(np.array([[-50, -50, 500, 500]]), placed, (width, height))
    assert everywhere.tolist() == [[0, 0, width, height]]


class RedFinder(torch.nn.Module):
    """Stands in for the network: sees one person wherever the input is red, and one in the corner."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape == (1, 3, 416, 416)
        red = ((x[0, 0] > 0.7) & (x[0, 1] < 0.3) & (x[0, 2] < 0.3)).numpy()
        rows, columns = np.nonzero(red)
        found = prediction((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), 0.9)
        return torch.from_numpy(np.stack([prediction((0, 0, 8, 8), 0.8), found]))[None]


@pytest.mark.parametrize(("width", "height"), [(4000, 500), (500, 4000)])
def test_a_person_is_found_where_it_stands(monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setattr(yolo, "load_darknet", lambda model, path: None)
    monkeypatch.setattr(yolo, "YOLOv3", RedFinder)
    image = np.zeros((height, width, 3), np.uint8)
    box = (width // 4, height // 2, width // 4 + 150, height // 2 + 200)
    image[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    boxes, scores = PersonDetector(Path("unread"))(image)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [box], atol=4000 / 416)  # a pixel of the letterbox
    np.testing.assert_allclose(scores, [0.9])  # what lay in the grey corner is no person

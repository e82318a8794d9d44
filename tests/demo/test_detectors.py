from pathlib import Path

import numpy as np
import pytest
import torch
from demo_people import person

from common.console import UserError
from demo.lib import regions
from demo.lib.blazepose import centred, of_keypoints
from demo.lib.detectors import CHECKPOINT, MODES, TopDown, average, load_detector
from demo.lib.media import read_image
from demo.lib.nanodet import Pose
from demo.lib.people import distinct, mask, separate, similarity, to_person
from demo.lib.regions import Region
from demo.lib.rtmpose import RTMPose

FIGURE = Path(__file__).parents[2] / "demo" / "figure"
FILES = ("nanodet.json", "movenet-thunder.json", "pose_landmark_heavy.tflite", "pose_landmark_full.tflite")
needs_networks = pytest.mark.skipif(
    not all((CHECKPOINT / name).is_file() for name in FILES),
    reason="needs the networks of `python -m demo.fetch`",
)


def pose_of(points: np.ndarray, scores: np.ndarray) -> Pose:
    return Pose(points.astype(float), scores.astype(float), 1.0, Region(0, 0, 1, 1))


@needs_networks
@pytest.mark.parametrize("mode", MODES)
def test_detector_finds_the_astronaut_wherever_she_is(mode: str) -> None:
    detector, image = TopDown(CHECKPOINT, mode, threads=1), read_image(FIGURE / "astronaut.jpg")
    (found,) = detector(image)
    assert found.score > 0.5
    assert found.scores[[0, 5, 6]].min() > 0.4  # nose and shoulders
    assert found.scores[[15, 16]].max() < 0.1  # the ankles are outside
    assert found.keypoints[[15, 16], 1].min() > image.shape[0]
    (moved,) = detector(np.pad(image, ((100, 0), (300, 0), (0, 0))))
    shift = moved.keypoints[[0, 5, 6]] - found.keypoints[[0, 5, 6]]
    np.testing.assert_allclose(shift, np.tile([300, 100], (3, 1)), atol=15)


@needs_networks
def test_detector_finds_nobody_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    assert TopDown(CHECKPOINT, threads=1)(noise) == []


@needs_networks
def test_blazepose_works_alone() -> None:
    (found,) = TopDown(CHECKPOINT, blazepose=True, threads=1)(read_image(FIGURE / "astronaut.jpg"))
    assert found.world is not None
    assert found.scores[[0, 5, 6]].min() > 0.8


@needs_networks
def test_track_follows_with_one_pass_per_person_and_frame() -> None:
    detector, image = TopDown(CHECKPOINT, threads=1), read_image(FIGURE / "astronaut.jpg")
    for shift in range(10):
        assert len(detector.track(np.roll(image, 4 * shift, axis=1))) == 1
    assert detector.passes == {"finder": 2, "keypoints": 11}  # a second look at the new person
    detector.reset()
    assert detector.track(np.zeros_like(image)) == []


class Scripted(TopDown):
    """A detector whose networks see given people: for each frame, positions and presences."""

    def __init__(self, *frames: dict[int, float]) -> None:
        self.frames = frames
        self.thunder = self.landmarks = None
        self.alone, self.passes = True, {"finder": 0, "keypoints": 0}
        self.find = self.boxes
        self.reset()

    def boxes(self, image: np.ndarray) -> regions.Boxes:
        boxes = [person(x, 400).box for x in self.frames[image[0, 0, 0]]]
        return np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32)

    def _read(self, image: np.ndarray, region: Region, only: np.ndarray | None) -> Pose:
        presences = self.frames[image[0, 0, 0]]
        x = min(presences, key=lambda place: abs(place - region.x), default=0)
        self.passes["keypoints"] += 1
        someone = person(x, 400)
        presence = presences.get(x, 0.0) if abs(x - region.x) < 60 else 0.0
        return pose_of(someone.keypoints, someone.scores)._replace(presence=presence, region=region)


def frame(number: int) -> np.ndarray:
    return np.full((500, 900, 3), number, np.uint8)


def test_track_searches_again_for_somebody_lost_and_forgets_boxes_with_nobody() -> None:
    seen, hidden = {200: 0.9, 600: 0.1}, {600: 0.1}  # a post stands at 600
    detector = Scripted(seen, seen, hidden, hidden, seen, seen)
    assert [len(detector.track(frame(number))) for number in range(6)] == [1, 1, 0, 0, 1, 1]
    assert detector.passes["finder"] == 3  # at first, where the person was lost, and two frames later
    assert (
        detector.passes["keypoints"] == 2 + 1 + 1 + 1 + 2 + 1
    )  # new, the post, followed, lost, new, followed


def test_track_drops_an_unsure_person_whom_the_finder_misses() -> None:
    detector = Scripted({200: 0.9})
    assert len(detector.track(frame(0))) == 1
    detector.find = lambda _: (np.empty((0, 4), np.float32), np.empty(0, np.float32))
    detector.followed = [each._replace(found=0.1) for each in detector.followed]
    assert [len(detector.track(frame(0))) for _ in range(30)] == [1] * 23 + [0] * 7


def test_track_keeps_one_of_two_who_become_the_same() -> None:
    detector = Scripted({200: 0.9, 300: 0.9}, {250: 0.9})
    assert [len(detector.track(frame(number))) for number in (0, 0, 1)] == [2, 2, 1]


def test_region_is_undone_by_its_matrix() -> None:
    region = centred(np.array([100.0, 200.0]), np.array([130.0, 160.0]))
    assert region.width == pytest.approx(125)
    np.testing.assert_allclose(region.to_image(np.array([128, 128]), (256, 256)), [100, 200])  # the middle
    np.testing.assert_allclose(region.to_image(np.array([128, 128 - 256 / 2.5]), (256, 256)), [130, 160])


@pytest.mark.parametrize("box", [(10, 20, 50, 400), (10, 20, 500, 60)])
def test_region_of_a_box_has_the_aspect_and_padding(box: tuple[int, ...]) -> None:
    region = Region.of_box(np.array(box), 288 / 384)
    assert region.width / region.height == pytest.approx(288 / 384)
    assert region[:2] == ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert max((box[2] - box[0]) / region.width, (box[3] - box[1]) / region.height) == pytest.approx(0.8)


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_region_cut_shows_the_image_at_the_right_place(scale: float) -> None:
    y, x = np.mgrid[:400, :600]
    image = np.stack([x / 3, y / 3, 0 * x], axis=-1).astype(np.uint8)
    region = Region(300, 200, 32 * scale, 64 * scale)
    crop = region.cut(image, (32, 64))
    expected = region.to_image(np.array([5, 60]), (32, 64)) / 3
    np.testing.assert_allclose(crop[60, 5, :2], expected, atol=1.5)
    half = region.cut(image, (32, 64), np.array([300, 0, 600, 400]))  # nobody on the left
    assert half[:, :14].max() == 0
    np.testing.assert_array_equal(half[:, 20:], crop[:, 20:])
    assert region._replace(x=-500).cut(image, (32, 64)).max() == 0


def test_letterbox_region_maps_back() -> None:
    image = np.zeros((300, 600, 3), np.uint8)
    image[150:, 300:] = 255
    square, region = regions.letterbox(image, (100, 100), 7, centred=True)
    assert (square[:25] == 7).all()
    assert square[49, 49].max() == 0
    assert square[51, 51].min() == 255
    np.testing.assert_allclose(
        region.to_image(np.array([[0, 25], [100, 75]]), (100, 100)), [[0, 0], [600, 300]]
    )


def test_suppress_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 6, 10, 16], [50, 50, 60, 60]], float)
    kept, scores = regions.suppress(boxes, np.array([0.5, 0.9, 0.7, 0.6]))
    assert kept.tolist() == boxes[[1, 2, 3]].tolist()
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    many = np.tile(np.arange(300)[:, None], 4) * 20.0 + [0, 0, 10, 10]
    assert len(regions.suppress(many, np.ones(300))[0]) == regions.MAX_PEOPLE


def test_in_tiles_finds_small_people_once() -> None:
    crowd = np.array([[x, 310, x + 40, 380] for x in range(0, 1000, 80)], float)

    def find(image: np.ndarray) -> regions.Boxes:
        """Sees half of the people in the whole image, all in a tile, by the brightness at their feet."""
        seen = [box for box in crowd if image.shape[1] < 1000 or box[0] % 160 == 0]
        offset = np.array([*image[0, 0, :2], *image[0, 0, :2]]) * 8.0
        moved = np.array(seen) - offset
        inside = (moved[:, 0] >= 0) & (moved[:, 2] <= image.shape[1]) & (moved[:, 1] >= 0)
        inside &= moved[:, 3] <= image.shape[0]
        return moved[inside].astype(np.float32), np.full(inside.sum(), 0.9, np.float32)

    y, x = np.mgrid[:600, :1000]
    image = np.stack([x // 8, y // 8, 0 * x], axis=-1).astype(np.uint8)
    boxes, _ = regions.in_tiles(find)(image)
    assert sorted(boxes[:, 0].tolist()) == crowd[:, 0].tolist()


def test_distinct_drops_a_duplicate_and_keeps_a_neighbour() -> None:
    people = [person(100, 300), person(103, 302), person(160, 300)]
    assert distinct(people) == [0, 2]
    same = similarity(people, people)
    np.testing.assert_allclose(np.diag(same), 1)
    np.testing.assert_allclose(same, same.T, atol=1e-6)


def test_separate_lowers_a_limb_that_is_somebody_elses() -> None:
    mine, other = person(100, 300, score=0.6), person(220, 300)
    mine.keypoints[15] = other.keypoints[15]  # my ankle on theirs
    first, second = separate([mine, other])
    assert first.scores[15] == pytest.approx(0.18)
    assert first.scores[16] == pytest.approx(0.6)
    np.testing.assert_array_equal(second.scores, other.scores)


def test_mask_hides_neighbours_only_where_there_are_some() -> None:
    boxes = np.array([[100, 100, 150, 300], [140, 100, 200, 300], [600, 100, 650, 300]], float)
    assert mask(boxes[2], boxes) is None
    np.testing.assert_allclose(mask(boxes[0], boxes), [95, 95, 155, 305])


def test_keypoints_outside_of_the_image_are_unseen_and_not_at_its_border() -> None:
    whole = person(100, 300)
    points, scores = whole.keypoints.copy(), whole.scores.copy()
    points[13:, 1], scores[13:] = 219, 0.1  # knees and ankles, squeezed to the border by the network
    cut, full = np.zeros((220, 300, 3), np.uint8), np.zeros((400, 300, 3), np.uint8)
    found = to_person(pose_of(points, scores), whole.box, 0.9, cut)
    assert found.keypoints[13:, 1].min() > 220
    assert (found.scores[13:] == 0).all()
    np.testing.assert_array_equal(found.keypoints[:11], whole.keypoints[:11])
    assert found.box[3] == 220
    assert found.score < to_person(pose_of(whole.keypoints, whole.scores), whole.box, 0.9, full).score


def test_average_trusts_the_surer_network() -> None:
    points = person(100, 300).keypoints
    first, second = pose_of(points, np.full(17, 0.9)), pose_of(points + 10, np.full(17, 0.1))
    np.testing.assert_allclose(average(first, second).points, points + 1, atol=0.01)
    np.testing.assert_allclose(average(first, second._replace(presence=0)).points, points, atol=0.01)


def test_landmark_region_is_upright_around_the_hips() -> None:
    someone = person(100, 300)
    region = of_keypoints(pose_of(someone.keypoints, someone.scores))
    assert region[:2] == pytest.approx((100, 200), abs=1)
    assert region.angle == pytest.approx(0, abs=1e-6)
    assert 200 < region.width < 400


def test_load_detector_reports_missing_networks(tmp_path: Path) -> None:
    for name in ("auto", "blazepose", "nanodet", "hrnet", "rtmpose", "another"):
        with pytest.raises(UserError):
            load_detector(name, tmp_path, torch.device("cpu"))


def test_rtmpose_reads_the_users_onnx_files(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    def write(name: str, size: tuple[int, int], outputs: list[np.ndarray]) -> None:
        """A network with constant outputs."""
        names = [f"out{number}" for number in range(len(outputs))]
        nodes = [helper.make_node("Identity", [f"c{each}"], [each]) for each in names]
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])
        infos = [
            helper.make_tensor_value_info(each, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for each, array in zip(names, outputs)
        ]
        constants = [numpy_helper.from_array(array, f"c{each}") for each, array in zip(names, outputs)]
        graph = helper.make_graph(nodes, "g", [given], infos, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        (tmp_path / name).write_bytes(model.SerializeToString())

    boxes = np.array([[[64, 32, 128, 160, 0.9], [0, 0, 9, 9, 0.1], [5, 5, 90, 90, 0.8]]], np.float32)
    write("rtmdet.onnx", (320, 320), [boxes, np.array([[0, 0, 7]])])
    x, y = np.zeros((1, 17, 384), np.float32), np.zeros((1, 17, 512), np.float32)
    x[0, :, 192] = y[0, :, 256] = 0.7  # the middle of the crop of 192 x 256
    write("rtmpose.onnx", (256, 192), [x, y])
    (found,) = RTMPose(tmp_path)(np.zeros((640, 640, 3), np.uint8))
    assert found.box.tolist() == [128, 64, 256, 320]
    np.testing.assert_allclose(found.keypoints, np.tile([192, 192], (17, 1)), atol=1)
    np.testing.assert_allclose(found.scores, 0.7)

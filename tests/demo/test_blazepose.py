"""BlazePose: what the networks are given, what their outputs mean, whom the search finds and follows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CheckpointError
from demo.lib.blazepose import CHECKPOINT, DETECTOR, LANDMARKS, BlazePose
from demo.lib.blazepose_decode import (
    CROP_SIDE,
    GREY,
    Landmarks,
    Region,
    anchors,
    corners,
    crop_matrix,
    cut,
    cut_tile,
    decode_hits,
    decode_landmarks,
    hide,
    region,
    to_person,
)
from demo.lib.tiles import Sweep, Tile, alike, pyramid, suppress

sizes = st.integers(1, 5000)


def logit(chance: float) -> float:
    return math.log(chance / (1 - chance))


# The detector's output


def test_anchors_are_cell_centres_row_by_row() -> None:
    found = anchors()
    assert found.shape == (2254, 2)
    assert np.allclose(found[[0, 1, 2]] * 28, [[0.5, 0.5], [0.5, 0.5], [1.5, 0.5]])
    assert np.allclose(found[28 * 2] * 28, [0.5, 1.5])
    assert np.allclose(found[28 * 28 * 2] * 14, [0.5, 0.5])
    assert np.allclose(found[[-7, -1]] * 7, [[5.5, 6.5], [6.5, 6.5]])


def test_hits_are_decoded_relative_to_their_anchor() -> None:
    raw, logits = np.zeros((2254, 12), np.float32), np.full(2254, -20, np.float32)
    anchor = 28 * 28 * 2 + 14 * 2 * 3 + 2 * 5  # 14 x 14 grid, row 3, column 5
    raw[anchor, 4:8] = [11.2, -22.4, 0, -112]
    logits[anchor] = logit(0.8)
    scores, points = decode_hits(raw, logits, 0.5)
    assert scores == pytest.approx([0.8], abs=1e-6)
    assert np.allclose(points[0, 0], [5.5 / 14 + 0.05, 3.5 / 14 - 0.1])
    assert np.allclose(points[0, 1], [5.5 / 14, 3.5 / 14 - 0.5])
    assert len(decode_hits(raw, logits, 0.9)[0]) == 0


# Regions and crops

regions = st.builds(
    Region, st.floats(-500, 2000), st.floats(-500, 2000), st.floats(5, 3000), st.floats(-math.pi, math.pi)
)


@given(regions)
def test_a_region_is_where_its_points_say(place: Region) -> None:
    hip, top = corners(place)
    again = region(hip, top)
    assert np.allclose(again[:3], place[:3])
    assert math.cos(again.angle - place.angle) == pytest.approx(1)


@given(regions)
def test_the_size_point_lies_straight_above_the_hips_in_the_crop(place: Region) -> None:
    matrix = crop_matrix(place)
    crop = (corners(place) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    assert np.allclose(crop, [[128, 128], [128, 128 - CROP_SIDE / 2.5]], atol=1e-6)


@pytest.mark.parametrize("side", [200.0, 500.0, 1500.0])
def test_a_crop_shows_what_lies_in_the_region(side: float) -> None:
    y, x = np.mgrid[:900, :1200]
    image = np.stack([x / 5, y / 4, (x + y) / 10], axis=-1).astype(np.uint8)
    place = Region(620, 440, side, 0.7)
    crop = cut(image, place).astype(float)
    for column, row in [(128, 128), (100, 150), (170, 120)]:
        at = crop_matrix(place) @ [column, row, 1]
        assert crop[row, column, 0] == pytest.approx(at[0] / 5, abs=1.5)
        assert crop[row, column, 1] == pytest.approx(at[1] / 4, abs=1.5)


def test_outside_the_picture_crops_are_black() -> None:
    image = np.full((100, 60, 3), 200, np.uint8)
    assert cut(image, Region(-900, -900, 300, 0.3)).max() == 0
    assert cut(image, Region(-9000, 50, 4000, 0.3)).max() == 0
    tile = cut_tile(image, Tile(-20, 0, 100, whole=True))
    assert tile[:, :40].max() == 0 and tile[:, 184:].max() == 0 and tile[:, 50:170].min() == 200
    assert cut_tile(image, Tile(500, 500, 80)).max() == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 1500), st.integers(1, 1500))
def test_any_picture_fills_its_tiles(width: int, height: int) -> None:
    image = np.broadcast_to(np.uint8(255), (height, width, 3))
    tile = pyramid(width, height)[0][0]
    square = cut_tile(image, tile)
    share = min(width, height) / max(width, height)
    assert (square > 0).mean() == pytest.approx(share, abs=2 / 224)


# The landmark network's output


def test_landmarks_are_turned_back_into_the_picture() -> None:
    place = Region(300, 200, 512, math.pi / 2)
    raw, world = np.zeros((39, 5)), np.zeros((39, 3))
    raw[0, :2], raw[1, :2] = (128, 128), (128, 28)
    raw[0, 3:], raw[1, 3:] = (logit(0.9), logit(0.7)), (logit(0.2), logit(0.99))
    world[1] = (0, -0.5, 0.1)
    found = decode_landmarks(raw, world, 0.8, place)
    # A quarter turn: the way up in the crop is the way right in the picture.
    assert np.allclose(found.points[:2], [[300, 200], [500, 200]])
    assert np.allclose(found.world[1], [0.5, 0, 0.1])
    assert found.scores[:2] == pytest.approx([0.7, 0.2])
    assert found.presence == 0.8


def standing(x: float, y: float, radius: float, presence: float = 0.9) -> Landmarks:
    """Someone upright whose hips are at (x, y); every landmark at a place of its own."""
    points = np.stack([np.linspace(-0.3, 0.3, 33), np.linspace(-0.9, 0.9, 33)], axis=1) * radius + (x, y)
    points = np.concatenate([points, np.tile([[x, y], [x, y - radius]], (3, 1))])
    return Landmarks(points, np.linspace(0.4, 0.9, 33), np.zeros((33, 3)), presence)


def test_coco_keypoints_are_the_right_landmarks() -> None:
    landmarks = standing(100, 100, 50)
    person = to_person(landmarks, 200, 200)
    assert person is not None
    order = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    assert np.allclose(person.keypoints, landmarks.points[order])
    assert np.allclose(person.scores, landmarks.scores[order])
    assert np.allclose(person.box, [*landmarks.points[0], *landmarks.points[32]])
    assert {array.dtype for array in (person.keypoints, person.scores, person.box)} == {np.dtype(np.float32)}


def test_what_lies_outside_the_picture_is_not_seen() -> None:
    person = to_person(standing(100, 100, 50), 200, 100)
    assert person is not None and person.box[3] == 100
    assert np.all(person.scores[11:] == 0) and np.all(person.scores[:11] > 0)
    assert to_person(standing(-400, 100, 50), 200, 200) is None


# Where the detector looks


@given(sizes, sizes, st.floats(0, 1), st.floats(0, 1), st.data())
def test_everyone_small_enough_lies_whole_in_a_tile(
    width: int, height: int, x: float, y: float, data: st.DataObject
) -> None:
    levels = pyramid(width, height)
    level = data.draw(st.sampled_from(levels[1:] or levels))
    side = min(level[0].side // 2, width, height)
    left, top = x * (width - side), y * (height - side)
    assert any(
        tile.x <= left + 1 and tile.y <= top + 1
        and left + side <= tile.x + tile.side + 1 and top + side <= tile.y + tile.side + 1
        for tile in level
    )  # fmt: skip


@given(sizes, sizes)
def test_the_pyramid_stays_small_and_holds_the_whole(width: int, height: int) -> None:
    levels = pyramid(width, height)
    assert sum(map(len, levels)) <= 1 + 9 + 64 + 289
    whole = levels[0][0]
    assert len(levels[0]) == 1 and whole.whole and whole.spans and whole.side == max(width, height)
    assert all(tile.side >= 160 for level in levels[1:] for tile in level)


@pytest.mark.parametrize("size", [(768, 576), (1920, 1080), (300, 200), (1, 1)])
def test_a_sweep_sees_every_tile(size: tuple[int, int]) -> None:
    sweep = Sweep(*size)
    seen = {tile for _ in range(200) for tile in sweep.next()}
    assert seen == set(sweep.tiles)


def body(x: float, y: float, radius: float) -> list[list[float]]:
    return [[x, y], [x, y - radius]]


def test_hits_on_one_person_are_one_and_neighbours_are_not() -> None:
    bodies = [(100, 100, 40), (104, 98, 44), (98, 103, 30), (134, 100, 40), (100, 100, 15)]
    points = np.array([body(*each) for each in bodies], float)
    groups = suppress(np.array([0.7, 0.9, 0.6, 0.8, 0.5]), points)
    assert [sorted(group.tolist()) for group in groups] == [[0, 1, 2], [3], [4]]
    assert groups[0][0] == 1
    assert suppress(np.zeros(0), np.zeros((0, 2, 2))) == []


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(1, 200)), min_size=1, max_size=20))
def test_of_one_person_one_hit_is_left(bodies: list[tuple[float, float, float]]) -> None:
    points = np.array([body(*each) for each in bodies])
    groups = suppress(np.linspace(1, 0.5, len(points)), points)
    assert sorted(index for group in groups for index in group) == list(range(len(points)))
    first = points[[group[0] for group in groups]]
    assert not np.any(alike(first, first) & ~np.eye(len(first), dtype=bool))


def test_known_people_are_painted_over() -> None:
    square = np.zeros((224, 224, 3), np.uint8)
    hide(square, Tile(50, 100, 448), [standing(250, 300, 100)])
    assert tuple(square[100, 100]) == GREY  # Picture (250, 300), the hips.
    assert square[:, :40].max() == 0 and square[:, 160:].max() == 0
    untouched = np.zeros((224, 224, 3), np.uint8)
    hide(untouched, Tile(0, 0, 448), [standing(9000, -9000, 100)])
    assert untouched.max() == 0


# Finding and following, with networks that see discs of light


class Discs(BlazePose):
    """BlazePose on pictures in which a person is a disc: its first channel is their radius."""

    def __init__(self) -> None:
        self.passes = {"detector": 0, "landmarks": 0}
        self.people: list[tuple[float, float, float]] = []
        self.reset()

    def _look(self, image, tile, *, threshold=0.6, known=()):  # type: ignore[no-untyped-def]
        self.passes["detector"] += 1
        hidden = [person.region()[:2] for person in known]
        seen = [
            each
            for each in self.people
            if 0.15 < each[2] / tile.side < 0.5
            and tile.x <= each[0] < tile.x + tile.side
            and tile.y <= each[1] < tile.y + tile.side
            and not any(math.dist(each[:2], place) < each[2] / 2 for place in hidden)
        ]
        points = np.array([body(*each) for each in seen], float).reshape(-1, 2, 2)
        return np.full(len(seen), 0.9), points

    def _read(self, image, place):  # type: ignore[no-untyped-def]
        self.passes["landmarks"] += 1
        near = [each for each in self.people if math.dist(each[:2], place[:2]) < each[2]]
        x, y, radius = min(near, key=lambda each: math.dist(each[:2], place[:2]), default=(*place[:2], 40.0))
        return standing(x, y, radius, presence=0.95 if near else 0.05)


def place_of(person) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    left, top, right, bottom = map(float, person.box)
    return round((left + right) / 2), round((top + bottom) / 2)


FRAME = np.zeros((576, 768, 3), np.uint8)


def test_small_people_are_found_once_each_in_a_picture() -> None:
    scene = Discs()
    scene.people = [(100, 300, 45), (140, 300, 45), (400, 200, 60), (700, 500, 40)]
    assert sorted(map(place_of, scene(FRAME))) == [(100, 300), (140, 300), (400, 200), (700, 500)]


def test_in_a_video_people_are_followed_and_newcomers_found() -> None:
    scene = Discs()
    scene.people = [(100, 300, 45)]
    assert [place_of(person) for person in scene.track(FRAME)] == [(100, 300)]
    found_at = None
    for frame in range(1, 60):
        scene.people = [(100 + 5 * frame, 300, 45), (600, 200, 45)]
        people = [place_of(person) for person in scene.track(FRAME)]
        assert people[0] == (100 + 5 * frame, 300)
        if len(people) == 2 and found_at is None:
            found_at = frame
    assert found_at is not None and len(people) == 2
    scene.people = scene.people[1:]
    assert [place_of(person) for person in scene.track(FRAME)] == [(600, 200)]


def test_two_on_the_same_person_become_one() -> None:
    scene = Discs()
    scene.people = [(100, 300, 45), (140, 300, 45)]
    assert len(scene.track(FRAME)) == 2
    scene.people = [(120, 300, 45)]
    assert len(scene.track(FRAME)) == 1


def test_following_costs_a_few_looks_a_frame() -> None:
    scene = Discs()
    scene.people = [(100, 300, 45)]
    scene.track(FRAME)
    before = scene.passes["detector"]
    for _ in range(10):
        scene.track(FRAME)
    assert scene.passes["detector"] - before <= 40


def test_nobody_is_an_empty_list_until_somebody_comes() -> None:
    scene = Discs()
    assert [scene.track(FRAME) for _ in range(5)] == [[]] * 5
    scene.people = [(300, 300, 150)]
    assert any(scene.track(FRAME) for _ in range(10))
    scene.people = []
    assert scene.track(FRAME) == []
    assert scene.track(np.zeros((1, 1, 3), np.uint8)) == [] and scene(FRAME) == []


def test_a_missing_network_is_named_with_the_command_that_fetches_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CheckpointError, match=rf"{DETECTOR}.*python -m demo\.fetch blazepose"):
        BlazePose(tmp_path)


# The real networks on a real photo


@pytest.fixture(scope="module")
def blazepose() -> BlazePose:
    if not all((CHECKPOINT / name).is_file() for name in (DETECTOR, LANDMARKS)):
        pytest.skip("BlazePose's networks are not there: run `python -m demo.fetch blazepose`")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    return BlazePose(threads=1)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for its photo of an astronaut")
    return data.astronaut()


# Read off the photo by eye: nose, eyes, shoulders.
SEEN = {0: (222, 126), 1: (247, 107), 2: (202, 107), 5: (310, 240), 6: (105, 240)}


def off(person, shift: tuple[int, int] = (0, 0), scale: float = 1.0) -> float:  # type: ignore[no-untyped-def]
    """Mean distance of nose, eyes and shoulders from where they are, in pixels of the photo."""
    found = (person.keypoints[list(SEEN)] - shift) / scale
    return float(np.linalg.norm(found - np.array(list(SEEN.values())), axis=1).mean())


def test_her_face_and_shoulders_are_found(blazepose: BlazePose, astronaut: np.ndarray) -> None:
    people = blazepose(astronaut)
    assert len(people) == 1
    person = people[0]
    assert off(person) < 8 and person.score > 0.9
    assert np.all(person.scores[:7] > 0.9) and np.all(person.scores[15:] == 0)
    # Metres: the shoulders are as far apart as a grown-up's, the face nearer to the camera.
    assert person.world is not None
    assert 0.25 < np.linalg.norm(person.world[5] - person.world[6]) < 0.55
    assert person.world[0, 2] < 0 and person.world[0, 1] < person.world[5, 1] < 0


@pytest.mark.parametrize(("width", "height"), [(4000, 500), (500, 4000)])
def test_a_long_picture_changes_nothing(
    blazepose: BlazePose, astronaut: np.ndarray, width: int, height: int
) -> None:
    shift = (int(0.37 * (width - 500)), int(0.37 * (height - 500)))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[shift[1] : shift[1] + 500, shift[0] : shift[0] + 500] = astronaut[:500, :500]
    assert min(off(person, shift) for person in blazepose(picture)) < 12


def test_a_large_photo_shows_one_person_too(blazepose: BlazePose, astronaut: np.ndarray) -> None:
    people = blazepose(astronaut.repeat(2, axis=0).repeat(2, axis=1))
    assert len(people) == 1 and off(people[0], scale=2) < 8


def test_the_mirror_image_gives_the_mirrored_pose(blazepose: BlazePose, astronaut: np.ndarray) -> None:
    mirrored = blazepose(np.ascontiguousarray(astronaut[:, ::-1]))[0].keypoints
    straight = blazepose(astronaut)[0].keypoints
    swap = [0, 2, 1, 4, 3, 6, 5]
    gap = mirrored[swap] * (-1, 1) + (511, 0) - straight[:7]
    assert np.linalg.norm(gap, axis=1).mean() < 10


@pytest.mark.parametrize(
    "change", [lambda photo: photo[:, :, [1, 1, 1]], lambda photo: photo[::2, ::2]], ids=["grey", "small"]
)
def test_poorer_pictures_still_do(
    blazepose: BlazePose, astronaut: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    picture = np.ascontiguousarray(change(astronaut))
    assert off(blazepose(picture)[0], scale=len(picture) / 512) < 12


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (480, 640, 3)])
def test_an_empty_picture_holds_nobody(blazepose: BlazePose, shape: tuple[int, int, int]) -> None:
    blazepose.reset()
    for value in (0, 255):
        picture = np.full(shape, value, np.uint8)
        assert blazepose(picture) == [] and blazepose.track(picture) == []


def test_she_is_followed_after_an_empty_start(blazepose: BlazePose, astronaut: np.ndarray) -> None:
    blazepose.reset()
    assert blazepose.track(np.zeros_like(astronaut)) == []
    frames = [np.roll(astronaut, 2 * step, axis=1) for step in range(6)]
    found = [blazepose.track(frame) for frame in frames]
    assert all(len(people) == 1 for people in found)
    assert all(off(people[0], (2 * step, 0)) < 15 for step, people in enumerate(found))
    before = blazepose.passes["landmarks"]
    blazepose.track(frames[-1])
    assert blazepose.passes["landmarks"] == before + 1

"""BlazePose: people in pictures and videos, on Google's two TFLite networks.

A detector finds the hips of people and how large and how far turned they are; a second network takes one
person cut out upright and gives 33 body landmarks (Bazarevsky et al., "BlazePose: On-device real-time body
pose tracking", 2020). ``python -m demo.fetch blazepose`` obtains both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from common.errors import CheckpointError
from demo.lib.blazepose_decode import (
    Landmarks,
    Region,
    corners,
    cut,
    cut_tile,
    decode_hits,
    decode_landmarks,
    hide,
    region,
    to_person,
)
from demo.lib.person import Person
from demo.lib.tiles import Sweep, Tile, alike, pyramid, suppress
from demo.lib.tracking import distinct

CHECKPOINT = Path(__file__).with_name("checkpoint")
DETECTOR = "pose_detection.tflite"
LANDMARKS = "pose_landmark_full.tflite"

WHOLE, SEEN, AGAIN = 0.5, 0.6, 0.5
"""Detector scores from which a hit counts: on the whole picture, on a tile, and where someone is known to be.
Tiles are many and show limbs and lamp posts, so they must be surer."""
MARGIN = 0.2
"""How far outside a tile, in sides of it, the hips of someone seen in it may lie."""
NEW, KEPT = 0.7, 0.5
"""Presence from which a person is believed at first, and afterwards."""
ROUNDS = 3
"""Looks at a picture: with people in it, without those found at first, without those found then."""


class Network:
    """A TFLite network with one input.

    Args:
        path: The file.
        outputs: Shapes by which its outputs are told apart.
        threads: Threads that it runs on.

    Raises:
        CheckpointError: The file is missing.
    """

    def __init__(self, path: Path, outputs: Sequence[tuple[int, ...]], threads: int) -> None:
        if not path.is_file():
            raise CheckpointError(
                f"expected {path.name} in {path.parent}, found none: run `python -m demo.fetch blazepose`"
            )
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        index = {tuple(item["shape"]): item["index"] for item in self._interpreter.get_output_details()}
        self._outputs = [index[shape] for shape in outputs]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Outputs for one float32 image (height, width, 3)."""
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


class BlazePose:
    """Finds the people in pictures and, with ``track``, in the frames of a video.

    Args:
        folder: Folder of the two networks.
        threads: Threads of the networks; by default as many as there are cores, at most four.

    Attributes:
        passes: How often the detector and the landmark network ran.

    Raises:
        CheckpointError: A network is missing; the message says how to fetch it.
    """

    def __init__(self, folder: str | Path = CHECKPOINT, *, threads: int | None = None) -> None:
        threads = threads or min(4, os.cpu_count() or 1)
        self._detector = Network(Path(folder) / DETECTOR, [(1, 2254, 12), (1, 2254, 1)], threads)
        self._landmarks = Network(Path(folder) / LANDMARKS, [(1, 195), (1, 1), (1, 117)], threads)
        self.passes = {"detector": 0, "landmarks": 0}
        self.reset()

    def reset(self) -> None:
        """Forgets the people of the last frame: call it between videos."""
        self._followed: list[Region] = []
        self._sweep: Sweep | None = None
        self._frame_size = (0, 0)
        self._turn = 0

    def __call__(self, image: np.ndarray) -> list[Person]:
        """The people in a picture, the surest first.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        height, width = image.shape[:2]
        levels = pyramid(width, height)
        tiles = [tile for level in levels for tile in level]
        found: list[Landmarks] = []
        for _ in range(ROUNDS):
            known = len(found)
            self._add(image, tiles, found)
            if len(found) == known:
                break
            # Those found hide their neighbours from the detector: look again without them.
            tiles = [tile for level in levels[:2] for tile in level] + [_round(person) for person in found]
        settled = (self._settle(image, landmarks.region()) for landmarks in found)
        sure = (to_person(each, width, height) for each in settled if each.presence >= NEW)
        people = [person for person in sure if person]
        people.sort(key=lambda person: -person.score)
        return [people[index] for index in distinct(people)]

    def track(self, image: np.ndarray) -> list[Person]:
        """The people in the next frame of a video, those followed longest first.

        The landmarks of a person give their region in the next frame. Besides, a few tiles of each frame are
        searched for newcomers: all of them in the first frame and after the last person is lost.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        height, width = image.shape[:2]
        if self._sweep is None or self._frame_size != (width, height):
            self._followed, self._sweep, self._frame_size = [], Sweep(width, height), (width, height)
            tiles = self._sweep.tiles
        else:
            tiles = self._sweep.next()
        found = [person for person in (self._follow(image, place) for place in self._followed) if person]
        if self._followed and not found:
            tiles = self._sweep.tiles
        if found:  # Newcomers come in company: look beside each of those here in turn.
            self._turn += 1
            tiles = [*tiles, _round(found[self._turn % len(found)])]
        self._add(image, tiles, found)
        pairs = [(person, each) for each in found if (person := to_person(each, width, height))]
        kept = distinct([person for person, _ in pairs])
        self._followed = [pairs[index][1].region() for index in kept]
        return [pairs[index][0] for index in kept]

    def _add(self, image: np.ndarray, tiles: Iterable[Tile], found: list[Landmarks]) -> None:
        """Adds to the people found those seen in the tiles who are not among them."""
        hits = [self._look(image, tile, known=found) for tile in tiles]
        scores, points = (np.concatenate(part) for part in zip(*hits, strict=True))
        for group in suppress(scores, points):
            # The detector takes a body cut by the picture's edge for a smaller one, more so in a larger tile.
            radius = np.linalg.norm(points[group, 1] - points[group, 0], axis=1)
            known = np.array([corners(person.region()) for person in found]).reshape(-1, 2, 2)
            if not alike(points[group[:1]], known).any():
                tries = dict.fromkeys((group[radius.argmax()], group[0]))
                believed = (self._believe(image, points[index]) for index in tries)
                found.extend(islice(filter(None, believed), 1))

    def _look(
        self, image: np.ndarray, tile: Tile, *, threshold: float = SEEN, known: Sequence[Landmarks] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """(P,) scores and (P, 2, 2) points, pixels, of the people in a tile, the known ones painted over."""
        self.passes["detector"] += 1
        square = cut_tile(image, tile)
        hide(square, tile, known)
        raw, logits = self._detector(square * np.float32(1 / 127.5) - 1)
        scores, points = decode_hits(raw[0], logits[0, :, 0], WHOLE if tile.whole else threshold)
        if not tile.spans:  # Limbs and cut bodies look like people too large for the tile.
            radius = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
            fits = (radius < 0.5) & np.all(np.abs(points[:, 0] - 0.5) < 0.5 + MARGIN, axis=1)
            scores, points = scores[fits], points[fits]
        # All anchors on a person have their say, by score, as in BlazeFace (Bazarevsky et al., 2019).
        groups = suppress(scores, points)
        means = np.array([np.average(points[group], axis=0, weights=scores[group]) for group in groups])
        means = means.reshape(-1, 2, 2) * tile.side + (tile.x, tile.y)  # (P, point, xy)
        return scores[[group[0] for group in groups]], means

    def _again(self, image: np.ndarray, place: Region) -> np.ndarray | None:
        """(2, 2) hip centre and size point of someone seen where a person was lost, None where nobody is."""
        side = max(1, round(1.2 * place.side))
        tile = Tile(round(place.x - side / 2), round(place.y - side / 2), side)
        _, points = self._look(image, tile, threshold=AGAIN)
        near = alike(points, corners(place)[None])[:, 0]
        return points[near][0] if near.any() else None

    def _read(self, image: np.ndarray, place: Region) -> Landmarks:
        """The landmarks of the person in a region."""
        self.passes["landmarks"] += 1
        raw, presence, world = self._landmarks(cut(image, place) * np.float32(1 / 255))
        return decode_landmarks(
            raw.reshape(39, 5), world.reshape(39, 3), presence.item(), place
        )  # (landmark, value)

    def _believe(self, image: np.ndarray, points: np.ndarray) -> Landmarks | None:
        """The landmarks of a newcomer, None unless they show a person and lead to themselves again."""
        first = self._read(image, region(*points))
        if first.presence < NEW:
            return None
        second = self._read(image, first.region())
        return second if second.presence >= NEW else None

    def _follow(self, image: np.ndarray, place: Region) -> Landmarks | None:
        """The landmarks of a person of the last frame, None where they are lost."""
        landmarks = self._read(image, place)
        if landmarks.presence >= KEPT:
            return landmarks
        points = self._again(image, place)
        return None if points is None else self._believe(image, points)

    def _settle(self, image: np.ndarray, place: Region) -> Landmarks:
        """The landmarks on which a picture's passes settle.

        The region follows the landmarks until it no longer depends on where a tile lay; then four crops, a
        little larger, smaller and turned, are averaged, which halves the scatter of one.
        """
        for _ in range(4):
            place = self._read(image, place).region()
        around = [
            place._replace(side=place.side * scale, angle=place.angle + turn)
            for scale in (0.96, 1.04)
            for turn in (-0.06, 0.06)
        ]
        read = [self._read(image, each) for each in around]
        return Landmarks(*(np.mean(part, axis=0) for part in zip(*read, strict=True)))


def _round(person: Landmarks) -> Tile:
    """The tile that shows a person and whoever is near them."""
    place = person.region()
    side = max(1, round(2 * place.side))
    return Tile(round(place.x - side / 2), round(place.y - side / 2), side)

"""What would bring key points to where the cameras see the joints, if they are not there.

Tried are key points of another camera, left and right exchanged, joints in other known orders, pictures of
another size, and another frame rate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.camera import Camera, denormalize_pixels, h36m_cameras, project
from common.sequences import PoseSet
from common.skeleton import JOINT_NAMES, NUM_JOINTS
from dataset.check_orders import EXCHANGED, ORDERS
from dataset.check_samples import View, listed, view_at

SUSPECT = 0.015
"""Mean distance of key points from the projected joints, in diagonals of the person's box, from which on an
exchange of left and right is tried. Good detectors are above it too."""
MISFIT = 0.06
"""Distance from which on all explanations are tried, and that what they explain must fall below."""
BETTER = 0.4
"""Share of the distance before that what is explained must fall below."""
UNEXPLAINED = 0.12
"""Distance that no detector has: from here on it is a fault without an explanation too."""
SMALLEST_BOX = 20.0
"""Pixels of the smallest diagonal that distances are measured in."""
RATES = (2.0, 3.0, 4.0, 5.0, 0.5, 1 / 3, 0.25, 0.2)
"""Frames of the key points to one of the positions that are tried."""
FRAMES = 9
"""Frames that a rate is tried on."""

Explanation = tuple[str, str, list[float]]
"""Kind of a fault, its words, and the distance of each view if it is mended."""

ORDER, SIZE, UNKNOWN = "joint order of the key points", "picture size", "key points"
NOTHING = "nothing known here brings them there"


class Seen(NamedTuple):
    """A view with what its camera should see.

    Attributes:
        view: The view.
        projected: (F, 17, 2) pixels.
        box: (F,) diagonal of the box around them, pixels.
    """

    view: View
    projected: np.ndarray
    box: np.ndarray


def seen_by_camera(view: View) -> Seen:
    """Projects a view's positions, lens distortion included where the camera is one of Human3.6M's."""
    camera = _lens(view.sequence.image_size, view.sequence.intrinsics)
    if camera is not None:
        projected = project(view.positions, camera)
    else:
        fx, fy, cx, cy = view.sequence.intrinsics
        plane = view.positions[..., :2] / view.positions[..., 2:]
        projected = denormalize_pixels(plane * (fx, fy) + (cx, cy), *view.sequence.image_size)
    box = np.linalg.norm(projected.max(axis=1) - projected.min(axis=1), axis=-1)
    return Seen(view, projected, np.maximum(box, SMALLEST_BOX))


@lru_cache
def _lens(size: tuple[int, int], intrinsics: tuple[float, ...]) -> Camera | None:
    """The camera of Human3.6M with this size and lens, whose distortion the sequence does not tell."""
    for cameras in h36m_cameras().values():
        for camera in cameras:
            if (camera.width, camera.height) == size and np.allclose(camera.intrinsics(), intrinsics):
                return camera
    return None


def distance(keypoints: np.ndarray, seen: Seen, order: np.ndarray | None = None) -> float:
    """Mean over joints of the median distance of key points (F, 17, 2), in boxes.

    Args:
        keypoints: Key points, pixels.
        seen: Where they should be.
        order: The slot that holds the key point of each joint; -1 for joints that are not compared.
    """
    joints = np.arange(NUM_JOINTS) if order is None else np.flatnonzero(order >= 0)
    slots = joints if order is None else order[joints]
    gaps = np.linalg.norm(keypoints[:, slots] - seen.projected[:, joints], axis=-1) / seen.box[:, None]
    return float(np.median(gaps, axis=0).mean())


def explanation_of(poses: PoseSet, seen: list[Seen], before: list[float]) -> tuple[str, str]:
    """Kind and words of the first explanation of a take's misfit; empty where it fits.

    The view that fits worst decides, since key points of a single camera may be wrong.
    """
    worst = int(np.argmax(before))

    def helps(explanation: Explanation) -> bool:
        return explanation[2][worst] < min(BETTER * before[worst], MISFIT)

    if before[worst] < SUSPECT:
        return "", ""
    sides = [("left and right", which, order) for which, order in EXCHANGED.items()]
    tried = [_cameras(seen)] if before[worst] > MISFIT else []
    tried.append(_best_of(sides, seen, worst))
    for explanation in tried:
        if helps(explanation):
            return explanation[:2]
    if before[worst] < MISFIT:
        return "", ""
    known = [(ORDER, f"they are in the order of {name}", order) for name, order in ORDERS.items()]
    for explanation in (_best_of(known, seen, worst), _scale(seen), _rate(poses, seen)):
        if helps(explanation):
            return explanation[:2]
    return (UNKNOWN, NOTHING) if before[worst] > UNEXPLAINED else ("", "")


def _cameras(seen: list[Seen]) -> Explanation:
    """Key points of other cameras of the take: the best exchange, by all distances of views from views."""
    distances = np.array([[distance(other.view.keypoints, each) for other in seen] for each in seen])
    _, best = linear_sum_assignment(distances)
    names = [each.view.sequence.camera for each in seen]
    there = ", ".join(str(names[index]) for index in best)
    words = f"what cameras {', '.join(map(str, names))} see is listed as key points of cameras {there}"
    return "camera order", words, [float(distances[row, column]) for row, column in enumerate(best)]


def _best_of(orders: list[tuple[str, str, tuple[int, ...]]], seen: list[Seen], worst: int) -> Explanation:
    """The order of joints in which the worst view fits best, of some with kind and words."""
    tried = [
        (kind, words, [distance(each.view.keypoints, each, np.array(order)) for each in seen])
        for kind, words, order in orders
    ]
    return min(tried, key=lambda explanation: explanation[2][worst])


def moved_joints(seen: list[Seen]) -> str:
    """Which key points of alike views lie on other joints than their own, in words; empty for none."""
    gaps = np.zeros((NUM_JOINTS, NUM_JOINTS))
    for each in seen:
        away = each.view.keypoints[:, None] - each.projected[:, :, None]  # (F, joints, slots, 2)
        gaps += np.median(np.linalg.norm(away, axis=-1) / each.box[:, None, None], axis=0) / len(seen)
    joints, slots = linear_sum_assignment(gaps)
    moved = joints != slots
    own, other = gaps[joints, joints][moved].sum(), gaps[joints, slots][moved].sum()
    if not moved.any() or other > BETTER * own:
        return ""
    names = (f"{JOINT_NAMES[a]} in the place of {JOINT_NAMES[b]}" for a, b in zip(joints, slots) if a != b)
    return f"key points fit if read in another order: {listed(names, NUM_JOINTS)}"


def _scale(seen: list[Seen]) -> Explanation:
    """Key points in pictures of another size, cut, mirrored or upside down: a scale and shift per axis."""
    after = []
    for each in seen:
        scale, shift = _lines(each)
        # Brought back to the picture's own pixels, so that what fits nothing is not drawn together.
        back = np.where(np.abs(scale) < 1e-9, 0, 1 / np.where(scale == 0, 1, scale))
        after.append(distance((each.view.keypoints - shift) * back, each))
    return SIZE, "", after


def fitting_size(seen: list[Seen]) -> str:
    """Which pictures the key points of some views would fit, in words."""
    scale, shift = np.median([_lines(each) for each in seen], axis=0)
    (x, y), (right, down) = scale.tolist(), shift.tolist()
    width, height = seen[0].view.sequence.image_size
    if abs(x) * width < 4:
        return "they are not in pixels, but normalised already"
    if abs(x) > width / 4:
        return "they are in pixels, and not normalised"
    if x < 0 or y < 0:
        how = " and ".join(["mirrored"] * (x < 0) + ["upside down"] * (y < 0))
        return f"they are of pictures that are {how}"
    if max(abs(x - 1), abs(y - 1)) < 0.02:
        return f"they are moved by {right:.0f} px to the right and {down:.0f} px down"
    return f"they fit pictures of {_about(x * width)} x {_about(y * height)} pixels, not {width} x {height}"


def _lines(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of x and y, each (2,), that bring the projected joints nearest to the key points."""
    x, y = (points.reshape(-1, 2) for points in (seen.projected, seen.view.keypoints))  # (F, 17, 2) -> (N, 2)
    scale = np.mean((x - x.mean(axis=0)) * (y - y.mean(axis=0)), axis=0) / np.maximum(x.var(axis=0), 1e-9)
    return scale, y.mean(axis=0) - scale * x.mean(axis=0)


def _about(pixels: float) -> str:
    return f"{float(f'{pixels:.2g}'):.0f}"


def _rate(poses: PoseSet, seen: list[Seen]) -> Explanation:
    """Key points of every n-th frame, or of n frames for each."""
    best: list[float] = [np.inf] * len(seen)
    name = ""
    for rate in RATES:
        after = []
        for each in seen:
            sequence = each.view.sequence
            frames = np.unique(np.linspace(0, (len(sequence) - 1) / max(rate, 1), FRAMES).astype(int))
            other = seen_by_camera(view_at(poses, sequence, frames, (frames * rate).astype(int)))
            after.append(distance(other.view.keypoints, other))
        if max(after) < max(best):
            best, name = after, f"{rate:g} frames" if rate > 1 else f"1 frame in {1 / rate:g}"
    return "frame rate of the key points", f"they fit with {name} to one of the positions", best

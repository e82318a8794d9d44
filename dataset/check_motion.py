"""What is wrong with single frames and from frame to frame: NaN, frozen takes, jumps; people out of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from common.sequences import PoseSet, Sequence
from common.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS
from dataset.check_samples import Fault, Take, View, listed, where

RATE = 50.0
"""Frames a second where nothing says otherwise: Human3.6M's."""
JUMP = 20.0
"""Metres a second that no joint of a person reaches."""
USUAL = 12.0
"""Metres a second that the fastest joint stays under in half of the frames of a take."""
FROZEN = 0.2
"""Share of a take's frames that may be copies of the frame before."""
SHORTEST = 10
"""Frames of the shortest take that is judged by its frozen frames."""
TORN = 0.2
"""Metres that a bone's length changes by where one of its joints jumps."""
WHOLE = 12
"""Joints that jump at once where it is a cut, at which another recording begins, perhaps of another body."""
SHARE_OUTSIDE = 0.5
"""Share of a take's key points outside of their picture."""
CHILDREN = [
    [joint for joint in range(NUM_JOINTS) if PARENTS[joint] == parent] for parent in range(NUM_JOINTS)
]


@dataclass
class Motion:
    """What reading every frame of every take has found.

    Attributes:
        not_finite: Frames of each view that hold NaN or infinity, key points or positions.
        frozen: Share of frames that are copies of the frame before: of positions, and of key points.
        jumps: First frame and names of the joints that jump, by take.
        cuts: Takes in which the whole body jumps.
        usual: Median speed of the fastest joint of each take, metres a second.
    """

    not_finite: dict[Sequence, int]
    frozen: dict[Take, tuple[float, float]]
    jumps: dict[Take, tuple[int, list[str]]]
    cuts: list[Take]
    usual: dict[Take, float]


def read_motion(poses: PoseSet, takes: list[Take], rate: float = RATE) -> Motion:
    """Goes through all frames; through positions of one camera alone, since all cameras see one motion."""
    motion = Motion({}, {}, {}, [], {})
    for take in tqdm(takes, desc="reading", unit="take", disable=None, leave=False):
        still = 0.0
        for view in take:
            rows = slice(view.start, view.stop)
            keypoints, positions = poses.keypoints[rows], poses.positions[rows]
            # A sum is finite only if all that it is of is: far faster than a look at each number.
            if not np.isfinite(keypoints.sum() + positions.sum()):
                bad = ~(np.isfinite(keypoints).all(axis=(1, 2)) & np.isfinite(positions).all(axis=(1, 2)))
                motion.not_finite[view] = int(bad.sum())
            if len(view) >= SHORTEST:
                same = np.all(keypoints[1:] == keypoints[:-1], axis=(1, 2))  # (F - 1,)
                still = max(still, float(same.mean()))
        if len(take[0]) > 1:
            _read_steps(poses.positions[take[0].start : take[0].stop], take, rate, still, motion)
    return motion


def _read_steps(positions: np.ndarray, take: Take, rate: float, still: float, motion: Motion) -> None:
    step = np.diff(positions, axis=0)
    speed = np.sqrt(np.einsum("fjc,fjc->fj", step, step)) * (rate / take[0].step)  # (F - 1, 17)
    fastest = speed.max(axis=1)
    motion.usual[take] = float(np.median(fastest))
    copies = float((fastest == 0).mean()) if len(take[0]) >= SHORTEST else 0.0
    motion.frozen[take] = copies, still
    fast = speed > JUMP
    frames = np.flatnonzero(fast.any(axis=1))
    if len(frames) == 0:
        return
    # The root is its own parent here, a bone without a length.
    parents = [max(parent, 0) for parent in PARENTS]
    lengths = [
        np.linalg.norm(pose - pose[:, parents], axis=-1)
        for pose in (positions[frames], positions[frames + 1])
    ]
    torn = np.abs(lengths[1] - lengths[0]) > TORN  # (jumps, 17), by the joint at a bone's outer end
    torn |= np.stack([torn[:, children].any(axis=1) for children in CHILDREN], axis=1)
    few = fast[frames].sum(axis=1, keepdims=True) < WHOLE
    jumped = fast[frames] & torn & few
    if not jumped.any(axis=1).all():
        motion.cuts.append(take)
    if jumped.any():
        joints = [JOINT_NAMES[joint] for joint in np.flatnonzero(jumped.any(axis=0))]
        motion.jumps[take] = int(frames[jumped.any(axis=1)][0]) + 1, joints


def motion_faults(motion: Motion, takes: list[Take], spoilt: set[Take], rate: float = RATE) -> list[Fault]:
    """Faults of what was read, without speeds of takes that other faults spoil."""
    faults = []
    if motion.not_finite:
        bad = [take for take in takes if any(view in motion.not_finite for view in take)]
        count = sum(motion.not_finite.values())
        first = next(iter(motion.not_finite))
        words = f"{where(bad, takes)}: {count} frames hold NaN or infinity, the first in {first}"
        faults.append(Fault("not a number", words, "mend or leave out these frames, and make the set again"))
    frozen = [take for take, (copies, _) in motion.frozen.items() if copies > FROZEN]
    if frozen:
        worst = max(motion.frozen[take][0] for take in frozen)
        words = f"{where(frozen, takes)}: up to {worst:.0%} of the positions are copies of the frame before"
        remedy = "leave these takes out, or find out whether frames were repeated to raise the frame rate"
        faults.append(Fault("frozen", words, remedy))
    still = [take for take, (copies, seen) in motion.frozen.items() if seen > FROZEN > copies]
    if still:
        worst = max(motion.frozen[take][1] for take in still)
        words = f"{where(still, takes)}: up to {worst:.0%} of the key points are copies of the frame before"
        remedy = "positions move on meanwhile: make the key points of these takes again"
        faults.append(Fault("frozen key points", words, remedy))
    jumps = {take: jump for take, jump in motion.jumps.items() if take not in spoilt}
    if jumps:
        take, (frame, _) = next(iter(jumps.items()))
        every = [name for _, names in jumps.values() for name in names]
        words = (
            f"{where(jumps, takes)}: {listed(every)} faster than {JUMP:g} m/s at {rate:g} frames a "
            f"second, and away from the joint beside, first at frame {frame} of {take[0]}"
        )
        faults.append(Fault("jumps", words, "leave these frames out, or see what exchanged joints there"))
    fast = [take for take, speed in motion.usual.items() if speed > USUAL and take not in spoilt]
    if fast:
        usual = max(motion.usual[take] for take in fast)
        words = (
            f"{where(fast, takes)}: the fastest joint usually has up to {usual:.0f} m/s at {rate:g} frames"
        )
        remedy = "see whether frames are in another order, or thinned out to another frame rate"
        faults.append(Fault("frame rate", f"{words} a second, which no person has", remedy))
    return faults


def view_faults(samples: dict[Take, list[View]], spoilt: set[Take]) -> tuple[list[Fault], set[Take]]:
    """People behind the camera, and key points outside of the picture.

    Returns:
        The faults, and the takes with people behind the camera.
    """
    faults, behind, outside, worst = [], [], [], 0.0
    for take, views in samples.items():
        if take in spoilt:
            continue
        if any((view.positions[..., 2] <= 0).any() for view in views):
            behind.append(take)
            continue
        share = max(share_outside(view) for view in views)
        if share > SHARE_OUTSIDE:
            outside.append(take)
            worst = max(worst, share)
    if behind:
        words = f"{where(behind, samples)}: joints lie behind a camera (depth 0 or less)"
        remedy = "see whether z points away from the camera, and whose camera it is"
        faults.append(Fault("behind the camera", words, remedy))
    if outside:
        words = f"{where(outside, samples)}: up to {worst:.0%} of the key points are outside of the picture"
        faults.append(Fault("outside", words, "see whether the size of the pictures is right"))
    return faults, set(behind)


def share_outside(view: View) -> float:
    """Share of a view's key points that lie outside of the picture."""
    beyond = (view.keypoints < 0) | (view.keypoints > view.sequence.image_size)
    return float(beyond.any(axis=-1).mean())

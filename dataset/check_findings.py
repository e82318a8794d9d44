"""All checks of a data set, in the order in which one fault hides another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from common.sequences import PoseSet
from dataset.check_body import body_faults
from dataset.check_keypoints import Fits, keypoint_fits, residual_table
from dataset.check_motion import RATE, Motion, motion_faults, read_motion, share_outside, view_faults
from dataset.check_samples import Fault, Take, View, sampled, takes_of, where

EXCHANGED = {
    "all": "left and right",
    "arms": "the left and the right arm",
    "legs": "the left and the right leg",
}


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        faults: What is wrong.
        takes: All takes.
        samples: The frames that were looked at closely.
        figures: What was measured, as text.
    """

    faults: list[Fault]
    takes: list[Take]
    samples: dict[Take, list[View]]
    figures: str


def findings(poses: PoseSet, rate: float | None = None) -> Findings:
    """Checks a data set.

    Args:
        poses: The data set.
        rate: Frames a second, where they are known.
    """
    takes = takes_of(poses)
    motion = read_motion(poses, takes, rate or RATE)
    samples = sampled(poses, takes)
    faults, spoilt, sides = body_faults(samples)
    faults += motion_faults(motion, takes, spoilt, rate or RATE)
    of_views, behind = view_faults(samples, spoilt)
    fits = keypoint_fits(poses, samples, spoilt | behind, sides)
    faults += _sides_in_words(samples, sides, fits)
    # Key points that are of another picture's size are outside of this one's, which is no news.
    named = {fault.kind for fault in fits.faults}
    faults += fits.faults + [fault for fault in of_views if fault.kind != "outside" or not named]
    figures = _figures(motion, takes, samples, fits.residuals, rate)
    return Findings(faults, takes, samples, figures)


def _sides_in_words(
    samples: dict[Take, list[View]], sides: dict[Take, str | None], fits: Fits
) -> list[Fault]:
    """Left and right exchanged: in the positions, in the key points, or in both.

    Args:
        samples: The takes that were looked at.
        sides: What is exchanged by the way that knees and elbows of the positions bend.
        fits: Which key points fit the positions, and what must be exchanged for others to.
    """
    cases: dict[tuple[str, str], list[Take]] = {}
    for take in samples:
        bent, fit = sides.get(take, ""), fits.exchanged.get(take)
        if bent is None and fit:  # The subject's other takes tell where it is.
            told = Counter(which for other, which in sides.items() if other[0].subject == take[0].subject)
            bent = fit if told[fit] > told[""] else ""
        if bent:
            case = "positions" if fit else "both" if take in fits.fitting else "mirrored"
            cases.setdefault((case, bent), []).append(take)
        elif fit:
            cases.setdefault(("key points", fit), []).append(take)
    reasons = {
        "positions": "in the positions alone: knees or elbows bend the wrong way, and key points fit if it "
        "is undone",
        "both": "in positions and key points: knees or elbows bend the wrong way",
        "mirrored": "in the positions, or these are mirrored: knees or elbows bend the wrong way",
        "key points": "in the key points alone: they fit the positions if it is undone, and there knees and "
        "elbows bend the right way",
    }
    remedy = "exchange the joints back, or mirror the coordinates back, and make the data set again"
    return [
        Fault(
            "left and right",
            f"{where(takes, samples)}: {EXCHANGED[which]} are exchanged {reasons[case]}",
            remedy,
        )
        for (case, which), takes in cases.items()
    ]


def _figures(
    motion: Motion,
    takes: list[Take],
    samples: dict[Take, list[View]],
    residuals: np.ndarray,
    rate: float | None,
) -> str:
    lines = []
    stated = f"{rate:g} frames a second" if rate else f"{RATE:g} frames a second, as the files do not say"
    if motion.usual:
        usual, fastest = np.median(list(motion.usual.values())), max(motion.usual.values())
        lines.append(
            f"speed of the fastest joint: {usual:.1f} m/s in most takes, up to {fastest:.1f}, at {stated}"
        )
    if motion.cuts:
        count = f"{len(motion.cuts)} of {len(takes)} takes"
        lines.append(f"{count} are cut together of several recordings: bodies jump, which velocities show")
    outside = float(np.mean([share_outside(view) for views in samples.values() for view in views] or [0]))
    lines.append(f"key points outside of their picture: {outside:.2%}")
    if len(residuals):
        lines.append("key points beside the projected joints, pixels (median; 90 % are under):")
        lines += [f"  {line}" for line in _in_columns(residual_table(residuals))]
    frames = sum(len(views[0].frames) for views in samples.values())
    lines.append(
        f"all frames were read for NaN, jumps and frozen ones; the rest is by {frames:,} frames of "
        f"{len(samples):,} of {len(takes):,} takes in every camera"
    )
    return "\n".join(lines)


def _in_columns(cells: list[str], columns: int = 3) -> list[str]:
    """Cells in columns of equal width, one under the other."""
    width, rows = max(map(len, cells)), -(-len(cells) // columns)
    return ["   ".join(cell.ljust(width) for cell in cells[row::rows]).rstrip() for row in range(rows)]

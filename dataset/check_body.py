"""What the positions tell by themselves: order of the joints, size, which way is up, left and right.

None of it needs the key points. A fault hides others: poses in millimetres are said to be that, and are
looked at no further.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from common.skeleton import (
    BONES,
    JOINT_NAMES,
    LEFT_ARM,
    LEFT_LEG,
    MIRROR,
    NUM_JOINTS,
    PDOF,
    RIGHT_ARM,
    RIGHT_LEG,
)
from dataset.check_orders import ORDERS
from dataset.check_samples import Fault, Take, View, listed, where
from dataset.mocap_poses import HEAD, LEG, LEGS, UNITS, UPRIGHT, leg_length

VARIATION = 0.2
"""Standard deviation over a take of a bone's length, in the body's median bone: a bone keeps its length."""
ASYMMETRY = 1.5
"""Length of a limb's bone by that of the other side's."""
PROPORTION = 2.5
"""Length of a limb's bone by the mean of those of both thighs, against ``USUAL``: by this factor at most."""
USUAL = {
    joint: length
    for limb, lengths in ((RIGHT_LEG, (1.0, 1.0)), (LEFT_LEG, (1.0, 1.0)), (RIGHT_ARM, (0.64, 0.56)),
                          (LEFT_ARM, (0.64, 0.56)))
    for joint, length in zip(limb[1:], lengths, strict=True)
}  # fmt: skip
"""Length of each limb's bone, by the joint at its outer end, in thighs."""
BENT = 0.1
"""Sine of the angle from which on a knee or an elbow counts as bent."""
BENDS = 6
"""Bent knees or elbows that it takes to say which way they bend."""
SURE = 0.2
"""Share that bends the right way below which left and right are exchanged."""
AXES = ("x", "y", "z")


def body_faults(
    samples: dict[Take, list[View]],
) -> tuple[list[Fault], set[Take], dict[Take, str | None]]:
    """Faults of the order of joints, of size and of the way up, subject by subject; then of left and right.

    Returns:
        The faults but for left and right; the takes that they spoil; and what is exchanged in which of the
        others: "all", "arms", "legs", "" for nothing, None where limbs hardly bend.
    """
    bodies = {take: views[0].upright() for take, views in samples.items()}
    subjects: dict[str, list[Take]] = {}
    for take in bodies:
        subjects.setdefault(take[0].subject, []).append(take)
    found: dict[tuple[str, str], list[Take]] = {}
    figures: dict[tuple[str, str], str] = {}
    for takes in subjects.values():
        poses = [bodies[take] for take in takes]
        if fault := _order(poses) or _size(poses):
            kind, verdict, figure = fault
            found.setdefault((kind, verdict), []).extend(takes)
            figures.setdefault((kind, verdict), figure)
    faults = [
        Fault(kind, f"{where(takes, samples)}: {figures[kind, verdict]}; {verdict}", REMEDIES[kind])
        for (kind, verdict), takes in found.items()
    ]
    spoilt = {take for takes in found.values() for take in takes}
    fallen = _up({take: body for take, body in bodies.items() if take not in spoilt})
    for words, takes in fallen.items():
        oriented = takes[0][0].orientation is not None
        expected = "expected z, up in the world" if oriented else "expected -y, up in the camera's axes"
        faults.append(Fault("up", f"{where(takes, samples)}: {words}; {expected}", REMEDIES["up"]))
        spoilt |= set(takes)
    sides = {take: _sides(body) for take, body in bodies.items() if take not in spoilt}
    return faults, spoilt, sides


REMEDIES = {
    "joint order": "reorder the joints as common/skeleton.py has them, in the file that the set was made of",
    "units": "convert the positions to metres and make the data set again",
    "up": "turn the positions so that z points up in the world (camera space: y down), and make it again",
}


def _order(poses: list[np.ndarray]) -> tuple[str, str, str] | None:
    """Tells joints in another order by bones that change their length or have no human proportions.

    Returns:
        The kind of the fault, what would be right, and the figures; None if the order is right.
    """
    faults = _bone_faults(poses, np.arange(NUM_JOINTS))
    if not faults:
        return None
    fitting = [name for name, order in ORDERS.items() if not _bone_faults(poses, np.array(order))]
    verdict = (
        f"read as {fitting[0]}, bones are sound" if fitting else "in no order known here bones are sound"
    )
    return "joint order", verdict, listed(faults)


def _bone_faults(poses: list[np.ndarray], order: np.ndarray) -> list[str]:
    """What is wrong with the bones of takes (F, 17, 3) if joint j is in slot order[j]; -1 for in none."""
    bones = [(joint, parent) for joint, parent in BONES if min(order[[joint, parent]]) >= 0]
    ends, starts = order[np.array(bones).T]
    lengths = [np.linalg.norm(pose[:, ends] - pose[:, starts], axis=-1) for pose in poses]  # (F, bones) each
    usual = dict(zip((end for end, _ in bones), np.median(np.concatenate(lengths), axis=0), strict=True))
    body = float(np.median(list(usual.values())))
    spread = np.median([each.std(axis=0) for each in lengths], axis=0) / max(body, 1e-9)  # (bones,)
    faults = []
    thigh = (usual.get(RIGHT_LEG[1], body) + usual.get(LEFT_LEG[1], body)) / 2
    for (joint, parent), variation in zip(bones, spread, strict=True):
        name, length = f"{JOINT_NAMES[parent]} to {JOINT_NAMES[joint]}", usual[joint]
        other = usual.get(int(MIRROR[joint]), length)
        if length < 0.02 * body:
            faults.append(f"{name} has no length")
        elif variation > VARIATION:
            faults.append(f"{name} changes its length by {variation * body / length:.0%} within a take")
        elif joint in USUAL and PDOF[joint] >= 2 and length > ASYMMETRY * other:
            faults.append(f"{name} is {length / other:.1f} times as long as on the other side")
        elif joint in USUAL and not 1 / PROPORTION < length / thigh / USUAL[joint] < PROPORTION:
            faults.append(f"{name} is {length / thigh:.2g} times as long as a thigh")
    return faults


def _size(poses: list[np.ndarray]) -> tuple[str, str, str] | None:
    """Tells another unit than metres by the length of the legs; see ``_order``."""
    leg = leg_length(np.concatenate(poses))
    if LEGS[0] <= leg <= LEGS[1]:
        return None
    fits = [name for name, size in UNITS.items() if LEGS[0] <= leg * size <= LEGS[1]]
    unit = min(fits, key=lambda name: abs(np.log(leg * UNITS[name] / LEG)), default="")
    verdict = f"that is human in {unit}" if unit else "that is human in no known unit"
    figure = f"legs are {leg:.3g} long from hip to ankle, expected {LEGS[0]:g} to {LEGS[1]:g} metres"
    return "units", verdict, figure


def _up(bodies: dict[Take, np.ndarray]) -> dict[str, list[Take]]:
    """Takes whose people stand along another axis than z, by what to say of them.

    Who crawls lies along some other axis, but not along the same one as the next: subjects of fewer than
    three takes are judged with all others.
    """
    votes: dict[str, dict[Take, str]] = {}
    for take, body in bodies.items():
        height = body[:, HEAD] - body[:, [RIGHT_LEG[2], LEFT_LEG[2]]].mean(axis=1)
        mean = (height / np.linalg.norm(height, axis=-1, keepdims=True)).mean(axis=0)
        axis = int(np.abs(mean).argmax())
        if abs(mean[axis]) >= UPRIGHT:
            votes.setdefault(take[0].subject, {})[take] = ("-" if mean[axis] < 0 else "") + AXES[axis]
    judged = [found for found in votes.values() if len(found) >= 3]
    rest = {take: axis for found in votes.values() if len(found) < 3 for take, axis in found.items()}
    fallen: dict[str, list[Take]] = {}
    for found in [*judged, rest]:
        up, count = Counter(found.values()).most_common(1)[0] if found else ("z", 0)
        if up == "z" or 2 * count <= len(found):
            continue
        subjects = {take[0].subject for take in found}
        takes = [take for take in bodies if take[0].subject in subjects]
        oriented = takes[0][0].orientation is not None
        name = up if oriented else CAMERA_AXES[up]
        fallen.setdefault(f"heads are above feet along {name}", []).extend(takes)
    return fallen


CAMERA_AXES = {"x": "x", "y": "z", "z": "-y", "-x": "-x", "-y": "-z", "-z": "y"}
"""The camera's axes by those of ``View.upright`` where no orientation is known."""


def _sides(body: np.ndarray) -> str | None:
    """Which of a take's (F, 17, 3) left and right limbs are exchanged; see ``body_faults``.

    A knee bends so that shank and thigh turn about the axis from the right hip to the left, an elbow about
    the opposite one from shoulder to shoulder: in every right-handed frame, and in every attitude.
    """
    hips = body[:, LEFT_LEG[0]] - body[:, RIGHT_LEG[0]]
    shoulders = body[:, LEFT_ARM[0]] - body[:, RIGHT_ARM[0]]
    knees = _share_forward(body, (RIGHT_LEG, LEFT_LEG), hips)
    elbows = _share_forward(body, (RIGHT_ARM, LEFT_ARM), -shoulders)
    crossed = np.mean(np.sum(hips * shoulders, axis=-1) > 0) < SURE
    legs_wrong, arms_wrong = (share is not None and share < SURE for share in (knees, elbows))
    if crossed:
        return "legs" if legs_wrong else "arms" if arms_wrong else None
    if legs_wrong and (arms_wrong or elbows is None):
        return "all"
    return "" if knees is not None and knees > 1 - SURE else None


def _share_forward(
    body: np.ndarray, limbs: tuple[tuple[int, int, int], ...], axis: np.ndarray
) -> float | None:
    """Share of the bending of limbs that is about an axis (F, 3), not against it; None for hardly any."""
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    sines = []
    for root, middle, end in limbs:
        inner, outer = body[:, middle] - body[:, root], body[:, end] - body[:, middle]
        length = np.linalg.norm(inner, axis=-1) * np.linalg.norm(outer, axis=-1)
        sines.append(np.sum(np.cross(inner, outer) * axis, axis=-1) / np.maximum(length, 1e-9))
    bends = np.concatenate(sines)
    bends = bends[np.abs(bends) > BENT]
    if len(bends) < BENDS:
        return None
    return float(bends[bends > 0].sum() / np.abs(bends).sum())

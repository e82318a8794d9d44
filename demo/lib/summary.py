"""What the demo says of an input when it is done, and whom it leaves out."""

from __future__ import annotations

import numpy as np

from demo.lib.inputs import InputError
from demo.lib.pipeline import Stages
from demo.lib.result import LOW_SCORE, Result

SMALL_PERSON = 60
"""Height in pixels below which key points are too coarse to be lifted well."""
HALF_BODY = 4
"""Joints of low score or outside of the picture from which on a person counts as half seen."""


def keep_people(result: Result, *, most: int | None = None, person: int | None = None) -> None:
    """Leaves out people: all but one ID, or all but those seen in most frames, the surest among equals.

    Raises:
        InputError: People were found, but not this one.
    """
    found = {track.id for track in result.tracks}
    if person is not None and result.tracks:
        there = ", ".join(str(track.id) for track in result.tracks)
        result.tracks = [track for track in result.tracks if track.id == person]
        if not result.tracks:
            raise InputError(f"{result.source}: --person {person}: no such person, found {there}")
    if most is not None and most < len(result.tracks):
        ranked = sorted(result.tracks, key=lambda track: (-len(track.frames), -float(track.scores.mean())))
        kept = {track.id for track in ranked[:most]}
        result.tracks = [track for track in result.tracks if track.id in kept]
    removed = found - {track.id for track in result.tracks}
    for number in removed:
        result.notes.pop(f"size of person {number}", None)
    if removed:
        result.notes["people kept"] = f"{len(result.tracks)} of {len(found)}, as asked for"


def finish(result: Result, *, most: int | None = None, person: int | None = None) -> None:
    """Leaves out people (see ``keep_people``) and notes what must go with the data."""
    keep_people(result, most=most, person=person)
    result.notes["made by"] = version()
    if found := warnings(result):
        result.notes["warnings"] = "; ".join(found)


def report(result: Result, stages: Stages) -> str:
    """One line: who was found, how sure the key points are, what speaks against the poses, times."""
    left_out = [f"left out {result.notes['left out']}"] if "left out" in result.notes else []
    if not result.tracks:
        return f"{result.source}: {', '.join(['nobody found', *left_out])} ({stages})"
    seen = np.concatenate([track.scores[~track.interpolated] for track in result.tracks])
    filled = sum(int(track.interpolated.sum()) for track in result.tracks)
    people = len(result.tracks)
    parts = [
        f"{people} {'person' if people == 1 else 'people'}",
        f"mean key point score {seen.mean():.2f}",
        f"{int((seen < LOW_SCORE).sum())} of {seen.size} joints below {LOW_SCORE:g}",
    ]
    if filled:
        parts.append(f"{filled} poses interpolated")
    parts += left_out
    if "people kept" in result.notes:
        parts.append(f"kept {result.notes['people kept']}")
    found = [f"warning: {warning}" for warning in warnings(result)]
    return "; ".join([f"{result.source}: {', '.join(parts)}", *found]) + f" ({stages})"


def warnings(result: Result) -> list[str]:
    """What speaks against trusting the poses, a phrase each."""
    small, half = [], []
    for track in result.tracks:
        spans = np.ptp(track.keypoints, axis=1).max(axis=1)  # (T,), the longer side for people who lie
        if np.median(spans) < SMALL_PERSON:
            small.append(track.id)
        outside = ((track.keypoints < 0) | (track.keypoints >= result.image_size)).any(axis=2)  # (T, J)
        unseen = outside | (track.scores < LOW_SCORE)
        if unseen[~track.interpolated].sum(axis=1).mean() >= HALF_BODY:
            half.append(track.id)
    found = []
    if small:
        found.append(f"{_people(small)} under {SMALL_PERSON} px high, poses are coarse")
    if half:
        found.append(f"{_people(half)} only half seen, hidden joints are guessed")
    return found


def _people(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:8])) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return f"{'person' if len(ids) == 1 else 'people'} {shown}"


def version() -> str:
    """Name and version of this project."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"HTNet demo {installed('htnet')}"
    except PackageNotFoundError:
        return "HTNet demo, not installed"

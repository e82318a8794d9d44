"""Looks at a data set before anyone trains on it: ``python -m dataset.check``."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.camera import denormalize_pixels, h36m_cameras
from common.console import UserError, configure_output, progress, run_command, text_table
from common.data import DATASETS, Dataset, check_files, find_dataset, load
from common.files import replacing
from common.poses import INDEX, PoseSet, Sequence, read_poses
from common.skeleton import BONES, JOINT_NAMES, LEFT, MIRROR, PDOF, RIGHT
from dataset.h36m import missing_takes
from dataset.rigs import up_axis

MAX_TAKES, FRAMES = 1000, 12  # takes that are looked at closely, frames of each
LEG = (0.55, 1.2)  # metres from hip to ankle, accepted range
VARIATION, ASYMMETRY = 0.2, 1.5  # accepted: of a bone's length in a take, and against the other side's
BENT, MIN_BENDS = 0.1, 6  # sine of a bent knee or elbow, and how many it takes to judge their direction
SUSPECT, MISFIT = 0.015, 0.1  # keypoint errors, in diagonals of the person's box: swaps are tried; an error
BETTER = 0.4  # fraction of the error that an explanation may leave
LEGS, ARMS = (RIGHT[:3], LEFT[:3]), (RIGHT[3:], LEFT[3:])  # limbs from the trunk outwards


class Take(NamedTuple):
    """F frames of a take, spread evenly, as C cameras saw them."""

    sequences: list[Sequence]
    keypoints: np.ndarray  # (C, F, 17, 2) pixels
    projected: np.ndarray  # (C, F, 17, 2) pixels where the cameras should see the joints
    depths: np.ndarray  # (C, F, 17)
    body: np.ndarray  # (F, 17, 3) of the first camera, rotated so that z should be up

    def errors(self, keypoints: np.ndarray) -> np.ndarray:
        """(C,) mean over joints of the median error of keypoints, in diagonals of the person's box."""
        box = np.linalg.norm(np.ptp(self.projected, axis=2), axis=-1)[..., None]  # (C, F, 1)
        gaps = np.linalg.norm(keypoints - self.projected, axis=-1) / np.maximum(box, 20)
        return np.median(gaps, axis=1).mean(axis=-1)


def check(poses: PoseSet) -> tuple[dict[str, list[str]], list[Take]]:
    """By problem the takes that have it (one problem hides others), and the takes that were looked at."""
    groups: dict[object, list[Sequence]] = {}
    for sequence in poses.sequences:
        groups.setdefault((sequence.subject, sequence.action, sequence.first_frame), []).append(sequence)
    problems: dict[str, list[str]] = {}
    subjects: dict[str, list[Take]] = {}
    for number, sequences in enumerate(progress(groups.values(), desc="reading", unit="take")):
        arrays = [each[s.start : s.stop] for s in sequences for each in (poses.keypoints, poses.positions)]
        if not all(np.isfinite(each).all() for each in arrays):
            problems.setdefault("NaN or infinity: fix or remove the frames", []).append(str(sequences[0]))
        if number % -(-len(groups) // MAX_TAKES) == 0 and (take := _sampled(poses, sequences)):
            subjects.setdefault(sequences[0].subject, []).append(take)
    everybody = [up_axis(take.body) for takes in subjects.values() for take in takes]
    for takes in subjects.values():
        # A few takes are judged with all others: who crawls misleads.
        own = [up_axis(take.body) for take in takes] if len(takes) > 2 else everybody
        [(up, _)] = Counter(filter(None, own)).most_common(1) or [("z", 0)]
        whole = _body_problem([take.body for take in takes], up)
        sides = _bends(np.concatenate([take.body for take in takes]))
        for take in takes:
            if text := whole or _take_problem(take, sides):
                problems.setdefault(text, []).append(str(take.sequences[0]))
    return problems, [*itertools.chain(*subjects.values())]


def _sampled(poses: PoseSet, sequences: list[Sequence]) -> Take | None:
    from scipy.spatial.transform import Rotation

    frames = np.unique(np.linspace(0, min(map(len, sequences)) - 1, FRAMES).round().astype(int))
    rows = np.stack([sequence.start + frames for sequence in sequences])  # (C, F)
    values = np.concatenate([poses.positions[rows], poses.keypoints[rows]], axis=-1).astype(np.float64)
    values = values[:, np.isfinite(values).all(axis=(0, 2, 3))]  # (C, F, 17, 5)
    if not values.size:
        return None
    cameras = {camera.orientation: camera for own in h36m_cameras().values() for camera in own}
    pixels, projected = [], []
    for view, sequence in zip(values, sequences, strict=True):
        pixels.append(denormalize_pixels(view[..., 3:], *sequence.image_size))
        if camera := cameras.get(sequence.orientation):  # type: ignore[arg-type]
            projected.append(camera.project(view[..., :3]))  # with its lens distortion
        else:
            plane = view[..., :2] / view[..., 2:3] * sequence.intrinsics[:2] + sequence.intrinsics[2:]
            projected.append(denormalize_pixels(plane, *sequence.image_size))
    rotation = Rotation.from_euler("x", -90, degrees=True)  # camera axes, y down, to z up
    if (orientation := sequences[0].orientation) is not None:
        rotation = Rotation.from_quat(orientation, scalar_first=True)
    body = values[0, ..., :3] @ rotation.as_matrix().T
    return Take(sequences, np.stack(pixels), np.stack(projected), values[..., 2], body)


def _body_problem(bodies: list[np.ndarray], up: str) -> str:
    """Errors in all positions (F, 17, 3) of a subject."""
    ends, starts = map(list, zip(*BONES, strict=True))
    lengths = [np.linalg.norm(body[:, ends] - body[:, starts], axis=-1) for body in bodies]  # (F, bones) each
    usual = dict(zip(ends, np.median(np.concatenate(lengths), axis=0), strict=True))
    spread = np.median([each.std(axis=0) for each in lengths], axis=0)
    for (joint, parent), variation in zip(BONES, spread, strict=True):
        longer = PDOF[joint] > 1 and usual[joint] > ASYMMETRY * usual[int(MIRROR[joint])]
        if longer or variation > VARIATION * np.median([*usual.values()]):
            found = "is far longer than on the other side" if longer else "changes its length"
            return f"joint order: bone {JOINT_NAMES[parent]} to {JOINT_NAMES[joint]} {found}"
    leg = sum(usual[joint] for joint in (*RIGHT[1:3], *LEFT[1:3])) / 2
    if not LEG[0] <= leg <= LEG[1]:
        units = {"centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254}
        found = " or ".join(name for name, size in units.items() if LEG[0] <= leg * size <= LEG[1])
        return f"units: expected metres, found legs that are human in {found or 'no known unit'}"
    return "" if up == "z" else f"up: heads are above feet along {up}: expected z (camera axes: -y)"


def _bends(body: np.ndarray) -> bool | None:
    """Whether knees and elbows (F, 17, 3) bend the right way; None where they hardly bend or disagree.

    Shank and thigh turn about the axis from the right hip to the left, forearm and upper arm about the
    opposite one from shoulder to shoulder, in every right-handed frame.
    """
    sines = []
    for limbs, sign in ((LEGS, 1), (ARMS, -1)):
        axis = sign * (body[:, limbs[1][0]] - body[:, limbs[0][0]])
        for root, middle, end in limbs:
            inner, outer = body[:, middle] - body[:, root], body[:, end] - body[:, middle]
            length = np.prod([np.linalg.norm(each, axis=-1) for each in (inner, outer, axis)], axis=0)
            sines.append(np.sum(np.cross(inner, outer) * axis, axis=-1) / np.maximum(length, 1e-9))
    bends = np.concatenate(sines)
    bends = bends[np.abs(bends) > BENT]
    right = bends[bends > 0].sum() / max(np.abs(bends).sum(), 1e-9)
    return None if len(bends) < MIN_BENDS or 0.2 < right < 0.8 else bool(right > 0.5)


def _take_problem(take: Take, sides: bool | None) -> str:
    """Errors in a take's sides, cameras or keypoints; ``sides``: see ``_bends``, of the subject."""
    if (take.depths <= 0).any():
        return "behind the camera: depths of 0 or less: z must point away from the camera"
    own = _bends(take.body)
    backward = (sides if own is None else own) is False
    before = take.errors(take.keypoints)
    worst = int(before.argmax())

    def fits(keypoints: np.ndarray) -> bool:
        return take.errors(keypoints)[worst] < min(MISFIT, BETTER * before[worst])

    swapped = before[worst] > SUSPECT and fits(take.keypoints[:, :, MIRROR])
    if backward or swapped:
        parts = (
            "positions" if backward and swapped else "positions and keypoints" if backward else "keypoints"
        )
        return f"left and right: swapped in {parts}: swap the joints back, or mirror the coordinates back"
    if before[worst] < MISFIT:
        return ""
    if len(take.sequences) < 6:
        orders = map(list, itertools.permutations(range(len(take.sequences))))
        order = min(orders, key=lambda order: take.errors(take.keypoints[order]).sum())
        if fits(take.keypoints[order]):
            return f"camera order: keypoints fit if the cameras are read in the order {order}: reorder them"
    return f"keypoints: over {MISFIT:.0%} of a person's size off: see image size, joints, frames and subjects"


def describe(dataset: Dataset, poses: PoseSet, takes: list[Take], left_out: list[str]) -> str:
    """Frames and takes by action and subject, what is missing, and how far keypoints lie from the joints."""
    seen = [each for each in poses.sequences if each.camera == poses.sequences[0].camera]
    counts = Counter((each.subject, each.action_name) for each in seen)
    frames: Counter[tuple[str, str]] = Counter()
    for each in seen:
        frames[each.subject, each.action_name] += len(each)
    subjects = [*dict.fromkeys(subject for subject, _ in counts)][:12]
    rows = [["frames (takes)", *subjects]]
    for action in [*dict.fromkeys(action for _, action in counts)][:40]:
        keys = [(subject, action) for subject in subjects]
        rows.append([action, *(f"{frames[key]} ({counts[key]})" if key in counts else "-" for key in keys)])
    gaps = [np.linalg.norm(take.keypoints - take.projected, axis=-1) for take in takes]  # (C, F, 17) each
    residuals = np.concatenate([each.reshape(-1, len(JOINT_NAMES)) for each in gaps])
    table = [["keypoints beside projected joints, px", "median", "90 % under"]]
    for name, column in zip((*JOINT_NAMES, "all"), (*residuals.T, residuals), strict=True):
        table.append([name, *(f"{np.percentile(column, share):.1f}" for share in (50, 90))])
    absent = missing_takes(counts) if dataset.name == "h36m" else left_out
    missing = f"missing or left out ({len(absent)}): {'; '.join(absent[:10]) or 'nothing'}"
    return f"{poses}\n\n{text_table(rows)}\n\n{missing}\n\n{text_table(table)}"


def draw(path: Path, takes: list[Take]) -> None:
    """Writes a contact sheet of up to 12 poses: keypoints in the image, the body from two sides."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 9), layout="constrained")
    colours = ["#0072B2" if j in LEFT else "#D55E00" if j in RIGHT else "#4D4D4D" for j, _ in BONES]
    for number, index in enumerate(np.unique(np.linspace(0, len(takes) - 1, 12).round().astype(int))):
        take, frame = takes[index], len(takes[index].body) // 2
        camera = number % len(take.sequences)
        flat, *sides = (figure.add_subplot(4, 9, 3 * number + panel) for panel in (1, 2, 3))
        width, height = take.sequences[camera].image_size
        flat.set(xlim=(0, width), ylim=(height, 0))
        flat.set_title(f"{take.sequences[camera]} (left: blue)"[:60], fontsize=7, loc="left")
        body = take.body[frame] - take.body[frame, 0]
        for axes in sides:
            axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
        views = (take.keypoints[camera, frame], body[:, ::2], body[:, 1:])
        for axes, points in zip((flat, *sides), views, strict=True):
            for bone, colour in zip(BONES, colours, strict=True):
                axes.plot(*points[[*bone]].T, color=colour)
            axes.set(xticks=[], yticks=[], aspect="equal")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Runs one command line; exit codes: 0 valid, 1 invalid, 2 nothing was checked."""
    parser = argparse.ArgumentParser("python -m dataset.check", description="Finds errors in a data set.")
    add = parser.add_argument
    add("--dataset", metavar="NAME", help="what to check; without it, all that is ready is listed")
    add("-k", "--keypoints", metavar="SOURCE", help="source of the keypoints (default: as main.py)")
    add("--root_path", metavar="DIR", type=Path, help="folder of the data")
    add("--cache_dir", metavar="DIR", type=Path, help="folder for the converted data")
    add("--sheet", metavar="FILE.png", type=Path, help="contact sheet (default: check_NAME.png)")
    options = parser.parse_args(argv)
    configure_output()
    return run_command(lambda: _run(options) if options.dataset else _list(options.root_path))


def _list(root: Path | None) -> None:
    folder = root or Path("dataset")
    for name in [*DATASETS, *(path.parent.name for path in sorted(folder.glob(f"[!.]*/{INDEX}")))]:
        try:
            dataset = find_dataset(name, folder)
            check_files(dataset, Path(dataset.root) if name == "sample" else folder, dataset.keypoints)
            print(f"{name}: ready, {dataset.keypoints}")
        except UserError as error:
            print(f"{name}: {' '.join(str(error).split()[:12])} ...")


def _run(options: argparse.Namespace) -> int:
    dataset, root = find_dataset(options.dataset, options.root_path), options.root_path
    poses = load(dataset, root, options.keypoints, options.cache_dir)
    metadata = read_poses((root or Path(dataset.root)) / dataset.name)[1] if dataset.prepared else {}
    problems, takes = check(poses)
    if not takes:
        raise UserError(f"{dataset.name}: no frame without NaN or infinity; make the data set again")
    print(describe(dataset, poses, takes, [*metadata.get("missing", []), *metadata.get("left_out", [])]))
    for text, found in problems.items():
        print(f"\nfound in {len(found)} takes ({'; '.join(found[:4])}{'; ...' if found[4:] else ''}): {text}")
    sheet = options.sheet or Path(f"check_{dataset.name}.png")
    draw(sheet, takes)
    print(f"\nproblems: {len(problems) or 'none'}; wrote {sheet}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

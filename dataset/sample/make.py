"""Makes the sample data set: ``python -m dataset.sample.make --wheel FILE`` with pybullet's wheel.

Writes two files in the layout of the field's Human3.6M files. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import zipfile
from pathlib import Path

import numpy as np

from common.camera import h36m_cameras
from common.skeleton import H36M_32_KEPT
from dataset import placing
from dataset.layout import Keypoints, Positions, metadata, save, true_keypoints
from dataset.placing import ANKLE_HEIGHT, ANKLES, HEADING_STEP
from dataset.sample.deepmimic import Skeleton, joints, read_motion, read_skeleton, resample

URDF = "pybullet_data/humanoid/humanoid.urdf"
MOTIONS = "pybullet_data/data/motions/"
SHA256 = "1c7fea9a83bc008930e1d101b5381a48ecd4c1853f1c674f10cae4203c2afb9a"
"""Digest of all files that are read, one after another in the order of their names."""

TRAIN_CLIPS = {
    "WalkForward": "walker/0walk_forward",
    "TurnLeft0": "walker/turn_left0",
    "TurnRight0": "walker/turn_right0",
    "TurnRight1": "walker/turn_right1",
    "Run": "humanoid3d_run",
    "Jump": "humanoid3d_jump",
    "Crawl": "humanoid3d_crawl",
    "Roll": "humanoid3d_roll",
    "Cartwheel": "humanoid3d_cartwheel",
    "Backflip": "humanoid3d_backflip",
    "DanceA": "humanoid3d_dance_a",
    "Spin": "humanoid3d_spin",
    "Spinkick": "humanoid3d_spinkick",
    "Punch": "humanoid3d_punch",
    "GetupFacedown": "humanoid3d_getup_facedown",
}
TEST_CLIPS = {
    "Walk": "humanoid3d_walk",
    "TurnLeft1": "walker/turn_left1",
    "DanceB": "humanoid3d_dance_b",
    "Kick": "humanoid3d_kick",
    "GetupFaceup": "humanoid3d_getup_faceup",
}
"""Files of the clips. Test clips are other recordings of kinds of motion that the training clips hold too."""
TRAIN_SIZES = {"S1": 1.0, "S5": 1.04, "S6": 1.08, "S7": 1.02, "S8": 1.1}
TEST_SIZES = {"S9": 1.06, "S11": 1.03}
"""Size of each subject's body: 1 is the humanoid's own, 1.62 m from heel to head top."""

PERFORMERS = 3
"""Training subjects that each training clip is dealt to. Test subjects perform all test clips."""
RATE = 50
POSITION_STEP, PIXEL_STEP = 2.0**-11, 2.0**-3
"""Stored values are rounded to multiples of these (0.5 mm, 0.125 px): they compress to half the size."""


def read_files(folder: Path | zipfile.Path) -> dict[str, bytes]:
    """Reads skeleton and clips from an unpacked or packed wheel.

    Raises:
        ValueError: The files are not those that the data set was made from.
    """
    names = [URDF, *(MOTIONS + file + ".txt" for file in (TRAIN_CLIPS | TEST_CLIPS).values())]
    files = {name: folder.joinpath(name).read_bytes() for name in sorted(names)}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    if digest != SHA256:
        raise ValueError(f"expected the clips of pybullet 3.2.7 (SHA-256 {SHA256}), found {digest}")
    return files


def deal() -> list[tuple[str, str]]:
    """Subject and clip of every take, in the order in which their headings turn."""
    train = list(TRAIN_SIZES)
    takes = [
        (train[(index + turn) % len(train)], clip)
        for turn in range(PERFORMERS)
        for index, clip in enumerate(TRAIN_CLIPS)
    ]
    return takes + [(subject, clip) for subject in TEST_SIZES for clip in TEST_CLIPS]


def place(pose: np.ndarray, *, size: float, heading: float) -> np.ndarray:
    """Puts a take (F, 17, 3) into the cameras' room: metres, z up, the floor at z = 0, around the origin.

    Args:
        pose: Joint positions in metres, z up.
        size: Factor on all lengths.
        heading: Radians that the take is turned about the vertical.
    """
    floor = float(pose[:, ANKLES, 2].min() * size) - ANKLE_HEIGHT * size
    return placing.place(pose * size, heading=heading, floor=floor)


def in_view(pose: np.ndarray, subject: str) -> bool:
    """Whether all of the subject's cameras see all joints of a take (F, 17, 3) in world metres."""
    return placing.views(pose, h36m_cameras()[subject]) is not None


def make_positions(files: dict[str, bytes], skeleton: Skeleton) -> Positions:
    """All takes: positions[subject][clip] is (F, 32, 3) float32 in world metres, 0 in the slots not kept."""
    sizes, clips = TRAIN_SIZES | TEST_SIZES, TRAIN_CLIPS | TEST_CLIPS
    positions: Positions = {subject: {} for subject in sizes}
    headings = (number * HEADING_STEP for number in itertools.count())
    for subject, clip in deal():
        motion = read_motion(files[MOTIONS + clips[clip] + ".txt"])
        local = joints(resample(motion, RATE), skeleton)
        placed = (place(local, size=sizes[subject], heading=heading) for heading in headings)
        pose = next(candidate for candidate in placed if in_view(candidate, subject))
        slots = np.zeros((len(pose), 32, 3), dtype=np.float32)
        slots[:, H36M_32_KEPT] = np.round(pose / POSITION_STEP) * POSITION_STEP
        positions[subject][clip] = slots
    return positions


def make_keypoints(positions: Positions) -> Keypoints:
    """Key points of every take: for each of the subject's cameras (F, 17, 2) float32 in pixels."""
    return true_keypoints(positions, h36m_cameras(), step=PIXEL_STEP)


def count_table(positions: Positions) -> str:
    """Markdown table of frames per clip and subject."""
    subjects = list(positions)
    rows = [["clip", *subjects, "all"], ["---", *["---:"] * (len(subjects) + 1)]]
    for clip in TRAIN_CLIPS | TEST_CLIPS:
        counts = [len(positions[subject].get(clip, ())) for subject in subjects]
        rows.append([clip, *(str(count or "") for count in counts), str(sum(counts))])
    totals = [sum(map(len, positions[subject].values())) for subject in subjects]
    rows.append(["all", *map(str, totals), str(sum(totals))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Reads the command line, writes both files and prints the counts."""
    parser = argparse.ArgumentParser(description="make the sample data set from pybullet's motion clips")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--wheel", type=Path, help="pybullet's wheel, as pip download leaves it")
    group.add_argument("--source", type=Path, help="folder of the unpacked wheel (holds pybullet_data/)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    source = options.wheel or options.source
    try:
        files = read_files(zipfile.Path(options.wheel) if options.wheel else options.source)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        parser.error(f"cannot use {source}: {error}; see README.md in {Path(__file__).parent}")
    positions = make_positions(files, read_skeleton(files[URDF]))
    save(options.output / "data_3d_sample.npz", positions_3d=positions)
    keypoints = make_keypoints(positions)
    save(options.output / "data_2d_sample_gt.npz", positions_2d=keypoints, metadata=metadata())
    print(count_table(positions))


if __name__ == "__main__":
    main()

"""Makes the sample data set: ``python -m dataset.sample.make --wheel FILE`` with pybullet's wheel.

Writes two files in the layout of the field's Human3.6M files: see README.md beside this file. Clips (JSON)
and skeleton (URDF) are DeepMimic's (Peng, Abbeel, Levine, van de Panne, ACM TOG 2018): x is forward, y up and
z to the right of a humanoid in its rest pose.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from common.camera import h36m_cameras
from common.skeleton import H36M_32_KEPT, JOINT_NAMES
from dataset import h36m
from dataset.mocap import ANKLE_HEIGHT, HEADING_STEP, place, seen_by
from dataset.rigs import ANKLES

URDF = "pybullet_data/humanoid/humanoid.urdf"
MOTIONS = "pybullet_data/data/motions/"
SHA256 = "1c7fea9a83bc008930e1d101b5381a48ecd4c1853f1c674f10cae4203c2afb9a"
"""Digest of all files that are read, one after another in the order of their names."""
UNIT = 0.25  # metres in a unit of the URDF: the scale of pybullet's own DeepMimic environment

CHANNELS = (
    "root chest neck right_hip right_knee right_ankle right_shoulder right_elbow "
    "left_hip left_knee left_ankle left_shoulder left_elbow"
).split()
ANGLES = ("right_knee", "right_elbow", "left_knee", "left_elbow")
"""Joints of a frame in order: an angle about z in radians (``ANGLES``), or a quaternion (w, x, y, z)."""
POINTS = {"pelvis": "root", "spine": "chest", "thorax": "neck", "neck": "nose", "head": "head_top"}
"""The humanoid's point for each of our joints whose name is not the same there."""


def _clips(files: str) -> dict[str, str]:
    """Files of clips by name: humanoid3d_dance_a is DanceA."""
    return {re.sub("humanoid3d_|walker/0?", "", f).title().replace("_", ""): f for f in files.split()}


TRAIN_CLIPS = _clips(
    "walker/0walk_forward walker/turn_left0 walker/turn_right0 walker/turn_right1 humanoid3d_run "
    "humanoid3d_jump humanoid3d_crawl humanoid3d_roll humanoid3d_cartwheel humanoid3d_backflip "
    "humanoid3d_dance_a humanoid3d_spin humanoid3d_spinkick humanoid3d_punch humanoid3d_getup_facedown"
)
TEST_CLIPS = _clips(
    "humanoid3d_walk walker/turn_left1 humanoid3d_dance_b humanoid3d_kick humanoid3d_getup_faceup"
)
"""Test clips are other recordings of kinds of motion that the training clips hold too."""
TRAIN_SIZES = {"S1": 1.0, "S5": 1.04, "S6": 1.08, "S7": 1.02, "S8": 1.1}
TEST_SIZES = {"S9": 1.06, "S11": 1.03}
"""Size of each subject's body: 1 is the humanoid's own, 1.62 m from heel to head top."""
PERFORMERS = 3  # training subjects of each training clip; test subjects perform all test clips
RATE = 50  # frames per second
POSITION_STEP, PIXEL_STEP = 2.0**-11, 2.0**-3  # of stored values (0.5 mm, 0.125 px): half the file size

Skeleton = dict[str, tuple[str, np.ndarray]]
"""By joint, parents first: its parent and its offset (3,) in metres."""


def read_files(folder: Path | zipfile.Path) -> dict[str, bytes]:
    """Skeleton and clips of a wheel, unpacked or not; a ValueError if they are other ones."""
    names = [URDF, *(MOTIONS + file + ".txt" for file in (TRAIN_CLIPS | TEST_CLIPS).values())]
    files = {name: folder.joinpath(name).read_bytes() for name in sorted(names)}
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    if digest != SHA256:
        raise ValueError(f"expected the clips of pybullet 3.2.7 (SHA-256 {SHA256}), found {digest}")
    return files


def read_skeleton(urdf: bytes) -> Skeleton:
    """The joints of pybullet's ``humanoid.urdf``, and two points on its head.

    ``head_top`` is where the head's sphere ends, ``nose`` half the way up from the neck's joint to it and
    half a radius to the front.
    """
    robot = ET.fromstring(urdf.rstrip(b"\0"))
    skeleton: Skeleton = {}
    for joint in robot.iter("joint"):
        [parent], [origin] = joint.iter("parent"), joint.iter("origin")
        offset = np.array(origin.attrib["xyz"].split(), dtype=np.float64)
        skeleton[joint.attrib["name"]] = (parent.attrib["link"], UNIT * offset)
    [head] = robot.iterfind("link[@name='neck']/collision")
    [origin], [sphere] = head.iter("origin"), head.iter("sphere")
    radius = float(sphere.attrib["radius"])
    top = float(origin.attrib["xyz"].split()[1]) + radius
    skeleton["nose"] = ("neck", UNIT * np.array([radius / 2, top / 2, 0]))
    skeleton["head_top"] = ("neck", UNIT * np.array([0, top, 0]))
    return skeleton


def read_clip(text: bytes | str, skeleton: Skeleton, rate: float = RATE) -> np.ndarray:
    """(F, 17, 3) joints of a clip at ``rate`` frames per second, metres, z up: x is forward, y left at rest.

    The JSON has frames of a duration, the root's position, and the values of ``CHANNELS``.
    """
    frames = np.array(json.loads(text)["Frames"], dtype=np.float64)
    # A duration is that of the way to the next frame; the last one, often 0, leads nowhere.
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    at = np.minimum(np.arange(int(times[-1] * rate + 1e-6) + 1) / rate, times[-1])
    points = {"root": np.stack([np.interp(at, times, column) for column in frames[:, 1:4].T], axis=1)}
    local, column = {}, 4
    for name in CHANNELS:
        if name in ANGLES:
            rotation, column = Rotation.from_euler("z", frames[:, [column]]), column + 1
        else:
            values, column = frames[:, column : column + 4], column + 4
            rotation = Rotation.from_quat(values, scalar_first=True)
        local[name] = Slerp(times, rotation)(at)
    rotations = {"root": local["root"]}
    for name, (parent, offset) in skeleton.items():
        if parent in points:  # all but the root's
            points[name] = points[parent] + rotations[parent].apply(offset)
            rotations[name] = rotations[parent] * local[name] if name in local else rotations[parent]
    pose = np.stack([points[POINTS.get(name, name)] for name in JOINT_NAMES], axis=1)  # (F, 17, 3), y up
    return np.stack([pose[..., 0], -pose[..., 2], pose[..., 1]], axis=-1)


def make_positions(files: dict[str, bytes]) -> h36m.Positions:
    """All takes: positions[subject][clip] is (F, 32, 3) float32 in world metres, 0 in the slots not kept."""
    skeleton, train = read_skeleton(files[URDF]), list(TRAIN_SIZES)
    takes = [
        (train[(index + number) % len(train)], clip)
        for number in range(PERFORMERS)
        for index, clip in enumerate(TRAIN_CLIPS)
    ]
    takes += [(subject, clip) for subject in TEST_SIZES for clip in TEST_CLIPS]
    positions: h36m.Positions = {subject: {} for subject in TRAIN_SIZES | TEST_SIZES}
    headings = (number * HEADING_STEP for number in itertools.count())
    for subject, clip in takes:
        size, file = (TRAIN_SIZES | TEST_SIZES)[subject], (TRAIN_CLIPS | TEST_CLIPS)[clip]
        pose = read_clip(files[f"{MOTIONS}{file}.txt"], skeleton) * size
        floor = float(pose[:, ANKLES, 2].min()) - ANKLE_HEIGHT * size
        tries = (place(pose, heading=heading, floor=floor) for heading in headings)
        placed = next(each for each in tries if seen_by(each, h36m_cameras()[subject]))
        slots = np.zeros((len(placed), 32, 3), dtype=np.float32)
        slots[:, H36M_32_KEPT] = np.round(placed / POSITION_STEP) * POSITION_STEP
        positions[subject][clip] = slots
    return positions


def main() -> None:
    """Reads the command line and writes both files."""
    parser = argparse.ArgumentParser(description="make the sample data set from pybullet's motion clips")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--wheel", type=Path, help="pybullet's wheel, as pip download leaves it")
    group.add_argument("--source", type=Path, help="folder of the unpacked wheel (holds pybullet_data/)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args()
    source = options.wheel or options.source
    try:
        files = read_files(zipfile.Path(source) if options.wheel else source)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        parser.error(f"cannot use {source}: {error}; see dataset/sample/README.md")
    positions = make_positions(files)
    h36m.save(options.output / "data_3d_sample.npz", positions_3d=positions)
    keypoints = h36m.project(positions, step=PIXEL_STEP)
    h36m.save(options.output / "data_2d_sample_gt.npz", positions_2d=keypoints, metadata=h36m.metadata())


if __name__ == "__main__":
    main()

"""Readers of BVH and of ASF with AMC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from captures import rotation_about, walk, write_asf_amc, write_bvh

from dataset.motion import END, MAX_NODES, forward, read_amc, read_bvh, resample


def tiny(channels: str, row: str) -> str:
    head = f"HIERARCHY\nROOT a\n{{\nOFFSET 0 0 0\nCHANNELS {channels}\nEnd Site\n{{\nOFFSET 1 2 3\n}}\n}}\n"
    return f"{head}MOTION\nFrames: 1\nFrame Time: 0.01\n{row}\n"


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "YZX", "ZYX", "XZY", "YXZ"])
def test_bvh_rotations_follow_the_order_of_the_channels(tmp_path: Path, order: str) -> None:
    channels = " ".join(f"{axis}rotation" for axis in order)
    (tmp_path / "a.bvh").write_text(tiny(f"3 {channels}", "20 -130 70"))
    nodes, rate, _ = read_bvh(tmp_path / "a.bvh")
    first, second, third = (
        rotation_about("XYZ".index(axis), np.array([angle]))[0]
        for axis, angle in zip(order, (20, -130, 70), strict=True)
    )
    assert rate == pytest.approx(100) and nodes[1].name == "a" + END
    expected = first @ second @ third @ [1, 2, 3]
    np.testing.assert_allclose(forward(nodes)[nodes[1]][0], [expected], atol=1e-12)


def test_resampling_is_linear_for_positions_and_slerp_for_rotations(tmp_path: Path) -> None:
    text = tiny("2 Xposition Zrotation", "0 0\n4 60\n8 120").replace("Frames: 1", "Frames: 3")
    (tmp_path / "a.bvh").write_text(text)
    nodes, _, _ = read_bvh(tmp_path / "a.bvh")
    assert not resample(nodes, 20.0, 40.0)
    assert nodes[0].position is not None
    np.testing.assert_allclose(nodes[0].position[:, 0], [0, 2, 4, 6, 8], atol=1e-12)
    angles = nodes[0].rotation.as_euler("zyx", degrees=True)[:, 0]
    np.testing.assert_allclose(angles, [0, 30, 60, 90, 120], atol=1e-9)


@pytest.mark.parametrize("frames", [119, 121])
def test_bvh_accepts_a_row_more_or_less_than_stated(tmp_path: Path, frames: int) -> None:
    write_bvh(tmp_path / "a.bvh", *walk(120), frames=frames)
    nodes, _, note = read_bvh(tmp_path / "a.bvh")
    assert len(nodes[0].rotation) == 120 and str(frames) in note


def test_bvh_with_two_rows_more_than_stated_is_refused(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", *walk(120), frames=118)
    with pytest.raises(ValueError, match="cut off"):
        read_bvh(tmp_path / "a.bvh")


DAMAGES = {
    "cut in a frame": lambda text: text[: len(text) // 2],
    "cut between frames": lambda text: "\n".join(text.split("\n")[:-5]),
    "cut in the skeleton": lambda text: text[:700],
    "empty": lambda text: "",
    "web page": lambda text: "<html>" + text,
    "no frames": lambda text: text.split("Frame Time")[0] + "Frame Time: 0.01\n",
    "huge claim": lambda text: text.replace("Frames: 120", "Frames: 999999999999"),
    "NaN": lambda text: text.rsplit(" ", 1)[0] + " nan\n",
    "infinity": lambda text: text.rsplit(" ", 1)[0] + " 1e999\n",
    "not a number": lambda text: text.rsplit(" ", 1)[0] + " #QNAN\n",
    "open bracket": lambda text: text.replace("}", "", 1),
    "channels": lambda text: text.replace("CHANNELS 3", "CHANNELS 4", 1),
    "offset": lambda text: text.replace("OFFSET", "OFFSET x", 1),
    "two people": lambda text: text.replace("MOTION", "ROOT b\n{\nOFFSET 0 0 0\n}\nMOTION"),
    "frames per second": lambda text: text.replace("Frame Time: 0.0", "Frame Time: 120.0"),
    "deep": lambda text: text.replace("JOINT", "JOINT j\n{\nOFFSET 0 1 0\n" * MAX_NODES + "JOINT", 1),
    "binary": lambda text: "\0" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_bvh_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    write_bvh(tmp_path / "a.bvh", *walk())
    text = (tmp_path / "a.bvh").read_text()
    (tmp_path / "a.bvh").write_text(DAMAGES[case](text))
    with pytest.raises((ValueError, LookupError)):
        read_bvh(tmp_path / "a.bvh")


def test_bvh_deep_skeletons_are_read(tmp_path: Path) -> None:
    levels = 1500
    joints = "".join(f"JOINT j{n}\n{{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n" for n in range(levels))
    head = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n" + joints + "}\n" * (levels + 1)
    (tmp_path / "a.bvh").write_text(head + "MOTION\nFrames: 1\nFrame Time: 0.01\n" + "0 " * levels)
    nodes, _, _ = read_bvh(tmp_path / "a.bvh")
    assert forward(nodes)[nodes[-1]][0].tolist() == [[0, levels, 0]]


@pytest.mark.parametrize("radians", [False, True])
def test_amc_is_the_same_motion_as_bvh(tmp_path: Path, radians: bool) -> None:
    motion = walk(20, 120.0)
    write_asf_amc(tmp_path / "a.asf", tmp_path / "a.amc", *motion, radians=radians)
    write_bvh(tmp_path / "a.bvh", *motion, unit="cmu")
    amc, rate, _ = read_amc(tmp_path / "a.amc", tmp_path / "a.asf")
    bvh, _, _ = read_bvh(tmp_path / "a.bvh")
    assert rate == 120
    found, wanted = ({node.name: point for node, (point, _) in forward(n).items()} for n in (amc, bvh))
    pairs = {"lfemur": "LeftUpLeg", "rtibia": "RightLeg", "lhand": "LeftHand", "head": "Head"}
    for bone, joint in (pairs | {"head/end": "Head/end"}).items():
        np.testing.assert_allclose(found[bone], wanted[joint], atol=1e-4)


AMC_DAMAGES = {
    "cut in a frame": lambda asf, amc: (asf, amc[: len(amc) // 2]),
    "cut between bones": lambda asf, amc: (asf, amc.rsplit("\n", 4)[0] + "\n"),
    "missing frame": lambda asf, amc: (asf, amc.replace("\n7\n", "\n8\n")),
    "unknown bone": lambda asf, amc: (asf, amc.replace("lfemur", "lfemor")),
    "NaN": lambda asf, amc: (asf, amc.replace("lfemur ", "lfemur nan ", 1)),
    "no frames": lambda asf, amc: (asf, "".join(amc.split("\n")[:2])),
    "cut skeleton": lambda asf, amc: (asf.split(":hierarchy")[0], amc),
    "length": lambda asf, amc: (asf.replace("length", "length x", 3), amc),
    "axis order": lambda asf, amc: (asf.replace("XYZ\ndof", "XXZ\ndof", 1), amc),
    "loose bones": lambda asf, amc: (asf.replace("root to_lfemur", "root"), amc),
    "cycle": lambda asf, amc: (asf.replace("root to_lfemur", "lfemur to_lfemur\nroot"), amc),
    "degree of freedom": lambda asf, amc: (asf.replace("rx ry rz", "rx ry l", 1), amc),
}


@pytest.mark.parametrize("case", AMC_DAMAGES)
def test_amc_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    asf, amc = tmp_path / "a.asf", tmp_path / "a.amc"
    write_asf_amc(asf, amc, *walk(20, 120.0))
    for path, text in zip((asf, amc), AMC_DAMAGES[case](asf.read_text(), amc.read_text()), strict=True):
        path.write_text(text)
    with pytest.raises((ValueError, LookupError)):
        read_amc(amc, asf)

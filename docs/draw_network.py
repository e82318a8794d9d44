"""Draws docs/network.png, the README's picture of HTNet: ``python -m docs.draw_network``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from common.draw import PANEL_COLOUR, draw_pose_2d, draw_pose_3d
from common.skeleton import BONES, LEFT_ARM, LEFT_LEG, RIGHT_ARM, RIGHT_LEG

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

PICTURE = Path(__file__).with_name("network.png")
WIDTH, HEIGHT = 900, 600  # drawing units: pixels at the width a README is read at

TIMES = "\N{MULTIPLICATION SIGN}"
INK, QUIET, PALE = "#24292F", "#57606A", "#C4CAD1"
JOINT_LEVEL, PART_LEVEL, BODY_LEVEL = "#009E73", "#C98500", "#AA4499"

# A person who faces the camera and takes a step: x right, y down, z away, metres.
STEP = np.array(
    [
        (0.00, 0.00, 0.00), (-0.13, 0.00, 0.02), (-0.20, 0.42, -0.14), (-0.27, 0.82, 0.02),
        (0.13, 0.00, -0.02), (0.22, 0.42, 0.02), (0.33, 0.82, 0.18), (0.00, -0.24, 0.02),
        (0.00, -0.48, 0.00), (0.01, -0.60, -0.06), (0.02, -0.74, -0.02), (0.17, -0.45, -0.03),
        (0.36, -0.26, 0.06), (0.46, -0.48, -0.08), (-0.17, -0.45, 0.03), (-0.33, -0.22, 0.08),
        (-0.42, 0.02, -0.06),
    ]
)  # fmt: skip


def text(axes: Axes, x: float, y: float, words: str, size: float = 9, **style) -> None:
    """Writes words, centred at a point unless told otherwise; ``size`` is in points."""
    defaults: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.35}
    axes.text(x, y, words, fontsize=size, **(defaults | style))


def card(axes: Axes, x: float, y: float, width: float, height: float, edge: str = PALE, face="white") -> None:
    """A box with round corners whose top left corner is (x, y)."""
    style = "round,pad=0,rounding_size=8"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=face, ec=edge, lw=1.4))


def arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """A line through the points, with a head at the last."""
    if len(points) > 2:
        axes.plot(*np.array(points[:-1]).T, color=QUIET, lw=1.4, solid_joinstyle="round", zorder=1)
    style: dict[str, Any] = {"color": QUIET, "lw": 1.4, "shrinkA": 0, "shrinkB": 0, "zorder": 1}
    head = "-|>,head_width=2.6,head_length=5"
    axes.add_patch(FancyArrowPatch(*points[-2:], arrowstyle=head, mutation_scale=1, **style))


def plus(axes: Axes, x: float, y: float) -> None:
    """A sum of two lines."""
    axes.add_patch(Circle((x, y), 9, fc="white", ec=QUIET, lw=1.4, zorder=3))
    text(axes, x, y, "+", 11, color=QUIET, zorder=4)


def small_pose(axes: Axes, x: float, y: float, scale: float = 53) -> np.ndarray:
    """Draws a quiet skeleton with its root at (x, y) and returns its joints (17, 2)."""
    joints = np.array([x, y]) + scale * STEP[:, :2]
    for bone in BONES:
        axes.plot(*joints[list(bone)].T, color=PALE, lw=1.6, zorder=4, solid_capstyle="round")
    axes.plot(*joints.T, ls="", marker="o", ms=2.6, color=QUIET, zorder=6)
    return joints


def joint_level(axes: Axes, x: float, y: float) -> None:
    """Two graph convolutions: a joint exchanges with its neighbours, and through them with theirs."""
    joints = small_pose(axes, x, y)
    for centre, near, far in ((5, (4, 6), (0,)), (14, (8, 15), (7, 9, 11, 16))):
        for bone in BONES:
            if {*bone} <= {centre, *near}:
                axes.plot(*joints[list(bone)].T, color=JOINT_LEVEL, lw=2.6, zorder=5, solid_capstyle="round")
            elif {*bone} <= {*near, *far}:
                axes.plot(*joints[list(bone)].T, color=JOINT_LEVEL, lw=1.8, alpha=0.5, zorder=5)
        axes.plot(*joints[[centre]].T, marker="o", ms=6, color=JOINT_LEVEL, mec="white", zorder=7)


def part_level(axes: Axes, x: float, y: float) -> None:
    """Each limb of three joints is one token; so is, in the second branch, each limb's outer pair."""
    joints = small_pose(axes, x, y)
    for limb in (RIGHT_LEG, LEFT_LEG, LEFT_ARM, RIGHT_ARM):
        axes.plot(*joints[list(limb)].T, color=PART_LEVEL, lw=11, alpha=0.3, solid_capstyle="round", zorder=3)
        axes.plot(*joints[list(limb[1:])].T, color=PART_LEVEL, lw=3, solid_capstyle="round", zorder=5)


def body_level(axes: Axes, x: float, y: float) -> None:
    """Attention: every joint exchanges with every other."""
    joints = small_pose(axes, x, y)
    for first in range(len(joints)):
        for second in range(first):
            axes.plot(*joints[[first, second]].T, color=BODY_LEVEL, lw=0.5, alpha=0.45, zorder=3)
    axes.plot(*joints.T, ls="", marker="o", ms=3.6, color=BODY_LEVEL, zorder=7)


LEVELS = (
    ("LJC", "joint level", "two modulated\ngraph convolutions:\nneighbours", JOINT_LEVEL, joint_level),
    ("IPC", "part level", "a token each for\nfour limbs and\nfour limb ends", PART_LEVEL, part_level),
    ("GBI", "body level", "self-attention,\n8 heads:\nall with all", BODY_LEVEL, body_level),
)
ROWS, CARDS, CARD_WIDTH = (303, 413, 523), (76, 272, 468), 194


def draw_pipeline(figure: Figure, axes: Axes) -> None:
    """The upper strip: key points, embedding, blocks, head, pose."""
    top, middle, bottom = 20, 88, 156
    tall = (bottom - top) / HEIGHT
    keypoints = figure.add_axes((20 / WIDTH, 1 - bottom / HEIGHT, 120 / WIDTH, tall))
    draw_pose_2d(keypoints, STEP[:, :2])
    box = (750 / WIDTH, 1 - (bottom + 10) / HEIGHT, 140 / WIDTH, tall + 18 / HEIGHT)
    pose = cast("Axes3D", figure.add_axes(box, projection="3d", facecolor="none"))
    draw_pose_3d(pose, STEP, view=(14, -55))
    text(axes, 80, 176, f"2D key points\n17 {TIMES} 2")
    text(axes, 820, 180, f"3D pose, pelvis at 0\n17 {TIMES} 3")

    for start, end in ((140, 188), (318, 386), (534, 590), (722, 764)):
        arrow(axes, (start, middle), (end, middle))
    text(axes, 351, middle - 11, f"17 {TIMES} 240", 8, color=QUIET)
    card(axes, 188, 48, 130, 80)
    text(axes, 253, 70, "Embed", 10, weight="bold")
    text(axes, 253, 101, "Linear 2 → 240\n+ joint position", 8.5, color=QUIET)
    for shift in (16, 8, 0):
        card(axes, 386 + shift, 48 - shift, 132, 80, edge=QUIET, face=PANEL_COLOUR)
    text(axes, 452, 76, "Block", 10, weight="bold")
    text(axes, 452, 100, f"{TIMES} 3", 10, color=QUIET)
    card(axes, 590, 48, 132, 80)
    text(axes, 656, 70, "Head", 10, weight="bold")
    text(axes, 656, 101, "LayerNorm\nLinear 240 → 3", 8.5, color=QUIET)


def draw_levels(axes: Axes) -> None:
    """The three streams of a block: each level refines its own, and hands the result on to the next."""
    for row, (short, level, words, colour, picture) in enumerate(LEVELS):
        y, x = ROWS[row], CARDS[row]
        for left, gap in ((28, 5), (688, 0)):  # cut apart on the way in, joined again on the way out
            axes.add_patch(Rectangle((left, y - 55 + gap), 24, 110 - 2 * gap, fc=colour, ec="none"))
            text(axes, left + 12, y, "abc"[row], 11, color="white", weight="bold")
        arrow(axes, (52, y), (x, y))
        arrow(axes, (x + CARD_WIDTH, y), (688, y))
        if row:
            arrow(axes, (x - 24, ROWS[row - 1] + 50), (x - 24, y - 9))
            plus(axes, x - 24, y)
        card(axes, x, y - 50, CARD_WIDTH, 100, edge=colour)
        picture(axes, x + 38, y - 2)
        text(axes, x + 76, y - 29, short, 10.5, weight="bold", color=colour, ha="left")
        text(axes, x + 109, y - 29, level, 9, ha="left")
        text(axes, x + 76, y + 12, words, 8, color=QUIET, ha="left")


def draw_block(axes: Axes) -> None:
    """The lower panel: one block."""
    middle = ROWS[1]
    beam = [(388, 128), (516, 128), (714, 210), (190, 210)]
    axes.add_patch(Polygon(beam, fc=PANEL_COLOUR, ec="none", zorder=0))
    card(axes, 10, 208, 880, 382, edge="none", face=PANEL_COLOUR)
    text(axes, 28, 229, "A block", 10, weight="bold", ha="left")
    words = "cuts the 240 channels into three streams of 80, refines one after another, and joins them again"
    text(axes, 90, 229.5, words, 9, color=QUIET, ha="left")
    draw_levels(axes)
    arrow(axes, (712, middle), (744, middle))
    arrow(axes, (727, middle), (727, 324), (850, 324), (850, middle - 9))
    card(axes, 744, middle - 56, 82, 112, edge=QUIET)
    text(axes, 785, middle - 36, "MLP", 10, weight="bold")
    text(axes, 785, middle + 11, "LayerNorm\n240 → 1024\n→ 240\nDropPath", 8, color=QUIET)
    arrow(axes, (826, middle), (841, middle))
    plus(axes, 850, middle)
    arrow(axes, (859, middle), (886, middle))


def main() -> None:
    """Draws the picture beside this file."""
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    draw_block(axes)
    draw_pipeline(figure, axes)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=200)
    # A palette of 128 colours halves the file; no eye sees the difference.
    Image.open(picture).convert("RGB").quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()

import logging
from itertools import combinations

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.proj3d import proj_transform

from common import draw
from common.skeleton import BONES, JOINT_NAMES, LEFT, NUM_JOINTS, RIGHT

# Bones (x right, y down, z away, metres) of a person who stands facing the camera, arms held out.
BONE_VECTORS = {
    "hip": (0.13, 0, 0), "knee": (0.02, 0.44, 0.02), "ankle": (0, 0.44, -0.04), "shoulder": (0.15, 0.04, 0),
    "elbow": (0.25, 0.12, 0.05), "wrist": (0.2, 0.1, -0.1), "trunk": (0, -0.22, 0.01),
}  # fmt: skip
HEAD, ANKLES = JOINT_NAMES.index("head"), (3, 6)


def standing_pose() -> np.ndarray:
    """A pose (17, 3) with the pelvis at 0; who faces the camera has the left side on the picture's right."""
    pose = np.zeros((NUM_JOINTS, 3))
    for joint, parent in BONES:
        vector = np.array(BONE_VECTORS.get(JOINT_NAMES[joint].split("_")[-1], BONE_VECTORS["trunk"]))
        pose[joint] = pose[parent] + vector * ((-1 if joint in RIGHT else 1), 1, 1)
    return pose


@pytest.fixture
def pose() -> np.ndarray:
    return standing_pose()


@pytest.fixture
def row(pose) -> draw.Row:
    noise = np.random.default_rng(0).normal(0, 0.03, pose.shape)
    return pose[:, :2], pose + noise, pose, "S9, Walking, frame 40: P1 45.2 mm, P2 33.1 mm"


def axes_of(projection: str | None = None, size: tuple[float, float] = (3, 3)):
    return Figure(figsize=size).add_axes((0, 0, 1, 1), projection=projection)


def pixels(axes, points: np.ndarray) -> np.ndarray:
    """Where points (N, 3) of 3D axes lie in the picture: (N, 2)."""
    return axes.transData.transform(np.transpose(proj_transform(*points.T, axes.get_proj())[:2]))


def bone_lines(axes) -> dict:
    return {line.get_gid(): line for line in axes.lines if line.get_gid() in JOINT_NAMES}


@pytest.mark.parametrize("solid", [False, True])
def test_every_bone_has_the_colour_of_its_side(pose, solid):
    axes = axes_of("3d" if solid else None)
    draw.draw_pose_3d(axes, pose) if solid else draw.draw_pose_2d(axes, pose[:, :2])
    lines = bone_lines(axes)
    assert set(lines) == {JOINT_NAMES[joint] for joint, _ in BONES}
    for name, line in lines.items():
        sides = {"left": draw.LEFT_COLOUR, "right": draw.RIGHT_COLOUR}
        assert to_hex(line.get_color()).upper() == sides.get(name.split("_")[0], draw.TRUNK_COLOUR), name


def test_bones_run_between_the_joints_they_join(pose):
    flat, solid = axes_of(), axes_of("3d")
    draw.draw_pose_2d(flat, pose[:, :2])
    draw.draw_pose_3d(solid, pose)
    for joint, parent in BONES:
        name = JOINT_NAMES[joint]
        np.testing.assert_allclose(np.transpose(bone_lines(flat)[name].get_data()), pose[[joint, parent], :2])
        plotted = np.transpose(bone_lines(solid)[name].get_data_3d())
        np.testing.assert_allclose(plotted, draw.upright(pose)[[joint, parent]])


def test_sides_lie_where_they_are_in_the_image(row, tmp_path):
    # All that is blue in the 2D panel is on the right of all that is vermillion: the person faces the camera.
    draw.prediction_picture(tmp_path / "a.png", [row])
    image = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    panel = image[:, : image.shape[1] // 4][160:]
    columns = {
        name: np.nonzero((np.abs(panel - to_rgb(colour)) < 0.01).all(axis=-1))[1]
        for name, colour in (("left", draw.LEFT_COLOUR), ("right", draw.RIGHT_COLOUR))
    }
    assert len(columns["left"]) > 200 and len(columns["right"]) > 200
    assert columns["right"].max() < columns["left"].min()


def test_key_points_are_drawn_y_down_with_equal_scales(pose, caplog):
    axes = axes_of(size=(6, 2))
    with caplog.at_level(logging.WARNING, logger="matplotlib"):
        draw.draw_pose_2d(axes, pose[:, :2])
        axes.figure.draw_without_rendering()
    assert not caplog.records
    zero, right, down = axes.transData.transform([(0, 0), (1, 0), (0, 1)])
    assert right[0] - zero[0] == pytest.approx(zero[1] - down[1])
    assert (axes.transAxes.inverted().transform(axes.transData.transform(pose[:, :2])) > 0.02).all()


def test_upright_puts_the_head_above_the_feet_and_keeps_the_handedness(pose):
    turned = draw.upright(pose)
    assert turned[HEAD, 2] > turned[list(ANKLES), 2].max()
    np.testing.assert_array_equal(draw.upright(np.eye(3)), [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert np.linalg.det(draw.upright(np.eye(3))) == pytest.approx(1)  # no mirror: sides stay
    np.testing.assert_array_equal(draw.upright(np.stack([pose, pose]))[1], turned)


@pytest.mark.parametrize("stretch", [(1, 1, 1), (4, 1, 1), (1, 0.2, 3)])
def test_one_scale_for_all_axes_and_nothing_outside_the_panel(pose, stretch):
    axes = axes_of("3d", size=(4, 3))
    draw.draw_pose_3d(axes, pose * stretch)
    axes.figure.draw_without_rendering()
    # A view with one scale s is s times two rows of a rotation: V V' = s^2 I for no other.
    vectors = pixels(axes, np.eye(3)) - pixels(axes, np.zeros((1, 3)))  # (3, 2)
    gram = vectors.T @ vectors
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(2), atol=1e-6 * gram[0, 0])
    for line in axes.lines:
        inside = axes.transAxes.inverted().transform(pixels(axes, np.transpose(line.get_data_3d())))
        assert (inside >= 0).all() and (inside <= 1).all(), line.get_gid()


def test_the_front_view_shows_right_as_right_and_the_side_view_shows_depth(pose):
    # Unit steps to the right, away from the camera and up, as pixels (x, y up).
    steps = {}
    for view in (draw.FRONT, draw.SIDE):
        axes = axes_of("3d")
        draw.draw_pose_3d(axes, pose, view=view)
        axes.figure.draw_without_rendering()
        steps[view] = pixels(axes, np.eye(3)) - pixels(axes, np.zeros((1, 3)))
    right, away, up = steps[draw.FRONT]
    assert right[0] > 2 * abs(away[0]) and up[1] > 2 * abs(away[1])
    right, away, up = steps[draw.SIDE]
    assert away[0] > 2 * abs(right[0]) and up[1] > 2 * abs(away[1])


def test_truth_is_told_apart_from_the_pose_that_it_lies_over(pose):
    axes = axes_of("3d")
    truth = pose + np.array([0, 0, 0.5])
    draw.draw_pose_3d(axes, pose, truth=truth)
    over = [line for line in axes.lines if line.get_gid() == "truth"]
    assert len(over) == len(BONES)
    for line, (joint, parent) in zip(over, BONES, strict=True):
        np.testing.assert_allclose(np.transpose(line.get_data_3d()), draw.upright(truth)[[joint, parent]])
        assert to_hex(line.get_color()).upper() == draw.TRUTH_COLOUR
        assert line.get_linestyle() == "--"
        assert line.get_linewidth() < bone_lines(axes)["head"].get_linewidth()


def test_panels_of_the_same_poses_share_scale_and_floor(pose):
    first, second = axes_of("3d"), axes_of("3d")
    draw.draw_pose_3d(first, pose, around=[2 * pose])
    draw.draw_pose_3d(second, 2 * pose, around=[pose])
    np.testing.assert_allclose(first.get_w_lims(), second.get_w_lims())
    assert first.get_zlim()[0] == pytest.approx(draw.upright(2 * pose)[:, 2].min())


def test_floor_squares_are_half_a_metre(pose):
    axes = axes_of("3d")
    draw.draw_pose_3d(axes, pose)
    floor = [np.transpose(line.get_data_3d()) for line in axes.lines if line.get_gid() == "floor"]
    across = np.unique([line[0, 0] for line in floor if line[0, 0] == line[1, 0]])
    np.testing.assert_allclose(np.diff(across), 0.5)


@pytest.mark.parametrize("count", [1, 3])
def test_every_panel_of_every_row_has_content(row, tmp_path, count):
    draw.prediction_picture(tmp_path / "a.png", [row] * count, title="Predictions")
    image = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    empty = to_rgb(draw.PANEL_COLOUR)
    drawn = (np.abs(image - 1).max(axis=-1) > 0.05) & (np.abs(image - empty).max(axis=-1) > 0.05)
    assert not drawn[:, -4:].any() and not drawn[:, :4].any()  # nothing is cut by the edge
    for band in np.array_split(drawn[image.shape[0] - count * 295 :], count):
        for panel in np.array_split(band[40:], 4, axis=1):
            assert panel.sum() > 1000
    assert 1200 <= image.shape[1] <= 1400 and image.shape[0] < 300 * count + 150


def test_rows_are_laid_over_each_other_at_the_root(row, tmp_path):
    keypoints, predicted, true, caption = row
    draw.prediction_picture(tmp_path / "a.png", [row])
    draw.prediction_picture(tmp_path / "b.png", [(keypoints, predicted + 3, true - (0, 0, 4), caption)])
    first, second = (matplotlib.image.imread(tmp_path / name) for name in ("a.png", "b.png"))
    assert (np.abs(first - second).max(axis=-1) > 0.2).mean() < 1e-3


def test_only_the_picture_is_left_in_a_folder_made_for_it(row, tmp_path):
    target = tmp_path / "new" / "picture.png"
    for _ in range(2):
        draw.prediction_picture(target, [row])
        assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_picture_and_no_other_file(tmp_path, monkeypatch):
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")

    def fail(figure, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw.write_png(Figure(), target)
    assert list(tmp_path.iterdir()) == [target] and target.read_bytes() == b"old"


def test_wrong_input_is_refused_with_what_was_expected_and_found(pose, row, tmp_path):
    with pytest.raises(ValueError, match=r"expected shape \(17, 2\), found \(17, 3\)"):
        draw.draw_pose_2d(axes_of(), pose)
    with pytest.raises(ValueError, match=r"expected shape \(17, 3\), found \(16, 3\)"):
        draw.draw_pose_3d(axes_of("3d"), pose[:16])
    with pytest.raises(ValueError, match=r"expected shape \(17, 3\), found \(1, 17, 3\)"):
        draw.prediction_picture(tmp_path / "a.png", [(row[0], pose[None], pose, "")])
    with pytest.raises(ValueError, match=r"finite.* left_knee"):
        draw.draw_pose_3d(axes_of("3d"), np.where(np.arange(17)[:, None] == 5, np.nan, pose))
    with pytest.raises(ValueError, match="at least one row, found none"):
        draw.prediction_picture(tmp_path / "a.png", [])
    assert not list(tmp_path.iterdir())


def test_the_two_sides_differ_in_colour_and_cover_all_paired_joints():
    assert {draw.bone_colour(joint) for joint in LEFT} == {draw.LEFT_COLOUR}
    assert {draw.bone_colour(joint) for joint in RIGHT} == {draw.RIGHT_COLOUR}
    colours = (draw.LEFT_COLOUR, draw.RIGHT_COLOUR, draw.TRUNK_COLOUR, draw.TRUTH_COLOUR)
    pairs = [(to_rgb(a), to_rgb(b)) for a, b in combinations(colours, 2)]
    assert min(np.ptp(pair, axis=0).max() for pair in pairs) > 0.15

"""Made-up poses: bones keep or share their lengths, joints bend as joints do, and the rest stays."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.h36m import DATASETS, read_takes
from common.pose_augmentation import (
    MIRRORED_BONES,
    PoseAugmentation,
    augment,
    bend_joints,
    exchange_limbs,
    scale_bones,
    sit,
    tilt,
)
from common.skeleton import BONES, H36M_32_KEPT, LEFT_ARM, LEFT_LEG, PARENTS, RIGHT_ARM, RIGHT_LEG

ALL = PoseAugmentation(exchange=1, bend=1, sit=0.5, tilt=1)
WAYS = [exchange_limbs, bend_joints, sit, scale_bones, tilt]
UPRIGHT = ("WalkForward", "TurnLeft0", "Walk", "Punch")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def recorded(names=()):
    """(B, 17, 3) poses of the bundled sample, of some clips or of all; every fifth frame, root at 0."""
    sample = DATASETS["sample"]
    takes = read_takes(sample, Path(sample.root), "gt")
    world = [take.world[::5, H36M_32_KEPT] for take in takes if not names or take.action in names]
    poses = torch.from_numpy(np.concatenate(world).astype(np.float32))
    return poses - poses[:, :1]


@pytest.fixture(scope="module")
def poses():
    return recorded()


@pytest.fixture(scope="module")
def walkers():
    return recorded(UPRIGHT)


def lengths(poses):
    """(B, 16) of the bones, in the order of their outer joints."""
    return torch.stack([(poses[:, joint] - poses[:, parent]).norm(dim=-1) for joint, parent in BONES], dim=1)


def bone(poses, joint):
    vector = poses[:, joint] - poses[:, PARENTS[joint]]
    return vector / vector.norm(dim=-1, keepdim=True)


def degrees(first, second):
    return torch.rad2deg(torch.acos((first * second).sum(-1).clamp(-1, 1)))


def pelvis(poses):
    """(B, 3, 3) rows forward, left, up, made of the joints by Gram and Schmidt."""
    left = poses[:, 4] - poses[:, 1]
    left = left / left.norm(dim=-1, keepdim=True)
    up = poses[:, 7] - poses[:, 0]
    up = up - (up * left).sum(-1, keepdim=True) * left
    up = up / up.norm(dim=-1, keepdim=True)
    return torch.stack([torch.linalg.cross(left, up), left, up], dim=1)


def backward(poses, limb):
    """(B,) how far a shin leaves the thigh's line to where knees bend, by its length."""
    thigh, shin = bone(poses, limb[1]), bone(poses, limb[2])
    return (torch.linalg.cross(pelvis(poses)[:, 1], thigh) * shin).sum(-1)


@pytest.mark.parametrize("way", WAYS)
def test_nobody_chosen_is_nothing_changed(poses, way):
    assert torch.equal(way(poses, 0.0, generator()), poses)


def test_all_shares_at_0_change_nothing(poses):
    none = PoseAugmentation(exchange=0, bend=0, sit=0, scale=0, tilt=0)
    assert torch.equal(augment(poses, none, generator()), poses)


@pytest.mark.parametrize("way", WAYS)
def test_as_many_are_changed_as_said_and_the_rest_stays_bit_by_bit(poses, way):
    given = poses.clone()
    some = way(poses, 0.3, generator())
    changed = (some != poses).flatten(1).any(1).float().mean()
    assert 0.24 < changed < 0.36
    assert torch.equal(poses, given), "the input is left alone"
    everybody = (way(poses, 1.0, generator()) - poses).abs().amax((1, 2)) > 1e-3
    assert everybody.float().mean() > 0.9


@pytest.mark.parametrize("way", [*WAYS, lambda poses, _, generator: augment(poses, ALL, generator)])
def test_all_follows_from_the_generator(poses, way):
    state = torch.get_rng_state()
    assert torch.equal(way(poses, 0.5, generator(1)), way(poses, 0.5, generator(1)))
    assert not torch.equal(way(poses, 0.5, generator(1)), way(poses, 0.5, generator(2)))
    assert torch.equal(torch.get_rng_state(), state), "nobody else's numbers are used up"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_root_are_kept(poses, dtype):
    changed = augment(poses.to(dtype), ALL, generator())
    assert changed.shape == poses.shape and changed.dtype == dtype
    assert not changed[:, 0].any()
    assert augment(poses[:0], ALL, generator()).shape == (0, 17, 3)
    assert torch.isfinite(augment(poses[:1], ALL, generator())).all()


@pytest.mark.parametrize("way", [exchange_limbs, bend_joints, sit, tilt])
def test_bones_keep_their_lengths(poses, way):
    sizes = poses * torch.linspace(0.8, 1.2, len(poses))[:, None, None]
    torch.testing.assert_close(lengths(way(sizes, 1.0, generator())), lengths(sizes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", [*WAYS, lambda poses, _, generator: augment(poses, ALL, generator)])
@pytest.mark.parametrize("lost", [range(17), (7,), (1, 4), (8, 11, 14), (2, 3), (5,), (12,), (16,)])
def test_poses_without_some_bones_stay_finite_and_those_bones_without_length(poses, way, lost):
    flat = poses[:64].clone()
    for joint in lost:  # Parents come before their children.
        flat[::2, joint] = flat[::2, max(PARENTS[joint], 0)]
    changed = way(flat, 1.0, generator())
    assert torch.isfinite(changed).all()
    before, after = lengths(flat), lengths(changed)
    assert torch.all(after[before == 0] < 1e-6)
    assert torch.all((after - before).abs() <= 0.16 * before + 1e-5)


def test_bones_are_scaled_within_their_range_alike_on_both_sides(poses):
    figures = {"bones": (0.8, 1.3), "size": (1.0, 1.0)}
    factors = lengths(scale_bones(poses, 1.0, generator(), **figures)) / lengths(poses)  # (B, 16)
    assert 0.8 - 1e-4 <= factors.min() < 0.81 and 1.29 < factors.max() <= 1.3 + 1e-4
    columns = {joint: number for number, (joint, _) in enumerate(BONES)}
    assert sorted(joint for group in MIRRORED_BONES for joint in group) == sorted(columns)
    firsts = []
    for group in MIRRORED_BONES:
        first, *others = (factors[:, columns[joint]] for joint in group)
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)
        firsts.append(first)
    assert np.abs(np.corrcoef(torch.stack(firsts).numpy()) - np.eye(len(firsts))).max() < 0.2
    for left, right in ((LEFT_LEG, RIGHT_LEG), (LEFT_ARM, RIGHT_ARM)):
        for pair in zip(left, right, strict=True):
            assert tuple(pair) in MIRRORED_BONES


def test_scaled_bones_keep_their_directions(poses):
    scaled = scale_bones(poses, 1.0, generator())
    for joint, _ in BONES:
        torch.testing.assert_close(bone(scaled, joint), bone(poses, joint), rtol=0, atol=1e-4)


def test_size_is_of_the_whole_body(poses):
    factors = lengths(scale_bones(poses, 1.0, generator(), bones=(1, 1), size=(0.5, 2))) / lengths(poses)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-3, atol=0)
    assert factors.min() < 0.55 and factors.max() > 1.9


def test_exchanged_parts_are_seen_from_the_trunk_as_the_other_sample_has_them(walkers):
    """Each changed part is some sample's, in the axes of the pelvis: found by comparing with all of them."""
    changed = exchange_limbs(walkers, 1.0, generator())
    parts = {"legs": (2, 3, 5, 6), "arms": (12, 13, 15, 16), "upper": tuple(range(7, 17))}

    def local(poses, joints):
        vectors = torch.stack([bone(poses, joint) for joint in joints], dim=1).double()  # (B, n, 3)
        return torch.einsum("bij,bnj->bni", pelvis(poses).double(), vectors).flatten(1)  # (B, 3 n)

    nearest = {
        name: torch.cdist(local(changed, joints), local(walkers, joints)).amin(1)
        for name, joints in parts.items()
    }
    same = {
        name: (local(changed, joints) - local(walkers, joints)).norm(dim=1) < 1e-3
        for name, joints in parts.items()
    }
    legs = same["upper"] & ~same["legs"]
    upper = same["legs"] & ~same["upper"]
    assert 0.2 < legs.float().mean() < 0.45 and upper.float().mean() > 0.5
    assert nearest["legs"].max() < 1e-3, "legs come with each other and are somebody's"
    whole = upper & (nearest["upper"] < 1e-3)
    arms = upper & ~whole
    assert whole.float().mean() > 0.2 and arms.float().mean() > 0.2
    trunk = (7, 8, 9, 10, 11, 14)
    stays = (local(changed, trunk) - local(walkers, trunk)).norm(dim=1) < 1e-3
    assert stays[arms].all(), "who is given arms keeps the trunk"


def turned(points, heading):
    """Points (n, 3) turned about the vertical by angles (B,); (B, n, 3)."""
    zero, one = torch.zeros_like(heading), torch.ones_like(heading)
    rows = [heading.cos(), -heading.sin(), zero, heading.sin(), heading.cos(), zero, zero, zero, one]
    return torch.einsum("bij,nj->bni", torch.stack(rows, dim=1).unflatten(1, (3, 3)), points)


def test_nothing_is_seen_of_an_exchange_between_people_who_only_face_other_ways(walkers):
    facing = turned(walkers[40], torch.linspace(0, 6, 50))
    torch.testing.assert_close(exchange_limbs(facing, 1.0, generator()), facing, rtol=0, atol=1e-5)


def test_arms_are_exchanged_in_the_axes_of_the_thorax(walkers):
    """Everybody holds the arms alike to the shoulders, which are twisted against the hips: that stays so."""
    twisted = walkers[40].expand(50, 17, 3).clone()
    twisted[:, 8:] = twisted[:, 7:8] + turned(walkers[40, 8:] - walkers[40, 7], torch.linspace(-1, 1, 50))
    changed = exchange_limbs(twisted, 1.0, generator())
    apart = torch.cdist(changed[:, 11:], changed[:, 11:])  # (B, 6, 6)
    torch.testing.assert_close(apart, torch.cdist(twisted[:, 11:], twisted[:, 11:]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("limb", [LEFT_LEG, RIGHT_LEG])
def test_knees_bend_backward_alone_and_no_farther_than_they_can(walkers, limb):
    changed = bend_joints(walkers, 1.0, generator(), angle=30)
    flexion = degrees(bone(changed, limb[1]), bone(changed, limb[2]))
    assert flexion.max() <= 150.1
    assert backward(walkers, limb).min() > -0.05
    assert backward(changed, limb).min() > -0.05, "never beyond extension"
    before = degrees(bone(walkers, limb[1]), bone(walkers, limb[2]))
    assert (flexion - before).abs().max() <= 60.1 and (flexion - before).std() > 10


def test_a_straight_knee_and_one_bent_the_wrong_way_bend_the_right_way(walkers):
    wrong = walkers.clone()
    for limb, tip in ((LEFT_LEG, 0.1), (RIGHT_LEG, 0.0)):
        thigh = walkers[:, limb[1]] - walkers[:, limb[0]]
        wrong[:, limb[2]] = (
            wrong[:, limb[1]] + thigh + tip * pelvis(walkers)[:, 0] * thigh.norm(dim=-1)[:, None]
        )
    assert backward(wrong, LEFT_LEG).max() < -0.05
    changed = bend_joints(wrong, 1.0, generator())
    for limb in (LEFT_LEG, RIGHT_LEG):
        assert backward(changed, limb).min() > -0.01
        assert backward(changed, limb).max() > 0.5


def test_elbows_bend_no_farther_than_they_can_and_straight_ones_forward(walkers):
    straight = walkers.clone()
    for limb in (LEFT_ARM, RIGHT_ARM):  # Arms that hang down, straight.
        for joint in limb[1:]:
            straight[:, joint] = straight[:, PARENTS[joint]] - 0.28 * pelvis(walkers)[:, 2]
    for given in (walkers, straight):
        changed = bend_joints(given, 1.0, generator(), angle=90)
        for limb in (LEFT_ARM, RIGHT_ARM):
            assert degrees(bone(changed, limb[1]), bone(changed, limb[2])).max() <= 150.1
    changed = bend_joints(straight, 1.0, generator(), angle=15)
    for limb in (LEFT_ARM, RIGHT_ARM):
        forearm = (bone(changed, limb[2]) - bone(changed, limb[1])) * pelvis(changed)[:, 0]
        assert forearm.sum(-1).median() > 0.1 and forearm.sum(-1).min() > -1e-4


def test_shoulders_stay_in_their_cones_which_are_mirror_images(walkers):
    hanging = walkers.clone()
    for limb in (LEFT_ARM, RIGHT_ARM):  # Arms that hang down.
        for joint in limb[1:]:
            hanging[:, joint] = hanging[:, PARENTS[joint]] - 0.28 * pelvis(walkers)[:, 2]
    changed = bend_joints(hanging, 1.0, generator(), angle=90)
    left = changed[:, 11] - changed[:, 14]
    left = left / left.norm(dim=-1, keepdim=True)
    up = bone(changed, 8)
    up = up - (up * left).sum(-1, keepdim=True) * left
    up = up / up.norm(dim=-1, keepdim=True)
    axes = torch.stack([torch.linalg.cross(left, up), left, up], dim=1)  # (B, 3, 3)
    for limb, side in ((LEFT_ARM, 1), (RIGHT_ARM, -1)):
        cone = torch.tensor([0.6, 0.5 * side, -0.3])
        angle = degrees(torch.einsum("bij,bj->bi", axes, bone(changed, limb[1])), cone / cone.norm())
        assert angle.max() < 110.1 and angle.max() > 100


def test_hips_stay_in_their_cone(walkers):
    axis = torch.tensor([0.7, 0.12, -0.7])
    changed = walkers
    for seed in range(6):  # Again and again: it does not add up.
        changed = bend_joints(changed, 1.0, generator(seed), angle=40)
    for limb, side in ((LEFT_LEG, 1), (RIGHT_LEG, -1)):
        cone = axis * torch.tensor([1, side, 1]) / axis.norm()
        before, after = (
            degrees(torch.einsum("bij,bj->bi", pelvis(each), bone(each, limb[1])), cone)
            for each in (walkers, changed)
        )
        # The spine has been bent as well, by which the pelvis' axes turn a little.
        assert torch.all(after < torch.clamp(before, min=75) + 45)
        assert after.std() > 10


def test_the_trunk_leans_no_farther_than_it_can(walkers):
    changed = bend_joints(walkers, 1.0, generator(), angle=90)
    lean = degrees(bone(changed, 8), pelvis(walkers)[:, 2])
    assert lean.max() < 75.5 and lean.max() > 50


def test_who_sits_has_both_thighs_forward_and_both_shins_down(walkers):
    seated = sit(walkers, 1.0, generator())
    for limb, side in ((LEFT_LEG, 1), (RIGHT_LEG, -1)):
        thigh = torch.einsum("bij,bj->bi", pelvis(seated), bone(seated, limb[1]))  # (B, 3)
        hip = torch.rad2deg(torch.atan2(thigh[:, 0], -thigh[:, 2]))
        knee = degrees(bone(seated, limb[1]), bone(seated, limb[2]))
        for angle, (low, high) in ((hip, (60, 110)), (knee, (60, 120))):
            assert low - 0.1 <= angle.min() < low + 10 and high - 10 < angle.max() <= high + 0.1
        apart = torch.rad2deg(torch.asin(thigh[:, 1] * side))
        assert apart.min() > -0.1 and apart.max() < 30.1
        assert backward(seated, limb).min() > 0.5
    left, right = (degrees(bone(seated, limb[1]), bone(seated, limb[2])) for limb in (LEFT_LEG, RIGHT_LEG))
    assert (left - right).abs().max() < 10, "both together"
    aside = [torch.einsum("bj,bj->b", pelvis(seated)[:, 1], bone(seated, joint)).numpy() for joint in (6, 3)]
    assert np.corrcoef(aside)[0, 1] < -0.6, "and shins point both inward or both outward"
    others = [joint for joint in range(17) if joint not in (2, 3, 5, 6)]
    torch.testing.assert_close(seated[:, others], walkers[:, others], rtol=0, atol=1e-6)


def test_who_sits_upright_has_feet_below_and_in_front(walkers):
    chair = sit(walkers, 1.0, generator(), hips=(90, 90), knees=(90, 90))
    local = torch.einsum("bij,bkj->bki", pelvis(chair), chair)  # (B, 17, 3)
    for limb in (LEFT_LEG, RIGHT_LEG):
        assert torch.all(local[:, limb[1], 0] > 0.25) and torch.all(local[:, limb[1], 2].abs() < 0.02)
        assert torch.all(local[:, limb[2], 2] < -0.25)


def test_a_tilt_turns_the_body_as_a_whole_about_a_level_axis(poses):
    tilted = tilt(poses, 1.0, generator(), angle=30, lying=0)
    torch.testing.assert_close(torch.cdist(tilted, tilted), torch.cdist(poses, poses), rtol=0, atol=2e-3)
    standing = torch.zeros(3000, 17, 3)
    standing[:, 1:, 2] = 1
    tilted = tilt(standing, 1.0, generator(), angle=30, lying=0)[:, 5]
    angle = degrees(tilted, standing[:, 5])
    assert angle.max() <= 30.1 and angle.max() > 29 and 14 < angle.mean() < 16
    assert tilted[:, :2].mean(0).abs().max() < 0.02, "to all sides"
    more = degrees(tilt(standing, 1.0, generator(), angle=30, lying=0.3)[:, 5], standing[:, 5])
    assert 0.16 < (more > 30.1).float().mean() < 0.24 and 85 < more.max() < 90.1


def test_augmented_people_are_about_as_large_as_people(poses):
    changed = augment(poses, ALL, generator())
    ratio = lengths(changed) / lengths(poses)
    assert 0.9 * 0.95 - 1e-3 < ratio.min() and ratio.max() < 1.1 * 1.05 + 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exchange", 1.5),
        ("sit", -0.1),
        ("lying", float("nan")),
        ("bones", (1.1, 0.9)),
        ("size", (0.0, 1.0)),
        ("size", (1.0, float("inf"))),
        ("tilt_angle", 100.0),
        ("bend_angle", -1.0),
    ],
)
def test_figures_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .* found"):
        replace(PoseAugmentation(), **{name: value})
    assert name in {field.name for field in fields(PoseAugmentation)}

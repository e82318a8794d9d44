"""A detector's errors: as large and as heavy-tailed as the figures say, and measured back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest, t

from common.errors import DataError
from common.keypoint_noise import NAMED, KeypointNoise, add, measured, named, read, write
from common.skeleton import JOINT_NAMES, MIRROR, PDOF

DEFAULT = KeypointNoise()
EVEN = KeypointNoise((0.01,) * 17, shift=0, swapped=0, lost=0)
N = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def people(number=N, size=0.5):
    """(N, 17, 2) one pose, whose longer side is ``size``."""
    pose = torch.rand(17, 2, generator=generator(7)) * torch.tensor([0.5, 1])
    pose = (pose - pose.amin(0)) / (pose.amax(0) - pose.amin(0)).amax() * size
    return pose.expand(number, 17, 2).contiguous()


def errors(noise, *, size=0.5, number=N, seed=0):
    """(N, 17, 2) in sizes of the person."""
    true = people(number, size)
    return ((add(true, noise, generator(seed)) - true) / size).numpy()


@pytest.mark.parametrize("degrees", [1.5, 3.0, 7.3, 100.0])
def test_errors_are_students_t_along_both_axes(degrees):
    found = errors(replace(EVEN, degrees=degrees)) / 0.01
    for axis in range(2):
        assert kstest(found[..., axis].ravel(), t(degrees).cdf).pvalue > 1e-3
    slanted = (found[..., 0] + found[..., 1]) / np.sqrt(2)
    assert kstest(slanted.ravel(), t(degrees).cdf).pvalue > 1e-3, "no direction is preferred"


def test_tails_are_heavy():
    found = np.abs(errors(EVEN))
    assert np.mean(found > 10 * np.median(found)) > 20 * np.mean(
        np.abs(errors(replace(EVEN, degrees=50.0))) > 10 * np.median(found)
    )


def test_no_error_is_larger_than_the_person():
    assert np.linalg.norm(errors(replace(EVEN, degrees=0.5)), axis=-1).max() == pytest.approx(1, abs=1e-4)


def test_limbs_ends_are_worst():
    spread = np.median(np.abs(errors(DEFAULT)), axis=(0, 2))
    by_pdof = [spread[np.equal(PDOF, degree)].mean() for degree in range(4)]
    assert by_pdof == sorted(by_pdof)
    assert set(np.argsort(spread)[-4:]) == {3, 6, 13, 16}


def test_errors_grow_with_the_person():
    np.testing.assert_allclose(errors(DEFAULT, size=400.0), errors(DEFAULT, size=0.25), atol=1e-3)


def test_joints_err_on_their_own_and_a_shift_is_shared():
    apart, together = errors(EVEN), errors(replace(EVEN, shift=0.1))
    assert abs(np.corrcoef(np.sign(apart[:, 3, 0]), np.sign(apart[:, 16, 0]))[0, 1]) < 0.06
    shift = np.median(together, axis=1)  # (N, 2)
    np.testing.assert_allclose(shift.std(0), 0.1, rtol=0.06)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.06


def test_limbs_are_swapped_as_often_as_said():
    true = people()
    found = add(true, replace(EVEN, scales=(0.0,) * 17, swapped=0.2), generator())
    mirrored = true[:, MIRROR]
    legs, arms = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]
    share = {}
    for name, joints in (("legs", legs), ("arms", arms)):
        swapped = torch.eq(found[:, joints], mirrored[:, joints]).flatten(1).all(1)
        kept = torch.eq(found[:, joints], true[:, joints]).flatten(1).all(1)
        assert torch.all(swapped ^ kept), "two limbs at a time or none"
        assert 0.17 < swapped.float().mean() < 0.23
        share[name] = swapped
    assert 0.02 < (share["legs"] & share["arms"]).float().mean() < 0.06, "each on its own"
    assert torch.equal(found[:, [0, 7, 8, 9, 10]], true[:, [0, 7, 8, 9, 10]])


def test_lost_joints_are_anywhere_on_the_person():
    true = people()
    found = add(true, replace(EVEN, scales=(0.0,) * 17, lost=0.1), generator())
    lost = (found != true).any(-1)  # (N, J)
    assert 0.09 < lost.float().mean() < 0.11
    low, high = true[0].amin(0), true[0].amax(0)
    place = (found[lost] - low) / (high - low)
    assert place.min() >= 0 and place.max() <= 1
    assert torch.all(torch.histc(place, 4, 0, 1) > len(place) * 2 / 4 * 0.9)


def test_no_noise_is_none():
    true = people()
    assert torch.equal(add(true, replace(EVEN, scales=(0.0,) * 17), generator()), true)


@pytest.mark.parametrize("shape", [(17, 2), (5, 17, 2), (5, 1, 17, 2), (2, 3, 4, 17, 2), (0, 1, 17, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_and_type_is_kept(shape, dtype):
    true = torch.rand(shape, generator=generator(), dtype=dtype)
    before = true.clone()
    found = add(true, DEFAULT, generator())
    assert found.shape == true.shape and found.dtype == dtype
    assert torch.equal(true, before) and torch.isfinite(found).all()


def test_a_person_in_one_point_stays_there():
    assert torch.equal(add(torch.ones(4, 17, 2), DEFAULT, generator()), torch.ones(4, 17, 2))


def test_nothing_is_nan_however_unlikely_the_numbers():
    rough = replace(DEFAULT, degrees=0.5, swapped=0.5, lost=0.5, shift=1.0)
    assert torch.isfinite(add(people(100_000), rough, generator())).all()


def test_all_follows_from_the_generator():
    true, state = people(), torch.get_rng_state()
    assert torch.equal(add(true, DEFAULT, generator(1)), add(true, DEFAULT, generator(1)))
    assert not torch.equal(add(true, DEFAULT, generator(1)), add(true, DEFAULT, generator(2)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("degrees", [2.0, 3.0, 8.0])
def test_figures_are_measured_back(degrees):
    noise = replace(EVEN, scales=tuple(np.linspace(0.004, 0.02, 17)), degrees=degrees)
    true = people(20_000)
    true = true * torch.linspace(0.2, 1.5, len(true))[:, None, None]  # Sizes of all kinds
    found = add(true, noise, generator())
    fitted = measured(found.numpy(), true.numpy())
    np.testing.assert_allclose(fitted.scales, noise.scales, rtol=0.05)
    assert fitted.degrees == pytest.approx(degrees, rel=0.05)
    assert (fitted.shift, fitted.swapped, fitted.lost) == (0, 0, 0)


def test_a_few_gross_errors_do_not_change_what_is_measured():
    true = people(20_000)
    found = add(true, replace(EVEN, lost=0.002, swapped=0.002), generator())
    fitted = measured(found.numpy(), true.numpy())
    np.testing.assert_allclose(fitted.scales, EVEN.scales, rtol=0.06)


@pytest.mark.parametrize("damage", ["few", "nan", "joints", "point", "exact"])
def test_what_cannot_be_measured_is_refused(damage):
    true = people(200).numpy().copy()
    found = add(people(200), DEFAULT, generator()).numpy()
    if damage == "few":
        found, true = found[:99], true[:99]
    elif damage == "nan":
        found[3, 4, 0] = np.nan
    elif damage == "joints":
        found = found[:, :16]
    elif damage == "point":
        true[5] = 3
    else:
        found[:, 2] = true[:, 2]
    with pytest.raises(ValueError, match=r"expected .* found"):
        measured(found, true)


def test_figures_go_to_a_file_and_back(tmp_path):
    noise = replace(DEFAULT, degrees=2.71828, scales=tuple(np.linspace(0.001, 0.02, 17).tolist()))
    write(tmp_path / "noise.json", noise)
    assert read(tmp_path / "noise.json") == noise == named(str(tmp_path / "noise.json"))
    assert json.loads((tmp_path / "noise.json").read_text())["scales"]["left_wrist"] == noise.scales[13]
    assert named("default") == DEFAULT and list(NAMED) == ["default"]


def content():
    figures = {"degrees": 3, "shift": 0.003, "swapped": 0, "lost": 0}
    return {"format": 1, "scales": dict.fromkeys(JOINT_NAMES, 0.01), **figures}


def test_figures_may_be_whole_numbers(tmp_path):
    (tmp_path / "noise.json").write_text(json.dumps(content()))
    assert read(tmp_path / "noise.json") == replace(EVEN, shift=0.003)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": True},
        {"degrees": "3"},
        {"degrees": 0},
        {"degrees": 1e9},
        {"degrees": float("nan")},
        {"shift": -0.1},
        {"lost": 2},
        {"lost": True},
        {"swapped": None},
        {"swapped": 10**400},
        {"scales": [0.01] * 17},
        {"scales": {}},
        {"scales": dict.fromkeys(JOINT_NAMES[1:], 0.01)},
        {"scales": dict.fromkeys(JOINT_NAMES, float("inf"))},
        {"scales": dict.fromkeys((*JOINT_NAMES, "tail"), 0.01)},
        {"colour": "red"},
    ],
)
def test_wrong_figures_are_refused_in_words(tmp_path, change):
    path = tmp_path / "noise.json"
    path.write_text(json.dumps(content() | change))
    with pytest.raises(DataError, match=r"noise.json: .*expected .* found"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 60_000, b'"' + b"a" * 70_000 + b'"', b"9" * 50_000],
)
def test_what_is_no_file_of_figures_is_refused_in_words(tmp_path, text):
    path = tmp_path / "noise.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"noise.json: .*expected .* found"):
        read(path)


@pytest.mark.parametrize("name", ["nowhere.json", "", "nul\0.json"])
def test_a_file_that_cannot_be_read_is_refused_in_words(tmp_path, name):
    with pytest.raises(DataError):
        named(str(tmp_path / name))

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.skeleton import JOINT_NAMES, MIRROR
from demo.lib.keypoints import COCO_NAMES, coco_to_h36m

DATA = Path(__file__).parent.parent / "data"
COCO_MIRROR = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
ONES = np.ones(17, np.float32)


def person(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 800, (17, 2))


def test_joints_and_scores_match_the_published_code() -> None:
    figures = json.loads((DATA / "coco_to_h36m.json").read_text())
    joints, scores = coco_to_h36m(np.float32(figures["coco"]), np.float32(figures["coco_scores"]))
    np.testing.assert_allclose(joints, figures["h36m"], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(scores, figures["h36m_scores"], rtol=1e-5)
    assert joints.dtype == scores.dtype == np.float32


@given(
    scale=st.floats(0.01, 100),
    moved=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    seed=st.integers(0, 1000),
)
def test_a_scaled_and_moved_person_gives_scaled_and_moved_joints(
    scale: float, moved: tuple[float, float], seed: int
) -> None:
    coco = person(seed)
    joints, _ = coco_to_h36m(coco, ONES)
    again, _ = coco_to_h36m(coco * scale + moved, ONES)
    np.testing.assert_allclose(again, joints * scale + moved, rtol=1e-9, atol=1e-6)


def test_a_mirrored_person_gives_mirrored_joints() -> None:
    coco = person()
    joints, _ = coco_to_h36m(coco, ONES)
    mirrored, _ = coco_to_h36m(coco[COCO_MIRROR] * [-1, 1], ONES)
    np.testing.assert_allclose(mirrored, joints[MIRROR] * [-1, 1])


def test_an_upright_person_has_an_upright_trunk() -> None:
    heights = {"nose": 50, "eye": 40, "ear": 45, "shoulder": 100, "hip": 200}
    coco = np.array([(100, heights.get(name.split("_")[-1], 300)) for name in COCO_NAMES], float)
    joints, _ = coco_to_h36m(coco, ONES)
    trunk = joints[[JOINT_NAMES.index(name) for name in ("head", "neck", "thorax", "spine", "pelvis")]]
    assert (trunk[:, 0] == 100).all()
    assert (np.diff(trunk[:, 1]) > 0).all()


def test_many_people_are_converted_as_one_by_one() -> None:
    coco = np.random.default_rng(1).uniform(0, 500, (2, 3, 17, 2))
    scores = np.random.default_rng(2).uniform(0, 1, (2, 3, 17))
    before = coco.copy()
    joints, confidence = coco_to_h36m(coco, scores)
    one, its_scores = coco_to_h36m(coco[1, 2], scores[1, 2])
    np.testing.assert_array_equal(joints[1, 2], one)
    np.testing.assert_array_equal(confidence[1, 2], its_scores)
    np.testing.assert_array_equal(coco, before)
    assert coco_to_h36m(coco[:0], scores[:0])[0].shape == (0, 3, 17, 2)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(16, 2\)"):
        coco_to_h36m(np.zeros((16, 2)), np.zeros(16))
    with pytest.raises(ValueError, match=r"\(2, 17\)"):
        coco_to_h36m(np.zeros((17, 2)), np.zeros((2, 17)))

"""Predictions on disk hold what was scored, and which pose is which."""

import numpy as np
import pytest
from evaluations import make_evaluation, make_poses

from common.errors import UserError
from common.evaluate import root_relative
from common.predictions import save_predictions
from common.skeleton import JOINT_NAMES


@pytest.fixture
def evaluation():
    return make_evaluation()


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_round_trip(tmp_path, evaluation):
    save_predictions(tmp_path / "new" / "a.npz", evaluation)
    found = load(tmp_path / "new" / "a.npz")
    assert found["predicted"].dtype == found["truth"].dtype == np.float32
    np.testing.assert_array_equal(found["predicted"], evaluation.predicted.astype(np.float32))
    np.testing.assert_allclose(found["truth"], root_relative(evaluation.poses) * 1000, atol=1e-3)
    errors = np.linalg.norm(found["predicted"] - found["truth"], axis=2).mean(axis=1)
    np.testing.assert_allclose(errors, evaluation.scores["P1"], rtol=1e-5)
    assert found["units"] == "mm"
    assert "camera space" in str(found["coordinate_frame"]) and "pelvis" in str(found["coordinate_frame"])
    assert tuple(found["joint_names"]) == JOINT_NAMES
    assert "refined" not in found


def test_every_pose_has_its_place(tmp_path, evaluation):
    save_predictions(tmp_path / "a.npz", evaluation)
    found = load(tmp_path / "a.npz")
    assert all(found[name].dtype.kind == "U" for name in ("subject", "action"))
    poses = list(zip(*(found[name].tolist() for name in ("subject", "action", "camera", "frame"))))
    assert poses[:5] == [("S9", "Walking", 0, frame) for frame in range(5)]
    assert poses[5:9] == [("S9", "Walking 1", 1, frame) for frame in (10, 15, 20, 25)]
    assert poses[12:] == [("S11", "Walking", 1, frame) for frame in (7, 9, 11, 13)]
    assert len(poses) == len(set(poses)) == len(evaluation.poses)


def test_refined_poses_stand_beside_the_others(tmp_path, evaluation):
    refined = make_evaluation(noise=20)
    save_predictions(tmp_path / "a.npz", evaluation, refined)
    found = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["refined"], refined.predicted.astype(np.float32))
    np.testing.assert_array_equal(found["predicted"], evaluation.predicted.astype(np.float32))
    assert "true root depth" in str(found["refined_note"])


def test_refined_poses_of_another_set_are_refused(tmp_path, evaluation):
    other = make_evaluation((("S9", "Walking", 0, 16, 0, 1),))
    with pytest.raises(ValueError, match="expected refined poses of S9, S11"):
        save_predictions(tmp_path / "a.npz", evaluation, other)
    assert not list(tmp_path.iterdir())
    assert len(other.poses) == len(make_poses())  # as many poses: only which they are differs


def test_any_name_is_the_name_of_the_file(tmp_path, evaluation):
    save_predictions(tmp_path / "poses", evaluation)
    assert [path.name for path in tmp_path.iterdir()] == ["poses"]
    assert len(load(tmp_path / "poses")["frame"]) == len(evaluation.poses)


def test_a_place_that_cannot_be_written_to(tmp_path, evaluation):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"file/a\.npz: the predictions cannot be written"):
        save_predictions(tmp_path / "file" / "a.npz", evaluation)
    assert (tmp_path / "file").read_text() == "kept"

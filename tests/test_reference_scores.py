"""Scores of a checkpoint of the published code, action by action.

Neither the checkpoint nor the data is part of this project: ``HTNET_REFERENCE=DIR python -m pytest -m slow
tests/test_reference_scores.py``, with ``reference_checkpoint/*.pth`` and ``h36m_like/*.npz`` in DIR.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from common import checkpoint
from common.data import DATASETS, load
from common.evaluate import evaluate

DATA = Path(__file__).parent / "data"
REFERENCE = Path(os.environ.get("HTNET_REFERENCE", "missing"))


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="HTNET_REFERENCE does not name the folder")
@pytest.mark.parametrize(("keypoints", "golden"), [("gt", "eval_gt"), ("cpn_ft_h36m_dbb", "eval_cpn")])
def test_every_action_scores_as_in_the_published_code(keypoints: str, golden: str, tmp_path: Path) -> None:
    expected = json.loads((DATA / f"{golden}.json").read_text())
    dataset = DATASETS["h36m"]
    poses = load(dataset, REFERENCE / "h36m_like", keypoints, tmp_path, dataset.test)
    lifter = checkpoint.load_htnet(checkpoint.find_weights("reference_checkpoint", REFERENCE))
    [evaluation] = evaluate(lifter, poses, device=torch.device("cpu"))
    summary = evaluation.summary
    found = {name: [row["P1"], row["P2"]] for name, row in summary["per_action"].items()}
    assert found.keys() == expected["per_action"].keys()
    for action, scores in expected["per_action"].items():
        assert found[action] == pytest.approx(scores, abs=0.02), action
    average = summary["average"]["action_wise"]
    assert [average["P1"], average["P2"]] == pytest.approx(expected["average"], abs=0.02)
    assert list(summary["per_joint"].values()) == pytest.approx(expected["per_joint_p1"], abs=0.02)

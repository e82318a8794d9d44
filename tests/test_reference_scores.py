"""Scores of a published-code checkpoint, action by action, where the motion capture behind them is at hand.

Neither the checkpoint nor the data lies in this project. Name their folder to run the test:
``HTNET_REFERENCE=DIR python -m pytest -m slow tests/test_reference_scores.py`` with DIR holding
``reference_checkpoint/*.pth`` and ``h36m_like/*.npz``.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from common import cache, checkpoint
from common.evaluate import evaluate
from common.h36m import DATASETS
from model import HTNet

DATA = Path(__file__).parent / "data"
REFERENCE = os.environ.get("HTNET_REFERENCE")


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE, reason="HTNET_REFERENCE does not name the folder of checkpoint and data")
@pytest.mark.parametrize(("keypoints", "figures"), [("gt", "eval_gt"), ("cpn_ft_h36m_dbb", "eval_cpn")])
def test_every_action_scores_as_by_the_published_code(keypoints: str, figures: str, tmp_path: Path) -> None:
    expected = json.loads((DATA / f"{figures}.json").read_text())
    poses = cache.load(DATASETS["h36m"], Path(str(REFERENCE), "h36m_like"), keypoints, tmp_path)
    model = HTNet()
    checkpoint.load_weights(model, checkpoint.find_weights("reference_checkpoint", Path(str(REFERENCE))))
    test_set = poses.subjects(DATASETS["h36m"].test)
    [evaluation] = evaluate(model, test_set, device=torch.device("cpu"))
    summary = evaluation.summary
    found = {name: [row["P1"], row["P2"]] for name, row in summary["per_action"].items()}
    assert found.keys() == expected["per_action"].keys()
    for action, scores in expected["per_action"].items():
        assert found[action] == pytest.approx(scores, abs=0.02), action
    average = summary["average"]["action_wise"]
    assert [average["P1"], average["P2"]] == pytest.approx(expected["average"], abs=0.02)
    assert list(summary["per_joint"].values()) == pytest.approx(expected["per_joint_p1"], abs=0.02)

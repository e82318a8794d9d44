"""``main.py`` from the outside, on the sample with a small network: train, evaluate, compare, export."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from common import run
from common.poses import read_poses, write_poses

ROOT = Path(__file__).parents[1]
NETWORK = ["--layers", "1", "--channel", "24", "--d_hid", "32"]
QUICK = ["-a", "Walk", "--downsample", "16"]
OUTPUTS = ("metrics_json", "metrics_csv", "save_predictions", "report", "picture")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("main")


@pytest.fixture(scope="module", autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def common_options(place: Path) -> list[str]:
    folders = ["--checkpoint_dir", str(place / "ckpt"), "--cache_dir", str(place / "cache")]
    return ["--dataset", "sample", *folders, "--device", "cpu", "--workers", "1"]


def train(place: Path, name: str, *more: str) -> list[str]:
    short = ["--nepoch", "1", "--batch_size", "64", "--subset", "0.01"]
    return ["--train", "-n", name, *common_options(place), *NETWORK, *short, *more]


def resume(place: Path, name: str, *more: str) -> list[str]:
    return ["--train", "--resume", "-n", name, "--checkpoint_dir", str(place / "ckpt"), *more]


def evaluate(place: Path, weights: str | Path, *more: str) -> list[str]:
    return ["--reload", "--previous_dir", str(weights), *common_options(place), *more]


def refused(capsys, argv: list[str], code: int = 2) -> str:
    """The message of a call that ends with an error."""
    capsys.readouterr()
    assert main.main(argv) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def history(place: Path, name: str) -> list[dict]:
    return json.loads((place / "ckpt" / name / "history.json").read_text())


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """The folder of a run of two epochs that nothing disturbed."""
    assert main.main(train(place, "whole", "--nepoch", "2")) == 0
    return place / "ckpt" / "whole"


def weights(folder: Path) -> Path:
    (path,) = folder.glob("model_*.pth")
    return path


# Train


def test_run_leaves_weights_state_options_history_log_and_scalars(place, whole):
    names = {path.name for path in whole.iterdir()}
    expected = {"last.pth", "options.json", "history.json", "train.log", "tensorboard", weights(whole).name}
    assert names == expected
    records = history(place, "whole")
    best = min(records, key=lambda record: record["P1"])
    assert weights(whole).name == f"model_{best['epoch']}_{best['P1'] * 100:.0f}.pth"
    np.testing.assert_allclose([record["learning_rate"] for record in records], [0.0005, 0.000475])
    options = json.loads((whole / "options.json").read_text())["options"]
    assert (options["keypoints"], options["nepoch"], options["channel"]) == ("gt", 2, 24)
    log = (whole / "train.log").read_text()
    assert "parameters" in log and "samples" in log and "lowest P1 on the test subjects" in log


def test_log_ends_with_the_command_that_evaluates_the_run(capsys, place, whole):
    command = shlex.split((whole / "train.log").read_text().rpartition("evaluate it with: ")[2])
    capsys.readouterr()
    assert main.main(command[2:]) == 0
    best = min(record["P1"] for record in history(place, "whole"))
    assert f"{best:.2f}" in capsys.readouterr().out


def test_finished_run_says_so_and_goes_further_with_more_epochs(capsys, place):
    assert main.main(train(place, "short")) == 0
    assert main.main(resume(place, "short")) == 0
    assert "finished" in capsys.readouterr().out
    assert main.main(resume(place, "short", "--nepoch", "2")) == 0
    assert main.main(train(place, "long", "--nepoch", "2")) == 0
    assert history(place, "short") == history(place, "long")


@pytest.mark.parametrize("more", [[], ["--refine_freeze", "--select", "last"]], ids=["joint", "frozen"])
def test_refine_head_is_trained_resumed_and_evaluated_beside_its_base(capsys, place, whole, more):
    names = [f"refined {len(more)}", f"resumed {len(more)}"]
    argv = ["--reload", "--previous_dir", str(weights(whole)), "--refine", *more]
    assert main.main(train(place, names[0], *argv, "--nepoch", "2")) == 0
    assert main.main(train(place, names[1], *argv)) == 0
    assert main.main(resume(place, names[1], "--nepoch", "2")) == 0
    assert history(place, names[0]) == history(place, names[1])
    folder = place / "ckpt" / names[0]
    states = [torch.load(path, weights_only=True) for path in (weights(folder), weights(whole))]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items()) == bool(more)
    capsys.readouterr()
    assert main.main(evaluate(place, folder, "--refine", "--subset", "0.01")) == 0
    kept = history(place, names[0])[-1] if more else min(history(place, names[0]), key=lambda r: r["P1"])
    output = capsys.readouterr().out
    assert f"{kept['base_P1']:.2f}" in output and f"{kept['P1']:.2f}" in output


def test_subject_is_held_out_to_select_by(capsys, place):
    assert main.main(train(place, "held out", "--select", "S6")) == 0
    assert re.search(r"training on S1, S5, S7, S8 .*scoring on S6 \(", capsys.readouterr().out)
    assert "best, last, S1" in refused(capsys, train(place, "test subject", "--select", "S9"))


def test_other_data_sets_are_added(capsys, place, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cache,) = (place / "cache").glob("sample-gt-*")
    poses = read_poses(cache)[0].subjects(["S1"])
    rows = [slice(each.start, each.stop) for each in poses.sequences]
    views = zip(
        poses.sequences, *([part[row] for row in rows] for part in (poses.keypoints, poses.positions))
    )
    metadata = {"name": "mine", "train": ["S1"], "test": [], "keypoints": "gt", "origin": "the sample"}
    write_poses(tmp_path / "dataset" / "mine", views, metadata)
    assert main.main(train(place, "more data", "--train_with", "mine")) == 0
    texts = (whole / "train.log").read_text(), capsys.readouterr().out
    before, after = (int(re.findall(r"training on [^(]*\((\d+) poses", text)[0]) for text in texts)
    assert after == before + sum(max(1, round(len(each) * 0.01)) for each in poses.sequences)
    for names in ("sample", "mine,mine", "nosuch"):
        refused(capsys, train(place, "never", "--train_with", names))


def test_seed_and_generated_samples_decide_the_results(place):
    generated = ["--virtual_cameras", "pitch=-5:5", "--augment_poses", "--keypoint_noise"]
    runs = {"one": [], "again": [], "other": ["--seed", "2"], "generated": generated}
    for name, more in runs.items():
        assert main.main(train(place, name, *more)) == 0
    one, again, other, changed = (history(place, name)[0] for name in runs)
    assert one == again and one["loss"] != other["loss"] != changed["loss"] != one["loss"]


# Evaluate, compare, export


def test_evaluation_writes_all_outputs_and_comparison_only_what_is_asked_for(
    capsys, place, whole, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = dict(zip(OUTPUTS, ("new/a.json", "a.csv", "a.npz", "page", "a.png"), strict=True))
    outputs = [word for name, path in names.items() for word in (f"--{name}", path)]
    assert main.main(evaluate(place, whole, *QUICK, *outputs)) == 0
    output = capsys.readouterr().out
    assert "Walk" in output and all(f"wrote {path}" in output for path in names.values())
    assert (tmp_path / "page" / "index.html").is_file()
    assert main.main(evaluate(place, whole / "last.pth", *QUICK, "--metrics_json", "b.json")) == 0
    before = set(tmp_path.rglob("*"))
    assert main.main(["--compare", "new/a.json", "b.json"]) == 0
    assert "b" in capsys.readouterr().out and set(tmp_path.rglob("*")) == before
    assert main.main(["--compare", "new/a.json", "b.json", "--picture", "c.png"]) == 0
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "c.png"}


def test_export_takes_the_weights_the_kind_the_file_and_the_averaging(place, whole, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "common.export.export", lambda *arguments, **keywords: calls.append((arguments, keywords))
    )
    argv = ["--export", "onnx", "--previous_dir", "whole", "--checkpoint_dir", str(place / "ckpt")]
    assert main.main(argv) == 0
    assert main.main([*argv, "--output", "a.onnx", "--test_augmentation", "no"]) == 0
    assert calls == [
        (("onnx", weights(whole), None), {"flip": True}),
        (("onnx", weights(whole), Path("a.onnx")), {"flip": False}),
    ]


# Errors


def test_missing_weights_and_data_are_named_in_one_message(capsys, place, tmp_path):
    argv = ["--reload", "--previous_dir", "cpn", "--root_path", str(tmp_path), "--checkpoint_dir", str(place)]
    message = refused(capsys, argv)
    for expected in (
        "cpn",
        "data_3d_h36m.npz",
        "data_2d_h36m_cpn_ft_h36m_dbb.npz",
        "vision.imar.ro/human3.6m",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["-a", "Wlak"], "did you mean Walk"),
        (["-a", "Walk"], "no poses of S1"),
        (["--dataset", "smaple"], "did you mean sample"),
        (["--virtual_cameras", "pitch=5"], "--virtual_cameras"),
        (["--keypoint_noise", "none.json"], "none.json"),
        (["--reload", "--previous_dir", "nobody"], "nobody"),
        (["--reload", "--previous_dir", "whole", "--refine", "--previous_refine", "whole"], "refine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_call_is_refused_and_leaves_no_run(capsys, place, whole, more, expected):
    assert expected in refused(capsys, train(place, "refused", *more))
    assert not list(place.glob("ckpt/refused/*.json"))


def test_run_is_neither_overwritten_nor_shared(capsys, place, whole):
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert "already holds a run" in refused(capsys, train(place, "whole"))
    with run.run_lock(whole):
        assert "another process" in refused(capsys, resume(place, "whole", "--nepoch", "3"))
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_resume_needs_the_same_data(capsys, place, whole, tmp_path):
    for name in ("data_3d_sample.npz", "data_2d_sample_gt.npz"):
        (tmp_path / name).write_bytes((ROOT / "dataset" / "sample" / name).read_bytes())
    with np.load(tmp_path / "data_3d_sample.npz", allow_pickle=True) as file:
        positions = file["positions_3d"].item()
    positions["S9"]["Walk"] = positions["S9"]["Walk"] + np.float32(0.001)
    np.savez_compressed(tmp_path / "data_3d_sample.npz", positions_3d=np.array(positions, dtype=object))
    assert "the data are not" in refused(capsys, resume(place, "whole", "--root_path", str(tmp_path)))


def test_diverging_run_stops_with_its_batch_and_the_last_good_state(capsys, place):
    argv = train(place, "diverged", "--lr", "1e30", "--checkpoint_minutes", "0")
    assert "the loss became nan in epoch 1, step 1" in refused(capsys, argv, code=1)
    folder = place / "ckpt" / "diverged"
    assert (folder / "not_finite_1_1.pt").is_file() and not list(folder.glob("model_*"))
    assert torch.load(folder / "last.pth", weights_only=True)["progress"]["step"] == 1


def test_weights_that_give_no_finite_pose_are_reported(capsys, place, whole, tmp_path):
    state = torch.load(weights(whole), weights_only=True)
    state["fcn.bias"][1] = 3e38
    torch.save(state, tmp_path / "damaged.pth")
    assert "NaN or infinity" in refused(capsys, evaluate(place, tmp_path / "damaged.pth", *QUICK), code=1)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_full_memory_is_one_line(capsys, place, whole, monkeypatch, error):
    monkeypatch.setattr("common.evaluate.predict", lambda *_, **__: (_ for _ in ()).throw(error))
    assert "out of memory" in refused(capsys, evaluate(place, whole, *QUICK), code=1)


# Processes


def test_help_imports_neither_pytorch_nor_numpy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "main.py", "--help"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0 and b"--train" in done.stdout
    assert b" torch" not in done.stderr and b" numpy" not in done.stderr


def test_sigterm_while_pytorch_is_imported_ends_with_143(place):
    argv = [sys.executable, "main.py", *train(place, "early")]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.6)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) in ((143, b""), (-signal.SIGTERM, b""))

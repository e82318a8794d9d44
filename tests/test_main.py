"""``python main.py`` from the outside: processes where it matters, ``main.main`` where that is the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from common import checkpoint, loading
from common.arguments import READ_BY, parse
from common.camera import h36m_cameras
from common.skeleton import H36M_32_KEPT, LEFT, RIGHT
from model import HTNet

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "dataset" / "sample"
NETWORK = ["--layers", "1", "--channel", "24", "--d_hid", "32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("main")


@pytest.fixture(scope="module", autouse=True)
def as_before():
    """Takes back what ``main.main`` sets for its process."""
    threads, handlers = torch.get_num_threads(), list(logging.getLogger().handlers)
    yield
    torch.set_num_threads(threads)
    logging.getLogger().handlers[:] = handlers


def options(place: Path) -> list[str]:
    """What all calls have in common: the sample, a small network, folders of their own."""
    folders = ["--checkpoint_dir", str(place / "ckpt"), "--cache_dir", str(place / "cache")]
    return ["--dataset", "sample", *NETWORK, *folders, "--device", "cpu", "--workers", "1"]


def train(place: Path, name: str, *more: str) -> list[str]:
    epochs = ["--nepoch", "2", "--batch_size", "64", "--subset", "0.1"]
    return ["--train", "-n", name, *options(place), *epochs, *more]


def resume(place: Path, name: str, *more: str) -> list[str]:
    return ["--train", "--resume", "-n", name, "--checkpoint_dir", str(place / "ckpt"), *more]


def score(place: Path, previous: str | Path, *more: str) -> list[str]:
    return ["--reload", "--previous_dir", str(previous), *options(place), *more]


def refused(capsys, argv: list[str], code: int = 2) -> str:
    """Standard error of a call that is refused in plain words."""
    capsys.readouterr()
    assert main.main(argv) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """The folder of a run of two epochs that nothing disturbed."""
    assert main.main(train(place, "whole")) == 0
    return place / "ckpt" / "whole"


def best(folder: Path) -> Path:
    (path,) = folder.glob("model_*.pth")
    return path


def same_weights(a: Path, b: Path) -> bool:
    one, other = checkpoint.read(a), checkpoint.read(b)
    one, other = one.get("model", one), other.get("model", other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# A run


def test_a_run_leaves_what_it_takes_to_use_and_repeat_it(place, whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"last.pth", "options.json", "history.json", "train.log", "tensorboard", best(whole).name}

    history = json.loads((whole / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2]
    np.testing.assert_allclose([record["learning_rate"] for record in history], [0.0005, 0.000475])
    lowest = min(history, key=lambda record: record["P1"])
    assert best(whole).name == f"model_{lowest['epoch']}_{lowest['P1'] * 100:.0f}.pth"
    assert all(record["P2"] < record["P1"] for record in history)
    assert history[1]["loss"] < history[0]["loss"]

    saved = json.loads((whole / "options.json").read_text())["options"]
    expected = {"dataset": "sample", "keypoints": "gt", "nepoch": 2, "lr": 0.0005, "seed": 1, "channel": 24}
    assert {name: saved[name] for name in expected} == expected


def test_weights_are_a_plain_state_dict_in_the_published_names(whole):
    published = json.loads((ROOT / "tests" / "data" / "htnet_state_dict.json").read_text())
    first_block = {name for name in _names(published) if not re.search(r"blocks\.[12]\.", name)}
    assert set(torch.load(best(whole), weights_only=True)) == first_block


def _names(published) -> set[str]:
    while "fcn.weight" not in published:
        published = next(value for value in published.values() if isinstance(value, dict))
    return set(published)


def test_the_log_tells_the_rule_the_choice_and_every_epoch(whole):
    log = (whole / "train.log").read_text()
    rule = "0.0005 in the first epoch; after each epoch x 0.95, but x 0.5 after every 5 epochs"
    assert f"learning rate of model: {rule}" in log
    assert "kept is the epoch with the lowest P1 on the test subjects" in log
    for record in json.loads((whole / "history.json").read_text()):
        line = f"epoch: {record['epoch']}, lr: {record['learning_rate']:.7f}, loss: {record['loss']:.4f}, "
        assert line + f"p1: {record['P1']:.2f}, p2: {record['P2']:.2f}" in log


def test_the_same_call_gives_the_same_figures_and_another_seed_others(place):
    figures = []
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        assert main.main(train(place, name, "--nepoch", "1", "--subset", "0.01", "--seed", seed)) == 0
        figures.append((place / "ckpt" / name / "history.json").read_text())
    assert figures[0] == figures[1] != figures[2]


def test_the_seed_decides_the_weights_to_begin_with(place):
    still = ["--nepoch", "1", "--subset", "0.01", "--lr", "1e-30"]
    for seed in ("1", "2"):
        assert main.main(train(place, f"still {seed}", *still, "--seed", seed)) == 0
    one, other = (checkpoint.read(place / "ckpt" / f"still {seed}" / "last.pth")["model"] for seed in "12")
    assert not torch.equal(one["fcn.weight"], other["fcn.weight"])


def test_a_run_is_not_written_over(capsys, place, whole):
    before = (whole / "options.json").read_bytes(), best(whole).read_bytes()
    message = refused(capsys, train(place, "whole", "--lr", "0.1"))
    assert "already holds a run" in message
    assert ((whole / "options.json").read_bytes(), best(whole).read_bytes()) == before


def test_a_subject_can_be_held_out_to_choose_by(capsys, place):
    little = ["--subset", "0.02", "--nepoch", "1"]
    assert main.main(train(place, "held out", *little, "--select", "S6")) == 0
    output = capsys.readouterr().out
    assert re.search(r"training on S1, S5, S7, S8 .*; scoring each epoch on S6 \(", output)
    assert "held out of training" in output
    message = refused(capsys, train(place, "test subject", *little, "--select", "S9"))
    assert "--select S9: expected one of best, last, S1, S5, S6, S7, S8" in message


@pytest.mark.parametrize("more", [[], ["--refine_freeze", "--select", "last"]], ids=["joint", "frozen"])
def test_a_second_stage_is_trained_resumed_and_scored_beside_its_base(capsys, place, whole, tmp_path, more):
    argv = train(tmp_path, "refined", "--subset", "0.02", "--cache_dir", str(place / "cache"))
    argv += ["--reload", "--previous_dir", str(best(whole)), "--refine", *more]
    folder = tmp_path / "ckpt" / "refined"
    assert main.main([*argv, "--nepoch", "1"]) == 0
    assert main.main(resume(tmp_path, "refined", "--nepoch", "2")) == 0
    resumed = checkpoint.read(folder / "last.pth")
    folder.rename(tmp_path / "before")
    assert main.main([*argv, "--nepoch", "2"]) == 0
    straight = checkpoint.read(folder / "last.pth")
    for part in ("model", "refine"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in straight[part].items())
    assert same_weights(best(folder), best(whole)) == bool(more)

    capsys.readouterr()
    history = json.loads((folder / "history.json").read_text())
    kept = history[-1] if more else min(history, key=lambda record: record["P1"])
    command = shlex.split((folder / "train.log").read_text().rpartition("score it by: ")[2])
    assert main.main(command[2:]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("average (action"))
    p1, _, refined_p1, refined_p2 = re.findall(r"\d+\.\d\d", row)
    figures = (f"{kept[name]:.2f}" for name in ("base_P1", "P1", "P2"))
    assert (p1, refined_p1, refined_p2) == tuple(figures)

    few = ["-a", "Walk", "--downsample", "8"]
    assert main.main(score(place, folder, "--refine", *few)) == 0
    both = capsys.readouterr().out
    assert main.main(score(place, folder, *few)) == 0
    alone = _table(capsys.readouterr().out)["Walk"]
    row = next(line for line in both.splitlines() if line.startswith("Walk "))
    assert re.split(r"  +", row)[1:3] == [f"{value:.2f}" for value in alone]
    assert "refined (uses the true root depth and the camera)" in both
    assert "weights of a refine head" in refused(capsys, score(place, "whole", "--refine", *few))


# Kills and signals


class Process:
    """A training in a process of its own, which writes a checkpoint with each step."""

    def __init__(self, argv: list[str]) -> None:
        self.running = subprocess.Popen(
            [sys.executable, "main.py", *argv],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end_in(self, folder: Path, epoch: int, step: int, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal when the run is at least there: exit code and standard error."""
        while self.running.poll() is None and _place(folder) < (epoch, step):
            time.sleep(0.05)
        self.running.send_signal(number)
        _, errors = self.running.communicate(timeout=60)
        return self.running.returncode, errors


def _place(folder: Path) -> tuple[int, int]:
    try:
        progress = torch.load(folder / "last.pth", weights_only=True)["progress"]
    except FileNotFoundError:
        return 0, 0
    return progress["epoch"], progress["step"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow)],
    ids=["SIGINT", "SIGTERM"],
)
def test_killed_and_stopped_in_mid_epoch_a_run_comes_to_the_same_end(capfd, place, whole, number, expected):
    name = f"broken by {number.name}"
    often = ["--checkpoint_minutes", "0"]
    folder = place / "ckpt" / name

    killed = Process(train(place, name, *often))
    assert killed.end_in(folder, 1, 5, signal.SIGKILL) == (-signal.SIGKILL, "")
    after_kill = _place(folder)
    assert (1, 5) <= after_kill < (1, 56), "not in mid-epoch: the test proves nothing"

    stopped = Process(resume(place, name, *often))
    code, errors = stopped.end_in(folder, 1, after_kill[1] + 3, number)
    assert code == expected
    first, way_on = errors.splitlines()
    assert first == f"stopped by {number.name}"
    assert after_kill < _place(folder) < (2, 56)

    command = way_on.partition("go on by: ")[2]
    assert shlex.split(command)[:2] == ["python", "main.py"]
    assert main.main([*shlex.split(command)[2:], "--checkpoint_minutes", "10"]) == 0
    assert capfd.readouterr().err == ""

    assert same_weights(folder / "last.pth", whole / "last.pth")
    assert same_weights(best(folder), best(whole))
    assert (folder / "history.json").read_text() == (whole / "history.json").read_text()
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and no such lock")
def test_a_second_process_in_the_folder_of_a_run_is_told_and_the_first_is_whole(capsys, place, whole):
    name = "two at once"
    folder = place / "ckpt" / name
    first = Process(train(place, name))
    while first.running.poll() is None and not (folder / "train.log").is_file():
        time.sleep(0.05)
    first.running.send_signal(signal.SIGSTOP)  # it cannot end before the second has come
    try:
        before = {path: path.read_bytes() for path in folder.glob("*.*")}
        for argv in (train(place, name, "--lr", "0.1"), resume(place, name)):
            assert f"{folder}: another process trains there" in refused(capsys, argv)
        second = Process(train(place, name))
        _, errors = second.running.communicate(timeout=60)
        assert second.running.returncode == 2
        assert errors == f"error: {folder}: another process trains there; wait for it, or choose another -n\n"
        assert {path: path.read_bytes() for path in folder.glob("*.*")} == before
    finally:
        first.running.send_signal(signal.SIGCONT)
    _, errors = first.running.communicate(timeout=60)
    assert (first.running.returncode, errors) == (0, "")
    assert same_weights(folder / "last.pth", whole / "last.pth")
    assert same_weights(best(folder), best(whole))
    assert (folder / "history.json").read_text() == (whole / "history.json").read_text()
    assert "already holds a run" in refused(capsys, train(place, name))


def test_a_stop_before_the_first_checkpoint_promises_nothing(capsys, place, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.trainer.Trainer.fit", stop)
    assert main.main(train(place, "early")) == 130
    assert capsys.readouterr().err == "stopped\n"


# Resume


def test_resume_refuses_what_contradicts_the_run(capsys, place, whole):
    for wrong, named in {
        ("--lr", "0.1"): "--lr 0.0005, not 0.1",
        ("--channel", "48"): "--channel 24, not 48",
        ("--subset", "0.2"): "--subset 0.1, not 0.2",
        ("--dataset", "h36m"): "--dataset sample, not h36m",
        ("--data_augmentation", "no"): "--data_augmentation True, not False",
    }.items():
        assert named in refused(capsys, resume(place, "whole", *wrong))


def test_resume_needs_a_run_with_a_checkpoint(capsys, place, whole):
    assert "options.json is not there" in refused(capsys, resume(place, "nobody"))
    bare = place / "ckpt" / "bare"
    bare.mkdir()
    (bare / "options.json").write_bytes((whole / "options.json").read_bytes())
    assert "last.pth is not there" in refused(capsys, resume(place, "bare"))


def test_resume_needs_the_same_data(capsys, place, whole, tmp_path):
    for name in ("data_3d_sample.npz", "data_2d_sample_gt.npz"):
        (tmp_path / name).write_bytes((SAMPLE / name).read_bytes())
    with np.load(tmp_path / "data_3d_sample.npz", allow_pickle=True) as file:
        positions = file["positions_3d"].item()
    positions["S9"]["Walk"] = positions["S9"]["Walk"] + np.float32(0.001)
    np.savez_compressed(tmp_path / "data_3d_sample.npz", positions_3d=np.array(positions, dtype=object))
    message = refused(capsys, resume(place, "whole", "--root_path", str(tmp_path)))
    assert "the data are not those" in message


def test_a_run_goes_on_where_it_was_moved_and_without_the_weights_it_began_with(place, whole, tmp_path):
    begun = tmp_path / "begun.pth"
    begun.write_bytes(best(whole).read_bytes())
    more = ["--nepoch", "1", "--subset", "0.01", "--reload", "--previous_dir", str(begun)]
    assert main.main(train(place, "moved", *more)) == 0
    begun.unlink()
    (place / "ckpt" / "moved").rename(tmp_path / "moved")
    assert main.main([*resume(tmp_path, "moved", "--nepoch", "2")[:4], "--checkpoint_dir", str(tmp_path),
                      "--nepoch", "2"]) == 0  # fmt: skip
    assert not (place / "ckpt" / "moved").exists()
    assert len(json.loads((tmp_path / "moved" / "history.json").read_text())) == 2
    assert json.loads((tmp_path / "moved" / "options.json").read_text())["options"]["nepoch"] == 2


# Scores


def test_the_command_that_a_run_ends_with_scores_it(place, whole, tmp_path):
    command = (whole / "train.log").read_text().rpartition("score it by: ")[2]
    picture = tmp_path / "new" / "picture.png"
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:], "--device", "cpu", "--picture", str(picture)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    digest = hashlib.sha256(best(whole).read_bytes()).hexdigest()
    assert f"{best(whole)} ({best(whole).stat().st_size} bytes, SHA-256 {digest})" in done.stdout
    history = json.loads((whole / "history.json").read_text())
    kept = min(history, key=lambda record: record["P1"])
    assert _table(done.stdout)["average (action-wise)"] == (round(kept["P1"], 2), round(kept["P2"], 2))
    assert picture.read_bytes().startswith(b"\x89PNG")


def _scored(capsys, text: str) -> dict[str, tuple[float, float]]:
    """The table that the last "score it by" command in a text gives, run as it stands."""
    command = shlex.split(text.rpartition("score it by: ")[2].splitlines()[0])
    assert command[:2] == ["python", "main.py"]
    capsys.readouterr()
    assert main.main(command[2:]) == 0
    return _table(capsys.readouterr().out)


@pytest.mark.parametrize(
    "more",
    [
        ["--test_augmentation", "no", "--downsample", "3"],
        ["-a", "Kick, Walk,WalkForward", "--subset", "0.3", "--select", "last"],
        ["--amp", "bf16", "--accumulate", "3", "--downsample", "5"],
    ],
)
def test_the_command_holds_whatever_a_run_was_told(capsys, place, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    few = ["--nepoch", "1", "--root_path", str(SAMPLE), "--checkpoint_dir", "my runs", *more]
    assert main.main(train(place, "told", *few)) == 0
    output = capsys.readouterr().out
    ((p1, p2),) = re.findall(r"p1: ([\d.]+), p2: ([\d.]+)", output)
    assert f"P1 {p1} mm" in output
    assert _scored(capsys, output)["average (action-wise)"] == (float(p1), float(p2))


def _table(text: str) -> dict[str, tuple[float, float]]:
    lines = text[text.index("P1 (mm)") :].splitlines()[1:]
    rows = [re.split(r"  +", line) for line in lines]
    return {row[0]: (float(row[1]), float(row[2])) for row in rows if len(row) == 3}


@pytest.mark.parametrize("flip", [True, False])
def test_the_table_agrees_with_a_computation_pose_by_pose(capsys, place, tmp_path, flip):
    torch.manual_seed(11)
    model = HTNet(layers=1, channel=24, d_hid=32).eval()
    with torch.no_grad():
        model.fcn.weight.mul_(0.5)  # keeps errors within some hundred mm
    torch.save(model.state_dict(), tmp_path / "random.pth")
    more = ["-a", "Walk, Kick", "--downsample", "16", "--test_augmentation", str(flip)]
    assert main.main(score(place, tmp_path / "random.pth", *more)) == 0
    found = _table(capsys.readouterr().out)

    with np.load(SAMPLE / "data_3d_sample.npz", allow_pickle=True) as file:
        world = file["positions_3d"].item()
    with np.load(SAMPLE / "data_2d_sample_gt.npz", allow_pickle=True) as file:
        pixels = file["positions_2d"].item()
    errors: dict[str, list[tuple[float, float]]] = {}
    for subject in ("S9", "S11"):
        for action in ("Walk", "Kick"):
            for number, camera in enumerate(h36m_cameras()[subject]):
                for frame in range(0, len(world[subject][action]), 16):
                    pose = [
                        _seen(point, camera) for point in world[subject][action][frame][list(H36M_32_KEPT)]
                    ]
                    truth = 1000 * (np.array(pose) - pose[0])
                    lifted = 1000 * _lifted(model, pixels[subject][action][number][frame], camera, flip)
                    errors.setdefault(action, []).append((_distance(lifted, truth), _aligned(lifted, truth)))
    expected = {action: tuple(np.mean(values, axis=0)) for action, values in errors.items()}
    expected["average (action-wise)"] = tuple(np.mean(list(expected.values()), axis=0))
    expected["average (frame-wise)"] = tuple(np.mean(list(chain(*errors.values())), axis=0))
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], abs=0.006), name


def _seen(point: np.ndarray, camera) -> np.ndarray:
    """A world point in camera space: the conjugate quaternion's rotation, by Rodrigues' formula."""
    w, axis = camera.orientation[0], -np.array(camera.orientation[1:])
    point = point.astype(np.float64) - camera.translation
    return point + 2 * w * np.cross(axis, point) + 2 * np.cross(axis, np.cross(axis, point))


def _lifted(model: HTNet, pixels: np.ndarray, camera, flip: bool) -> np.ndarray:
    width, height = camera.width, camera.height
    keypoints = [[x / width * 2 - 1, y / width * 2 - height / width] for x, y in pixels.astype(np.float64)]
    with torch.no_grad():
        straight = model(torch.tensor([[keypoints]], dtype=torch.float32))[0, 0].double().numpy()
        back = model(torch.tensor([[_mirrored(keypoints)]], dtype=torch.float32))[0, 0].double().numpy()
    pose = (straight + np.array(_mirrored(back.tolist()))) / 2 if flip else straight
    pose[0] = 0
    return pose


def _mirrored(points: list[list[float]]) -> list[list[float]]:
    swapped = [list(point) for point in points]
    for left, right in zip(LEFT, RIGHT, strict=True):
        pair = sorted([left, right])
        swapped[pair[0]], swapped[pair[1]] = list(points[pair[1]]), list(points[pair[0]])
    return [[-point[0], *point[1:]] for point in swapped]


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([np.sqrt(sum((p - q) ** 2)) for p, q in zip(a, b, strict=True)]))


def _aligned(pose: np.ndarray, truth: np.ndarray) -> float:
    """Distance after the best similarity transform, by the orthogonal Procrustes problem on unit shapes."""
    a, b = pose - pose.mean(0), truth - truth.mean(0)
    size = np.linalg.norm(a), np.linalg.norm(b)
    u, s, vt = np.linalg.svd((b / size[1]).T @ (a / size[0]))
    d = np.diag([1, 1, np.linalg.det(u @ vt)])
    turned = (u @ d @ vt @ a.T).T * (np.trace(np.diag(s) @ d) * size[1] / size[0])
    return _distance(turned + truth.mean(0), truth)


def test_the_test_set_is_what_was_asked_for(capsys, place, whole):
    poses = {}
    for name, more in {
        "Walk": ["-a", "Walk"],
        "half": ["-a", "Walk", "--subset", "0.5"],
        "eighth": ["-a", "Walk", "--downsample", "8"],
    }.items():
        assert main.main(score(place, "whole", *more)) == 0
        (poses[name],) = re.findall(r"testing on S9, S11 \((\d+) poses", capsys.readouterr().out)
    assert poses == {"Walk": "512", "half": "256", "eighth": "64"}  # 2 subjects, 4 cameras


# What is refused


def test_actions_that_the_data_lack_are_named_with_those_they_have(capsys, place, whole):
    message = refused(capsys, score(place, "whole", "-a", "Walk,Wal,Flying"))
    assert "there is no 'Flying', 'Wal'; the data have" in message
    assert "WalkForward" in message
    assert "no test poses" in refused(capsys, score(place, "whole", "-a", "WalkForward"))
    assert "no training poses" in refused(capsys, train(place, "nothing", "-a", "Walk"))


def test_missing_data_are_told_before_pytorch_is_loaded(tmp_path):
    script = (
        "import sys, main\n"
        f"code = main.main(['--train', '-n', 'a', '--checkpoint_dir', {str(tmp_path / 'ckpt')!r},"
        f" '--root_path', {str(tmp_path / 'nowhere')!r}])\n"
        "assert 'torch' not in sys.modules, 'PyTorch came first'\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: data files are missing:")
    for said in (
        str(tmp_path / "nowhere" / "data_3d_h36m.npz"),
        str(tmp_path / "nowhere" / "data_2d_h36m_cpn_ft_h36m_dbb.npz"),
        "does not exist",
        "--root_path",
        "vision.imar.ro/human3.6m",
        "licence",
    ):
        assert said in done.stderr
    assert not (tmp_path / "ckpt").exists()


def test_the_sample_never_stands_in_for_human36m(capsys, place, whole, tmp_path):
    message = refused(capsys, [*score(place, "whole", "--dataset", "h36m"), "--root_path", str(SAMPLE)])
    assert "data_3d_h36m.npz" in message


def test_weights_that_do_not_fit_are_refused_with_what_would(capsys, place, whole):
    message = refused(capsys, score(place, "whole", "--channel", "48", "--layers", "2"))
    assert "--layers 1 --channel 24 --d_hid 32" in message
    message = refused(capsys, score(place, "nobody"))
    assert "whole" in message
    assert str(place / "ckpt" / "nobody") in message


def test_wrong_weights_are_told_before_the_data_are_converted(capsys, place, tmp_path):
    argv = [*score(place, "nobody"), "--cache_dir", str(tmp_path / "cache")]
    refused(capsys, argv)
    assert not (tmp_path / "cache").exists()


def test_the_last_state_can_be_scored_by_its_name(capsys, place, whole):
    assert main.main(score(place, whole / "last.pth", "-a", "Walk", "--downsample", "8")) == 0
    assert "last.pth" in capsys.readouterr().out


def test_weights_of_other_data_give_a_note_and_are_told_among_the_facts(capsys, place, whole, tmp_path):
    folder = tmp_path / "cpn"
    folder.mkdir()
    (folder / "model_1_1.pth").write_bytes(best(whole).read_bytes())
    kept: dict[str, str | None] = {
        '{"options": {"dataset": "sample", "keypoints": "cpn"}}': "sample, cpn key points",
        '{"options": {"dataset": "h36m", "keypoints": "gt"}}': "h36m, gt key points",
        '{"options": {"dataset": "sample", "keypoints": "gt"}}': "sample, gt key points",
        '{"options": {"select": "last"}}': None,
        '{"options": null}': None,
        "{": None,
    }
    for text, trained in kept.items():
        (folder / "options.json").write_text(text)
        facts, output = facts_of(capsys, tmp_path, score(place, folder, *QUICK))
        assert facts["trained on"] == (trained or "not known")
        assert facts["data set"] == "sample, gt key points"
        note = f"note: these weights were trained on {trained}; now it is sample, gt key points\n"
        assert (note in output) == (trained not in (None, "sample, gt key points"))
        assert ("note:" in output) == (note in output)


def test_a_damaged_history_is_told_before_anything_is_scored(capsys, place, whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model_1_1.pth").write_bytes(best(whole).read_bytes())
    argv = score(place, folder, *QUICK, "--report", str(tmp_path / "report"))
    good = json.loads((whole / "history.json").read_text())
    for damaged in (
        "",
        "[{",
        "null",
        "1",
        '"text"',
        "{}x",
        json.dumps({"epoch": 1}),
        json.dumps([good[0], {"epoch": 2}]),
        json.dumps([good[0] | {"P1": None}]),
        json.dumps([good[0] | {"loss": "much"}]),
        json.dumps([1]),
    ):
        (folder / "history.json").write_text(damaged)
        capsys.readouterr()
        assert main.main(argv) == 2
        output = capsys.readouterr()
        said = f"error: {folder / 'history.json'}: expected the records that training writes, found "
        assert output.err.startswith(said)
        assert "remove it to go without training curves" in output.err
        assert "P1 (mm)" not in output.out, "told only after the scoring"
    assert not (tmp_path / "report" / "index.html").exists()
    assert main.main(argv[:-2]) == 0, "nothing reads it without --report"


# Facts


QUICK = ["-a", "Walk", "--downsample", "8"]
FLATTERS = "the epoch with the lowest P1 on the test subjects: the field's habit, it flatters the figures"
NO_SAY = "the test subjects had no say in it"
BEGAN = "; it began with trained weights, of an epoch chosen so: "


def facts_of(capsys, tmp_path: Path, argv: list[str]) -> tuple[dict[str, str], str]:
    """The facts in the record of an evaluation, and its standard output."""
    capsys.readouterr()
    assert main.main([*argv, "--metrics_json", str(tmp_path / "facts.json")]) == 0
    output = capsys.readouterr().out
    facts = json.loads((tmp_path / "facts.json").read_text())["facts"]
    assert f"epoch chosen: {facts['epoch chosen']}\n" in output
    return facts, output


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"options": {"select": "best"}}, FLATTERS),
        ({"options": {"select": "last"}}, f"the last epoch: {NO_SAY}"),
        (
            {"options": {"select": "S6"}, "began_with": None},
            f"the epoch with the lowest P1 on S6, held out of training: {NO_SAY}",
        ),
        ({"options": {"select": "last"}, "began_with": FLATTERS}, f"the last epoch{BEGAN}{FLATTERS}"),
        ({"options": {"select": "best"}, "began_with": "x"}, f"{FLATTERS}{BEGAN}x"),
        ({"options": {}}, "not known: options.json beside the weights is missing or does not say"),
        (None, "not known: options.json beside the weights is missing or does not say"),
    ],
)
def test_how_the_epoch_was_chosen_is_among_the_facts(tmp_path, record, expected):
    if record is not None:
        (tmp_path / "options.json").write_text(json.dumps(record))
    assert loading.chosen(tmp_path / "model_1_1.pth") == expected


def test_the_state_of_a_run_is_that_of_its_last_step(capsys, place, whole, tmp_path):
    facts, _ = facts_of(capsys, tmp_path, score(place, whole / "last.pth", *QUICK))
    assert facts["epoch chosen"] == f"the last epoch: {NO_SAY}"
    assert facts["trained on"] == facts["data set"] == "sample, gt key points"
    facts, _ = facts_of(capsys, tmp_path, score(place, whole, *QUICK))
    assert facts["epoch chosen"] == FLATTERS


def test_a_second_stage_on_a_flattered_lifter_never_says_that_test_subjects_had_no_say(
    capsys, place, whole, tmp_path
):
    little = ["--subset", "0.01", "--reload", "--previous_dir", "whole", "--refine", "--select", "last"]
    assert main.main(train(place, "on best", *little, "--nepoch", "1")) == 0
    assert main.main(resume(place, "on best", "--nepoch", "2")) == 0
    log = (place / "ckpt" / "on best" / "train.log").read_text()
    assert log.count(f"kept is the last epoch{BEGAN}{FLATTERS}\n") == 2
    facts, _ = facts_of(capsys, tmp_path, score(place, "on best", "--refine", *QUICK))
    for name in ("epoch chosen", "epoch of the refine head chosen"):
        assert facts[name] == f"the last epoch{BEGAN}{FLATTERS}"
    assert NO_SAY not in log + json.dumps(facts)

    # Nor does a run that has a flattered refine head alone to begin with.
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_1_1.pth").write_bytes(best(whole).read_bytes())
    (other / "options.json").write_text('{"options": {"select": "last"}}')
    args = parse(
        train(
            place, "c", "--reload", "--previous_dir", str(other), "--refine", "--previous_refine", "on best"
        )
    )
    assert loading.began_with(args) == f"the last epoch: {NO_SAY}; and the last epoch{BEGAN}{FLATTERS}"


def test_every_option_is_read_by_the_calls_that_take_it(place, whole, tmp_path, monkeypatch):
    read: set[str] = set()

    class Spied(Namespace):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(main, "parse", lambda argv: Spied(**vars(parse(argv))))
    little = ["--subset", "0.01", "--nepoch", "1"]
    calls = {
        "training": [
            train(place, "spied", *little),
            train(place, "spied second", *little, "--reload", "--previous_dir", "whole", "--refine"),
        ],
        "scoring": [score(place, "spied second", "--refine", *QUICK)],
    }
    for kind, all_calls in calls.items():
        read.clear()
        for argv in all_calls:
            assert main.main(argv) == 0
        # A recipe is read by the parser: it changes the defaults of others.
        assert READ_BY[kind] - read <= {"recipe"}, kind
        # What kind of call it is, and what decides on the weights to begin with, which are then read over.
        both = {"train", "resume", "compare", "export", "seed"}
        assert not (read & set().union(*READ_BY.values())) - READ_BY[kind] - both, kind


# Outputs


@pytest.mark.parametrize("name", ["metrics_json", "metrics_csv", "save_predictions", "picture", "report"])
def test_outputs_that_cannot_be_written_are_refused_before_anything_is_scored(
    capsys, place, whole, tmp_path, monkeypatch, name
):
    def never(*_, **__):
        raise AssertionError("scored")

    monkeypatch.setattr("common.evaluate.evaluate", never)
    (tmp_path / "file").write_text("mine")
    wrong = {tmp_path / "file" / "a", tmp_path / "file" / "b" / "c"}
    wrong |= {Path("/proc/a")} if Path("/proc").is_dir() else set()  # refused even to the superuser
    wrong |= {tmp_path / "file"} if name == "report" else {tmp_path}
    for path in wrong:
        assert f"--{name} {path}: " in refused(capsys, score(place, "whole", f"--{name}", str(path)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_outputs_go_into_new_folders_and_take_the_place_of_old_ones(capsys, place, whole, tmp_path):
    outputs = [tmp_path / "new" / "a.json", tmp_path / "new" / "a.csv"]
    for _ in range(2):
        both = ["--metrics_json", str(outputs[0]), "--metrics_csv", str(outputs[1])]
        assert main.main(score(place, "whole", *QUICK, *both)) == 0
        assert sorted(path.name for path in outputs[0].parent.iterdir()) == ["a.csv", "a.json"]


def test_a_comparison_is_drawn_in_the_working_directory(capsys, place, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, weights in (("a.json", whole), ("b.json", whole / "last.pth")):
        assert main.main(score(place, weights, *QUICK, "--metrics_json", name)) == 0
    assert main.main(["--compare", "a.json", "b.json"]) == 0
    assert "wrote comparison.png" in capsys.readouterr().out
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json", "comparison.png"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA is wanted")
def test_cuda_on_a_machine_without_it(capsys, place, whole):
    assert "--device cuda: PyTorch" in refused(capsys, score(place, "whole", "--device", "cuda"))


def test_a_folder_that_cannot_be_made_is_told(capsys, place, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(capsys, [*train(place, "a"), "--checkpoint_dir", str(tmp_path / "file")], code=1)
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize(
    "more",
    [
        ["-a", "Flying"],
        ["-a", "Walk"],
        ["--select", "S9"],
        ["--root_path", "nowhere"],
        ["--reload", "--previous_dir", "nobody"],
        ["--reload", "--previous_dir", "whole", "--channel", "48"],
        ["--reload", "--previous_dir", "whole", "--refine", "--previous_refine", "whole"],
        ["--gpu", "99", "--device", "cuda"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_leaves_no_run_behind(capsys, place, whole, more):
    refused(capsys, train(place, "wrong", *more))
    refused(capsys, resume(place, "wrong"))
    assert not (place / "ckpt" / "wrong").exists()


@pytest.mark.parametrize("name", ["../x", "a/b"])
def test_a_name_that_is_no_plain_one_is_refused_and_made_nowhere(capsys, tmp_path, name):
    with pytest.raises(SystemExit) as caught:
        main.main(train(tmp_path, name))
    assert caught.value.code == 2
    assert f"-n {name}: expected the plain name of a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# A full memory


FULL = [
    MemoryError(),
    MemoryError("Unable to allocate 9.00 TiB for an array"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:20])
def test_a_full_memory_is_one_line(capsys, place, whole, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("common.trainer.Trainer.fit", fail)
    monkeypatch.setattr("common.evaluate.evaluate", fail)
    message = refused(capsys, train(place, "memory"), code=1)
    advice = "try a smaller --batch_size, a larger --accumulate, or another --device"
    assert message == f"error: the memory is full; {advice}\n"
    message = refused(capsys, score(place, "whole", *QUICK), code=1)
    assert message == "error: the memory is full; try another --device\n", "scoring takes no --batch_size"


def test_a_compiler_that_fails_is_told(capsys, place, monkeypatch):
    def fail(*_, **__):
        raise torch._dynamo.exc.TorchDynamoException("no working C++ compiler\nMore lines")

    monkeypatch.setattr("common.trainer.Trainer.fit", fail)
    message = refused(capsys, train(place, "compiler", "--compile"), code=1)
    reason = "PyTorch's compiler fails here (no working C++ compiler); leave --compile away"
    assert message == f"error: --compile: {reason}\n"


@pytest.mark.slow
def test_a_compiled_run_gives_the_figures_and_the_names_of_any_other(place):
    still = ["--nepoch", "1", "--subset", "0.02", "--lr", "1e-30", "--reload"]
    histories = []
    begun = place / "begun.pth"
    torch.manual_seed(3)
    torch.save(HTNet(layers=1, channel=24, d_hid=32).state_dict(), begun)
    for name, more in {"not compiled": [], "compiled": ["--compile"]}.items():
        assert main.main(train(place, name, *still, "--previous_dir", str(begun), *more)) == 0
        (record,) = json.loads((place / "ckpt" / name / "history.json").read_text())
        histories.append(record)
    assert histories[0]["P1"] == histories[1]["P1"]
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=0.05)  # but for dropout
    found, began = checkpoint.read(best(place / "ckpt" / "compiled")), checkpoint.read(begun)
    assert found.keys() == began.keys()
    assert all(torch.allclose(found[name], value) for name, value in began.items())


@pytest.mark.slow
def test_a_compiler_that_is_not_there_ends_the_run(place):
    done = subprocess.run(
        [sys.executable, "main.py", *train(place, "no compiler", "--subset", "0.01", "--compile")],
        cwd=ROOT,
        env={**os.environ, "CXX": str(place / "nowhere")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: --compile: PyTorch's compiler fails here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["CUDA error: an illegal memory access was encountered", "shapes differ"])
def test_an_error_in_the_program_is_not_taken_for_a_full_memory(place, whole, monkeypatch, text):
    def fail(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr("common.evaluate.evaluate", fail)
    with pytest.raises(RuntimeError, match=text):
        main.main(score(place, "whole", *QUICK))


# What is not finite


def test_a_run_that_diverges_stops_with_code_1_and_its_batch(capsys, place):
    message = refused(capsys, train(place, "diverged", "--lr", "1e30", "--checkpoint_minutes", "0"), code=1)
    assert "the loss became nan in epoch 1, step 1" in message
    assert len(message.splitlines()) == 1
    folder = place / "ckpt" / "diverged"
    batch = torch.load(folder / "not_finite_1_1.pt", weights_only=True)
    assert batch["keypoints"].shape == (64, 1, 17, 2)
    assert batch["target"].shape == (64, 1, 17, 3)
    last = torch.load(folder / "last.pth", weights_only=True)
    assert last["progress"]["step"] == 1
    assert all(value.isfinite().all() for value in last["model"].values())
    assert not list(folder.glob("model_*.pth"))


def test_weights_that_give_no_finite_pose_are_told(capsys, place, whole, tmp_path):
    state = torch.load(best(whole), weights_only=True)
    state["fcn.bias"][1] = np.nan
    torch.save(state, tmp_path / "damaged.pth")
    message = refused(
        capsys, score(place, tmp_path / "damaged.pth", "-a", "Walk", "--downsample", "8"), code=1
    )
    assert "the network gives NaN or infinity for 64 of 64 test poses" in message


# Samples made up in training

TINY = ["--subset", "0.01", "--nepoch", "1"]


def trained_on(place: Path, name: str) -> str:
    log = (place / "ckpt" / name / "train.log").read_text()
    return next(line for line in log.splitlines() if "training on" in line)


def test_made_up_samples_change_what_is_learned(place):
    made_up = ["--virtual_cameras", "pitch=-5:5", "--augment_poses", "--keypoint_noise"]
    losses = []
    for name, more in (("recorded", []), ("made up", made_up)):
        assert main.main(train(place, name, *TINY, *more, "--lr_schedule", "cosine")) == 0
        (record,) = json.loads((place / "ckpt" / name / "history.json").read_text())
        losses.append(record["loss"])
    assert losses[0] != losses[1]
    options_of_it = json.loads((place / "ckpt" / "made up" / "options.json").read_text())["options"]
    assert options_of_it["virtual_cameras"] == "pitch=-5:5" and options_of_it["keypoint_noise"] == "default"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--virtual_cameras", "pitch=5"], "--virtual_cameras pitch=5: expected"),
        (["--virtual_cameras", ""], "--virtual_cameras : expected"),
        (["--virtual_cameras", "distance=1e300:1e301"], "distance: expected numbers from"),
        (["--keypoint_noise", ""], "key point noise cannot be read"),
        (["--keypoint_noise", "none.json"], "none.json: key point noise cannot be read"),
        (["--train_with", "sample"], "--train_with sample: expected others than --dataset sample"),
        (["--train_with", "a,a"], "each once"),
        (["--train_with", "nosuch"], "--train_with nosuch: expected one of"),
        (["--train_with", ""], "--train_with : expected"),
    ],
)
def test_what_cannot_be_made_up_is_told_before_a_run_begins(capsys, place, more, words):
    assert words in refused(capsys, train(place, "never", *TINY, *more))
    assert not list((place / "ckpt" / "never").glob("*.json"))


def test_other_data_sets_are_trained_on_too_and_thinned_alike(capsys, place, tmp_path, monkeypatch):
    from common import cache, prepared
    from common.h36m import DATASETS
    from common.pose_files import write_poses

    sample = DATASETS["sample"]
    poses = cache.load(sample, Path(sample.root), "gt", place / "cache")
    views = [
        (each, poses.keypoints[each.start : each.stop], poses.positions[each.start : each.stop])
        for each in poses.sequences
    ]
    facts = {"name": "mine", "train": ["S1"], "test": [], "keypoints": "gt", "origin": "the sample"}
    write_poses(tmp_path / "mine", views, facts)
    monkeypatch.setattr(prepared, "ROOT", str(tmp_path))
    assert main.main(train(place, "alone", *TINY)) == 0
    assert main.main(train(place, "with mine", *TINY, "--train_with", "mine")) == 0
    alone, together = (
        int(trained_on(place, name).split("(")[1].split()[0]) for name in ("alone", "with mine")
    )
    frames = sum(max(1, round(len(each) * 0.01)) for each in poses.sequences if each.subject == "S1")
    assert together == alone + frames
    assert "no training poses" in refused(capsys, train(place, "none", *TINY, "-a", "Kick"))


def test_a_cosine_is_not_stretched_on_resume(capsys, place):
    assert main.main(train(place, "cosine", *TINY, "--lr_schedule", "cosine")) == 0
    message = refused(capsys, resume(place, "cosine", "--nepoch", "3"))
    assert "--lr_schedule cosine over 1 epochs" in message


def test_noise_of_another_content_is_another_run(capsys, place, tmp_path):
    from common import keypoint_noise

    path = tmp_path / "noise.json"
    keypoint_noise.write(path, keypoint_noise.KeypointNoise())
    assert main.main(train(place, "noisy", *TINY, "--keypoint_noise", str(path))) == 0
    keypoint_noise.write(path, keypoint_noise.KeypointNoise(lost=0.5))
    assert "the data are not those" in refused(capsys, resume(place, "noisy", "--nepoch", "2"))

"""Files made to do harm, given to the command lines: refused soon, in little memory, and nothing run.

The calls of a test are made one after another in a process of its own, whose time and memory are bounded.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "dataset" / "sample"
MODELS = ROOT / "demo" / "lib" / "checkpoint"
SECONDS = 120
"""Of the processor's time, for all calls of a process."""
MEMORY = 1 << 30
"""Most bytes that a process may come to hold: PyTorch alone takes a fifth of a gigabyte."""

CALLS = """
import contextlib, importlib, io, json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
told = []
for module, *argv in json.load(sys.stdin):
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = importlib.import_module(module).main(argv)
    told.append([code, errors.getvalue()])
try:  # What getrusage tells of Linux counts the parent of the process as well.
    lines = open("/proc/self/status").read().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([peak, told]))
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows does not bound processes in this way")


def refusals(calls: list[list[object]]) -> list[str]:
    """The line that each call (a module with a ``main`` and its arguments) is refused in."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(SECONDS)],
        cwd=ROOT,
        input=json.dumps([[*map(str, call)] for call in calls]),
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
    )
    assert done.returncode == 0, done.stderr
    peak, told = json.loads(done.stdout)
    print(f"{len(calls)} calls, at most {peak / 2**20:.0f} MB")
    assert peak < MEMORY
    for call, (code, errors) in zip(calls, told, strict=True):
        assert code == 2, (call, errors)
        assert errors.startswith("error: ") and errors.endswith("\n"), (call, errors)
        assert len(errors) < 5000 and "Traceback" not in errors, (call, errors)
    return [errors for _, errors in told]


class Trap:
    """What would make a file, if its pickle were run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def ran(tmp_path) -> Path:
    """What traps make."""
    return tmp_path / "ran"


def npy(shape: tuple[int, ...], content: bytes, dtype: str = "<f4") -> bytes:
    """An .npy file that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pickled(value: object) -> bytes:
    return npy((), pickle.dumps(np.array(value, dtype=object)), "|O")


# Data sets


def hostile_npz(folder: Path, ran: Path) -> dict[str, dict[str, bytes]]:
    """By kind: the members of an npz file."""
    holder = np.empty((), object)
    holder[()] = {"S1": Trap(ran)}
    return {
        "runs code": {"positions_3d.npy": npy((), pickle.dumps(holder), "|O")},
        "bomb": {"positions_3d.npy": npy((2**28,), bytes(2**28), "|u1")},
        "absurd shape": {"positions_3d.npy": npy((2**40, 32, 3), b"few")},
        "shape that overflows": {"positions_3d.npy": npy((2**62, 8), b"")},
        "path": {"../../positions_3d.npy": npy((1,), bytes(4))},
        "overlong name": {"x" * 60_000 + ".npy": npy((1,), bytes(4))},
        "NaN": {"positions_3d.npy": npy((2, 32, 3), np.full(192, np.nan, "<f4").tobytes())},
        "another layout": {
            "positions_3d.npy": npy((), pickle.dumps(np.array({"S1": 3}, dtype=object)), "|O")
        },
    }


def test_data_sets(tmp_path, ran):
    calls: list[list[object]] = []
    for name, members in hostile_npz(tmp_path, ran).items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data_2d_sample_gt.npz").write_bytes((SAMPLE / "data_2d_sample_gt.npz").read_bytes())
        zipped(folder / "data_3d_sample.npz", **members)
        call = ["main", "--reload", "--previous_dir", "sample", "--dataset", "sample", "--root_path", folder]
        calls.append([*call, "--device", "cpu", "--cache_dir", tmp_path / "cache"])
    refusals(calls)
    assert not ran.exists()


# Weights


def hostile_weights(folder: Path, ran: Path) -> list[Path]:
    sizes = {"pos_embed": (1, 17, 2**20), "Hiremixer.blocks.0.mlp.fc1.weight": (2**20, 2**20)}
    states: dict[str, Any] = {
        "traps": {"fcn.weight": Trap(ran)},
        "stretched": {name: torch.zeros(1).expand(shape) for name, shape in sizes.items()},
        "thin": {
            "pos_embed": torch.zeros(1, 1, 2**20),
            "Hiremixer.blocks.0.mlp.fc1.weight": torch.zeros(1, 1),
        },
        "overlong": {"x" * 10**6: torch.zeros(1)},
        "numbers": [1, 2, 3],
    }
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pth")
        torch.save(state, folder / f"{name}_old.pth", _use_new_zipfile_serialization=False)
    (folder / "pickle.pth").write_bytes(pickle.dumps(Trap(ran)))
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert zeros.compress(b"") == b""
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(1100):
                member.write(bytes(2**20))
        archive.writestr("archive/version", "3\n")
    return sorted(folder.glob("*.pth"))


@pytest.mark.parametrize(
    "how",
    [
        "exported",
        pytest.param("scored", marks=pytest.mark.slow),
        pytest.param("lifted with", marks=pytest.mark.slow),
    ],
)
def test_weights(tmp_path, ran, how):
    points = tmp_path / "points.npz"
    np.savez(points, keypoints=np.ones((1, 17, 2)) * 99, format="h36m17", image_size=(320, 240))
    first: dict[str, list[object]] = {
        "scored": ["main", "--reload", "--dataset", "sample", "--device", "cpu"],
        "exported": ["main", "--export", "torch", "--output", tmp_path / "out.pt2"],
        "lifted with": ["demo.vis", "--keypoints", points, "--no-render", "--save", "npz", "--device", "cpu"],
    }
    last = ["--output", tmp_path] if how == "lifted with" else []
    paths = hostile_weights(tmp_path, ran)
    messages = refusals([[*first[how], "--previous_dir", path, *last] for path in paths])
    for path, message in zip(paths, messages, strict=True):
        assert str(path) in message
    assert not ran.exists() and not (tmp_path / "out.pt2").exists()


# Key points, figures and other JSON

DEEP = "[" * 200_000


def json_calls(folder: Path) -> list[list[object]]:
    entry = {"image_id": 1, "category_id": 1, "keypoints": [100.0] * 51}
    contents = {
        "deep": DEEP,
        "nan": json.dumps([{**entry, "keypoints": [float("nan")] * 51}]),
        "infinite": json.dumps([{**entry, "keypoints": [float("inf")] * 51}]),
        "huge number": json.dumps([entry]).replace("100.0", "9" * 4000, 1),
        "digits": json.dumps([entry]).replace("100.0", "9" * 100_000, 1),
        "far frames": json.dumps([{**entry, "image_id": n * 9} for n in range(150_000)]),
        "path": json.dumps([{**entry, "image_id": "../" * 1000, "keypoints": []}]),
    }
    calls: list[list[object]] = []
    for name, text in contents.items():
        path = folder / f"{name}.json"
        path.write_text(text)
        calls.append(
            ["demo.vis", "--keypoints", path, "--image_size", 640, 480, "--no-render", "--save", "npz"]
        )
        calls.append(["main", "--compare", path, path, "--picture", folder / "plot.png"])
        train = ["main", "--train", "-n", "x", "--dataset", "sample", "--checkpoint_dir", folder / "ckpt"]
        calls.append([*train, "--keypoint_noise", path, "--device", "cpu", "--cache_dir", folder / "cache"])
    return calls


@pytest.mark.slow
def test_json(tmp_path):
    refusals(json_calls(tmp_path))
    assert not (tmp_path / "plot.png").exists() and not list(tmp_path.glob("ckpt/*/*.pth"))


def test_options_and_history_of_a_stranger_beside_weights(tmp_path):
    """Those of a folder that was downloaded: damaged options are not known, a damaged history is told."""
    weights = next((ROOT / "ckpt" / "sample").glob("*.pth"))
    calls: list[list[object]] = []
    for number, text in enumerate([DEEP, "[1]", '{"a": NaN}', '[{"epoch": ' + DEEP]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / weights.name).symlink_to(weights)
        for name in ("options.json", "history.json"):
            (folder / name).write_text(text)
        call = ["main", "--reload", "--previous_dir", folder, "--dataset", "sample", "--device", "cpu"]
        calls.append([*call, "--report", folder / "report"])
        calls.append(["main", "--train", "--resume", "-n", number, "--checkpoint_dir", tmp_path])
    refusals(calls)


# Archives and motion capture

BVH = """HIERARCHY
ROOT Hips
{{
  OFFSET 0 0 {offset}
  CHANNELS 3 Zrotation Xrotation Yrotation
  End Site
  {{
    OFFSET 0 1 0
  }}
}}
MOTION
Frames: {frames}
Frame Time: 0.03
0 0 {value}
"""


def bombs(folder: Path) -> list[Path]:
    """Archives that claim to hold poses."""
    name = "S1/MyPoseFeatures/D3_Positions/Walking.cdf"
    paths = [zipped(folder / "bomb.zip", **{name: bytes(2**28)})]
    paths.append(zipped(folder / "out.zip", **{"../../../out.cdf": b"x", f"/{name}": b"x"}))
    paths.append(zipped(folder / "long.zip", **{"S1/D3_Positions/" + "x" * 60_000 + ".cdf": b"x"}))
    with tarfile.open(folder / "Poses_D3_Positions_S1.tgz", "w:gz") as archive:
        for member, link in (("../../out.cdf", ""), (name, "/etc/passwd"), ("x" * 100_000, "")):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            archive.addfile(info, io.BytesIO())
        info = tarfile.TarInfo(name)
        info.size = 2**28
        archive.addfile(info, io.BytesIO(bytes(2**28)))
    paths.append(folder / "Poses_D3_Positions_S1.tgz")
    return paths


def test_archives(tmp_path):
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    calls = [
        ["dataset.prepare", "h36m", "--source", path, "--output", tmp_path / "made"] for path in bombs(inside)
    ]
    refusals(calls)
    assert not list(tmp_path.rglob("out.cdf")) and not list(tmp_path.glob("made/data_*"))


def test_motion_capture(tmp_path):
    texts = {
        "frames": BVH.format(offset=0, frames=10**15, value=0),
        "nan": BVH.format(offset=0, frames=1, value="nan"),
        "infinite": BVH.format(offset="1e999", frames=1, value=0),
        "name": BVH.format(offset=0, frames=1, value=0).replace("Hips", "../" * 50_000),
        "deep": "HIERARCHY\nROOT a\n{\n" + "JOINT a\n{\n" * 100_000,
    }
    calls: list[list[object]] = []
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "S1_walk.bvh").write_text(text)
        call = ["dataset.prepare", "mocap", "--source", tmp_path / name, "--output", tmp_path / "made"]
        calls.append([*call, "--name", "own"])
    calls.append([*calls[0][:-1], "../own"])
    refusals(calls)
    assert not (tmp_path / "own").exists() and not (tmp_path / "made" / "own").exists()


# Pictures, videos and ONNX


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")


def png(width: int, height: int, content: bytes) -> bytes:
    """A PNG whose header tells a size and whose rows are others."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = chunk(b"IDAT", zlib.compress(content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.skipif(not list(MODELS.glob("*.tflite")), reason="run `python -m demo.fetch blazepose` first")
def test_pictures_and_videos(tmp_path):
    from demo.lib.video_writer import VideoWriter

    with VideoWriter(tmp_path / "whole.mp4", 25.0) as writer:
        for number in range(20):
            writer.write(np.full((240, 320, 3), number * 10, np.uint8))
    film = (tmp_path / "whole.mp4").read_bytes()
    contents = {
        "few rows.png": png(4000, 3000, bytes(1000)),
        "huge.png": png(30_000, 30_000, bytes(1000)),
        "negative.png": png(2**32 - 1, 2**32 - 1, bytes(1000)),
        "nothing.png": png(0, 0, b""),
        "words.jpg": b"GIF89a" + b"\xff" * 1000,
        "cut.mp4": film[: len(film) // 2],
        "start.mp4": film[:40],
        "text.mp4": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
    }
    calls: list[list[object]] = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        calls.append(["demo.vis", tmp_path / name, "--output", tmp_path / "out", "--device", "cpu"])
    refusals([*calls, ["demo.vis", "x" * 1000 + ".png", "--output", tmp_path / "out"]])


def test_onnx_files(tmp_path):
    pytest.importorskip("onnxruntime")
    points = tmp_path / "points.npz"
    np.savez(points, keypoints=np.ones((1, 17, 2)) * 99, format="h36m17", image_size=(320, 240))
    contents = {
        "text": b"text",
        "field": b"\x0a" + b"\xff" * 9 + b"\x01",
        "zeros": bytes(10**6),
        "empty": b"",
    }
    calls: list[list[object]] = []
    for name, content in contents.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        call = ["demo.vis", "--keypoints", points, "--no-render", "--save", "npz", "--output", tmp_path]
        calls.append([*call, "--previous_dir", tmp_path / f"{name}.onnx"])
    refusals(calls)

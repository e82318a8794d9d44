"""HTNet's speed beside the machine's own: ``python -m benchmarks.speed [--root_path DIR] [--json FILE]``.

Every figure of work is a ratio: its floating point operations a second, by those of a 2048 x 2048 product in
float32 that ``torch.mm`` computes just before it in the same process. So the figures of a slow machine, or of
a busy one, can be held beside those of another. HTNet costs 0.0758 GFLOP a pose; training three times that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.files import write_json

POSE = 0.0758e9
"""Floating point operations of one pose, counted in the published layout whatever is really computed."""
SIDE = 2048
BATCH = 512
PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = 3_100_000


def seconds(work: Callable[[], Any]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_rate() -> float:
    """Floating point operations a second of the reference product, the best of three."""
    import torch

    left, right = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)
    return 2 * SIDE**3 / min(seconds(lambda: left @ right) for _ in range(3))


def ratio(work: Callable[[], Any], operations: float, repeats: int) -> dict[str, float]:
    """Median, lowest and highest ratio of some work's rate to the product's, side by side each time."""
    work()
    found = []
    for _ in range(repeats):
        rate = product_rate()
        found.append(operations / seconds(work) / rate)
    return {"ratio": statistics.median(found), "low": min(found), "high": max(found)}


def inference(amp: str, repeats: int) -> dict[str, float]:
    """Lifting a batch, without its mirror image, of a network as scoring uses it."""
    import torch

    from common.device import LOW_PRECISIONS, in_precision
    from model import HTNet
    from model.folding import folded

    network = in_precision(folded(HTNet(), LOW_PRECISIONS.get(amp)), amp, torch.device("cpu"))
    keypoints = torch.rand(BATCH, 1, 17, 2)
    with torch.inference_mode():
        return ratio(lambda: network(keypoints), POSE * BATCH, repeats)


def training(amp: str, repeats: int) -> dict[str, float]:
    """A whole step: forwards, backwards and the optimizer."""
    import torch

    from common import losses
    from common.batches import Batch
    from common.step import Part, Schedule, Step, called
    from model import HTNet

    device, network = torch.device("cpu"), HTNet()
    lift = called(network, device, amp=amp)
    step = Step({"model": Part(network, Schedule(), lift)}, losses.lifting(lift), device=device, amp=amp)
    batch = Batch(*(torch.rand(BATCH, *shape) for shape in ((1, 17, 2), (1, 17, 3), (1,), (4,))))
    return ratio(lambda: step(batch), 3 * POSE * BATCH, repeats)


def latency(repeats: int) -> dict[str, float]:
    """Milliseconds from the key points of one pose to its joints, of a network as the demo uses it."""
    import torch

    from model import HTNet
    from model.folding import folded

    network, keypoints = folded(HTNet()), torch.rand(1, 1, 17, 2)
    with torch.inference_mode():
        return _milliseconds(lambda: network(keypoints), repeats)


def latency_onnx(repeats: int) -> dict[str, float]:
    """The same of an exported network, in ONNX Runtime."""
    import numpy as np
    import onnxruntime

    from common.export import write_lifter
    from model import HTNet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lifter.onnx"
        write_lifter("onnx", HTNet(), path, {}, flip=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {"keypoints": np.random.rand(1, 17, 2).astype(np.float32)}
        return _milliseconds(lambda: session.run(None, inputs), repeats)


def _milliseconds(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    for _ in range(20):
        work()
    times = sorted(seconds(work) * 1000 for _ in range(40 * repeats))
    return {"ms": statistics.median(times), "low": times[0], "p90": times[-len(times) // 10]}


def overhead() -> dict[str, float]:
    """Share that an epoch takes beyond its steps: gathering, logging, checkpoints; scoring is left out."""
    import torch

    from common import cache, losses
    from common.batches import Batches
    from common.h36m import DATASETS
    from common.step import Part, Schedule, Step
    from common.trainer import Trainer
    from model import HTNet

    inside: list[float] = []

    class Timed(Step):
        def __call__(self, *args: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            loss = super().__call__(*args, **keywords)
            inside.append(time.perf_counter() - start)
            return loss

    sample = DATASETS["sample"]
    with tempfile.TemporaryDirectory() as folder:
        poses = cache.load(sample, Path(sample.root), "gt", Path(folder)).subjects(sample.train[:2])
        network = HTNet()
        batches = Batches(poses, batch_size=BATCH, mirrored=True, seed=1, device=torch.device("cpu"))
        trainer = Trainer(
            {"model": Part(network, Schedule())},
            batches,
            losses.lifting(network),
            lambda: {"P1": 0.0, "P2": 0.0},
            folder=Path(folder) / "run",
        )
        (Path(folder) / "run").mkdir()
        trainer.step.__class__ = Timed
        whole = seconds(lambda: trainer.fit(1))
    return {"share": whole / sum(inside) - 1, "steps": len(inside)}


def evaluation(root: str, amp: str) -> dict[str, float]:
    """The command line from its start to its table: all poses of the test subjects, and mirrored."""
    command = ["main.py", "--reload", "--previous_dir", "sample", "-k", "gt", "--amp", amp]
    with tempfile.TemporaryDirectory() as cache:
        command += ["--root_path", root, "--cache_dir", cache]
        _run(*command, "--subset", "0.001")  # converts the files
        record = Path(cache) / "metrics.json"
        rates = [product_rate()]
        took = seconds(lambda: _run(*command, "--metrics_json", str(record)))
        rates.append(product_rate())
        poses = len(json.loads(record.read_text())["poses"]["P1"])
    return {"ratio": 2 * POSE * poses / took / statistics.mean(rates), "seconds": took, "poses": poses}


def start(samples: int) -> dict[str, float]:
    """From the start of a training on many samples to its first step, when its files are known already."""
    code = (
        "import sys, time, resource; began = time.perf_counter(); import main, common.step\n"
        "step = common.step.Step.__call__\n"
        "def first(*args, **keywords):\n"
        "    took = time.perf_counter() - began\n"
        "    step(*args, **keywords)\n"
        "    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "    print(took, memory, flush=True)\n"
        "    import os; os._exit(0)\n"
        "common.step.Step.__call__ = first\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        _tile(Path(folder), samples // 2)
        command = ["-c", code, "--train", "-n", "run", "--dataset", "tiled", "--root_path", folder]
        command += ["--checkpoint_dir", str(Path(folder) / "ckpt")]
        _run(*command)
        took, memory = map(float, _run(*command).splitlines()[-1].split())
    return {"seconds": took, "megabytes": memory, "samples": samples}


def help_text() -> dict[str, float]:
    """Seconds of ``main.py --help``."""
    return {"seconds": min(seconds(lambda: _run("main.py", "--help")) for _ in range(3))}


def _tile(folder: Path, poses: int) -> None:
    """A prepared data set of so many training poses, the sample's over and over."""
    import numpy as np

    from common import cache
    from common.h36m import DATASETS
    from common.pose_files import write_poses

    sample = DATASETS["sample"]
    source = cache.load(sample, Path(sample.root), "gt", folder / "cache")

    def views() -> Any:
        parts = source.subjects(sample.train), source.subjects(sample.test)
        # Each take is as many times longer, as Human3.6M's are long.
        for part, times in zip(parts, (-(-poses // len(parts[0])), 1), strict=True):
            for each in part.sequences:
                own = slice(each.start, each.stop)
                longer = (np.tile(array[own], (times, 1, 1)) for array in (part.keypoints, part.positions))
                yield replace(each, stop=each.start + times * len(each)), *longer

    facts = {"name": "tiled", "train": list(sample.train), "test": list(sample.test)}
    write_poses(folder / "tiled", views(), {**facts, "keypoints": "gt", "origin": "the sample, tiled"})


def _run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Measures, prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="HTNet's speed beside the machine's own matrix product.",
    )
    parser.add_argument("--root_path", metavar="DIR", help="folder of Human3.6M's files: score them all")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--repeats", type=int, default=9, help="rounds of each figure (default: %(default)s)")
    args = parser.parse_args()
    rows: list[tuple[str, float | None, Callable[[], dict[str, float]]]] = [
        ("one pose, PyTorch: ms", 1.5, lambda: latency(args.repeats)),
        ("one pose, ONNX Runtime: ms", 1.5, lambda: latency_onnx(args.repeats)),
        ("inference, batch 512, float32: ratio", 0.80, lambda: inference("off", args.repeats)),
        ("inference, batch 512, bfloat16: ratio", 1.6, lambda: inference("bf16", args.repeats)),
        ("training step, batch 512, float32: ratio", 0.60, lambda: training("off", args.repeats)),
        ("training step, batch 512, bfloat16: ratio", 1.1, lambda: training("bf16", args.repeats)),
        ("epoch beyond its steps: share", 0.03, overhead),
        ("main.py --help: s", 0.3, help_text),
        (f"{SAMPLES:,} samples, start to first step: s", 3.0, lambda: start(SAMPLES)),
    ]
    if args.root_path:
        root = str(Path(args.root_path).resolve())
        rows += [
            ("scoring with mirror images, float32: ratio", 0.75, lambda: evaluation(root, "off")),
            ("scoring with mirror images, bfloat16: ratio", 1.5, lambda: evaluation(root, "bf16")),
        ]
    found = {}
    print(f"{'':46s} {'measured':>9s} {'aim':>6s}   more")
    for name, aim, measure in rows:
        figures = measure()
        found[name] = {"aim": aim, **figures}
        first, *more = figures.items()
        rest = ", ".join(f"{key} {value:.4g}" for key, value in more)
        print(f"{name:46s} {first[1]:9.3g} {aim:6.3g}   {rest}", flush=True)
    if args.json:
        write_json(args.json, {"machine": _machine(), "figures": found})


def _machine() -> dict[str, Any]:
    import platform

    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "product, GFLOP/s": product_rate() / 1e9,
    }


if __name__ == "__main__":
    main()

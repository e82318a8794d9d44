"""Speed as ratios in one run: ``python -m benchmarks.speed``; benchmarks/README.md has the results.

The unit is the machine's best float32 product, 2048 x 2048 x 2048: the faster of ``a @ b`` and oneDNN's
linear. The published structure is HTNet in plain PyTorch modules, without ``model.accelerate``, measured in
the same run.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.checkpoint import save
from common.export import export, load_onnx
from common.files import write_json
from model import HTNet
from model.accelerate import accelerate, fuse

RESULT = Path(__file__).with_name("speed.json")
SIDE, BATCH, REPEATS = 2048, 512, 7


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median time of a call, after one that is not counted."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def training_step(network: nn.Module, amp: bool = False) -> Callable[[], None]:
    """A step of Adam on one batch."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=5e-4, amsgrad=True, fused=True)
    x, y = torch.randn(BATCH, 1, 17, 2), torch.randn(BATCH, 1, 17, 3)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            pose = network(x)
        loss = (pose.float() - y).norm(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(network: nn.Module, batch: int, amp: bool = False) -> Callable[[], None]:
    """A forward pass."""
    x = torch.randn(batch, 1, 17, 2)

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            network(x)

    return run


def one_pose_onnx(network: HTNet) -> Callable[[], Any]:
    """A pose with its mirror image through an exported file."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "model.pth", network.state_dict())
        lift = load_onnx(export("onnx", Path(folder) / "model.pth"))
    x = torch.randn(1, 17, 2).numpy()
    return lambda: lift(x)


def measure() -> dict[str, Any]:
    """All ratios of this machine."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    products = {"mkl": lambda: a @ b}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        products["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "none")
    rates = {name: 2 * SIDE**3 / seconds(product) / 1e9 for name, product in products.items()}
    rates["best"] = max(rates.values())
    plain = HTNet().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        plain(torch.zeros(1, 1, 17, 2))
    count = float(counter.get_total_flops())
    fast, low = fuse(plain), fuse(plain, torch.bfloat16)
    step, step_low = (accelerate(copy.deepcopy(plain)) for _ in range(2))
    work = {
        "inference, published structure": (inference(plain, BATCH), BATCH),
        "inference, float32": (inference(fast, BATCH), BATCH),
        "inference, bfloat16": (inference(low, BATCH, amp=True), BATCH),
        "training step, published structure": (training_step(copy.deepcopy(plain)), 3 * BATCH),
        "training step, float32": (training_step(step), 3 * BATCH),
        "training step, bfloat16": (training_step(step_low, amp=True), 3 * BATCH),
        "one pose, published structure": (inference(plain, 1), 1),
        "one pose, PyTorch": (inference(fast, 1), 1),
        "one pose and its mirror image, ONNX Runtime": (one_pose_onnx(plain), 2),
    }
    rows = {}
    for name, (call, poses) in work.items():
        taken = seconds(call)
        ratio = poses * count / taken / 1e9 / rates["best"]
        rows[name] = {"milliseconds": round(taken * 1e3, 3), "of the best product": round(ratio, 3)}
    help_s = seconds(lambda: subprocess.run([sys.executable, "main.py", "--help"], capture_output=True), 3)
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "best product, GFLOP/s": {name: round(rate, 1) for name, rate in rates.items()},
        "operations of a pose": count,
        "work": rows,
        "main.py --help, seconds": round(help_s, 3),
    }


def main() -> None:
    """Measures, prints and, with ``--save``, keeps the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    found = measure()
    print(json.dumps(found, indent=1))
    if args.save:
        write_json(RESULT, found)


if __name__ == "__main__":
    main()

"""Whether another machine computes the same: ``python -m benchmarks.numbers --write FILE | --compare A B``.

What follows from a seed alone must be equal; predictions and losses may differ by rounding, within BOUNDS.
Weights are not compared: Adam makes a step of full size of any gradient, of rounding around 0 too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import write_json

if TYPE_CHECKING:
    from common.batches import Batches
    from common.sequences import PoseSet

PROJECT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ("sample", "open")
SMALL = {"layers": 1, "channel": 24, "d_hid": 32}
FIRST, LAST = 5, 28
"""Steps at the beginning of a training whose losses are compared one by one, and at its end, their mean."""
PRECISIONS = {"off": "", "bf16": ", bf16"}

BOUNDS = {
    "poses": (0.01, "mm"),
    "poses, bf16": (10.0, "mm"),
    "P1 and P2": (0.002, "mm"),
    "P1 and P2, bf16": (0.3, "mm"),
    "made-up key points": (1e-5, "half widths"),
    "first losses": (1e-5, "relative"),
    "first losses, bf16": (1e-3, "relative"),
    "last losses": (1e-4, "relative"),
    "P1 and P2 after": (1e-4, "relative"),
}
"""The largest difference that rounding explains, and its unit: see the table in benchmarks/README.md."""


def sample() -> tuple[PoseSet, PoseSet]:
    """A tenth of the bundled sample's training poses, and 20 of its test poses."""
    from common import cache
    from common.h36m import DATASETS
    from common.sequences import thinned

    source = DATASETS["sample"]
    with tempfile.TemporaryDirectory() as folder:
        poses = cache.load(source, PROJECT / source.root, "gt", Path(folder))
        few = thinned(poses.subjects(["S9"]), downsample=400)
        return thinned(poses.subjects(source.train), subset=0.1), few


def lifted(network: Any, poses: PoseSet, amp: str = "off") -> tuple[list[float], list[float]]:
    """Predictions in mm, flat, and their P1 and P2."""
    import torch

    from common.evaluate import evaluate

    (found,) = evaluate(network, poses, device=torch.device("cpu"), amp=amp)
    return found.predicted.ravel().tolist(), [found.average["P1"], found.average["P2"]]


def trained(batches: Batches, steps: int, sizes: dict[str, Any], amp: str = "off") -> tuple[list[float], Any]:
    """Losses of the steps of a training from seed 1, as the command line takes them, and the network."""
    import torch

    from common import losses
    from common.batches import DROPOUT, derived_seed
    from common.step import Part, Schedule, Step, called
    from model import HTNet

    torch.manual_seed(1)
    network, device = HTNet(**sizes).train(), batches.device
    lift, found = called(network, device, amp=amp), []
    step = Step({"model": Part(network, Schedule(), lift)}, losses.lifting(lift), device=device, amp=amp)
    for epoch, number in (divmod(done, len(batches)) for done in range(steps)):
        torch.manual_seed(derived_seed(DROPOUT, 1, epoch + 1, number, 0))
        step.set_rates(epoch + 1)
        found.append(float(step(batches.whole(epoch + 1, number))))
    return found, network


def record() -> dict[str, Any]:
    """What this machine computes: digests of what must be equal, and numbers that may differ by rounding."""
    import torch

    from common import augmentation, checkpoint, keypoint_noise
    from common.batches import Batches
    from common.pose_augmentation import PoseAugmentation
    from model import HTNet

    (train, test), cpu = sample(), torch.device("cpu")
    cameras, noise = augmentation.virtual_cameras("default"), keypoint_noise.named("default")
    how = augmentation.augmentation(
        train, cameras=cameras, figures=PoseAugmentation(), noise=noise, device=cpu
    )
    plain, made_up, little = (
        Batches(train, batch_size=size, mirrored=True, seed=1, device=cpu, augment=augment)
        for size, augment in ((64, None), (64, how), (16, None))
    )
    chance = torch.Generator().manual_seed(1)
    drawn = [torch.rand(9999, generator=chance), torch.empty(9999).bernoulli_(0.9, generator=chance)]
    drawn.append(torch.empty(9999, dtype=torch.int64).random_(-(2**63), None, generator=chance))
    named = {"order of the samples": [plain.order(1), plain.order(2)], "random numbers": drawn}
    equal = {
        name: hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
        for name, tensors in named.items()
    }
    close: dict[str, dict[str, list[float]]] = {kind: {} for kind in BOUNDS}
    close["made-up key points"]["8 samples"] = made_up.whole(1, 0).keypoints[:8].ravel().tolist()
    for amp, also in PRECISIONS.items():
        for name in CHECKPOINTS:
            network = HTNet()
            checkpoint.load_weights(network, checkpoint.find_weights(name, PROJECT / "ckpt"))
            close["poses" + also][name], close["P1 and P2" + also][name] = lifted(network, test, amp)
        close["first losses" + also]["published network"], _ = trained(little, FIRST, {}, amp)
    for name, batches in {"small network": plain, "small network, made-up samples": made_up}.items():
        losses, network = trained(batches, 2 * len(batches), SMALL)
        close["first losses"][name], close["last losses"][name] = losses[:FIRST], [sum(losses[-LAST:]) / LAST]
        _, close["P1 and P2 after"][name] = lifted(network, test)
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "machine": f"{platform.machine()}, {capability}, PyTorch {torch.__version__}",
        "equal": equal,
        "close": {k: {n: [float(f"{x:.7g}") for x in xs] for n, xs in v.items()} for k, v in close.items()},
    }


def compare(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """What was compared, the largest difference, its bound and unit; what must be equal has the bound 0."""
    rows = [(name, float(own != other["equal"][name]), 0.0, "equal") for name, own in one["equal"].items()]
    for kind, (bound, unit) in BOUNDS.items():
        for name, own in one["close"][kind].items():
            pairs = zip(own, other["close"][kind][name], strict=True)
            apart = [abs(x - y) / (abs(x) if unit == "relative" else 1) for x, y in pairs]
            found = max(apart, key=lambda each: (math.isnan(each), each))  # max alone would pass over NaN
            rows.append((f"{kind}: {name}", found, bound, unit))
    return rows


def main(argv: list[str] | None = None) -> int:
    """The command line; exit code 1 if two records differ by more than rounding."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.numbers", description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", metavar="FILE", help="write what this machine computes")
    group.add_argument("--compare", nargs=2, metavar=("A", "B"), help="put two such files side by side")
    args = parser.parse_args(argv)
    if args.write:
        write_json(args.write, record())
        return 0
    try:
        one, other = (json.loads(Path(name).read_text(encoding="utf-8")) for name in args.compare)
        rows = compare(one, other)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"error: expected two files that --write has made, found {error!r}", file=sys.stderr)
        return 2
    print(one["machine"], other["machine"], sep="\n")
    for name, found, bound, unit in rows:
        inside = "" if found <= bound else "  OUTSIDE"
        print(f"{name:47} {found:8.1g} {f'of {bound:g} {unit}' if bound else unit}{inside}")
    return int(not all(found <= bound for _, found, bound, _ in rows))


if __name__ == "__main__":
    sys.exit(main())

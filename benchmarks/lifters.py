"""Trains HTNet, other lifters and HTNet's ablations on equal terms, and compares them.

    python -m benchmarks.lifters --row mgcn --seed 2 -k gt --root_path DIR --out FOLDER/mgcn-gt-2.json
    python -m benchmarks.lifters --all --root_path DIR --out FOLDER
    python -m benchmarks.lifters --recipes --root_path DIR --out FOLDER
    python -m benchmarks.lifters --table FOLDER

Each row is trained with the published recipe, or HTNet with another one, on the same number of samples: each
of the 15 epochs is a fifteenth of them. The weights after the last step are evaluated, so that the test
subjects choose nothing. --all trains each lifter, and --recipes each recipe, whose record FOLDER lacks; the
same command resumes what was stopped. --table prints FOLDER's records as Markdown and draws lifters.png.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines import JointTransformer, ModulatedGCN, ResidualMlp, ablated
from common import augment, checkpoint, commands, data, run
from common.batches import Batches
from common.console import RunError, UserError, configure_output, run_command
from common.data import DATASETS
from common.device import choose_device
from common.evaluate import Evaluation, evaluate
from common.files import read_json, write_json
from common.metrics import PDOF_GROUPS
from common.noise import keypoint_noise
from common.options import parse
from common.poses import PoseSet, thin
from model.htnet import HTNet
from model.refine import RefineHead

DATASET = DATASETS["h36m"]
SOURCES = ("gt", "cpn_ft_h36m_dbb")  # keypoints
EPOCHS = 15  # of the published recipe
OTHER_FRAMES = 5  # a recipe is also evaluated on every 5th frame with other keypoints
CURVE_FRAMES = 50  # the curve in a record is of every 50th test frame
END = PDOF_GROUPS[-1]
CLAIM = 18.7  # percent by which HTNet's error on the end joints is lower than Modulated GCN's (section 1)
EQUAL = ("samples", "batch_size", "amp", "data", "training_poses", "test_poses")  # in the rows of a table

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of the table of lifters, or of recipes."""

    title: str
    build: Callable[..., nn.Module] = HTNet
    seeds: int = 1
    sources: tuple[str, ...] = SOURCES[:1]  # keypoints to train on
    refine: bool = False  # train and evaluate it with the refine head
    options: str | None = None  # of a recipe: options of main.py beside those of the published one


ROWS = {
    "htnet": Row("HTNet", HTNet, 3, SOURCES),
    "mgcn": Row("Modulated GCN (Zou and Tang 2021)", ModulatedGCN, 3, SOURCES),
    "transformer": Row("joint transformer of HTNet's size", JointTransformer, 1, SOURCES),
    "martinez": Row("residual MLP (Martinez et al. 2017)", ResidualMlp, 1, SOURCES),
    "htnet_refine": Row(
        "HTNet, refined (uses the true root depth and the camera)", HTNet, 1, SOURCES, refine=True
    ),
    "no_ljc": Row("HTNet without LJC (joint level)", partial(ablated, "lgc")),
    "no_ipc": Row("HTNet without IPC (part level)", partial(ablated, "ipc")),
    "no_gbi": Row("HTNet without GBI (body level)", partial(ablated, "gbi")),
    "parallel": Row("HTNet, parallel streams", partial(ablated, "parallel")),
    "crossed_arms": Row("HTNet, arms crossed in IPC", partial(ablated, "crossed_arms")),
    "published": Row("published recipe", options=""),
}
RECIPES = {
    "cosine": "--recipe cosine",
    "bones": "--bone_loss 0.5 --symmetry_loss 0.1",
    "cameras": "--virtual_cameras",
    "open": "--recipe open",
}
ROWS |= {name: Row(f"`{options}`", options=options) for name, options in RECIPES.items()}
LIFTERS = [name for name, row in ROWS.items() if row.options is None]
RECIPE_ROWS = [name for name, row in ROWS.items() if row.options is not None]


class BudgetBatches(Batches):
    """Epochs of ``samples`` samples, whatever the data's size: all once, in a new order, then all again."""

    def __init__(self, poses: PoseSet, *, samples: int, **keywords: Any) -> None:
        super().__init__(poses, **keywords)
        self.round, self.samples = self.samples, samples

    def order(self, epoch: int) -> Tensor:
        """(samples,) the order of an epoch: see ``Batches.order``."""
        first = (epoch - 1) * self.samples
        rounds = range(first // self.round, (first + self.samples - 1) // self.round + 1)
        orders = [np.random.default_rng([self.seed, number]).permutation(self.round) for number in rounds]
        start = first - rounds[0] * self.round
        return torch.from_numpy(np.concatenate(orders)[start : start + self.samples])


def train_row(name: str, keypoints: str, seed: int, out: Path, args: argparse.Namespace) -> None:
    """Trains and evaluates a row and writes its record ``out``; resumes what was stopped.

    The state of the run is in a folder beside the record until then.
    """
    row, folder, device = ROWS[name], out.with_suffix(".run"), choose_device(args.device)
    load = partial(data.load, cache_dir=args.cache_dir)
    poses, others = load(DATASET, args.root_path, keypoints), {}
    if row.options is not None:
        for other in SOURCES[1:]:
            others[f"{other} keypoints"] = thin(load(DATASET, args.root_path, other), downsample=OTHER_FRAMES)
        others["the bundled sample"] = load(DATASETS["sample"])
    train_set, test_set = poses.subjects(DATASET.train), poses.subjects(DATASET.test)
    words = f"--train --select last --nepoch {EPOCHS} --checkpoint_minutes 2 {row.options or ''}"
    words += f" --seed {seed} --batch_size {args.batch_size} --amp {args.amp}"
    options = parse([*words.split(), "-n", folder.name, "--checkpoint_dir", str(folder.parent)])
    torch.manual_seed(seed)
    rates = {"dropout": options.dropout, "drop_path": options.drop_path} if row.options is not None else {}
    networks = {"model": row.build(**rates).to(device)}
    if row.refine:
        networks["refine"] = RefineHead().to(device)
    cameras, noise = options.virtual_cameras, options.keypoint_noise
    batches = BudgetBatches(
        train_set,
        samples=-(-args.samples // (EPOCHS * args.batch_size)) * args.batch_size,
        batch_size=args.batch_size,
        mirrored=True,
        seed=seed,
        device=device,
        augment=augment.augmentation(
            train_set,
            cameras=augment.virtual_cameras(cameras) if cameras else None,
            poses=options.augment_poses,
            noise=keypoint_noise(noise) if noise else None,
            device=device,
        ),
    )
    settings: dict[str, Any] = {"row": name, "seed": seed, "keypoints": keypoints}
    settings |= {"samples": batches.samples * EPOCHS, "batch_size": args.batch_size, "amp": args.amp}
    command = " ".join(f"--{key} {value}" for key, value in settings.items())
    settings["command"] = f"python -m benchmarks.lifters {command} --root_path DIR --out {out.name}"
    settings["data"] = data.fingerprint(DATASET, args.root_path, keypoints)
    resume = (folder / checkpoint.LAST).is_file()
    if resume and (checkpoint.read_options(folder) or {}).get("options") != settings:
        raise UserError(f"{folder}: expected a run of {command}; remove it or use another --out")
    with run.run_lock(folder), run.open_run(folder, settings, settings["data"], resume):
        curve_set = thin(test_set, downsample=CURVE_FRAMES)
        trainer = commands.build_trainer(options, networks, batches, curve_set)
        if resume:
            trainer.restore()
        began = time.monotonic()
        trainer.fit(EPOCHS)
        seconds = time.monotonic() - began
        found = evaluate(networks["model"], test_set, device=device, head=networks.get("refine"))
        tests = {
            title: evaluate(networks["model"], other.subjects(DATASET.test), device=device)[0]
            for title, other in others.items()
        }
    record = settings | {
        "steps": len(batches) * EPOCHS,
        "parameters": sum(each.numel() for part in networks.values() for each in part.parameters()),
        "training_poses": len(train_set),
        "test_poses": len(test_set),
        "elsewhere": {title: _means(test) for title, test in tests.items()},
        "seconds": seconds,
        "seconds_lack_what_a_stop_cost": resume,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "history": trainer.progress.history,
    }
    record |= _means(found[-1]) | ({"before_refining": _means(found[0])} if row.refine else {})
    write_json(out, record)
    shutil.rmtree(folder)


def _means(found: Evaluation) -> dict[str, Any]:
    average = found.summary["average"]["action_wise"]
    parts = {part: found.summary[part] for part in ("per_pdof", "per_joint")}
    return {"P1": average["P1"], "P2": average["P2"], **parts}


Record = dict[str, Any]


def read_records(folder: Path) -> list[Record]:
    """The records of a folder; a UserError if there are none, or they are not trained on equal terms."""
    records: dict[str, list[Record]] = {}
    for path in sorted(folder.glob("*.json")):
        record = read_json(path)
        if not isinstance(record, dict) or record.get("row") not in ROWS:
            raise UserError(f"{path}: expected a record of benchmarks.lifters; move it to another folder")
        own = records.setdefault(record["keypoints"], [])
        if mixed := [name for name in EQUAL if own and record[name] != own[0][name]]:
            raise UserError(f"{path}: expected the {', '.join(mixed)} of the other records; move it away")
        if any((each["row"], each["seed"]) == (record["row"], record["seed"]) for each in own):
            raise UserError(f"{path}: expected one record per row, keypoints and seed; remove one")
        own.append(record)
    if not records:
        raise UserError(f"{folder}: expected records (*.json), found none; train rows with --all or --row")
    return list(chain(*records.values()))


def table(records: list[Record]) -> str:
    """Markdown: a table of lifters per source of keypoints, the paper's claim, and a table of recipes."""
    parts = []
    for source in SOURCES:
        rows = _rows(records, source)
        lines = [["lifter", "parameters", "seeds", "P1", "P2", *PDOF_GROUPS, "minutes"]]
        for name, own in rows.items():
            errors = [[each[metric] for each in own] for metric in ("P1", "P2")]
            errors += [[each["per_pdof"][group] for each in own] for group in PDOF_GROUPS]
            minutes = f"{statistics.fmean(each['seconds'] for each in own) / 60:.0f}"
            least = "> " if any(each["seconds_lack_what_a_stop_cost"] for each in own) else ""
            cells = [f"{own[0]['parameters']:,}", str(len(own)), *map(_mean, errors), least + minutes]
            lines.append([ROWS[name].title, *cells])
        parts += [_markdown(lines, own[0])] if rows else []
        if {"htnet", "mgcn"} <= rows.keys():
            ends = [[each["per_pdof"][END] for each in rows[name]] for name in ("htnet", "mgcn")]
            more = 100 * (statistics.fmean(ends[0]) / statistics.fmean(ends[1]) - 1)
            pairs = [100 * (ours / theirs - 1) for ours, theirs in product(*ends)]
            parts.append(
                f"End joints (wrists and ankles): HTNet's error is Modulated GCN's {more:+.1f} % "
                f"(two single seeds: {min(pairs):+.1f} to {max(pairs):+.1f} %). The paper says -{CLAIM} %."
            )
    if rows := _rows(records, SOURCES[0], RECIPE_ROWS):
        others = list(next(iter(rows.values()))[0]["elsewhere"])
        lines = [["recipe", "P1 / P2", "end joints", *(f"{name}, P1 / P2" for name in others), "photos"]]
        for name, own in rows.items():
            tests = [own, *([each["elsewhere"][other] for each in own] for other in others)]
            both = [" / ".join(_mean([each[m] for each in test]) for m in ("P1", "P2")) for test in tests]
            photos = [error for each in own for errors in each.get("photos", {}).values() for error in errors]
            end = _mean([each["per_pdof"][END] for each in own])
            seen = f"{statistics.fmean(photos):.0f}" if photos else ""
            lines.append([ROWS[name].title, both[0], end, *both[1:], seen])
        parts.append(f"Recipes, HTNet, {_markdown(lines, own[0])}")
    return "\n\n".join(parts)


def _rows(records: list[Record], source: str, names: list[str] = LIFTERS) -> dict[str, list[Record]]:
    rows = {n: [each for each in records if (each["row"], each["keypoints"]) == (n, source)] for n in names}
    return {name: own for name, own in rows.items() if own}


def _mean(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _markdown(lines: list[list[str]], record: Record) -> str:
    samples = f"{record['samples']:,} samples each, in steps of {record['batch_size']}, --amp {record['amp']}"
    poses = f"{record['training_poses']:,} poses to train on, {record['test_poses']:,} to evaluate"
    rows = [lines[0], ["---"] + ["---:"] * (len(lines[0]) - 1), *lines[1:]]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"`-k {record['keypoints']}`: {samples}; {poses}; errors in mm:\n\n{text}"


def write_plot(path: Path, records: list[Record]) -> None:
    """Draws P1 and the error of the end joints of each lifter, with the lowest and highest seed."""
    from common.plots import Bars, bar_plot, write_png

    rows = [(name, source, own) for source in SOURCES for name, own in _rows(records, source).items()]
    names = [f"{name}, {source.split('_')[0]}" for name, source, _ in rows]
    errors = {"P1": [[each["P1"] for each in own] for *_, own in rows]}
    errors[END] = [[each["per_pdof"][END] for each in own] for *_, own in rows]
    series = []
    for (label, values), colour in zip(errors.items(), ("#009E73", "#E69F00"), strict=True):
        spread = [[min(seeds), max(seeds)] if len(seeds) > 1 else None for seeds in values]
        series.append(Bars(label, list(map(statistics.fmean, values)), colour, intervals=spread))
    write_png(bar_plot("Lifters, with the lowest and highest seed", names, series), path)


def main(argv: list[str] | None = None) -> int:
    """Runs one command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lifters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--row", choices=ROWS, help="train one row")
    what.add_argument("--all", action="store_true", help="train each row whose record is missing")
    what.add_argument("--recipes", action="store_true", help="the same for the recipes")
    what.add_argument("--table", type=Path, metavar="FOLDER", help="compare the records of a folder")
    parser.add_argument("--out", type=Path, help="the record of --row; else the folder of the records")
    parser.add_argument("--root_path", type=Path, default=Path("dataset"), help="folder of the npz files")
    parser.add_argument("--cache_dir", type=Path, help="folder of the cache [beside the data]")
    parser.add_argument("-k", "--keypoints", choices=SOURCES, help="of --row [gt]; else only these")
    parser.add_argument("--seed", type=int, default=1, help="seed of --row [1]")
    parser.add_argument("--samples", type=int, default=512_000, help="samples of a row [512000]")
    parser.add_argument("--batch_size", type=int, default=512, help="samples of a step [512]")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--amp", default="off", choices=("off", "bf16"), help="of the training [off]")
    parser.add_argument("--workers", type=int, default=0, help="CPU threads [PyTorch's choice]")
    args = parser.parse_args(argv)
    configure_output()
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.table:
        records = read_records(args.table)
        print(table(records))
        write_plot(args.table / "lifters.png", records)
        return 0
    if args.workers:
        torch.set_num_threads(args.workers)
    if args.row:
        train_row(args.row, args.keypoints or "gt", args.seed, args.out, args)
        return 0
    code = 0
    names = RECIPE_ROWS if args.recipes else LIFTERS
    for seed, keypoints, name in product((1, 2, 3), SOURCES, names):  # every row, then seed 2
        row, out = ROWS[name], args.out / f"{name}-{keypoints}-{seed}.json"
        wanted = seed <= row.seeds and keypoints in row.sources and args.keypoints in (None, keypoints)
        if wanted and not out.exists():
            log.info("%s: %s", out, row.title)
            try:
                train_row(name, keypoints, seed, out, args)
            except RunError as error:  # a row that diverges does not stop the others
                log.error("error: %s: %s", out.name, error)
                code = error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())

"""What ``main.py`` can do, each a function of the parsed command line: train, evaluate, compare."""

from __future__ import annotations

import datetime
import json
import logging
import shlex
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import CheckpointError, UserError
from common.skeleton import NECK, NUM_JOINTS

if TYPE_CHECKING:
    import torch

    from common.evaluate import Evaluation
    from common.sequences import PoseSet
    from model import HTNet
    from model.refine import RefineHead

PICTURE_ROWS = 4
HOW_CHOSEN = {
    "best": "the epoch with the lowest P1 on the test subjects: the field's habit, it flatters the figures",
    "last": "the last epoch: the test subjects had no say in it",
}
WITHOUT_NECK = tuple(joint for joint in range(NUM_JOINTS) if joint != NECK)

log = logging.getLogger(__name__)


def train(args: Namespace) -> None:
    """Trains a lifter, or with ``--refine`` the second stage on a trained one."""
    from common import cache, losses, run
    from common.batches import Batches
    from common.evaluate import evaluate
    from common.h36m import DATASETS
    from common.trainer import Part, Schedule, Trainer

    folder = Path(args.checkpoint_dir) / args.name
    data = cache.fingerprint(DATASETS[args.dataset], root(args), args.keypoints)
    with run.opened(folder, vars(args), data=data, resume=args.resume):
        lifter, head, device = _networks(args)
        train_set, test_set = _data(args)
        if len(train_set) == 0:
            raise UserError(f"no training poses of --actions {args.actions}; give others")
        log.info("training on %s; scoring each epoch on %s; %s", train_set, test_set, device)
        log.info("kept is %s", _how_chosen(args.select))
        decay = (args.lr_decay, args.lr_decay_large, args.large_decay_epoch)
        parts = {"model": Part(lifter, None if args.refine_freeze else Schedule(args.lr, *decay))}
        loss = losses.lifting(lifter)
        if head is not None:
            parts["refine"] = Part(head, Schedule(args.lr_refine, *decay))
            loss = losses.refining(lifter, head, frozen=args.refine_freeze)
            log.info(
                "P1 and P2 of each epoch are of refined poses: they use the true root depth and the camera"
            )

        def score() -> dict[str, float]:
            found = evaluate(lifter, test_set, device=device, flip=args.test_augmentation, head=head)
            return found[-1].average | ({"base_P1": found[0].average["P1"]} if head is not None else {})

        trainer = Trainer(
            parts,
            Batches(
                train_set,
                batch_size=args.batch_size,
                mirrored=args.data_augmentation,
                seed=args.seed,
                device=device,
            ),
            loss,
            score,
            folder=folder,
            keep="last" if args.select == "last" else "best",
            checkpoint_minutes=args.checkpoint_minutes,
        )
        if args.resume:
            trainer.restore()
        trainer.fit(args.nepoch)
        command = ["python", "main.py", "--reload", "--previous_dir", str(folder)]
        command += ["--refine"] if args.refine else []
        for name in ("layers", "channel", "d_hid", "dataset", "keypoints"):
            command += [f"--{name}", str(vars(args)[name])]
        log.info("score it by: %s", shlex.join(command))


def evaluate(args: Namespace) -> None:
    """Scores a lifter, and with ``--refine`` the refined poses beside it; writes what was asked for."""
    from common import evaluate, files, report, summary
    from common.predictions import save_predictions
    from common.records import REFINED, metrics_record

    lifter, head, device = _networks(args)
    _, test_set = _data(args)
    log.info("testing on %s, %s key points; %s", test_set, args.keypoints, device)
    joints = WITHOUT_NECK if args.joints == 16 else None
    found = evaluate.evaluate(
        lifter, test_set, device=device, flip=args.test_augmentation, head=head, joints=joints
    )
    base, refined = found[0], found[1] if head is not None else None
    facts = _facts(args, device)
    log.info("epoch chosen: %s", facts["epoch chosen"])
    _print(base, refined)
    if args.metrics_json:
        files.write_json(args.metrics_json, metrics_record(base, facts, refined))
    if args.metrics_csv:
        titled = {"lifted": base.summary} | ({REFINED: refined.summary} if refined else {})
        summary.write_csv(args.metrics_csv, titled)
    if args.save_predictions:
        save_predictions(args.save_predictions, base, refined)
    if args.report:
        page = report.write_report(
            args.report, base, facts=facts, refined=refined, history=_history(args), joints=joints
        )
        log.info("wrote %s", page)
    if args.picture:
        from common.draw import prediction_picture

        rows = report.pose_rows(base, report.spread_rows(base, PICTURE_ROWS))
        prediction_picture(args.picture, rows, f"HTNet, {args.previous_dir}, on {args.dataset}")
        log.info("wrote %s", args.picture)


def compare(args: Namespace) -> None:
    """Compares runs by their files of ``--metrics_json``."""
    from common.compare import compare

    print(compare(args.compare, plot=Path(args.picture) if args.picture else None))


def root(args: Namespace) -> Path:
    """The folder of the data files."""
    from common.h36m import DATASETS

    return Path(args.root_path or DATASETS[args.dataset].root)


def _print(base: Evaluation, refined: Evaluation | None) -> None:
    from common import summary
    from common.records import REFINED

    tables = {"": summary.action_table(base.summary)}
    if refined is not None:
        tables = {
            "base": tables[""],
            REFINED: summary.action_table(refined.summary),
        }
    print(summary.side_by_side(tables))
    for title, result in (("", base), (f"{REFINED}: ", refined)):
        if result is not None:
            print(f"\n{title}all metrics\n{summary.average_table(result.summary)}")
            groups = result.summary["per_pdof"].items()
            print("P1 by joints: " + ", ".join(f"{name} {error:.2f} mm" for name, error in groups))


def _data(args: Namespace) -> tuple[PoseSet, PoseSet]:
    """The training set, which may be empty, and the set that is scored."""
    from common import cache
    from common.h36m import DATASETS
    from common.sequences import thinned

    dataset, folder = DATASETS[args.dataset], Path(args.cache_dir) if args.cache_dir else None
    poses = cache.load(dataset, root(args), args.keypoints, folder)
    there = sorted({sequence.action_name for sequence in poses.sequences})
    actions = there if args.actions == "*" else [name.strip() for name in args.actions.split(",")]
    if unknown := set(actions) - set(there):
        named = ", ".join(map(repr, sorted(unknown)))
        raise UserError(f"--actions: there is no {named}; the data have {', '.join(there)}")
    train, test = dataset.train, dataset.test
    if args.train and args.select not in HOW_CHOSEN:
        if args.select not in train:
            expected = ", ".join([*HOW_CHOSEN, *train])
            raise UserError(f"--select {args.select}: expected one of {expected}")
        train, test = tuple(name for name in train if name != args.select), (args.select,)
    poses = thinned(poses, actions=actions, downsample=args.downsample, subset=args.subset)
    train_set, test_set = poses.subjects(train), poses.subjects(test)
    if len(test_set) == 0:
        raise UserError(f"no test poses of --actions {args.actions}; give others")
    return train_set, test_set


def _networks(args: Namespace) -> tuple[HTNet, RefineHead | None, torch.device]:
    """The lifter, with ``--refine`` the head, with their weights if they are reloaded, and the device."""
    import torch

    from common import checkpoint
    from common.device import choose
    from model import HTNet
    from model.refine import RefineHead

    if args.workers:
        torch.set_num_threads(args.workers)
    torch.manual_seed(args.seed)
    device = choose(args.device, args.gpu)
    lifter = HTNet(layers=args.layers, channel=args.channel, d_hid=args.d_hid)
    head = RefineHead() if args.refine else None
    if args.reload and not args.resume:
        path = checkpoint.find_weights(args.previous_dir, Path(args.checkpoint_dir))
        log.info("weights: %s", checkpoint.describe(path))
        checkpoint.load_weights(lifter, path)
        trained = _trained(path).get("keypoints", args.keypoints)
        if trained != args.keypoints:
            log.warning(
                "note: these weights were trained on %s key points, and get %s now", trained, args.keypoints
            )
        if head is not None and (args.previous_refine or not args.train):
            name = args.previous_refine or args.previous_dir
            path = checkpoint.find_weights(name, Path(args.checkpoint_dir), head=True)
            log.info("weights of the refine head: %s", checkpoint.describe(path))
            checkpoint.load_weights(head, path, "refine")
    return lifter.to(device), None if head is None else head.to(device), device


def _trained(path: Path) -> dict:
    """The options that weights were trained with, as far as they are known."""
    from common import checkpoint

    return (checkpoint.read_options(path.parent) or {}).get("options", {})


def _how_chosen(select: str | None) -> str:
    if select is None:
        return "not known: there is no options.json beside the weights"
    held_out = f"the epoch with the lowest P1 on {select}, held out of training: the test subjects had no say"
    return HOW_CHOSEN.get(select, held_out)


def _facts(args: Namespace, device: torch.device) -> dict[str, str]:
    """What a reader must know of an evaluation, by name."""
    from common import checkpoint

    path = checkpoint.find_weights(args.previous_dir, Path(args.checkpoint_dir))
    facts = {
        "weights": checkpoint.describe(path),
        "epoch chosen": _how_chosen(_trained(path).get("select")),
        "data set": f"{args.dataset}, {args.keypoints} key points",
        "actions": "all" if args.actions == "*" else args.actions,
        "frames": f"every {args.downsample}., {args.subset:g} of each take",
        "joints": f"{args.joints}" if args.joints == 17 else "16: all but the neck",
        "mirrored input averaged": "yes" if args.test_augmentation else "no",
        "device": str(device),
        "date": datetime.date.today().isoformat(),
    }
    if args.refine:
        name = args.previous_refine or args.previous_dir
        head = checkpoint.find_weights(name, Path(args.checkpoint_dir), head=True)
        facts["weights of the refine head"] = checkpoint.describe(head)
    return facts


def _history(args: Namespace) -> list[dict] | None:
    """The training curves of the run that the weights come from, if it is known."""
    from common import checkpoint

    path = checkpoint.find_weights(args.previous_dir, Path(args.checkpoint_dir)).parent / "history.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: expected the JSON that training writes, found {error}") from error

"""What ``main.py`` can do, each a function of the parsed command line: train, evaluate, compare, export."""

from __future__ import annotations

import json
import logging
import shlex
import tempfile
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import distributed, loading
from common.errors import CheckpointError, UserError
from common.skeleton import MPI_INF_3DHP_SCORED, NECK, NUM_JOINTS

if TYPE_CHECKING:
    from common.evaluate import Evaluation

PICTURE_ROWS = 4
JOINTS = {16: tuple(joint for joint in range(NUM_JOINTS) if joint != NECK), 14: MPI_INF_3DHP_SCORED}
"""The joints that ``--joints`` means, where they are not all."""

log = logging.getLogger(__name__)


def train(args: Namespace) -> None:
    """Trains a lifter, or with ``--refine`` the second stage on a trained one."""
    from common import run
    from common.augmentation import augmentation
    from common.batches import Batches
    from common.records import REFINED
    from common.training import training

    folder = Path(args.checkpoint_dir) / args.name
    made_up = loading.made_up(args)  # what is wrong there is told before anything is loaded or begun
    lifter, head, device = loading.networks(args)
    with ExitStack() as stack:
        stack.enter_context(distributed.group(device))
        with distributed.first_here_first():
            train_set, test_set = loading.data(args)
        began_with = loading.began_with(args)
        with distributed.first_here_first():
            if distributed.is_main():
                data = loading.fingerprint(args, made_up["noise"])
                stack.enter_context(run.alone(folder))
                stack.enter_context(
                    run.opened(folder, vars(args), data=data, resume=args.resume, began_with=began_with)
                )
        log.info("training on %s; scoring each epoch on %s; %s", train_set, test_set, device)
        if distributed.world() > 1:
            log.info("%d processes share each step", distributed.world())
        log.info("kept is %s", loading.how_chosen(args.select, began_with))
        if head is not None:
            log.info("P1 and P2 of each epoch are of poses %s", REFINED)
        batches = Batches(
            train_set,
            batch_size=args.batch_size,
            mirrored=args.data_augmentation,
            seed=args.seed,
            device=device,
            augment=augmentation(train_set, **made_up, device=device),
        )
        trainer = training(args, lifter, head, batches, test_set, folder)
        if args.resume:
            trainer.restore()
        trainer.fit(args.nepoch)
        log.info("score it by: %s", _score_command(args, folder))


def _score_command(args: Namespace, folder: Path) -> str:
    """The command line that scores a run on the test subjects, with the options that it was trained with."""
    from common.arguments import DATA, build_parser

    parser = build_parser()
    command = ["python", "main.py", "--reload", "--previous_dir", str(folder)]
    command += ["--refine"] if args.refine else []
    for name in ("layers", "channel", "d_hid", *sorted(DATA), "test_augmentation", "amp"):
        value = getattr(args, name)
        if value != parser.get_default(name):
            command += [f"--{name}", str(value)]
    return shlex.join(command)


def evaluate(args: Namespace) -> None:
    """Scores a lifter, and with ``--refine`` the refined poses beside it; writes what was asked for."""
    from common import evaluate, files, report, tables
    from common.predictions import save_predictions
    from common.records import REFINED, metrics_record

    if distributed.is_main():
        _check_outputs(args, ("metrics_json", "metrics_csv", "save_predictions", "picture", "report"))
    lifter, head, device = loading.networks(args)
    joints = JOINTS.get(args.joints)
    with distributed.group(device):
        with distributed.first_here_first():
            _, test_set = loading.data(args)
            log.info("testing on %s, %s key points; %s", test_set, args.keypoints, device)
            history = _history(args) if args.report else None
        found = evaluate.evaluate(
            lifter,
            test_set,
            device=device,
            flip=args.test_augmentation,
            head=head,
            joints=joints,
            amp=args.amp,
        )
    if not found:  # rank 0 has them
        return
    base, refined = found[0], found[1] if head is not None else None
    facts = loading.facts(args, device)
    log.info("epoch chosen: %s", facts["epoch chosen"])
    _print(base, refined)
    if args.metrics_json:
        files.write_json(args.metrics_json, metrics_record(base, facts, refined))
    if args.metrics_csv:
        titled = {"lifted": base.summary} | ({REFINED: refined.summary} if refined else {})
        tables.write_csv(args.metrics_csv, titled)
    if args.save_predictions:
        save_predictions(args.save_predictions, base, refined)
    if args.report:
        page = report.write_report(
            args.report, base, facts=facts, refined=refined, history=history, joints=joints
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

    plot = Path(args.picture or "comparison.png")
    print(compare(args.compare, plot=plot))
    log.info("wrote %s", plot)


def export(args: Namespace) -> None:
    """Writes a lifter as one file that runs without this project, checked against PyTorch."""
    from common import checkpoint
    from common.export import SUFFIXES, facts, write_lifter
    from model import HTNet

    suffix = SUFFIXES[args.export]
    if args.output and Path(args.output).suffix != suffix:
        raise UserError(
            f"--output {args.output}: expected a name that ends in {suffix} for --export {args.export}"
        )
    weights, flip = loading.weights(args), args.test_augmentation
    log.info("weights: %s", checkpoint.describe(weights))
    path = Path(args.output) if args.output else weights.with_suffix(suffix)
    args.output = str(path)
    _check_outputs(args, ("output",))
    sizes: dict[str, Any] = checkpoint.network_sizes(checkpoint.read_weights(weights))
    lifter = HTNet(**sizes)
    checkpoint.load_weights(lifter, weights)
    difference = write_lifter(args.export, lifter, path, facts(sizes, weights, flip=flip), flip=flip)
    log.info("wrote %s, %.1f MB; at most %.0e m from PyTorch", path, path.stat().st_size / 1e6, difference)
    averaged = "" if flip else "not "
    log.info(
        "it takes keypoints (batch, 17, 2), normalised, and gives pose (batch, 17, 3), metres, the mirrored "
        "input %saveraged; docs/formats.md shows how to use it",
        averaged,
    )
    if args.export == "onnx":
        log.info("the demo lifts with it by: python demo/vis.py --previous_dir %s", shlex.quote(str(path)))


def _print(base: Evaluation, refined: Evaluation | None) -> None:
    from common import tables
    from common.records import REFINED

    beside = {"": tables.action_table(base.summary)}
    if refined is not None:
        beside = {
            "base": beside[""],
            REFINED: tables.action_table(refined.summary),
        }
    print(tables.side_by_side(beside))
    for title, result in (("", base), (f"{REFINED}: ", refined)):
        if result is not None:
            print(f"\n{title}all metrics\n{tables.average_table(result.summary)}")
            if "per_group" in result.summary:
                print(f"\n{title}by part of the test set\n{tables.part_table(result.summary)}\n")
            groups = result.summary["per_pdof"].items()
            print(
                "Error by distance to the torso, all 17 joints: "
                + ", ".join(f"{name} {error:.2f} mm" for name, error in groups)
            )


def _check_outputs(args: Namespace, names: tuple[str, ...]) -> None:
    """Refuses what could not be written before anything long starts."""
    for name in names:
        if not getattr(args, name):
            continue
        path = Path(getattr(args, name))
        folder = path if name == "report" else path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"--{name} {path}: cannot be written: {error.strerror}; name another place"
            ) from error
        if name != "report" and path.is_dir():
            raise UserError(f"--{name} {path}: this is a folder; expected the name of a file")


def _history(args: Namespace) -> list[dict] | None:
    """The training curves of the run that the weights come from, if it is known."""
    path = loading.weights(args).parent / "history.json"
    if not path.is_file():
        return None
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
        for record in history:
            for name in ("epoch", "learning_rate", "loss", "P1", "P2"):
                float(record[name])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: expected the records that training writes, found {repr(error)[:200]}; "
            "remove it to go without training curves"
        ) from error
    return history

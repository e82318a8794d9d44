"""From the command line to what a command works on: data, networks, and where they come from."""

from __future__ import annotations

import datetime
import logging
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from common.skeleton import NUM_JOINTS

if TYPE_CHECKING:
    import torch

    from common.sequences import PoseSet
    from model import HTNet
    from model.refine import RefineHead

HOW_CHOSEN = {
    "best": "the epoch with the lowest P1 on the test subjects: the field's habit, it flatters the figures",
    "last": "the last epoch",
}

log = logging.getLogger(__name__)


def root(args: Namespace) -> Path:
    """The folder of the data files."""
    from common.h36m import DATASETS

    return Path(args.root_path or DATASETS[args.dataset].root)


def data(args: Namespace) -> tuple[PoseSet, PoseSet]:
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


def networks(args: Namespace) -> tuple[HTNet, RefineHead | None, torch.device]:
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
        path = weights(args)
        log.info("weights: %s", checkpoint.describe(path))
        checkpoint.load_weights(lifter, path)
        trained = _trained(path)
        if trained and _source(trained) != _source(vars(args)):
            log.warning(
                "note: these weights were trained on %s; now it is %s", *map(_source, (trained, vars(args)))
            )
        if head is not None and (args.previous_refine or not args.train):
            path = weights(args, head=True)
            log.info("weights of the refine head: %s", checkpoint.describe(path))
            checkpoint.load_weights(head, path, "refine")
    return lifter.to(device), None if head is None else head.to(device), device


def weights(args: Namespace, *, head: bool = False) -> Path:
    """The file of weights that the command line names, of the lifter or of the refine head."""
    from common import checkpoint

    name = args.previous_refine or args.previous_dir if head else args.previous_dir
    return checkpoint.find_weights(name, Path(args.checkpoint_dir), head=head)


def _trained(path: Path) -> dict:
    """The options that weights were trained with; empty where the data are not known."""
    from common import checkpoint

    options = (checkpoint.read_options(path.parent) or {}).get("options", {})
    return options if {"dataset", "keypoints"} <= options.keys() else {}


def chosen(path: Path) -> str:
    """How the epoch of a file of weights was chosen, as far as it is known."""
    from common import checkpoint

    record = checkpoint.read_options(path.parent) or {}
    # The state of a run is that of its last step, whatever the run keeps beside it.
    select = "last" if path.name == checkpoint.LAST else record.get("options", {}).get("select")
    if select is None or not record:
        return "not known: options.json beside the weights is missing or does not say"
    return how_chosen(select, record.get("began_with"))


def began_with(args: Namespace) -> str | None:
    """How the weights that a run begins with, or began with, were chosen; None for a start from scratch."""
    from common import checkpoint

    if args.resume:
        return (checkpoint.read_options(Path(args.checkpoint_dir) / args.name) or {}).get("began_with")
    if not args.reload:
        return None
    begun = {chosen(weights(args)): None}
    if args.previous_refine:
        begun[chosen(weights(args, head=True))] = None
    return "; and ".join(begun)


def how_chosen(select: str, began_with: str | None) -> str:
    """How the epoch that a run keeps is chosen, in words that claim no more than is so.

    Args:
        select: The option of that name.
        began_with: How the weights were chosen that the run began with; None for a start from scratch.
    """
    text = HOW_CHOSEN.get(select, f"the epoch with the lowest P1 on {select}, held out of training")
    if began_with is not None:
        return f"{text}; it began with trained weights, of an epoch chosen so: {began_with}"
    return text if select == "best" else f"{text}: the test subjects had no say in it"


def facts(args: Namespace, device: torch.device) -> dict[str, str]:
    """What a reader must know of an evaluation, by name."""
    from common import checkpoint

    path = weights(args)
    trained = _trained(path)
    facts = {"weights": checkpoint.describe(path), "epoch chosen": chosen(path)}
    if args.refine:
        head = weights(args, head=True)
        facts["weights of the refine head"] = checkpoint.describe(head)
        facts["epoch of the refine head chosen"] = chosen(head)
    return facts | {
        "trained on": _source(trained) if trained else "not known",
        "data set": _source(vars(args)),
        "actions": "all" if args.actions == "*" else args.actions,
        "frames": f"one of {args.downsample}, a stretch of {args.subset:g} of each take",
        "joints": f"{args.joints}" if args.joints == NUM_JOINTS else "16: all but the neck",
        "mirrored input averaged": "yes" if args.test_augmentation else "no",
        "device": str(device),
        "date": datetime.date.today().isoformat(),
    }


def _source(options: dict) -> str:
    return f"{options.get('dataset')}, {options.get('keypoints')} key points"

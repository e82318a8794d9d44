"""From the command line to what a command works on: data, networks, and where they come from."""

from __future__ import annotations

import datetime
import hashlib
import logging
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    import torch

    from common.h36m import Dataset
    from common.keypoint_noise import KeypointNoise
    from common.sequences import PoseSet
    from model import HTNet
    from model.refine import RefineHead

HOW_CHOSEN = {
    "best": "the epoch with the lowest P1 on the test subjects: the field's habit, it flatters the figures",
    "last": "the last epoch",
}

JOINTS = {
    17: "17",
    16: "16: all but the neck",
    14: "14, those of MPI-INF-3DHP's own evaluation: all but the pelvis, the spine and the neck",
}
"""What ``--joints`` counts."""

log = logging.getLogger(__name__)


def dataset(args: Namespace) -> Dataset:
    """The data set of ``--dataset``.

    Raises:
        DataError: There is none of that name.
    """
    from common.prepared import dataset_named

    return dataset_named(args.dataset, Path(args.root_path) if args.root_path else None)


def root(args: Namespace) -> Path:
    """The folder of the data files."""
    return Path(args.root_path or dataset(args).root)


def data(args: Namespace) -> tuple[PoseSet, PoseSet]:
    """The training set, which may be empty, and the set that is scored."""
    from common import cache
    from common.sequences import joined, thinned

    source, folder = dataset(args), Path(args.cache_dir) if args.cache_dir else None
    poses = cache.load(source, root(args), args.keypoints, folder)
    there = sorted({sequence.action_name for sequence in poses.sequences})
    actions = there if args.actions == "*" else [name.strip() for name in args.actions.split(",")]
    if unknown := set(actions) - set(there):
        named = ", ".join(map(repr, sorted(unknown)))
        raise UserError(f"--actions: there is no {named}; the data have {', '.join(there)}")
    train, test = source.train, source.test
    for names, what in ((train, "training") if args.train else (test, "test"), (test, "test")):
        if not names:
            raise UserError(f"--dataset {args.dataset}: it was prepared without {what} subjects")
    if args.train and args.select not in HOW_CHOSEN:
        if args.select not in train:
            expected = ", ".join([*HOW_CHOSEN, *train])
            raise UserError(f"--select {args.select}: expected one of {expected}")
        train, test = tuple(name for name in train if name != args.select), (args.select,)
    poses = thinned(poses, actions=actions, downsample=args.downsample, subset=args.subset)
    train_set, test_set = poses.subjects(train), poses.subjects(test)
    if len(test_set) == 0:
        raise UserError(f"no test poses of --actions {args.actions}; give others")
    if args.train and len(train_set) == 0:
        raise UserError(f"no training poses of --actions {args.actions}; give others")
    if args.train and args.train_with is not None:
        train_set = joined([train_set, *(_added(other, args, folder) for other in _others(args))])
    return train_set, test_set


def _added(other: Dataset, args: Namespace, folder: Path | None) -> PoseSet:
    """The training subjects of a data set of ``--train_with``, all its actions, thinned as the first set."""
    from common import cache
    from common.sequences import thinned

    poses = cache.load(other, Path(other.root), other.keypoints, folder).subjects(other.train)
    return thinned(poses, downsample=args.downsample, subset=args.subset)


def _others(args: Namespace) -> list[Dataset]:
    """The data sets of ``--train_with``."""
    from common.prepared import dataset_named

    if args.train_with is None:
        return []
    names = [name.strip() for name in args.train_with.split(",")]
    if len({args.dataset, *names}) < 1 + len(names):
        raise UserError(
            f"--train_with {args.train_with}: expected others than --dataset {args.dataset}, each once"
        )
    return [dataset_named(name, option="train_with") for name in names]


def fingerprint(args: Namespace, noise: KeypointNoise | None) -> str:
    """Hexadecimal digest of the data that a run learns from, and of the noise that it adds to them."""
    from common import cache

    found = [cache.fingerprint(dataset(args), root(args), args.keypoints)]
    found += [cache.fingerprint(other, Path(other.root), other.keypoints) for other in _others(args)]
    if noise is not None:  # the figures, and not what the file is called
        found.append(hashlib.sha256(repr(noise).encode()).hexdigest())
    return "+".join(found)


def made_up(args: Namespace) -> dict[str, Any]:
    """What the command line asks to do to the samples: arguments of ``common.augmentation.augmentation``.

    Raises:
        UserError: It asks for what there is not.
    """
    from common import augmentation, keypoint_noise
    from common.pose_augmentation import PoseAugmentation

    cameras, noise = args.virtual_cameras, args.keypoint_noise
    return {
        "cameras": None if cameras is None else augmentation.virtual_cameras(cameras),
        "figures": PoseAugmentation() if args.augment_poses else None,
        "noise": None if noise is None else keypoint_noise.named(noise),
    }


def networks(args: Namespace) -> tuple[HTNet, RefineHead | None, torch.device]:
    """The lifter, with ``--refine`` the head, with their weights if they are reloaded, and the device."""
    import torch

    from common import checkpoint
    from common.device import check_precision, choose
    from model import HTNet
    from model.refine import RefineHead

    if args.workers:
        torch.set_num_threads(args.workers)
    torch.manual_seed(args.seed)
    device = choose(args.device, args.gpu)
    check_precision(args.amp, device)
    chance = {"dropout": args.dropout, "drop_path": tuple(args.drop_path)} if args.train else {}
    lifter = HTNet(layers=args.layers, channel=args.channel, d_hid=args.d_hid, **chance)
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
        "trained on": _source(trained) + _made_up(trained) if trained else "not known",
        "data set": _source(vars(args)),
        "actions": "all" if args.actions == "*" else args.actions,
        "frames": f"one of {args.downsample}, a stretch of {args.subset:g} of each take",
        "joints": JOINTS[args.joints],
        "mirrored input averaged": "yes" if args.test_augmentation else "no",
        "device": str(device),
        "precision": {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}[args.amp],
        "date": datetime.date.today().isoformat(),
    }


def _source(options: dict) -> str:
    return f"{options.get('dataset')}, {options.get('keypoints')} key points"


def _made_up(options: dict) -> str:
    """What a run learned from beside its data set's recorded samples, in words that begin with a comma."""
    words = {"train_with": "and", "virtual_cameras": "virtual cameras", "keypoint_noise": "key point noise"}
    said = [f"{word} {options[name]}" for name, word in words.items() if options.get(name)]
    said += ["augmented poses"] if options.get("augment_poses") else []
    weights = {"bone_loss": "bones", "symmetry_loss": "symmetry"}
    said += [f"{word} x {options[name]:g} in the loss" for name, word in weights.items() if options.get(name)]
    return "".join(f", {text}" for text in said)

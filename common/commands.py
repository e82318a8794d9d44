"""The commands of ``main.py``. They read the options; what they call gets values."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import augment, checkpoint, data, distributed, losses, report, run
from common import compare as comparison
from common import evaluate as evaluation
from common import export as exporting
from common.batches import Batches
from common.console import UserError, suggestion
from common.data import Dataset
from common.device import check_precision, choose_device, in_precision
from common.noise import KeypointNoise, keypoint_noise
from common.options import Options, command_line, recorded
from common.poses import PoseSet, concatenate, thin
from common.skeleton import MPI_INF_3DHP_SCORED, NECK, NUM_JOINTS
from common.train import Trainer
from model.accelerate import accelerate
from model.htnet import HTNet
from model.refine import RefineHead

SCORED = {17: None, 16: tuple(j for j in range(NUM_JOINTS) if j != NECK), 14: MPI_INF_3DHP_SCORED}
"""The joints of ``--joints``; None for all."""

log = logging.getLogger(__name__)


def train(options: Options) -> None:
    """Trains a lifter, or with ``--refine`` the refine head of a trained one."""
    dataset, options, device = _begin(options)
    cameras = augment.virtual_cameras(options.virtual_cameras) if options.virtual_cameras else None
    noise = keypoint_noise(options.keypoint_noise) if options.keypoint_noise else None
    networks = _networks(options, device)
    sizes: dict[str, Any] = checkpoint.network_sizes(networks["model"].state_dict())
    options = replace(options, **sizes)
    with distributed.process_group(device), ExitStack() as stack:
        with distributed.local_main_first():
            train_set, test_set = _poses(dataset, options)
            if distributed.is_main():
                used = _fingerprint([dataset, *_others(options)], noise)
                stack.enter_context(run.run_lock(options.folder))
                record = asdict(replace(options, resume=False))
                stack.enter_context(run.open_run(options.folder, record, used, options.resume))
        changes = augment.augmentation(
            train_set,
            cameras=cameras,
            poses=options.augment_poses,
            noise=noise,
            window=options.window == "person",
            device=device,
        )
        batches = Batches(
            train_set,
            batch_size=options.batch_size,
            mirrored=options.data_augmentation,
            seed=options.seed,
            device=device,
            augment=changes,
        )
        trainer = build_trainer(options, networks, batches, test_set)
        log.info("training on %s; scoring on %s; %s", train_set, test_set, device)
        for name, network in networks.items():
            log.info("%s: %s parameters", name, f"{sum(each.numel() for each in network.parameters()):,}")
        log.info("%d epochs of %s samples in %d steps", options.nepoch, f"{batches.samples:,}", len(batches))
        log.info("weights kept: %s", run.selection(asdict(options)))
        if options.resume:
            trainer.restore()
        if trainer.progress.epoch > options.nepoch:
            further = {"step": "--nepoch N", "cosine": "a new run with --reload"}[options.lr_schedule]
            log.info("the run is finished; to go further use %s", further)
        trainer.fit(options.nepoch)
        if distributed.is_main():
            log.info("kept epoch %(epoch)d: P1 %(P1).2f mm", trainer.kept())
            log.info("evaluate it with: %s", _evaluation_command(options))


def evaluate(options: Options) -> None:
    """Evaluates a lifter, and with ``--refine`` the refined poses; writes what is asked for."""
    dataset, options, device = _begin(options)
    _check_outputs(options)
    networks, metadata = _networks(options, device), _metadata(options, device)
    log.info("epoch: %s", metadata["epoch of the weights"])
    history = report.read_history(_weights(options).parent / "history.json") if options.report else []
    with distributed.process_group(device):
        with distributed.local_main_first():
            _, test_set = _poses(dataset, options)
        log.info("evaluating on %s, %s keypoints; %s", test_set, options.keypoints, device)
        found = evaluation.evaluate(
            networks["model"],
            test_set,
            device=device,
            flip=options.test_augmentation,
            head=networks.get("refine"),
            joints=SCORED[options.joints],
            amp=options.amp,
            window=run.training_options(_weights(options)).get("window") == "person",
            fps=dataset.fps,
        )
    if not found:  # rank 0 has them
        return
    base, refined = found[0], found[1] if len(found) == 2 else None
    print(report.action_table(base, refined, options.table))
    title = f"{options.previous_dir} on {options.dataset}"
    for path, write in (
        (options.metrics_json, lambda path: report.write_record(path, base, metadata, refined)),
        (options.metrics_csv, lambda path: report.write_csv(path, base, refined)),
        (options.save_predictions, lambda path: report.save_predictions(path, base, refined)),
        (options.picture, lambda path: report.write_picture(path, base, title)),
        (
            options.report,
            lambda path: report.write_page(path, base, metadata, refined=refined, history=history),
        ),
    ):
        if path:
            write(path)
            log.info("wrote %s", path)


def compare(options: Options) -> None:
    """Compares evaluations by their files of ``--metrics_json``."""
    print(comparison.compare(options.compare, options.picture))
    if options.picture:
        log.info("wrote %s", options.picture)


def export(options: Options) -> None:
    """Writes a lifter as one file that runs without this project."""
    weights = checkpoint.find_weights(options.previous_dir, Path(options.checkpoint_dir))
    exporting.export(options.export, weights, _path(options.output), flip=options.test_augmentation)


def _begin(options: Options) -> tuple[Dataset, Options, torch.device]:
    """The data set and options with what the user chose filled in, and the device.

    Raises:
        UserError: Files are missing, weights or data; all in one message.
    """
    dataset = data.find_dataset(options.dataset, _path(options.root_path))
    root, keypoints = options.root_path or dataset.root, options.keypoints or dataset.keypoints
    checks: list[partial[Any]] = [partial(_weights, options)] if options.loads else []
    missing = []
    for check in (*checks, partial(data.check_files, dataset, Path(root), keypoints)):
        try:
            check()
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("\n".join(missing))
    if options.workers:
        torch.set_num_threads(options.workers)
    device = choose_device(options.device, options.gpu)
    check_precision(options.amp, device)
    return replace(dataset, root=root, keypoints=keypoints), replace(options, keypoints=keypoints), device


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _weights(options: Options, part: str = "model") -> Path:
    """The file of weights that the options name, of the lifter or of the refine head, "refine"."""
    name = options.previous_refine if part == "refine" and options.previous_refine else options.previous_dir
    return checkpoint.find_weights(name, Path(options.checkpoint_dir), part)


def _networks(options: Options, device: torch.device) -> dict[str, nn.Module]:
    """The lifter, "model", and with ``--refine`` the head, "refine", on the device."""
    torch.manual_seed(options.seed)
    arguments: dict[str, Any] = {}
    if options.train:
        arguments |= {"dropout": options.dropout, "drop_path": options.drop_path}
    if options.loads:
        weights = _weights(options)
        log.info("weights: %s", checkpoint.describe(weights))
        networks: dict[str, nn.Module] = {"model": checkpoint.load_htnet(weights, **arguments)}
    else:
        arguments |= {"layers": options.layers, "channel": options.channel, "d_hid": options.d_hid}
        networks = {"model": HTNet(**arguments)}
    if options.refine:
        networks["refine"] = RefineHead()
        if options.loads and (options.previous_refine or not options.train):
            weights = _weights(options, "refine")
            log.info("weights of the refine head: %s", checkpoint.describe(weights))
            checkpoint.load_weights(networks["refine"], weights, "refine")
    return {name: network.to(device) for name, network in networks.items()}


def _poses(dataset: Dataset, options: Options) -> tuple[PoseSet, PoseSet]:
    """The training set, empty for an evaluation, and the set that is scored."""
    train, test = tuple(dataset.train) if options.train else (), tuple(dataset.test)
    if options.train and options.select not in run.SELECTIONS:
        if options.select not in train:
            expected = ", ".join([*run.SELECTIONS, *train])
            raise UserError(f"--select {options.select}: expected one of {expected}")
        train, test = tuple(name for name in train if name != options.select), (options.select,)
    cache = _path(options.cache_dir)
    poses = data.load(dataset, cache_dir=cache, subjects=train + test)
    actions = None if options.actions == "*" else [name.strip() for name in options.actions.split(",")]
    known = sorted({sequence.action_name for sequence in poses.sequences})
    for name in set(actions or ()) - set(known):
        raise UserError(f"--actions: no {name}, expected some of {', '.join(known)}{suggestion(name, known)}")
    less: dict[str, Any] = {"downsample": options.downsample, "subset": options.subset}
    poses = thin(poses, actions=actions, **less)
    train_set, test_set = poses.subjects(train), poses.subjects(test)
    if not len(test_set) or (options.train and not len(train_set)):
        raise UserError(f"--actions {options.actions}: no poses of {', '.join(train + test)}")
    for other in _others(options):
        more = data.load(other, cache_dir=cache, subjects=other.train)
        train_set = concatenate([train_set, thin(more, **less)])
    return train_set, test_set


def _others(options: Options) -> list[Dataset]:
    names = [name.strip() for name in options.train_with.split(",")] if options.train_with else []
    if len({options.dataset, *names}) < 1 + len(names):
        raise UserError(
            f"--train_with {options.train_with}: expected other data sets than --dataset, each once"
        )
    return [data.find_dataset(name) for name in names]


def _fingerprint(datasets: list[Dataset], noise: KeypointNoise | None) -> str:
    """Hexadecimal digests of what a run learns from."""
    found = [data.fingerprint(each, Path(each.root), each.keypoints) for each in datasets]
    return "+".join(found + ([hashlib.sha256(repr(noise).encode()).hexdigest()] if noise else []))


def build_trainer(
    options: Options, networks: dict[str, nn.Module], batches: Batches, test_set: PoseSet
) -> Trainer:
    """The trainer of networks, "model" and maybe "refine", by the options of a training."""
    device, head = batches.device, networks.get("refine")
    if device.type == "cpu" and not options.compile:
        accelerate(networks["model"])
    calls: dict[str, Any] = {}
    for name, network in networks.items():
        call = in_precision(network, options.amp, device)
        calls[name] = torch.compile(call) if options.compile else call
    weights: dict[str, Any] = {
        "freeze": options.refine_freeze,
        "bones": options.bone_loss,
        "symmetry": options.symmetry_loss,
    }
    loss = losses.training_loss(calls["model"], calls.get("refine"), **weights)
    decay = (options.lr_decay, options.lr_decay_large, options.large_decay_epoch)
    schedule = {
        "step": partial(losses.step_decay, decay=decay[0], large_decay=decay[1], large_every=decay[2]),
        "cosine": partial(losses.cosine, epochs=options.nepoch),
    }[options.lr_schedule]
    rates = {"refine": options.lr_refine} if head is not None else {}
    rates = rates if options.refine_freeze else {"model": options.lr} | rates

    def score() -> dict[str, float]:
        flip, amp = options.test_augmentation, options.amp
        found = evaluation.evaluate(
            networks["model"],
            test_set,
            device=device,
            flip=flip,
            head=head,
            amp=amp,
            window=options.window == "person",
        )
        means = [each.summary["average"]["action_wise"] for each in found]  # at rank 0
        return means[-1] | ({"base_P1": means[0]["P1"]} if head is not None else {}) if means else {}

    return Trainer(
        networks,
        {name: partial(schedule, initial=rate) for name, rate in rates.items()},
        loss,
        batches,
        score,
        options.folder,
        keep="last" if options.select == "last" else "best",
        checkpoint_minutes=options.checkpoint_minutes,
        amp=options.amp,
        accumulate=options.accumulate,
    )


def _evaluation_command(options: Options) -> str:
    """The call that evaluates a run on the test subjects as the run itself does."""
    names = ("refine", "dataset", "keypoints", "root_path", "cache_dir", "actions", "downsample", "subset")
    same = {name: getattr(options, name) for name in (*names, "test_augmentation", "amp")}
    return command_line(Options(reload=True, previous_dir=str(options.folder), **same))


def _check_outputs(options: Options) -> None:
    for name in ("metrics_json", "metrics_csv", "save_predictions", "picture", "report"):
        if path := getattr(options, name):
            folder = Path(path) if name == "report" else Path(path).parent
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise UserError(f"--{name} {path}: {folder} is read-only")


def _metadata(options: Options, device: torch.device) -> dict[str, str]:
    """What a reader of an evaluation should know."""
    found = {"command": command_line(options)}
    for part, title in (("model", "weights"), ("refine", "weights of the refine head")):
        if part == "model" or options.refine:
            weights = _weights(options, part)
            record = run.training_options(weights)
            found |= {
                title: checkpoint.describe(weights),
                f"epoch of the {title}": run.selection(record),
                f"training of the {title}": command_line(recorded(record)) if record else "unknown",
            }
    date = datetime.date.today().isoformat()
    return found | {"device": str(device), "precision": options.amp, "date": date}

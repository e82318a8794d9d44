"""Weights on disk: finding them, reading them safely and strictly, writing them whole."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import CheckpointError
from common.files import sha256, write_bytes

OPTIONS = "options.json"
LAST = "last.pth"
HEAD_PREFIX = "refine_"


def find_weights(previous: str, checkpoints: Path, *, head: bool = False) -> Path:
    """The one file of weights that a name stands for.

    Args:
        previous: A file, a folder, or the name of a folder under ``checkpoints``.
        checkpoints: Folder of all runs.
        head: Look for the weights of a refine head, ``refine_*.pth``, and not for those of a lifter.

    Raises:
        CheckpointError: There is no such file, or more than one; with what was looked at and found.
    """
    looked_at = [Path(previous)]
    if not Path(previous).is_absolute():
        looked_at.append(checkpoints / previous)
    for path in looked_at:
        if path.is_file():
            return path
    folders = [path for path in looked_at if path.is_dir()]
    looked = " and ".join(map(str, looked_at))
    if not folders:
        inside = checkpoints.iterdir() if checkpoints.is_dir() else ()
        names = sorted(path.name for path in inside if path.is_dir())
        there = f"; {checkpoints} holds {', '.join(names) or 'nothing'}"
        raise CheckpointError(f"--previous_dir {previous}: no file or folder at {looked}{there}")
    for folder in folders:
        found = sorted(
            path
            for path in folder.glob("*.pth")
            if path.name != LAST and path.name.startswith(HEAD_PREFIX) == head
        )
        if len(found) == 1:
            return found[0]
        if found:
            listed = "\n  ".join(map(str, found))
            raise CheckpointError(
                f"--previous_dir {previous}: {len(found)} files of weights in {folder}; name one:\n  {listed}"
            )
    contents = sorted(path.name for folder in folders for path in folder.iterdir())
    last = [folder / LAST for folder in folders if not head and (folder / LAST).is_file()]
    wanted = f"weights of a refine head ({HEAD_PREFIX}*.pth)" if head else "weights (*.pth)"
    raise CheckpointError(
        f"--previous_dir {previous}: no {wanted} in {' or '.join(map(str, folders))}; "
        f"found {', '.join(contents) or 'nothing'}"
        + (f". For the state of a run in mid-epoch name {last[0]} itself." if last else "")
    )


def read(path: Path) -> Any:
    """Reads a file of tensors and plain values, executing nothing.

    Raises:
        CheckpointError: It is not such a file.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's version; what matters comes as an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file can make the reader fail in any way
        # PyTorch's own message is not shown: it tells how to read the file all the same, code and all.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it asks for {refused[1]}, which could run code"
            if refused
            else "it is damaged, or a file of another kind"
        )
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes): expected tensors and plain values alone, as torch.save "
            f"writes them; {reason}"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuses bombs and damage, which PyTorch itself does not look for."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        # torch.save packs nothing, so what unpacks to more than the file has can only be a bomb.
        if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
            raise ValueError("a zip bomb")
        if changed := archive.testzip():
            raise zipfile.BadZipFile(changed)


def read_weights(path: Path, part: str = "model") -> dict[str, Tensor]:
    """A file's weights by name; a ``module.`` prefix, which ``DataParallel`` leaves, is dropped.

    Args:
        path: A file of weights, or the whole state of a run, such as last.pth.
        part: Which weights to take of the state of a run: see ``common.trainer.Trainer``.

    Raises:
        CheckpointError: The file is not one of weights.
    """
    state = read(path)
    if isinstance(state, dict) and isinstance(state.get(part), dict):
        state = state[part]
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: expected a state dict of tensors by name, found {type(state).__name__}"
        )
    strange = [
        name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if strange:
        shown = f"{strange[0]!r}: {type(state[strange[0]]).__name__}"
        raise CheckpointError(f"{path}: expected a state dict of tensors by name, found {shown}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_weights(model: nn.Module, path: Path, part: str = "model") -> None:
    """Loads published or own weights into a network, strictly: see ``read_weights`` for the arguments.

    Raises:
        CheckpointError: Names or shapes differ from the network's; with both, and the options that would fit.
    """
    state = read_weights(path, part)
    expected = model.state_dict()
    faults = [f"{name}: missing" for name in expected if name not in state]
    faults += [f"{name}: not a parameter of this network" for name in state if name not in expected]
    faults += [
        f"{name}: expected {tuple(expected[name].shape)}, found {tuple(value.shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if faults:
        listed = "\n  ".join(faults[:8] + ([f"and {len(faults) - 8} more"] if len(faults) > 8 else []))
        sizes = " ".join(f"--{name} {value}" for name, value in network_sizes(state).items())
        advice = f"\nThey look like {sizes}: add these options." if sizes else ""
        raise CheckpointError(f"{path} holds weights of another network:\n  {listed}{advice}")
    model.load_state_dict(state)


def network_sizes(state: dict[str, Tensor]) -> dict[str, int]:
    """The sizes of the HTNet that weights belong to, by its arguments' names; empty if they do not tell."""
    blocks = {name.split(".")[2] for name in state if name.startswith("Hiremixer.blocks.")}
    embed, hidden = state.get("pos_embed"), state.get("Hiremixer.blocks.0.mlp.fc1.weight")
    if not blocks or embed is None or hidden is None or embed.ndim != 3 or hidden.ndim != 2:
        return {}
    layers, channel, wide = len(blocks), embed.shape[2], hidden.shape[0]
    # Shapes can claim a network that would fill any memory, which such a network's own weights would show.
    held = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    if layers * channel * (channel + 2 * wide) > sum(held.values()):
        return {}
    return {"layers": layers, "channel": channel, "d_hid": wide}


def save(path: Path, value: Any) -> None:
    """Writes tensors and plain values in one piece: a kill leaves the old file or the new one.

    The same values give the same bytes, whatever the file's name.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def read_options(folder: Path) -> dict[str, Any] | None:
    """What ``run.opened`` wrote down about the weights in a folder; None where it is not there or damaged."""
    try:
        saved = json.loads((folder / OPTIONS).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return saved if isinstance(saved, dict) and isinstance(saved.get("options"), dict) else None


def describe(path: Path) -> str:
    """One line that tells which weights these are: path, size and SHA-256."""
    return f"{path} ({os.path.getsize(path)} bytes, SHA-256 {sha256(path)})"

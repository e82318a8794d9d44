"""Weights on disk: found by name, read without running code, loaded strictly, written atomically."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.console import UserError
from common.files import replacing, sha256
from model import HTNet

CHECKPOINTS = Path(__file__).parents[1] / "ckpt"
OPTIONS, LAST = "options.json", "last.pth"
WRAPPERS = ("state_dict", "model_state_dict", "model_pos", "model")  # keys under which others keep weights
PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")  # left by DataParallel and torch.compile
WHERE_FROM = dict.fromkeys(("cpn", "gt"), "the authors' weights are linked from github.com/vefalun/HTNet")


def find_weights(name: str, checkpoints: Path = Path("ckpt"), part: str = "model") -> Path:
    """The one file of weights that a name stands for.

    Args:
        name: A file, a folder, or the name of a folder under ``checkpoints``.
        checkpoints: Folder of all runs.
        part: "model" for a lifter, "refine" for a refine head (``refine_*.pth``).

    Raises:
        UserError: There is no such file, or more than one; with what was looked at and found.
    """
    places = [Path(name), checkpoints / name]
    for path in places:
        if path.is_file():
            return path
    folders = [path for path in places if path.is_dir()]
    for folder in folders:
        found = [path for path in sorted(folder.glob("*.pth")) if path.name != LAST]
        found = [path for path in found if path.name.startswith("refine_") == (part == "refine")]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise UserError(f"--previous_dir {name}: expected one file of weights in {folder}, found {names}")
    wanted = ("refine_*.pth" if part == "refine" else "*.pth") if folders else "file or folder"
    contents = [path.name for folder in folders or [checkpoints] for path in sorted(folder.glob("*"))]
    looked = " or ".join(map(str, folders or places))
    message = f"--previous_dir {name}: no {wanted} at {looked}; there is {', '.join(contents) or 'nothing'}"
    if folders and LAST in contents:
        message += f"; for the state of an unfinished run add /{LAST}"
    if name in WHERE_FROM:
        message += f"; {WHERE_FROM[name]}: put them into {checkpoints / name}"
    raise UserError(message)


def read(path: Path) -> Any:
    """Reads a file of tensors and plain values, executing nothing.

    Raises:
        UserError: It is something else, or damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # torch.save packs nothing: members that unpack to more than the file are a bomb.
                if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                    raise ValueError("a zip bomb")
                if archive.testzip():
                    raise ValueError("a changed checksum")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can make the reader fail in any way
        # PyTorch's own message would explain how to run the file's code.
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"{code[1]}, which could run code" if code else "a damaged file or one of another kind"
        raise UserError(f"{path}: expected tensors and plain values of torch.save, found {reason}") from error


def read_state(path: Path, part: str = "model") -> dict[str, Tensor]:
    """A file's weights by name, without the wrappers and prefixes that other tools leave.

    Args:
        path: A file of weights, or the whole state of a run, such as last.pth.
        part: Which network's weights to take of the state of a run: "model" or "refine".

    Raises:
        UserError: The file holds no weights, or weights that are not finite floating point numbers.
    """
    state = read(path)
    for key in (part, *WRAPPERS):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    items = state.items() if isinstance(state, dict) else ()
    tensors = {PREFIX.sub("", str(name)): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: expected weights by name, found {type(state).__name__} without tensors")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > path.stat().st_size:
        raise UserError(f"{path}: expected weights no larger than the file; it is damaged")
    for name, value in tensors.items():
        regular = value.is_floating_point() and value.layout == torch.strided and value.device.type == "cpu"
        if not regular or not bool(value.isfinite().all()):
            found = "NaN or infinity" if regular else value.dtype
            raise UserError(f"{path}: expected finite floating point weights, found {found} in {name}")
    return tensors


def network_sizes(state: dict[str, Tensor]) -> dict[str, int]:
    """Sizes of the HTNet that weights belong to, by its arguments' names; empty for another network."""
    embed, hidden = state.get("pos_embed"), state.get("Hiremixer.blocks.0.mlp.fc1.weight")
    if embed is None or hidden is None or embed.ndim != 3 or hidden.ndim != 2:
        return {}
    layers = len({name.split(".")[2] for name in state if name.startswith("Hiremixer.blocks.")})
    channel, d_hid = embed.shape[2], hidden.shape[0]
    # Shapes that do not fit each other can claim a network that no memory holds.
    fits = layers * channel * (channel + 2 * d_hid) <= sum(value.numel() for value in state.values())
    return {"layers": layers, "channel": channel, "d_hid": d_hid} if fits else {}


def load_weights(module: nn.Module, path: Path, part: str = "model") -> None:
    """Loads weights into a network, strictly.

    Raises:
        UserError: See ``read_state``; or names or shapes differ from the network's.
    """
    _load(module, path, read_state(path, part))


def _load(module: nn.Module, path: Path, state: dict[str, Tensor]) -> None:
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    different = [name for name in expected | found if expected.get(name) != found.get(name)]
    if different:
        shown = [f"{name}: expected {expected.get(name)}, found {found.get(name)}" for name in different[:3]]
        more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(f"{path}: weights of another network: {'; '.join(shown)}{more}")
    module.load_state_dict(state)


def load_htnet(path: Path, **arguments: Any) -> HTNet:
    """An HTNet of the size that its weights have; ``arguments`` are its others, such as ``dropout``.

    Raises:
        UserError: See ``load_weights``.
    """
    state = read_state(path)
    try:
        network = HTNet(**(arguments | network_sizes(state)))
    except ValueError as error:
        raise UserError(f"{path}: weights of another network: {error}") from error
    _load(network, path, state)
    return network


def save(path: Path, value: Any) -> None:
    """Writes tensors and plain values atomically; the same values give the same bytes."""
    buffer = io.BytesIO()  # torch.save would store the file's name
    torch.save(value, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_options(folder: Path) -> dict[str, Any] | None:
    """The record of a run's options in its folder; None where there is none."""
    try:
        saved = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return saved if isinstance(saved, dict) and isinstance(saved.get("options"), dict) else None


def describe(path: Path) -> str:
    """One line that identifies weights: path, size and SHA-256."""
    return f"{path} ({path.stat().st_size} bytes, SHA-256 {sha256(path)})"

"""HTNet's command line: parse, check, dispatch. See ``python main.py --help``."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

from common import distributed
from common.arguments import FREE_ON_RESUME, contradiction, given, parse
from common.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns the exit code.

    0, 1 for a failure, 2 for a wrong call or file, 130 and 143 after Ctrl-C and SIGTERM; but 0 after a
    SIGTERM at which a training's state is on disk, which is how schedulers end a job that is to go on.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    if not distributed.is_main() and (args.compare or args.export):
        return 0  # one process does it
    level = logging.INFO if distributed.is_main() else logging.CRITICAL
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout, force=True)
    from common import commands

    try:
        if args.compare:
            commands.compare(args)
            return 0
        if args.export:
            commands.export(args)
            return 0
        if args.train:
            with _told_of_sigterm():
                _prepare(args, argv)
                commands.train(args)
        else:
            _prepare(args, argv)
            commands.evaluate(args)
    except UserError as error:
        _say(f"error: {error}", error)
        return error.exit_code
    except OSError as error:
        _say(f"error: {error}", error)
        return 1
    except (MemoryError, RuntimeError) as error:
        if (reason := _reason(error, args)) is None:
            raise
        _say(f"error: {reason}", error)
        return 1
    except KeyboardInterrupt as stop:
        _say(f"stopped by {stop}" if str(stop) else "stopped", stop)
        way_on = _way_on(args)
        _say(way_on, stop)
        if hasattr(stop, "exit_code"):
            return stop.exit_code
        # Outside of the training itself nothing has been done since the last checkpoint.
        return 130 if str(stop) != SIGTERM.name else 0 if way_on else 128 + SIGTERM
    return 0


@contextmanager
def _told_of_sigterm() -> Iterator[None]:
    """Turns SIGTERM into an exception while the block runs: loading takes a while, and is a part of a run."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt(SIGTERM.name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(SIGTERM, before)


def _say(text: str, end: BaseException) -> None:
    """Tells why it ends: of several processes, the first tells all and others what they alone know."""
    rank = distributed.rank()
    # Before they join, what is wrong with a call or a file is so for all processes of a machine.
    common = isinstance(end, UserError) and distributed.on_this_machine()[0] > 0 and not distributed.joined()
    if rank and (common or isinstance(end, (distributed.Elsewhere, KeyboardInterrupt))):
        return
    if text:
        # In one piece, as other processes may write to the same place at the same time.
        sys.stderr.write(f"[process {rank}] {text}\n" if rank else f"{text}\n")


def _reason(error: MemoryError | RuntimeError, args: Namespace) -> str | None:
    """What went wrong, in words, unless it is a fault of the program."""
    full = ("out of memory", "allocate memory", "not enough memory")  # not: "illegal memory access"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in full):
        smaller = "a smaller --batch_size, a larger --accumulate, or " if args.train else ""
        return f"the memory is full; try {smaller}another --device"
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        return f"--compile: PyTorch's compiler fails here ({first}); leave --compile away"
    if distributed.lost(error):
        gone = "another process of this run has ended, or cannot be reached any more"
        return "\n".join(line for line in (gone, _way_on(args)) if line)
    return None


def _way_on(args: Namespace) -> str:
    """How to go on with a run that has been stopped."""
    from common.checkpoint import LAST

    if not args.train or not (Path(args.checkpoint_dir) / args.name / LAST).is_file():
        return ""
    processes = distributed.on_this_machine()[1]
    python = ["torchrun", "--nproc_per_node", str(processes)] if distributed.world() > 1 else ["python"]
    command = [*python, "main.py", "--train", "--resume", "-n", args.name]
    if args.checkpoint_dir != "ckpt":
        command += ["--checkpoint_dir", args.checkpoint_dir]
    return f"its state is kept; go on by: {shlex.join(command)}"


def _prepare(args: Namespace, argv: list[str]) -> None:
    """Fills in what depends on other options, so that the options say what was really used."""
    from common.h36m import check_files
    from common.loading import dataset, root

    if args.resume:
        from common import run

        folder = Path(args.checkpoint_dir) / args.name
        vars(args).update(vars(run.resumed(folder, args, given(argv), FREE_ON_RESUME)))
        if wrong := contradiction(args):
            raise UserError(wrong)
    source = dataset(args)
    args.keypoints = args.keypoints or source.keypoints
    # Before the imports of PyTorch: files that are missing are told at once.
    check_files(source, root(args), args.keypoints)


if __name__ == "__main__":
    distributed.leave(main())

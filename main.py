"""HTNet's command line: parse, check, dispatch. See ``python main.py --help``."""

from __future__ import annotations

import logging
import shlex
import sys
from argparse import Namespace
from pathlib import Path

from common.arguments import FREE_ON_RESUME, given, parse
from common.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns the exit code.

    0, 1 for a failure, 2 for a wrong call or file, 130 and 143 after Ctrl-C and SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    from common import commands

    try:
        if args.compare:
            commands.compare(args)
            return 0
        _prepare(args, argv)
        if args.train:
            commands.train(args)
        else:
            commands.evaluate(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        full = ("out of memory", "allocate memory", "not enough memory")  # not: "illegal memory access"
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in full):
            raise
        smaller = "a smaller --batch_size, or " if args.train else ""
        print(f"error: the memory is full; try {smaller}another --device", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"stopped by {stop}" if str(stop) else "stopped", file=sys.stderr)
        if not hasattr(stop, "exit_code"):  # Ctrl-C outside of the training itself
            return 130
        print(_way_on(args), end="", file=sys.stderr)
        return stop.exit_code
    return 0


def _way_on(args: Namespace) -> str:
    """How to go on with a run that a signal has stopped."""
    from common.checkpoint import LAST

    if not (Path(args.checkpoint_dir) / args.name / LAST).is_file():
        return ""
    command = ["python", "main.py", "--train", "--resume", "-n", args.name]
    if args.checkpoint_dir != "ckpt":
        command += ["--checkpoint_dir", args.checkpoint_dir]
    return f"its state is kept; go on by: {shlex.join(command)}\n"


def _prepare(args: Namespace, argv: list[str]) -> None:
    """Fills in what depends on other options, so that the options say what was really used."""
    from common.h36m import DATASETS, check_files
    from common.loading import root

    if args.resume:
        from common import run

        folder = Path(args.checkpoint_dir) / args.name
        vars(args).update(vars(run.resumed(folder, args, given(argv), FREE_ON_RESUME)))
    args.keypoints = args.keypoints or DATASETS[args.dataset].keypoints
    # Before the imports of PyTorch: files that are missing are told at once.
    check_files(DATASETS[args.dataset], root(args), args.keypoints)


if __name__ == "__main__":
    sys.exit(main())

"""From the files that people download to those that ``main.py`` reads: ``python -m dataset.prepare``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from common.errors import UserError

SETS = {
    "h36m": ("dataset.h36m", "Human3.6M: its archives, their CDF files, h36m.zip, or npz files"),
    "3dhp": ("dataset.mpi_inf_3dhp", "MPI-INF-3DHP, in its own layout"),
    "mocap": ("dataset.mocap", "motion capture: BVH, or ASF and AMC"),
    "noise": ("dataset.noise", "the errors of a 2D detector, for main.py --keypoint_noise"),
}
"""Name of each command, the module that offers ``add_arguments`` and ``run`` for it, and what it takes."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; imports no module but that of the command that is called."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset.prepare",
        description="Makes a data set ready for main.py. A run that was stopped goes on where it was.",
    )
    commands = parser.add_subparsers(dest="data_set", metavar="NAME", required=True)
    for name, (module, words) in SETS.items():
        command = commands.add_parser(name, help=words, description=words)
        if name in argv[:1]:
            import_module(module).add_arguments(command)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code, which means what it means for ``main.py``."""
    options = parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    module, _ = SETS[options.data_set]
    try:
        import_module(module).run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError) as error:
        print(f"error: {error if isinstance(error, OSError) else 'the memory is full'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was converted is kept, give the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

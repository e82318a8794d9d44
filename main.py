"""HTNet's command line: train, evaluate, compare or export. See ``python main.py --help``."""

from __future__ import annotations

import logging
import os
import signal
import sys

from common import distributed
from common.console import RunError, UserError, configure_output, run_command
from common.options import Options, command_line, parse

OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns the exit code.

    0; 1 for a failure; 2 for an invalid call; 130 and 143 after Ctrl-C and SIGTERM, but 0 after SIGTERM
    to a training whose state is on disk: a scheduler's next job resumes it.
    """
    configure_output(logging.INFO if distributed.is_main() else logging.CRITICAL)
    return run_command(lambda: _run(parse(sys.argv[1:] if argv is None else argv)))


def _run(options: Options) -> int:
    if not distributed.is_main() and options.command in ("compare", "export"):
        return 0
    # Until training handles it, SIGTERM ends the process at once: an exception could crash PyTorch's import.
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if _resume_command(options) else 143))
    try:
        from common import commands

        getattr(commands, options.command)(options)
    except UserError as error:
        if isinstance(error, distributed.RemoteError) or distributed.local()[0] > 0:
            return error.exit_code  # the first process of each machine reports it
        raise
    except RuntimeError as error:
        raise _explained(error, options) from error
    except KeyboardInterrupt as stop:
        if distributed.is_main():
            command = _resume_command(options)
            kept = f"; its state is kept, resume it with: {command}" if command else ""
            print(f"stopped by {stop if stop.args else 'SIGINT'}{kept}", file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _explained(error: RuntimeError, options: Options) -> Exception:
    """The error in words that help, if it is none of the program's own."""
    text = str(error)
    if any(words in text.lower() for words in OUT_OF_MEMORY):
        return RunError("out of memory; try a smaller --batch_size, --accumulate N, or another --device")
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return RunError(
            f"--compile: PyTorch's compiler failed ({text.strip().splitlines()[0]}); omit --compile"
        )
    if distributed.is_connection_error(error):
        command = _resume_command(options)
        kept = f"; resume the run with: {command}" if command else ""
        return RunError(f"another process of this run ended or cannot be reached{kept}")
    return error


def _resume_command(options: Options) -> str:
    """The command that resumes a training; empty where there is nothing to resume."""
    if not options.train or not (options.folder / "last.pth").is_file():
        return ""
    resumed = Options(train=True, resume=True, name=options.name, checkpoint_dir=options.checkpoint_dir)
    torchrun = f"torchrun --nproc_per_node {distributed.local()[1]}"
    command = command_line(resumed)
    return command.replace("python", torchrun, 1) if distributed.world() > 1 else command


if __name__ == "__main__":
    code = main()
    if distributed.world() > 1:  # threads that wait for other processes could abort Python's own exit
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

"""What every command shares: errors for users, exit codes, logging, progress bars and text tables."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

MAX_MESSAGE = 4_000  # characters, so that a quoted file cannot fill the terminal


class UserError(Exception):
    """An invalid call or file (exit code 2); the message says what was expected and found, and what to do."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RunError(UserError):
    """A failure although the call was right, such as a full disk (exit code 1)."""

    exit_code = 1


def printable(text: str) -> str:
    """Text that may quote a file from outside: control characters and lone surrogates are escaped."""
    if len(text) > MAX_MESSAGE:
        text = f"{text[: MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 2 :]}"
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def configure_output(level: int = logging.INFO) -> None:
    """Logs plain messages to standard output; characters that the terminal cannot encode are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.raiseExceptions = False  # a reader that closed the pipe (`| head`) is no reason for a traceback


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit code; errors that a user can act on get one line, no traceback."""
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except MemoryError:
        print("error: out of memory", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """A tqdm bar on standard error that is silent where that is no terminal, and leaves nothing behind."""
    from tqdm import tqdm

    return tqdm(items, **{"disable": None, "leave": False, **options})


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float | None, decimals: int = 2) -> str:
    """A number for a table, a dash where it is unknown."""
    return "-" if value is None or value != value else f"{value:.{decimals}f}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where a known name is close, else an empty text."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""

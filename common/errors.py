"""Errors that a user can act on: ``main.py`` prints their message alone, without a traceback."""

import re

LONGEST = 10_000
LONG_WORD = re.compile(r"\S{500,}")


class UserError(Exception):
    """A wrong call or a wrong file (exit code 2)."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


def _printable(message: str) -> str:
    """A message that may quote a stranger's file, fit for a terminal: it cannot steer it or fill it."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    plain = (c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in message)
    return LONG_WORD.sub(lambda word: f"{word[0][:200]}...{word[0][-200:]}", "".join(plain))


class DataError(UserError):
    """Data files that are missing or not what the protocol needs."""


class CheckpointError(UserError):
    """Weights that are missing, ambiguous or of another network."""


class RunError(UserError):
    """A run that could not go on although the call was right (exit code 1)."""

    exit_code = 1

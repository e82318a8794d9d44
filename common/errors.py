"""Errors that a user can act on: ``main.py`` prints their message alone, without a traceback."""


class UserError(Exception):
    """A wrong call or a wrong file (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """Data files that are missing or not what the protocol needs."""


class CheckpointError(UserError):
    """Weights that are missing, ambiguous or of another network."""


class RunError(UserError):
    """A run that could not go on although the call was right (exit code 1)."""

    exit_code = 1

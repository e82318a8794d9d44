"""The networks: HTNet and its parts. Nothing here reads files, arguments or the environment."""

from model.htnet import HTNet

__all__ = ["HTNet"]

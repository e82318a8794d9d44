"""The networks: HTNet and the refine head. Nothing here reads files, options or the environment."""

from model.htnet import HTNet

__all__ = ["HTNet"]

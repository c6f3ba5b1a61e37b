"""The composition root: builds every part from Settings, starts them in order, stops them in reverse."""

from gateway.app.lifecycle import Gateway
from gateway.app.process import run

__all__ = ["Gateway", "run"]

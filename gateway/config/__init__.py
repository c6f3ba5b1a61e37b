"""Configuration: `GATEWAY_*` variables to one frozen `Settings`. The only reader of the environment."""

from gateway.config.load import Reading, load, read
from gateway.config.secret import Secret
from gateway.config.settings import Dialect, ReceiptPolicy, Settings, TpsCost
from gateway.config.values import OFF, Address
from gateway.errors import ConfigError

__all__ = [
    "OFF",
    "Address",
    "ConfigError",
    "Dialect",
    "Reading",
    "ReceiptPolicy",
    "Secret",
    "Settings",
    "TpsCost",
    "load",
    "read",
]

"""Configuration: `GATEWAY_*` variables to one frozen `Settings`. The only reader of the environment."""

from gateway.config.load import Reading, load, read
from gateway.config.secret import Secret
from gateway.config.settings import Dialect, Settings, TpsCost
from gateway.config.values import Address
from gateway.errors import ConfigError

__all__ = ["Address", "ConfigError", "Dialect", "Reading", "Secret", "Settings", "TpsCost", "load", "read"]

"""The files that settings name, looked at before they are needed: present, readable, and what they should be.

`check` and `run` ask before anything starts, so that a wrong path is a sentence and not a stack trace.
"""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from gateway.config.settings import Settings

_TROUBLE_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""What passes without a change of settings. It must not give exit status 78, after which systemd starts us no
more: opening the store says it too, with 74, and is tried again until there is space."""


def access_problems(settings: Settings) -> list[str]:
    """A full sentence for each file or directory that would fail us; creates nothing that stays."""
    problems = [
        f"{name}='{path}': {reason}"
        for name, path in (("GATEWAY_NODE_CA", settings.node_ca), ("GATEWAY_BACKEND_CA", settings.backend_ca))
        if path is not None and (reason := _why_no_ca(path))
    ]
    if settings.tls_cert is not None and settings.tls_key is not None:
        problems += _tls_problems(settings.tls_cert, settings.tls_key)
    if reason := _why_no_store(settings.store_path):
        problems.append(f"GATEWAY_STORE_PATH='{settings.store_path}': {reason}")
    return problems


def _why_unreadable(path: Path) -> str:
    try:
        path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _why_no_ca(path: Path) -> str:
    import ssl  # noqa: PLC0415 -- 10 ms that most starts need not pay

    if reason := _why_unreadable(path):
        return f"{reason}; expected a file of PEM certificates"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "has no certificate we can read; expected a file of PEM certificates"
    return ""


def _tls_problems(cert: Path, key: Path) -> list[str]:
    import ssl  # noqa: PLC0415 -- as above

    named = {"GATEWAY_TLS_CERT": cert, "GATEWAY_TLS_KEY": key}
    unreadable = [
        f"{name}='{path}': {reason}; expected a PEM file"
        for name, path in named.items()
        if (reason := _why_unreadable(path))
    ]
    if unreadable:
        return unreadable

    def refuse_passphrase() -> str:
        # Without this OpenSSL would ask on the terminal.
        raise ValueError("the key has a passphrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=refuse_passphrase)
    except ValueError as error:
        return [f"GATEWAY_TLS_KEY='{key}': {error}; expected a key without one"]
    except ssl.SSLError as error:
        reason = error.reason or "no PEM"
        pair = f"GATEWAY_TLS_CERT='{cert}': does not go with GATEWAY_TLS_KEY='{key}' ({reason})"
        return [f"{pair}; expected PEM files that belong together"]
    return []


def _why_no_store(directory: Path) -> str:
    expected = "expected a directory we may create and write"
    if not directory.exists():
        # The store creates it; looking must not leave a directory of the wrong owner behind.
        parent = next(parent for parent in directory.absolute().parents if parent.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            return f"cannot be created in '{parent}'; {expected}"
        return ""
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            # One block, written through: what the permissions hide shows itself here.
            probe.write(bytes(4_096))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno in _TROUBLE_OF_THE_DISK:
            return ""
        return f"cannot be written ({error.strerror}); {expected}"
    return ""

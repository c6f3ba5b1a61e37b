"""How a command asks the running gateway: where it listens and with which token, all from the environment."""

import http.client
import json
import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

EXIT_REFUSED: Final = 1
"""No gateway answers, or it does not do what was asked for."""

TIMEOUT_S: Final = 60.0
"""Ten thousand dead letters are moved in a second or two; a disk may be slow."""
ANSWER_MAX_BYTES: Final = 256 << 20
"""A page of 4 MiB of bodies, and the last one beyond it (64 MiB at most), each byte escaped at worst."""

_DOORS: Final = ("GATEWAY_LISTEN", "GATEWAY_ADMIN_LISTEN")
_TOKENS: Final = ("GATEWAY_PUSH_TOKENS", "GATEWAY_PUSH_TOKENS_FILE")


class NoAnswerError(Exception):
    """Why there is no answer, as sentences for the operator, and the exit status."""

    def __init__(self, problems: list[str], status: int) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.status = status

    def show(self, command: str) -> int:
        """Say it on standard error, and give the exit status."""
        sys.stderr.write("".join(f"{command}: {problem}\n" for problem in self.problems))
        return self.status


def ask_gateway(
    environ: Mapping[str, str],
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    is_open: bool = False,
) -> Any:
    """The JSON of a 2xx. Raises NoAnswerError for everything else.

    `is_open`: anyone may ask, and no token is looked for.
    """
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.errors import EXIT_CONFIG  # noqa: PLC0415
    from gateway.http.ask import ask  # noqa: PLC0415

    names = _DOORS if is_open else _DOORS + _TOKENS
    try:
        # Only these: an operator may ask who can't read the secrets the other settings name.
        settings = load({name: environ[name] for name in names if name in environ})
    except ConfigError as error:
        raise NoAnswerError(error.problems, EXIT_CONFIG) from None
    address = settings.admin_listen
    if address.port == 0:
        text = f"GATEWAY_ADMIN_LISTEN={address}: the kernel chose the port; name the one in the gateway's log"
        raise NoAnswerError([text], EXIT_REFUSED)
    headers = {} if body is None else {"Content-Type": "application/json"}
    if settings.push_tokens:
        headers["Authorization"] = f"Bearer {settings.push_tokens[0].reveal()}"
    target = f"{path}?{urlencode(query)}" if query else path
    content = None if body is None else json.dumps(body).encode()
    try:
        status, answer = ask(
            method,
            address.host,
            address.port,
            target,
            content,
            headers,
            timeout_s=TIMEOUT_S,
            body_max_bytes=ANSWER_MAX_BYTES,
        )
        said = json.loads(answer)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = (
            f"no gateway answers at {address} ({reason}); is it running, and does GATEWAY_ADMIN_LISTEN "
            "say here what it says there?"
        )
        raise NoAnswerError([text], EXIT_REFUSED) from None
    if 200 <= status < 300:
        return said
    raise NoAnswerError([_refusal(status, said, has_token=bool(settings.push_tokens))], EXIT_REFUSED)


def _refusal(status: int, said: Any, *, has_token: bool) -> str:
    if status == 401 and not has_token:
        return (
            "the gateway wants a push token; set GATEWAY_PUSH_TOKENS or GATEWAY_PUSH_TOKENS_FILE as it has it"
        )
    if isinstance(said, dict) and isinstance(said.get("error"), str):
        return f"refused ({status}): {said['error']}"
    return f"refused ({status}): {json.dumps(said)}"

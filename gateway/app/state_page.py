"""`GET` and `POST /v1/state`: what is switched off, and switching it."""

from collections.abc import Callable
from typing import Literal

import msgspec
import orjson

from gateway.app.operator_state import OperatorState, Part
from gateway.errors import StoreError
from gateway.http.operations import Call, Operation


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    state: Literal["running", "isolated", "suspended", "draining"]
    only: Part | None = None
    """Of running: resume this alone."""


def state_operations(state: OperatorState, drain: Callable[[], None]) -> list[Operation]:
    """The routes; `drain` finishes what is under way and ends the process."""

    async def show(_call: Call) -> tuple[int, bytes]:
        return 200, state_page(state)

    async def change(call: Call) -> tuple[int, bytes]:
        try:
            wanted = msgspec.json.decode(call.body, type=_Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return 400, orjson.dumps({"error": f"{error}; expected a state: {_EXPECTED}"})
        if wanted.only is not None and wanted.state != "running":
            return 400, orjson.dumps({"error": "only goes with the state running"})
        try:
            match wanted.state:
                case "running":
                    await state.resume(wanted.only)
                case "draining":
                    drain()
                case part:
                    await state.switch_off(part)
        except StoreError as error:
            return 503, orjson.dumps({"error": str(error)})
        return 200, state_page(state)

    return [
        Operation("GET", "/v1/state", show, is_open=True),
        Operation("POST", "/v1/state", change),
    ]


_EXPECTED = '{"state": "running", "isolated", "suspended" or "draining"}'


def state_page(state: OperatorState) -> bytes:
    """What is switched off, as JSON."""
    return orjson.dumps(
        {
            "state": state.names() or ["running"],
            "isolated": state.is_isolated,
            "suspended": state.is_suspended,
            "draining": state.is_draining,
            "gone": state.gone,
        }
    )

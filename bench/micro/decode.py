"""What it costs to understand a webhook, in three shapes: an On-Premises message, a Cloud message, a receipt.

Ours finds kinds, ids, lanes and keys of all events and leaves the rest as bytes; `usual` does so natively for a body
with one event, and here tells Python of it. json and orjson make objects of
everything and understand nothing yet; pydantic validates a model of the fields that we read.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import compare
import msgspec
import orjson
from pydantic import BaseModel

from gateway._fast.usual_webhook import usual
from gateway.dialects.webhook import decode

ONPREM: Final = (
    b'{"contacts":[{"profile":{"name":"Amina Test"},"wa_id":"15550100111"}],"messages":[{"from":"15550100111",'
    b'"id":"ABGGFlA5FpafAgo6tHcNmNjXmuSf","timestamp":"1700000001","type":"text","text":{"body":"Hello, is the blue one '
    b'still there in size 42? I would come by on Saturday before noon and pay in cash."}}]}'
)
CLOUD: Final = (
    b'{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{"messaging_product":'
    b'"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":"106540352242922"},"contacts":[{'
    b'"profile":{"name":"Amina Test"},"wa_id":"15550100111"}],"messages":[{"from":"15550100111","id":"wamid.HBgLMTY1MDM'
    b'4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=","timestamp":"1700000001","type":"text","text":{"body":"Does it come '
    b'in another colour?"}}]},"field":"messages"}]}]}'
)
RECEIPT: Final = (
    b'{"statuses":[{"id":"gBEGkYiEB1VXAglK1ZEqA1YKPrU","recipient_id":"15550100111","status":"delivered",'
    b'"timestamp":"1700000002","message":{"recipient_id":"15550100111"}}]}'
)
SHAPES: Final = {"On-Premises message": ONPREM, "Cloud message": CLOUD, "On-Premises receipt": RECEIPT}


class Message(BaseModel):
    id: str | None = None
    group_id: str | None = None


class Status(BaseModel):
    id: str | None = None
    recipient_id: str | None = None
    status: str | None = None
    group_id: str | None = None


class Value(BaseModel):
    messages: list[Message] | None = None
    statuses: list[Status] | None = None


class Change(BaseModel):
    field: str | None = None
    value: Value


class Entry(BaseModel):
    changes: list[Change] | None = None


class Envelope(Value):
    object: str | None = None
    entry: list[Entry] | None = None


DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "decode": decode,
    "usual": usual,
    "json.loads": json.loads,
    "orjson.loads": orjson.loads,
    "msgspec.json.decode": msgspec.json.decode,
    "pydantic model_validate_json": Envelope.model_validate_json,
}


def row(name: str, shape: str, count: int) -> int:
    return compare.timed(DECODERS[name], [SHAPES[shape]] * count)


GROUPS: Final = {shape: {name: partial(row, name, shape) for name in DECODERS} for shape in SHAPES}

if __name__ == "__main__":
    compare.main(__doc__, GROUPS, ["orjson", "msgspec", "pydantic"], 5_000)

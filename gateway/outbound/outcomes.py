"""The outcome table: what the node's answer to a send means. Data, in one place, for both dialects.

Sources are the error pages of both APIs; `docs/outcomes.md` is this table as a page. The two dialects share no code, so
one look-up serves both. The code is looked at first, and the HTTP status where there is no code or one we don't know.

Codes of a locked account, a missing permission or a wrong configuration are tried again, not failed and not a pause:
the sender itself pauses when several different sends meet trouble, and one that is alone with it fails in the end.
"""

import enum
from typing import Final, NamedTuple

from gateway.dialects.dialect import Answer


class Effect(enum.Enum):
    """What a send's answer does."""

    SENT = "sent"
    LOGIN = "login"
    """Our token is no longer good: log in again and repeat; no attempt is spent."""
    CONTACT = "contact"
    """The node does not know the contact yet: ask for it, then once more."""
    PAUSE_ALL = "pause_all"
    """The number or the node is overloaded: nothing is sent for a while; no attempt is spent."""
    PAUSE_BULK = "pause_bulk"
    """The number is restricted for spam: bulk waits, answers to customers go on; no attempt is spent."""
    PAUSE_RECIPIENT = "pause_recipient"
    """Too many to this one recipient: the send waits 4^n s, and nothing else does."""
    RETRY = "retry"
    FAIL = "fail"


class Row(NamedTuple):
    """The codes from `first` to `last`, what they do and why."""

    first: int
    last: int
    effect: Effect
    why: str


def _one(code: int, effect: Effect, why: str) -> Row:
    return Row(code, code, effect, why)


ONPREM: Final = (
    _one(400, Effect.FAIL, "media could not be downloaded"),
    _one(402, Effect.RETRY, "account: eligibility or payment"),
    _one(408, Effect.RETRY, "pending for a day: send again"),
    _one(410, Effect.FAIL, "expired"),
    _one(429, Effect.PAUSE_ALL, "too many messages from this number"),
    _one(430, Effect.RETRY, "account: certificate"),
    _one(432, Effect.RETRY, "account: certificate"),
    _one(433, Effect.RETRY, "account: certificate"),
    _one(470, Effect.FAIL, "24 h since the customer's last message are over: send a template"),
    _one(471, Effect.PAUSE_BULK, "number restricted for spam, for 24 h"),
    _one(472, Effect.FAIL, "recipient is in an experiment"),
    _one(480, Effect.FAIL, "recipient's identity has changed and must be confirmed"),
    _one(500, Effect.RETRY, "generic error"),
    _one(503, Effect.PAUSE_ALL, "CoreApp overloaded"),
    _one(1000, Effect.RETRY, "generic error"),
    _one(1001, Effect.FAIL, "message too long"),
    _one(1002, Effect.FAIL, "recipient type"),
    _one(1003, Effect.FAIL, "not a group of ours"),
    _one(1005, Effect.LOGIN, "token bad or expired"),
    _one(1006, Effect.CONTACT, "contact unknown"),
    _one(1008, Effect.FAIL, "parameter missing"),
    _one(1009, Effect.FAIL, "parameter invalid"),
    _one(1010, Effect.FAIL, "parameter not allowed"),
    _one(1011, Effect.PAUSE_ALL, "service not ready: no send gets through"),
    _one(1012, Effect.FAIL, "group has no other member"),
    _one(1013, Effect.FAIL, "recipient is no user"),
    _one(1014, Effect.RETRY, "internal error; the node may be offline"),
    _one(1015, Effect.PAUSE_ALL, "too many requests"),
    _one(1016, Effect.PAUSE_ALL, "system overloaded; its callback queue may be full"),
    _one(1017, Effect.RETRY, "not the primary master"),
    _one(1018, Effect.RETRY, "not the primary CoreApp; a shard fails over"),
    _one(1020, Effect.FAIL, "group"),
    _one(1021, Effect.FAIL, "recipient is no valid user"),
    _one(1022, Effect.RETRY, "configuration: the node has no webhook URL"),
    _one(1023, Effect.RETRY, "database error"),
    _one(1024, Effect.RETRY, "configuration: the node wants another password"),
    _one(1026, Effect.FAIL, "recipient can't receive it"),
    _one(1031, Effect.RETRY, "account: locked"),
    _one(2000, Effect.FAIL, "template: number of parameters"),
    _one(2001, Effect.FAIL, "template: missing"),
    _one(2002, Effect.RETRY, "template: could not be fetched"),
    _one(2003, Effect.FAIL, "template: pack missing"),
    _one(2061, Effect.FAIL, "template: paused"),
    _one(2062, Effect.FAIL, "template: disabled"),
)

CLOUD: Final = (
    _one(0, Effect.LOGIN, "token not accepted"),
    _one(1, Effect.RETRY, "API unknown"),
    _one(2, Effect.RETRY, "API overloaded"),
    _one(3, Effect.RETRY, "account: capability missing"),
    _one(4, Effect.PAUSE_ALL, "app's call limit"),
    _one(10, Effect.RETRY, "account: permission missing"),
    _one(33, Effect.FAIL, "number deleted"),
    _one(100, Effect.FAIL, "parameter invalid"),
    _one(190, Effect.LOGIN, "token expired"),
    Row(200, 299, Effect.RETRY, "account: permission missing"),
    _one(368, Effect.RETRY, "account: blocked for its policy"),
    _one(613, Effect.PAUSE_ALL, "call limit"),
    _one(80007, Effect.PAUSE_ALL, "business account's call limit"),
    _one(130403, Effect.FAIL, "recipient is blocked"),
    _one(130429, Effect.PAUSE_ALL, "number's throughput reached"),
    _one(130472, Effect.FAIL, "recipient is in an experiment"),
    _one(130497, Effect.FAIL, "recipient's country is not allowed for this account"),
    _one(131000, Effect.RETRY, "unknown: try again"),
    _one(131005, Effect.RETRY, "account: access denied"),
    _one(131008, Effect.FAIL, "parameter missing"),
    _one(131009, Effect.FAIL, "parameter invalid"),
    _one(131016, Effect.RETRY, "service unavailable"),
    _one(131021, Effect.FAIL, "recipient is the number itself"),
    _one(131026, Effect.FAIL, "undeliverable"),
    _one(131031, Effect.RETRY, "account: locked"),
    _one(131047, Effect.FAIL, "24 h since the customer's last message are over: send a template"),
    _one(131048, Effect.PAUSE_BULK, "number restricted for spam"),
    _one(131049, Effect.FAIL, "withheld for the ecosystem's health; not again within 24 h"),
    _one(131050, Effect.FAIL, "recipient opted out"),
    _one(131051, Effect.FAIL, "message type not supported"),
    _one(131053, Effect.RETRY, "media upload failed"),
    _one(131056, Effect.PAUSE_RECIPIENT, "pair limit: too many to this recipient"),
    _one(131057, Effect.RETRY, "maintenance, for up to a minute"),
    _one(131064, Effect.RETRY, "account: messaging limit, lifts by itself"),
    _one(132000, Effect.FAIL, "template: number of parameters"),
    _one(132001, Effect.FAIL, "template: missing"),
    _one(132005, Effect.FAIL, "template: text too long"),
    _one(132007, Effect.FAIL, "template: policy"),
    _one(132012, Effect.FAIL, "template: parameter format"),
    _one(132015, Effect.FAIL, "template: paused"),
    _one(132016, Effect.FAIL, "template: disabled"),
    _one(132068, Effect.FAIL, "flow: blocked"),
    _one(132069, Effect.FAIL, "flow: throttled"),
    _one(133016, Effect.RETRY, "account: too many registrations"),
)

BY_STATUS: Final = (
    Row(200, 299, Effect.SENT, "taken, whatever code is in the body"),
    _one(401, Effect.LOGIN, "token bad or expired"),
    _one(408, Effect.RETRY, "time-out"),
    _one(425, Effect.RETRY, "too early"),
    _one(429, Effect.PAUSE_ALL, "request rate of the node"),
    _one(503, Effect.PAUSE_ALL, "node overloaded"),
    Row(500, 599, Effect.RETRY, "node in trouble"),
)
"""The first row that fits counts; any other status fails the message."""

_BY_CODE: Final = {code: row.effect for row in (*ONPREM, *CLOUD) for code in range(row.first, row.last + 1)}


def effect_of(answer: Answer) -> Effect:
    """What to do after `answer`."""
    if 200 <= answer.status < 300:
        return Effect.SENT
    if answer.code is not None and answer.code in _BY_CODE:
        return _BY_CODE[answer.code]
    for row in BY_STATUS:
        if row.first <= answer.status <= row.last:
            return row.effect
    return Effect.FAIL


def is_uncertain(answer: Answer) -> bool:
    """Whether the node may have taken the send all the same.

    So it is where a server error or a time-out carries no code of WhatsApp's: something between us and the node made it
    up, or the node broke off in the middle. 503 says that it did not begin.
    """
    return answer.code is None and (answer.status == 408 or (answer.status >= 500 and answer.status != 503))

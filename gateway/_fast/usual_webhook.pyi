"""The usual webhook body, one message or one status in either dialect, read in one pass."""

def usual(body: bytes) -> tuple[int, bytes, str, bool, str, str] | None:
    """Kind, key, lane, `is_group`, message id and participant of the one event in `body`; None: it is not usual.

    They are those of the `Event` that `gateway.dialects.webhook.decode` makes of the body, the key in ASCII: message id
    and participant are empty for a message. Class and place follow from the kind.
    None does not say that `body` is wrong: then `decode` reads it.
    """

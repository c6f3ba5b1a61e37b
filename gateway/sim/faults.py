"""The switch board: everything that can go wrong at the node, off by default, changeable at any moment."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Faults:
    """Ratios are per request in [0, 1] and drawn from the node's seed; times are seconds."""

    is_rate_limited: bool = True
    """The documented 429 of the WebApp: 50/s, burst 150 on messages; 20/s, burst 60 elsewhere. Not a fault."""
    is_throttled: bool = False
    """Every send answers 429 with 1015."""
    is_overloaded: bool = False
    """Every send answers 503 with 1016, as a Coreapp with a long job queue does."""
    is_spam_restricted: bool = False
    """Every send answers 471, the spam restriction."""
    is_contact_check_needed: bool = False
    """Clients before 2.39.1: 404 with 1006 until `/v1/contacts` was asked for the recipient."""
    is_admin: bool = True
    """Whose login it is; anybody else's gets 403 with 1005 for the settings. Not a fault."""
    has_receipt_switches: bool = True
    """Clients before 2.41.2 have no `webhooks.message`. Not a fault."""
    error_ratio: float = 0.0
    """500 with 1000, nothing taken."""
    reset_ratio: float = 0.0
    """The connection is reset, nothing taken."""
    lost_answer_ratio: float = 0.0
    """The send is taken, then the connection is reset: the outcome is unknown to the sender."""
    hang_ratio: float = 0.0
    """The send is taken and never answered; the request ends when the caller hangs up."""
    answer_delay_s: float = 0.0
    """Before every answer to a send."""
    duplicate_ratio: float = 0.0
    """Callbacks that were answered 200 and are made once more all the same."""
    reorder_window: int = 1
    """The next callback is any of the first so many that wait; 1 keeps the order."""
    batch_max: int = 1
    """Events of one type in one callback body; more than one is unconfirmed but the format allows it."""
    gateway_status: str = "connected"
    """What `/v1/health` says: connected, connecting, disconnected, uninitialized or unregistered."""

    def set(self, switch: str, value: float | str) -> None:
        """Set one switch by name, as scenarios do. Ratios outside [0, 1] and unknown names are our mistake."""
        assert switch in {field.name for field in fields(self)}, f"no fault switch is called {switch!r}"
        assert not switch.endswith("_ratio") or 0.0 <= float(value) <= 1.0, (switch, value)
        setattr(self, switch, value)

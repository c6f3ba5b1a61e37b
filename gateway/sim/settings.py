"""`/v1/settings/application`: what the client can be told, with the rules it checks.

Numbers may come as JSON numbers or as decimal strings, as the published samples do both.
"""

import copy
from typing import Any, Final

CONCURRENCY: Final = (6, 12, 18, 24)
"""Callbacks in flight the client allows; six is its default."""

DEFAULTS: Final[dict[str, Any]] = {
    "callback_backoff_delay_ms": 3000,
    "callback_persist": True,
    "max_callback_backoff_delay_ms": 900_000,
    "garbagecollector_enable": {"media": False, "messages": True},
    "heartbeat_interval": 5,
    "unhealthy_interval": 30,
    "media": {"auto_download": ["image", "video", "voice", "sticker", "audio", "document"]},
    "notify_user_change_number": True,
    "show_security_notifications": True,
    "webhooks": {
        "url": "",
        "max_concurrent_requests": 6,
        "message": {"sent": True, "delivered": True, "read": True},
    },
}


class Settings:
    """The application settings of the node. A change acts at once (the real client restarts for some)."""

    def __init__(self, webhook_url: str = "") -> None:
        self.document = copy.deepcopy(DEFAULTS)
        self.document["webhooks"]["url"] = webhook_url

    @property
    def webhook_url(self) -> str:
        return str(self.document["webhooks"]["url"])

    @property
    def concurrency(self) -> int:
        """Callbacks in flight at most."""
        return int(self.document["webhooks"]["max_concurrent_requests"])

    @property
    def backoff_ms(self) -> int:
        """The step of the linear back-off."""
        return int(self.document["callback_backoff_delay_ms"])

    @property
    def backoff_max_ms(self) -> int:
        """The longest delay between two attempts of a callback."""
        return int(self.document["max_callback_backoff_delay_ms"])

    def is_reported(self, status: str) -> bool:
        """Whether `sent`, `delivered` or `read` statuses are made at all."""
        return bool(self.document["webhooks"]["message"][status])

    def patch(self, change: Any) -> str:
        """Merge the fields present; the empty answer means done, otherwise it names the bad field."""
        if not isinstance(change, dict):
            return "the body must be an object"
        merged = _merge(self.document, change)
        problem = _problem(merged)
        if not problem:
            self.document = merged
        return problem

    def reset(self) -> None:
        """Back to the defaults, webhook URL included."""
        self.document = copy.deepcopy(DEFAULTS)


def _merge(old: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(old)
    for name, value in change.items():
        is_nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if is_nested else value
    return merged


def _problem(document: dict[str, Any]) -> str:
    webhooks = document["webhooks"]
    if not isinstance(webhooks, dict) or not isinstance(webhooks.get("message"), dict):
        return "webhooks"
    if not isinstance(webhooks["url"], str):
        return "webhooks.url"
    if webhooks["max_concurrent_requests"] not in CONCURRENCY:
        return "webhooks.max_concurrent_requests must be 6, 12, 18 or 24"
    for status in ("sent", "delivered", "read"):
        if not isinstance(webhooks["message"][status], bool):
            return f"webhooks.message.{status}"
    for name in ("callback_backoff_delay_ms", "max_callback_backoff_delay_ms"):
        if not str(document[name]).isdecimal():
            return name
    return ""

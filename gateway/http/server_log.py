"""What aiohttp's server says of requests, without those that are no requests.

It writes an error with a traceback for each one that it can't read or whose client goes away: whoever scans the port would
fill the log.
"""

import logging
from typing import Final

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

_NOT_OURS: Final = (HttpProcessingError, web.RequestPayloadError, ClientPayloadError, ConnectionError)


class _Ours(logging.Filter):
    """Lets through what is a fault of the gateway's own."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, _NOT_OURS)


SERVER_LOG: Final = logging.getLogger(__name__)
SERVER_LOG.addFilter(_Ours())

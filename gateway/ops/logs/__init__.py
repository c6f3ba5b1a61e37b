"""The log: one record, one line, on standard output, never in the loop's way.

    logger = logging.getLogger(__name__)
    logger.info("sent", extra={"lane": lane, "attempt": 2})

Fields go through `extra`. Phone numbers are masked on the way out, wherever they stand, unless
GATEWAY_LOG_CONTENT is on: callers pass lanes as they are.
"""

from gateway.ops.logs.configure import Log, configure
from gateway.ops.logs.redact import mask_phone

__all__ = ["Log", "configure", "mask_phone"]

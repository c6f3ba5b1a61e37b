"""One aiohttp server on a loopback port, which can go away and come back on the same port."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

HOST: Final = "127.0.0.1"
GRACE_S: Final = 0.1
"""How long a stop waits for handlers: a simulated peer that goes away does not say goodbye."""


class Server:
    """Serves what `make_app` builds, anew at each start. Port 0 is chosen at the first start, then kept.

    A handler is cancelled when its caller hangs up.
    """

    def __init__(self, make_app: Callable[[], web.Application], *, port: int = 0) -> None:
        self._make_app = make_app
        self._runner: web.AppRunner | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_open(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        """Listen. OSError when the port is taken."""
        assert self._runner is None, "started twice"
        runner = web.AppRunner(
            self._make_app(), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port, reuse_address=True).start()
        except OSError:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close the listening socket and every connection; a stopped server stops in silence."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

"""uvicorn round the application, and an end in good order."""

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from spellbound.errors import InputError
from spellbound.files import words_of
from spellbound.server.app import Service
from spellbound.server.connections import Connection
from spellbound.server.settings import ServeSettings

_AFTER_GRACE_S = 5
"""For what was ended to tell so."""
_BACKLOG = 512
_ACCEPTED_AT_ONCE = 16  # so that the next ones are refused before there are no files left for them


class DrainingServer(uvicorn.Server):
    """Ends what it has begun: for a while it may go on, then it is told that it ends early."""

    def __init__(self, app: FastAPI, settings: ServeSettings) -> None:
        """Serve an application made by `create_app`."""
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                lifespan="off",
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_ACCEPTED_AT_ONCE,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(settings.grace_s) + _AFTER_GRACE_S,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        self._service: Service = app.state.service
        self._grace_s = settings.grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen; its backlog is also how many are accepted at once, of which more may wait."""
        await super().startup(sockets)
        for sock in sockets or []:
            sock.listen(_BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and wait for the rest."""
        self._service.gate.drain(self._grace_s)
        await super().shutdown(sockets)


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket at the address; InputError if it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
        made.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        made.close()
        said = words_of(error) if isinstance(error, OSError) else "it is no address"
        raise InputError(
            f"cannot listen on {settings.host} port {settings.port}: {said}; give another --host or --port"
        ) from error
    return made


def serve(app: FastAPI, settings: ServeSettings, sock: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until a signal to end has come and everything has ended; `ready` is told the address."""
    # uvicorn raises a signal again once it has ended for it: then there is nothing left to do.
    before = {number: signal.signal(number, _nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        host, port = sock.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        DrainingServer(app, settings).run(sockets=[sock])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sock.close()


def _nothing(number: int, frame: object) -> None:
    """Let a signal be over."""

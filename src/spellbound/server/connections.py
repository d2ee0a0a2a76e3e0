"""Connections that cost something: how many there are, and how long a client may keep one without asking."""

import asyncio
import logging
import time
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""So long a request's head may take: the first from when the connection is made, others from a byte on."""
REST_S = 10.0
"""So long the rest of a body may take whose answer has been given already."""
UNREAD_S = 120.0
"""So long a client may leave unread what fills the way to it."""
_MOST = 4096
_AHEAD = 64 * 1024  # bytes that a client may send before it has its answer
_SAY_AGAIN_S = 60.0
_LOG = logging.getLogger("spellbound.server")


class Connection(H11Protocol):
    """uvicorn's, which by itself waits for ever for a first request and reads nothing behind a second."""

    _said: ClassVar[float] = float("-inf")
    """When it was last told that there are too many."""
    _owing: asyncio.TimerHandle | None = None
    """Ends the connection, unless the client sends what it owes."""

    _unread: asyncio.TimerHandle | None = None
    """Ends the connection, unless the client reads on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection if there is room for it."""
        super().connection_made(transport)
        most = most_connections()
        if len(self.connections) > most:
            self._say(most)
            transport.abort()
            return
        self._watch(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the work for a client that has gone."""
        self._unwatch()
        self._read_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, now that it has read."""
        self._read_on()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take some more; a request that comes before the last one is answered waits, but no news does."""
        if self.conn.their_state is h11.MUST_CLOSE:  # it said that nothing would follow
            return
        early = self._answered_early()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if early and not self._answered_early():
            self._unwatch()
        if self.conn.their_state is h11.IDLE:
            self._watch(HEAD_S if self.conn.trailing_data[0] else self.timeout_keep_alive)
        elif not self._answered_early():
            self._unwatch()
        paused = self.flow.read_paused and self.conn.their_state is not h11.SEND_BODY
        if paused and (ahead := len(self.conn.trailing_data[0])):
            # uvicorn reads nothing behind a whole request, and so would not notice that the client goes.
            if ahead > _AHEAD:
                self.transport.abort()
            else:
                self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for what is missing of this one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._answered_early():
            self._watch(REST_S)
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._watch(HEAD_S)

    def timeout_keep_alive_handler(self) -> None:
        """Let a connection go that rested for too long."""
        super().timeout_keep_alive_handler()
        self._let_go()

    def _answered_early(self) -> bool:
        """Whether the answer has been given and the body has not come to its end."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _watch(self, seconds: float) -> None:
        """End the connection in so many seconds; what is sent in small pieces gets no more."""
        if self._owing is None:
            self._owing = self.loop.call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        """End the connection, also of a client that does not read what is still on its way to it."""
        self.transport.close()
        self.loop.call_later(REST_S, self.transport.abort)

    def _unwatch(self) -> None:
        if self._owing is not None:
            self._owing.cancel()
            self._owing = None

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _say(self, most: int) -> None:
        """Log that there are too many, now and then."""
        now = time.monotonic()
        if now > Connection._said + _SAY_AGAIN_S:
            Connection._said = now
            _LOG.warning("%d connections are open, further ones are closed; for more raise ulimit -n", most)


def most_connections() -> int:
    """Return how many there may be: half of what may be open at once; the other half is for files."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(_MOST, max(1, soft // 2))

"""From the engine's thread to the event loop, and from the event loop to a client that may be gone."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from fastapi import Response
from starlette.types import Receive, Scope, Send

Item = TypeVar("Item")
Result = TypeVar("Result")

SILENT_S = 15.0
"""After so many seconds without text a comment is sent, lest somebody on the way takes the line for dead."""
_BATCH = 16
PATIENCE_S = 60.0
"""So long a client may let a piece lie before it counts as gone."""


class Feed(Generic[Item]):
    """Items put on any thread, taken in the event loop; the loop is woken once for all that came."""

    def __init__(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._there = asyncio.Event()
        self._waking = False

    def put(self, item: Item) -> None:
        """Take an item; never blocks and never raises."""
        self._items.append(item)
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop has ended, and with it whoever would have read
                return

    async def take(self, timeout_s: float) -> list[Item]:
        """Return what has come, once something has; nothing if nothing does in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._there.wait()
        except TimeoutError:
            return []
        taken = [self._items.popleft() for _ in range(min(len(self._items), _BATCH))]
        if self._items:
            await asyncio.sleep(0)  # others, and the news that the client has gone, come in between
        else:
            self._there.clear()
        return taken

    def _wake(self) -> None:
        # First: what is put from here on wakes again.
        self._waking = False
        self._there.set()


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return what the work gives; None, and the work cancelled, when the client goes before."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await ended(task, gone)


async def ended(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(Response):
    """Server-sent events, until there are no more or the client has gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], closed: Callable[[], None]) -> None:
        """Send `events`; `closed` is called once at the end, whatever ended it."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._closed = events, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all."""
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._closed()
            await ended(sending, gone)
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        try:
            await _patiently(
                send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            )
            async for event in self._events:
                await _patiently(send({"type": "http.response.body", "body": event, "more_body": True}))
            await _patiently(send({"type": "http.response.body", "body": b""}))
        except (OSError, TimeoutError):
            return


async def _patiently(sent: Awaitable[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await sent

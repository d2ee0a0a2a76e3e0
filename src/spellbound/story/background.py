"""An event loop in a thread of its own, so that nobody has to be asynchronous to wait for a server."""

import asyncio
from collections.abc import Callable, Coroutine
from threading import Lock, Thread
from typing import Any

from spellbound.errors import EnvironmentFault

_JOIN_S = 5.0
_LATE_S = 1.0  # after which what is left ends neither by itself nor with what began it
Ended = Callable[[BaseException | None], None]


class Background:
    """Runs coroutines until it is closed, which cancels them. For any number of threads."""

    def __init__(self, name: str) -> None:
        """Begin a thread of this name."""
        self._loop = asyncio.new_event_loop()
        self._lock, self._closing = Lock(), False
        self._begun: set[asyncio.Task[None]] = set()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, None], ended: Ended) -> "Running":
        """Run a coroutine; `ended` is told in that thread, once: None, or what ended it.

        EnvironmentFault after the end; then nothing is told.
        """
        running = Running(self._loop, self._begun)
        with self._lock:
            if not self._closing:
                self._loop.call_soon_threadsafe(running.start, work, ended)
                return running
        work.close()
        raise EnvironmentFault("this is closed; make another one")

    def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        with self._lock:
            if not self._closing:
                self._closing = True
                # Behind whatever was begun before, which is then among what is cancelled.
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_forever()
            loop.run_until_complete(self._end())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    async def _end(self) -> None:
        """Cancel what was begun, and wait for that and for whatever it leaves behind.

        What it leaves is not cancelled at once, for it ends by itself: a child of a task group that has not
        begun would never run what it was given, and a generator would stop in the midst of its closing.
        """
        _cancel(self._begun)
        while _others():
            _cancel((await asyncio.wait(_others(), timeout=_LATE_S))[1])
            # A generator that goes with its reader is closed by a task that the loop makes in its next turn.
            await asyncio.sleep(0)


class Running:
    """A coroutine that runs in the background."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begun: "set[asyncio.Task[None]]") -> None:
        self._loop, self._begun = loop, begun
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None], ended: Ended) -> None:
        """Begin; for the thread of the loop."""
        self._task = self._loop.create_task(work)
        self._begun.add(self._task)
        self._task.add_done_callback(self._begun.discard)
        # Not in the coroutine: one that is cancelled early never gets to run.
        self._task.add_done_callback(lambda task: ended(_error(task)))

    def cancel(self) -> None:
        """Cancel it wherever it stands; what has ended stays so."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop has ended, and all that ran in it
            return

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _error(task: "asyncio.Task[None]") -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _cancel(tasks: "set[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()


def _others() -> "set[asyncio.Task[Any]]":
    """Every task but this one; whoever keeps them keeps their frames too, and the generators in those."""
    return asyncio.all_tasks() - {asyncio.current_task()}

"""One streamed answer of a server: a thread of its own reads it, so whoever waits can also stop waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of the stream."""

    text: str = ""
    finish: str = ""
    """Why the model stopped, in the server's words; empty while it goes on."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer, or no more of it."""

    reason: str
    """In words, without the key."""
    status: int = 0
    """HTTP status; 0 where there was none."""
    again: bool = False
    """Whether another try may succeed."""
    wait_s: float | None = None
    """What the server asked for."""


Item = Chunk | Failure
Put = Callable[[Item], None]


class Answer:
    """What a coroutine puts, while it runs in a thread; `close` ends it wherever it stands."""

    def __init__(self, work: Callable[[Put], Awaitable[None]]) -> None:
        """Begin."""
        self._items: SimpleQueue[Item | BaseException] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(_awaited(work(self._items.put)))
        self._thread = Thread(target=self._run, name="spellbound-answer", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Item | None:
        """Return what comes next; None if nothing did in time."""
        try:
            item = self._items.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Close the connection, if it is still open."""
        if self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # closed between the two lines
                return
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        """Let the coroutine run until it ends or is cancelled; what nobody expected is handed over too."""
        loop = self._loop
        try:
            loop.run_until_complete(asyncio.wait([self._task]))
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None:
                self._items.put(error)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def read_event(event: object) -> Item:
    """Read one event of a stream of either API; a Failure if it is none."""
    if not isinstance(event, Mapping):
        return Failure("the server sent an event that is no object", again=True)
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(first, Mapping):
        return Failure("the server sent a choice that is no object", again=True)
    delta = first.get("delta")
    text = first.get("text") if "text" in first else member(delta, "content")
    usage = event.get("usage")
    return Chunk(
        text=_whole(text) if isinstance(text, str) else "",
        finish=str(first.get("finish_reason") or ""),
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(member(usage, "prompt_tokens_details"), "cached_tokens"),
        written_tokens=_count(usage, "completion_tokens"),
    )


def _whole(text: str) -> str:
    """Replace half characters, which JSON can spell and nothing can show."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def member(value: object, name: str) -> object:
    """Return a member of a JSON object; None if it has none, or is none."""
    return value.get(name) if isinstance(value, Mapping) else None


def _count(value: object, name: str) -> int | None:
    """A number of tokens, or None for what cannot be one."""
    number = member(value, name)
    return number if type(number) is int and number >= 0 else None

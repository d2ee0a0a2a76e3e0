"""A generator in front of any OpenAI-compatible server: vLLM, llama.cpp, or one that speaks as they do."""

import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from spellbound.directives import StoryPrompt
from spellbound.errors import EnvironmentFault, InputError, SpellboundError
from spellbound.story.answer import Answer, Chunk, Failure
from spellbound.story.client import Client
from spellbound.story.generator import Ending, FinishReason, Usage, WriteOptions
from spellbound.story.pacing import Pen
from spellbound.story.request import Body, request_body, token_limit
from spellbound.story.server import ServerSettings

_TICK_S = 0.05
_AFTER_THE_END_S = 2.0  # for the last event, which has the usage
_CHARACTERS_A_TOKEN = 64
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class ServerStopped(EnvironmentFault):
    """The server does not answer, or ended its answer too early; what it wrote is whole and closed."""


class OpenAIGenerator:
    """A server and one of its models or adapters; may write for several threads at a time."""

    def __init__(self, settings: ServerSettings) -> None:
        """Make ready; nothing is sent yet. EnvironmentFault if the client is not installed."""
        self._settings = settings
        self._client = Client(settings)
        self._place = f"server {urlsplit(settings.url).netloc}"

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the passage piece by piece, then its Ending.

        A request is tried again only while nothing has been written. Raises InputError for what the server
        refuses, ServerStopped when it fails; what it wrote before that has been yielded and closed.
        """
        pen, tally = Pen(options.words, options.stop), _Tally()
        most = _CHARACTERS_A_TOKEN * token_limit(options)
        finish = ""
        try:
            with closing(
                self._chunks(request_body(prompt, options, self._settings), tally, cancelled)
            ) as chunks:
                for chunk in chunks:
                    finish = finish or chunk.finish
                    if text := pen.write(chunk.text):
                        yield text
                    if pen.done:
                        break
                    if tally.characters > most:
                        raise ServerStopped(f"{self._place}: it does not keep to max_tokens; use another")
            reason = self._reason(pen, finish)
        except SpellboundError:
            if text := pen.finish(cut=True):
                yield text
            raise
        if text := pen.finish(cut=reason != "stop"):
            yield text
        yield Ending(
            reason=reason,
            words=pen.words,
            usage=tally.usage(),
            closed=pen.closed,
            repairs=tuple(pen.repairs),
        )

    def _reason(self, pen: Pen, finish: str) -> FinishReason:
        """Say in our words why the passage ends; without a word of the server it was the reader."""
        if pen.done:
            return "stop" if pen.stopped else "words"
        if not finish:
            return "cancelled"
        if finish not in _REASONS:
            raise ServerStopped(
                f"{self._place}: {finish!r:.40} ended the passage, not the model; look into the server's log"
            )
        return _REASONS[finish]

    def _chunks(self, body: Body, tally: "_Tally", cancelled: Callable[[], bool]) -> Generator[Chunk]:
        """Yield what the server sends, to its end or the reader's wish; try again while there is no text."""
        tries = 0
        while not cancelled():
            tally.begin()
            with closing(self._client.ask(body)) as answer:
                failure = yield from self._taken(answer, tally, cancelled)
            if failure is None:
                return
            tries += 1
            self._pause(failure, tries, cancelled)

    def _taken(
        self, answer: Answer, tally: "_Tally", cancelled: Callable[[], bool]
    ) -> Generator[Chunk, None, Failure | None]:
        """Yield an answer's chunks; return what kept it from beginning, None if it ended or was cancelled."""
        settings, finished = self._settings, False
        heard = time.monotonic()
        while not cancelled():
            item = answer.next(_TICK_S)
            if isinstance(item, Chunk):
                tally.take(item)
                ends = bool(item.finish) and not finished
                counts = ends or (bool(item.text) and not finished)
                finished = finished or ends
                yield item
                # Empty events do not count: a proxy may send them for as long as it likes.
                heard = time.monotonic() if counts else heard
            elif isinstance(item, Failure) and not finished:
                if not tally.begun:
                    return item
                raise ServerStopped(
                    f"{self._place}: broken off after {tally.characters} characters: {item.reason};"
                    " keep what there is and go on from there"
                )
            patience = settings.between_tokens_s if tally.begun else settings.first_token_s
            silent = time.monotonic() - heard > (_AFTER_THE_END_S if finished else patience)
            if finished and (silent or isinstance(item, Failure)):
                return None
            if silent:
                what = "no further text" if tally.begun else "no text"
                raise ServerStopped(
                    f"{self._place}: {what} for {patience:g} s; it may be overloaded: try again later"
                )
        return None

    def _pause(self, failure: Failure, tries: int, cancelled: Callable[[], bool]) -> None:
        """Wait before another try; raise what there is to say when there should be none."""
        settings = self._settings
        if not failure.again:
            raise self._refused(failure)
        if tries > settings.retries:
            raise ServerStopped(
                f"{self._place}: {failure.reason}, {tries} times; look whether it runs and is not overloaded"
            )
        wait = settings.backoff_s * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
        wait = max(min(wait, settings.longest_wait_s), failure.wait_s or 0.0)
        if wait > settings.longest_wait_s:
            raise ServerStopped(
                f"{self._place}: {failure.reason}; it asks to wait {wait:.0f} s: try again then"
            )
        end = time.monotonic() + wait
        while not cancelled() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK_S))

    def _refused(self, failure: Failure) -> InputError:
        """Say what to do about a refusal."""
        key = self._settings.key_variable
        remedies = {
            401: f"put its key into the environment: export {key}=...",
            403: f"put a key that may use it into the environment: export {key}=...",
            404: "give the address up to /v1, and a model or adapter that it has (--server-model)",
            413: "shorten the past story",
        }
        remedy = remedies.get(failure.status, "mend what it names, or choose another --server-dialect")
        if 300 <= failure.status < 400:
            remedy = "give its own address"
        return InputError(f"{self._place}: {failure.reason}; {remedy}")


@dataclass(slots=True)
class _Tally:
    """What the server said it cost, and what can be seen from here where it said nothing."""

    begun: bool = False
    """Whether there has been text."""
    pieces: int = 0
    characters: int = 0
    _prompt: int = 0
    _cached: int = 0
    _written: int = 0
    _asked_at: float = 0.0
    _first_at: float = 0.0
    _last_at: float = 0.0

    def begin(self) -> None:
        """Note that a request is sent now."""
        self._asked_at = time.monotonic()

    def take(self, chunk: Chunk) -> None:
        """Count a chunk in."""
        if chunk.text:
            self._last_at = time.monotonic()
            self._first_at = self._first_at or self._last_at
            self.begun = True
            self.pieces += 1
            self.characters += len(chunk.text)
        # The last word counts: servers that report with every piece leave parts out of some.
        self._prompt = chunk.prompt_tokens or self._prompt
        self._cached = chunk.cached_tokens or self._cached
        self._written = chunk.written_tokens or self._written

    def usage(self) -> Usage:
        """Say it in the words of this room; times are those of this side of the line."""
        written = self._written or self.pieces
        seconds = self._last_at - self._first_at
        return Usage(
            prompt_tokens=self._prompt,
            reused_tokens=self._cached,
            written_tokens=written,
            prefill_seconds=self._first_at - self._asked_at if self.begun else 0.0,
            tokens_per_second=(written - 1) / seconds if seconds > 0 else 0.0,
        )

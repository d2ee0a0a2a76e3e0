"""What is asked of the engine, and what it says: plain values, and the tokens of one request as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from spellbound.engine.constraint import Constraint
from spellbound.engine.params import SamplingParams
from spellbound.errors import InputError, ModelError

if TYPE_CHECKING:
    from spellbound.engine.generate import Engine

FinishReason = Literal["stop", "writer", "length", "deadline", "cancelled"]
"""stop: a stop token · writer: it was done · length: token budget or context · deadline: no time left."""
MOST_LOGPROBS = 64
_ASKED_EVERY = 0.02  # seconds between two questions whether the reader has gone
_LARGEST = np.iinfo(np.int32)


class Writer(Protocol):
    """Is told each token on the engine's thread, before the next one is chosen, and says how to go on."""

    def write(self, token: int) -> None:
        """Take the token; what it means is the writer's business. An error ends its request alone."""

    @property
    def done(self) -> bool:
        """Whether the text is whole, so that no token is chosen any more."""

    @property
    def wants_more(self) -> bool:
        """Whether stop tokens are not chosen yet, as long as anything else may come."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt in tokens, and how to go on from it."""

    prompt_ids: Sequence[int] | NDArray[np.integer]
    params: SamplingParams
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end the text; they are never yielded."""
    constraint: Constraint | None = None
    """A fresh one: it moves with the written tokens."""
    writer: Writer | None = None
    boundaries: Sequence[int] = ()
    """Prompt positions whose state is worth keeping: a later prompt may begin with the tokens before them."""
    never_penalised: frozenset[int] = frozenset()
    """Tokens that may come as often as they like (punctuation, markup), whatever the repetition penalty."""
    adapter: str | None = None
    """Name of an adapter of the engine; None for the bare model."""
    logprobs: int | None = None
    """How many of the likeliest tokens to score at each place, besides the chosen one; None scores none."""
    space: str = ""
    """Requests of another space neither see nor leave anything in this one's part of the story cache."""
    seconds: float | None = None
    """From when it begins to wait, after which the text ends where it is; None for no limit."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise InputError(f"logprobs is {self.logprobs}; give a number from 0 to {MOST_LOGPROBS}")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds is {self.seconds}; give a time above 0, or None for no limit")


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of one place, of the model itself: before bias, constraint and temperature."""

    chosen: float
    likeliest: tuple[tuple[int, float], ...]
    """Tokens and theirs, the likeliest first."""


@dataclass(kw_only=True)
class Stats:
    """What one request cost. Other requests of the same time share its seconds."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompt: not read, because a kept state already had."""
    prefill_tokens: int = 0
    """Of the prompt: read by the model."""
    queue_seconds: float = 0.0
    """Until its turn came."""
    prefill_seconds: float = 0.0
    """From then on until the prompt was read."""
    written_tokens: int = 0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Written tokens a second, reading the prompt not counted."""
        return self.written_tokens / self.decode_seconds if self.decode_seconds else 0.0


class Ticket:
    """What engine and reader share of a request. The engine holds no reader, so that one may be dropped."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.prompt = _ids(request.prompt_ids)
        self.stats = Stats(prompt_tokens=len(self.prompt))
        self.scores: list[Scores] = []
        self.tokens: SimpleQueue[int | None] = SimpleQueue()
        self.finish_reason: FinishReason = "cancelled"
        self.error: BaseException | None = None
        self.over = Event()
        self.leaving = False
        """Whether the reader has gone; the engine looks before each step."""
        self.entered = 0.0
        """When it began to wait."""

    def ends(self) -> FinishReason | None:
        """Say why it has to end now, if it has to."""
        if self.leaving:
            return "cancelled"
        seconds = self.request.seconds
        return "deadline" if seconds is not None and perf_counter() > self.entered + seconds else None

    def end(self, reason: FinishReason, error: BaseException | None = None) -> None:
        """Say that nothing follows."""
        if not self.over.is_set():
            self.finish_reason, self.error = reason, error
            self.over.set()
            self.tokens.put(None)


class Generation:
    """The tokens of one request, an iterator that waits for them and can be closed at any time.

    One that nobody holds any more counts as closed.
    """

    def __init__(self, engine: Engine, ticket: Ticket, cancelled: Callable[[], bool]) -> None:
        """Made by :meth:`Engine.generate`; the engine begins when the first token is asked for."""
        self._engine, self._ticket, self._cancelled = engine, ticket, cancelled
        self._begun = False
        self._ended = False

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self._ticket.request

    @property
    def stats(self) -> Stats:
        """What it has cost so far."""
        return self._ticket.stats

    @property
    def scores(self) -> list[Scores]:
        """One for each token, if they were asked for; there before the token is."""
        return self._ticket.scores

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; `cancelled` also when it was closed early. To be read after the end."""
        return self._ticket.finish_reason

    def __iter__(self) -> Iterator[int]:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """Wait for the next token."""
        ticket = self._ticket
        if self._ended or (ticket.leaving and not self._begun):
            raise StopIteration
        if not self._begun:
            self._engine.enter(ticket)
            self._begun = True
        while True:
            if self._cancelled():
                ticket.leaving = True
            try:
                token = ticket.tokens.get(timeout=_ASKED_EVERY)
            except Empty:
                continue
            if token is not None:
                return token
            self._ended = True
            if ticket.error is not None:
                raise ticket.error
            raise StopIteration

    def close(self) -> None:
        """End now, and return once the engine has let go of it; what was computed stays in the cache.

        Called by the request's own writer it returns at once, for the engine lets go only after that.
        """
        self._ticket.leaving = True
        if self._begun and not self._engine.is_here():
            self._ticket.over.wait()

    def __del__(self) -> None:
        """Let the engine go on to something that somebody reads."""
        ticket: Ticket | None = getattr(self, "_ticket", None)
        if ticket is not None:
            ticket.leaving = True


def _ids(tokens: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int32]:
    """Return a copy of tokens as the cache compares them; ModelError for what no model can have."""
    try:
        given = np.asarray(tokens)
    except (OverflowError, ValueError, TypeError) as error:
        raise ModelError(f"the prompt's tokens cannot be used: {error}; give whole numbers") from error
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ModelError(
            f"the prompt's tokens are {given.ndim}-dimensional, of {given.dtype}; give a row of whole numbers"
        )
    wide = given.size and given.dtype != np.int32
    if wide and (int(given.max()) > _LARGEST.max or int(given.min()) < _LARGEST.min):
        raise ModelError(
            f"the prompt has tokens from {given.min()} to {given.max()}; use the model's own tokenizer"
        )
    ids = given.astype(np.int32)
    ids.flags.writeable = False
    return ids

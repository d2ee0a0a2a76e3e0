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

    prompt_ids: Sequence[int] | NDArray[np.int32]
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
    """From now on, after which the text ends where it is; None for no limit."""

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


class Generation:
    """The tokens of one request, an iterator that waits for them and can be closed at any time."""

    def __init__(self, engine: Engine, request: Request, cancelled: Callable[[], bool]) -> None:
        """Made by :meth:`Engine.generate`; the engine begins at the first token that is asked for."""
        self.request = request
        self.prompt = _ids(request.prompt_ids)
        self.finish_reason: FinishReason = "cancelled"
        """Why it ended; `cancelled` also when it was closed early. To be read after the end."""
        self.stats = Stats(prompt_tokens=len(self.prompt))
        self.scores: list[Scores] = []
        """One for each token, if they were asked for; there before the token is."""
        self._engine, self._cancelled = engine, cancelled
        self._tokens: SimpleQueue[int | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._begun = False
        self._over = Event()
        self.leaving = False
        """Whether the reader has gone; the engine looks before each step."""
        self.entered = 0.0
        """When it began to wait."""

    def __iter__(self) -> Iterator[int]:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """Wait for the next token."""
        if not self._begun:
            if self.leaving:
                raise StopIteration
            self._begun = True
            self._engine.enter(self)
        while True:
            if self._cancelled():
                self.leaving = True
            try:
                token = self._tokens.get(timeout=_ASKED_EVERY)
            except Empty:
                continue
            if token is not None:
                return token
            self._tokens.put(None)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        """End now, and return once the engine has let go of it; what was computed stays in the cache."""
        self.leaving = True
        if self._begun:
            self._over.wait()

    # ---- for the engine

    def enter(self) -> None:
        """Begin to wait."""
        self.entered = perf_counter()

    def over(self) -> FinishReason | None:
        """Say why it has to end now, if it has to."""
        if self.leaving:
            return "cancelled"
        seconds = self.request.seconds
        return "deadline" if seconds is not None and perf_counter() > self.entered + seconds else None

    def give(self, token: int) -> None:
        """Hand a token to the reader."""
        self._tokens.put(token)

    def end(self, reason: FinishReason, error: BaseException | None = None) -> None:
        """Say that nothing follows."""
        self.finish_reason, self._error = reason, error
        self._over.set()
        self._tokens.put(None)


def _ids(tokens: Sequence[int] | NDArray[np.int32]) -> NDArray[np.int32]:
    """Return tokens as the cache compares them; ModelError for what can be no token of any model."""
    try:
        return np.asarray(tokens, np.int32)
    except (OverflowError, ValueError, TypeError) as error:
        raise ModelError(f"the prompt's tokens cannot be used: {error}; give whole numbers") from error

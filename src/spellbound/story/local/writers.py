"""What becomes of tokens on the engine's thread: pieces of a passage or a completion, told as they come."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from spellbound.engine import FinishReason as TokensEnd
from spellbound.engine import Generation, Request, Stats, Ticket, Vocabulary
from spellbound.story.completion import Completed, CompletionOptions, CompletionReason, ShapedText
from spellbound.story.generator import Ending, FinishReason, Usage
from spellbound.story.pacing import Pen

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "writer": "words",
    "length": "length",
    "deadline": "cancelled",
    "cancelled": "cancelled",
}
"""Why a passage ended, by why its tokens did."""
_COMPLETED: dict[str, CompletionReason] = {
    "stop": "stop",
    "writer": "stop",
    "length": "length",
    "deadline": "length",
    "cancelled": "cancelled",
}


class Passage:
    """The pen as the engine's writer: tokens in, on the engine's thread; for each a piece of text out."""

    def __init__(self, vocabulary: Vocabulary, pen: Pen) -> None:
        self._text, self.pen = _Text(vocabulary), pen
        self.pieces: deque[str] = deque()

    def write(self, token: int) -> None:
        """Put down what the token says, as far as it is certain."""
        self.pieces.append(self.pen.write(self._text.of(token)))

    @property
    def done(self) -> bool:
        """Whether there are words enough and a good place to stop, or a stop string."""
        return self.pen.done

    @property
    def wants_more(self) -> bool:
        """Whether there are fewer words than were asked for."""
        return self.pen.wants_more

    def ending(self, generation: Generation | Ticket) -> tuple[str, Ending]:
        """Return the last text and the Ending."""
        pen = self.pen
        reason = "stop" if pen.stopped else _REASONS[generation.finish_reason]
        text = pen.finish(cut=reason != "stop")
        return text, Ending(
            reason=reason,
            words=pen.words,
            usage=_usage(generation.stats),
            closed=pen.closed,
            repairs=tuple(pen.repairs),
        )


class Completion:
    """A completion as the engine's writer: text as it comes, through its shape, up to a stop string."""

    def __init__(self, vocabulary: Vocabulary, options: CompletionOptions) -> None:
        self._least, self._count = options.min_tokens, 0
        self._text, self._shaped = _Text(vocabulary), ShapedText(options)
        self.pieces: deque[str] = deque()

    def write(self, token: int) -> None:
        """Put down what the token says, as far as it is certain."""
        self._count += 1
        self.pieces.append(self._shaped.feed(self._text.of(token)))

    @property
    def done(self) -> bool:
        """Whether a stop string was met."""
        return self._shaped.done

    @property
    def wants_more(self) -> bool:
        """Whether there are fewer tokens than were asked for."""
        return self._count < self._least

    def ending(self, generation: Generation | Ticket) -> tuple[str, Completed]:
        """Return the last text and what ended it."""
        text = self._shaped.finish()
        reason = "stop" if self.done else _COMPLETED[generation.finish_reason]
        return text, Completed(reason, _usage(generation.stats))


class _Text:
    """Tokens to text; a character may be spread over several, and its bytes wait here until it is whole."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, token: int) -> str:
        """Return what the token adds."""
        return self._decoder.decode(self._vocabulary.token_bytes(token))


class ToldTicket(Ticket):
    """A request that nobody waits for: it says on the engine's thread that it has ended."""

    def __init__(self, request: Request, ended: Callable[[ToldTicket], None]) -> None:
        super().__init__(request)
        self._tell = ended
        self.taken: Future[BaseException | None] = Future()
        self.taken.set_result(None)  # what the engine refuses is raised before

    def cancel(self) -> None:
        """End before the next step."""
        self.leaving = True

    def end(self, reason: TokensEnd, error: BaseException | None = None) -> None:
        """Say that nothing follows, once."""
        first = not self.over.is_set()
        super().end(reason, error)
        if first:
            self._tell(self)


@dataclass
class Telling:
    """A writer that is asked for its piece as soon as it has one."""

    writer: Passage | Completion
    tell: Callable[[int, str], None]

    def write(self, token: int) -> None:
        """Put down a token and tell what it adds."""
        self.writer.write(token)
        self.tell(token, self.writer.pieces.popleft())

    @property
    def done(self) -> bool:
        """What the writer says."""
        return self.writer.done

    @property
    def wants_more(self) -> bool:
        """What the writer says."""
        return self.writer.wants_more


def _usage(stats: Stats) -> Usage:
    """Say what it cost in the words of this room."""
    return Usage(
        prompt_tokens=stats.prompt_tokens,
        reused_tokens=stats.reused_tokens,
        written_tokens=stats.written_tokens,
        queue_seconds=stats.queue_seconds,
        prefill_seconds=stats.prefill_seconds,
        tokens_per_second=stats.tokens_per_second,
    )

"""What a server's chunks become on their way to a reader: a passage of a story, or a completion."""

import math
from typing import Protocol, TypeVar

from spellbound.story.answer import Chunk
from spellbound.story.asking import ServerStopped, place_of
from spellbound.story.completion import Completed, CompletionOptions, CompletionReason, Piece, ShapedText
from spellbound.story.generator import Ending, FinishReason, Usage, WriteOptions
from spellbound.story.pacing import Pen
from spellbound.story.request import token_limit
from spellbound.story.server import ServerSettings
from spellbound.story.tally import Tally

_CHARACTERS_A_TOKEN = 64  # on an average
_CHARACTERS_AT_LEAST = 1024  # a single token may be a line of blanks
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_COMPLETED: dict[str, CompletionReason] = {"stop": "stop", "length": "length"}
_FINISHES = ("content_filter", "tool_calls", "function_call", "abort", "error")
"""What servers say, besides; anything else may be words of a story."""
Given = TypeVar("Given")
Reason = TypeVar("Reason", bound=str)


class Writer(Protocol[Given]):
    """Takes chunks, gives what can be shown."""

    @property
    def done(self) -> bool:
        """Whether it has enough."""

    def write(self, chunk: Chunk) -> list[Given]:
        """Take some more."""

    def cut(self) -> list[Given]:
        """Return what closes a text that broke off."""

    def ending(self) -> list[Given]:
        """Return the rest, and last what ended it; ServerStopped if it was neither model nor reader."""


class _Source:
    """Where the chunks come from: what they cost, why they end, and that they do."""

    def __init__(self, settings: ServerSettings, max_tokens: int | None) -> None:
        self._place, self._tally = place_of(settings), Tally()
        self._most = (
            math.inf if max_tokens is None else _CHARACTERS_A_TOKEN * max_tokens + _CHARACTERS_AT_LEAST
        )

    def take(self, chunk: Chunk) -> None:
        """Count a chunk in; ServerStopped for more than was asked for."""
        self._tally.take(chunk)
        if self._tally.characters > self._most:
            raise ServerStopped(
                f"{self._place}: it does not keep to max_tokens; use another", broke="more than max_tokens"
            )

    def reason(self, known: dict[str, Reason]) -> Reason | None:
        """Say in our words why the model stopped; None: the server said nothing, so it was the reader."""
        finish = self._tally.finish
        if finish and finish not in known:
            raise ServerStopped(
                f"{self._place}: {finish!r:.40} ended the passage, not the model; look into the server's log",
                broke=f"ended by {finish}" if finish in _FINISHES else "ended by neither model nor reader",
            )
        return known[finish] if finish else None

    def usage(self) -> Usage:
        """Say what it cost."""
        return self._tally.usage()


class Passage:
    """A passage: well-formed, with so many words."""

    def __init__(self, options: WriteOptions, settings: ServerSettings) -> None:
        """Begin one."""
        self._pen = Pen(options.words, options.stop)
        self._source = _Source(settings, token_limit(options))

    @property
    def done(self) -> bool:
        """Whether there are words enough and a good place to stop, or a stop string."""
        return self._pen.done

    def write(self, chunk: Chunk) -> list[str | Ending]:
        """Take some more; ServerStopped for more than was asked for."""
        self._source.take(chunk)
        return _shown(self._pen.write(chunk.text))

    def cut(self) -> list[str | Ending]:
        """Return what closes a passage that broke off."""
        return _shown(self._pen.finish(cut=True))

    def ending(self) -> list[str | Ending]:
        """Return the last text and the Ending."""
        pen = self._pen
        if pen.done:
            reason: FinishReason = "stop" if pen.stopped else "words"
        else:
            reason = self._source.reason(_REASONS) or "cancelled"
        return [
            *_shown(pen.finish(cut=reason != "stop")),
            Ending(
                reason=reason,
                words=pen.words,
                usage=self._source.usage(),
                closed=pen.closed,
                repairs=tuple(pen.repairs),
            ),
        ]


class Completion:
    """A completion: through its shape, up to a stop string."""

    def __init__(self, options: CompletionOptions, settings: ServerSettings) -> None:
        """Begin one."""
        self._shaped = ShapedText(options)
        self._source = _Source(settings, options.max_tokens)

    @property
    def done(self) -> bool:
        """Whether a stop string was met."""
        return self._shaped.done

    def write(self, chunk: Chunk) -> list[Piece | Completed]:
        """Take some more; ServerStopped for more than was asked for."""
        self._source.take(chunk)
        text = self._shaped.feed(chunk.text)
        first, *others = chunk.scores or (None,)
        told = [Piece(text, first)] if text or first else []
        return [*told, *(Piece("", score) for score in others)]

    def cut(self) -> list[Piece | Completed]:
        """Return the rest of a text that broke off."""
        return [Piece(text)] if (text := self._shaped.finish()) else []

    def ending(self) -> list[Piece | Completed]:
        """Return the last text and what ended it."""
        reason = "stop" if self.done else self._source.reason(_COMPLETED) or "cancelled"
        return [*self.cut(), Completed(reason, self._source.usage())]


def _shown(text: str) -> list[str | Ending]:
    return [text] if text else []

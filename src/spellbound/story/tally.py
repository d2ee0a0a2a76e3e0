"""What a text from a server cost."""

import time
from dataclasses import dataclass, field

from spellbound.story.answer import Chunk
from spellbound.story.generator import Usage


@dataclass(slots=True)
class Tally:
    """What the server said it cost, and what can be seen from here where it said nothing."""

    pieces: int = 0
    characters: int = 0
    finish: str = ""
    """Why the model stopped, in the server's words."""
    _prompt: int = 0
    _cached: int | None = None
    _written: int = 0
    _asked_at: float = field(default_factory=time.monotonic)
    _first_at: float = 0.0
    _last_at: float = 0.0

    def take(self, chunk: Chunk) -> None:
        """Count a chunk in."""
        self.finish = self.finish or chunk.finish
        if chunk.text:
            self._last_at = time.monotonic()
            self._first_at = self._first_at or self._last_at
            self.pieces += 1
            self.characters += len(chunk.text)
        # The last word counts: servers that report with every piece leave parts out of some.
        self._prompt = chunk.prompt_tokens or self._prompt
        if chunk.cached_tokens is not None:
            self._cached = chunk.cached_tokens or self._cached or 0
        self._written = chunk.written_tokens or self._written

    def usage(self) -> Usage:
        """Say it in the words of this room; times are those of this side of the line."""
        written = self._written or self.pieces
        seconds = self._last_at - self._first_at
        return Usage(
            prompt_tokens=self._prompt,
            reused_tokens=self._cached or 0,
            reuse_known=self._cached is not None,
            written_tokens=written,
            queue_seconds=None,
            prefill_seconds=self._first_at - self._asked_at if self.pieces else 0.0,
            tokens_per_second=(written - 1) / seconds if seconds > 0 else 0.0,
        )

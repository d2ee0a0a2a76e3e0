"""A generator that recites: for tests and for building front ends without a model."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

from spellbound.directives import StoryPrompt
from spellbound.story.generator import Ending, FinishReason, Usage, WriteOptions
from spellbound.story.pacing import Pen


class ScriptedGenerator:
    """Yields given passages in turn, in pieces of a given size."""

    def __init__(self, passages: Sequence[str], *, piece: int = 4) -> None:
        """Recite `passages`, beginning again after the last, `piece` characters at a time."""
        self._passages = cycle(passages)
        self._piece = piece
        self.prompts: list[StoryPrompt] = []
        """Every prompt it was given, oldest first."""

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the next passage; the options shorten it but do not change it."""
        self.prompts.append(prompt)
        passage, pen = next(self._passages), Pen(options.words, options.stop)
        reason: FinishReason = "stop"
        written = 0
        for start in range(0, len(passage), self._piece):
            if cancelled():
                reason = "cancelled"
            elif pen.done and not pen.stopped:
                reason = "words"
            elif written == options.max_tokens:
                reason = "length"
            if reason != "stop" or pen.done:
                break
            if text := pen.write(passage[start : start + self._piece]):
                yield text
            written += 1
        if text := pen.finish(cut=reason != "stop"):
            yield text
        usage = Usage(written_tokens=written)
        yield Ending(
            reason=reason, words=pen.words, usage=usage, closed=pen.closed, repairs=tuple(pen.repairs)
        )

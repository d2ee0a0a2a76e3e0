"""What the rest of the program means by "write on": one method, and the plain values it takes and gives."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from spellbound.directives import Character, Repair, StoryPrompt
from spellbound.errors import InputError
from spellbound.story.stops import StopStrings

FinishReason = Literal["stop", "words", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a passage is written. The sampling values are explained in `spellbound.engine.SamplingParams`."""

    words: int | None = None
    """Write at least so many words, then stop where a paragraph or sentence ends. None: the model decides."""
    max_tokens: int | None = None
    """Hard limit. None: enough for `words`, or 1,024."""
    temperature: float = 0.8
    top_p: float = 1.0
    min_p: float = 0.05
    repetition_penalty: float = 1.05
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Strings that end the passage; nothing of them is written."""
    constrain: bool = True
    """Let the model write only well-formed text with speakers of the cast."""
    never_speak_as: tuple[str, ...] = ()
    """Speaker IDs of the cast whose words are somebody else's to write: needs `constrain`."""
    adapter: str | None = None
    """Name of an adapter of a model in this process; None for the bare model."""
    space: str = ""
    """Nothing read in one space is found from another, here or on vLLM."""
    seconds: float | None = None
    """Time limit of a model in this process, waiting included."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing; the generator checks the ranges of its sampler."""
        for name, value in (("words", self.words), ("max_tokens", self.max_tokens)):
            if value is not None and not 1 <= value <= 1_000_000:
                raise InputError(f"{name} is {value}; give a number from 1 to 1,000,000")
        StopStrings(self.stop)
        if self.never_speak_as and not self.constrain:
            raise InputError("never_speak_as is kept by the constraint alone; do not turn that off")

    def speakers(self, prompt: StoryPrompt) -> tuple[Character, ...]:
        """Return who may speak in the passage; InputError if somebody who may not is not in the cast."""
        cast = {character.speaker_id for character in prompt.characters}
        for speaker_id in self.never_speak_as:
            if speaker_id not in cast:
                known = ", ".join(sorted(cast)) or "nobody"
                raise InputError(
                    f"never_speak_as: speaker ID {speaker_id[:40]!r} is not in the cast; give of: {known}"
                )
        return tuple(each for each in prompt.characters if each.speaker_id not in self.never_speak_as)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a passage cost."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompt: known from before, not read again."""
    reuse_known: bool = True
    """False: a server wrote it and did not say how much of the prompt it knew."""
    written_tokens: int = 0
    queue_seconds: float | None = 0.0
    """Until its turn came; None where that is not known."""
    prefill_seconds: float = 0.0
    tokens_per_second: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The last thing a generator yields, once."""

    reason: FinishReason
    """stop: the model ended it · words: so many were asked for · length: token limit · cancelled: reader."""
    words: int
    usage: Usage
    closed: tuple[str, ...] = ()
    """Kinds of the tags that were still open and that the generator closed, innermost first."""
    repairs: tuple[Repair, ...] = ()
    """What was mended in the written text; positions are those of the text as the model wrote it."""


class Generator(Protocol):
    """Anything that can write a passage: a model in this process, a server, a script."""

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the tagged passage in pieces as it is written, then exactly one Ending.

        The pieces together leave no tag open and never hold half a character. `cancelled` is asked often;
        once it says yes the passage is closed and ends.
        """


def collect(pieces: Iterable[str | Ending]) -> tuple[str, Ending]:
    """Take a whole passage at once."""
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, Ending):
            return "".join(text), piece
        text.append(piece)
    raise InputError("the generator ended without an Ending; it has to yield one last")

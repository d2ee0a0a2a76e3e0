"""Raw completion: text or messages in, pieces of text out, told as they come.

Where a `Generator` is asked for the next piece, a `Completer` tells it, on a thread of its own: a server with
many readers needs no thread for each. `completed` turns one into the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol

from spellbound.directives import StoryPrompt
from spellbound.errors import InputError, ModelError
from spellbound.story.generator import Ending, Usage, WriteOptions
from spellbound.story.stops import StopStrings

CompletionReason = Literal["stop", "length", "cancelled"]


class PromptTooLong(ModelError):
    """A prompt with more tokens than may be read; both numbers are in the message."""


class Shape(Protocol):
    """Turns a text into another one, piece by piece: tags into prose."""

    def feed(self, text: str) -> str:
        """Take some more; return what is certain."""

    def finish(self) -> str:
        """Return the rest; nothing follows."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the engine of a generator may use."""

    cache_bytes: int = 2 * 2**30
    """Of memory, for what was read before."""
    cache_folder: Path | None = None
    """Where it is kept for the next start; None: nowhere."""
    disk_bytes: int = 8 * 2**30
    max_streams: int = 64
    """Requests worked on at once."""
    max_waiting: int = 1024
    """Further ones that may wait."""
    max_prompt_tokens: int | None = None
    """Longer prompts are refused; None: what the model reads."""

    def __post_init__(self) -> None:
        """Refuse a limit that lets nothing through; the engine checks its own."""
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise InputError(f"max_prompt_tokens is {self.max_prompt_tokens}; give 1 or more")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


Prompt = str | Sequence[int] | tuple[Message, ...]
"""Text as it stands, in which control tokens count · tokens · messages, in which they are letters."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """How a text is completed. The sampling values are explained in `spellbound.engine.SamplingParams`."""

    max_tokens: int | None = None
    """None: as many as the context has room for."""
    min_tokens: int = 0
    """No stop token before so many, as long as anything else may come."""
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Strings that end the text; nothing of them is told."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    """How many of the likeliest tokens to score at each place, besides the chosen one."""
    grammar: str | None = None
    """A llguidance grammar (Lark) that the text has to follow."""
    json_schema: str | None = None
    """A JSON schema, as JSON, that the text has to follow."""
    space: str = ""
    """Nothing read in one space is found from another."""
    adapter: str | None = None
    seconds: float | None = None
    """Time limit, waiting included."""
    shape: Callable[[], Shape] | None = None
    """Makes what the text goes through before stop strings are looked for."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; the completer checks the ranges of its sampler."""
        if self.grammar is not None and self.json_schema is not None:
            raise InputError("a grammar and a JSON schema were given; leave one of them out")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}; give 1 or more")
        StopStrings(self.stop)


class ShapedText:
    """A text on its way out: through its shape, up to a stop string."""

    def __init__(self, options: CompletionOptions) -> None:
        """Begin a text."""
        self._stops = StopStrings(options.stop)
        self._shape = options.shape() if options.shape is not None else None

    @property
    def done(self) -> bool:
        """Whether a stop string was met."""
        return self._stops.found is not None

    def feed(self, text: str) -> str:
        """Take some more; return what can be shown."""
        return self._stops.feed(text if self._shape is None else self._shape.feed(text))

    def finish(self) -> str:
        """Return the rest; nothing follows."""
        rest = self._stops.feed(self._shape.finish()) if self._shape is not None else ""
        return rest + self._stops.finish()


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that could stand at a place, and its log-probability."""

    token: int
    """-1 where a server does not say which it is."""
    text: str
    """As far as its bytes are text; the name of a control token."""
    data: bytes
    """None for a control token."""
    logprob: float


@dataclass(frozen=True, slots=True)
class Scored:
    """A token that was written, and what else was likely in its place, the likeliest first."""

    chosen: Likely
    likeliest: tuple[Likely, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added: text, as far as it is certain, and the token's score if it was asked for."""

    text: str
    scored: Scored | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The last thing a completer tells, once."""

    reason: CompletionReason
    """stop: the model, or a stop string · length: token or time limit · cancelled: by whoever asked."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The last thing that is told of a work that went wrong."""

    error: BaseException


Told = Piece | Completed | Failed
StoryTold = str | Ending | Failed


class Work(Protocol):
    """Something that is being written."""

    @property
    def taken(self) -> "Future[BaseException | None]":
        """Has a result once the work is taken on: None, or what keeps it from that, which is told, too."""

    def cancel(self) -> None:
        """End it before the engine's next step; its end is told as always."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a completer is, and what it remembers."""

    running: int = 0
    waiting: int = 0
    cache_bytes: int = 0
    disk_bytes: int = 0
    evicted: int = 0
    """Snapshots that had to leave memory so far."""
    cache_failures: Mapping[str, int] = field(default_factory=dict)
    """What the cache could not do so far, by kind."""


class Completer(Protocol):
    """A model, here or behind a server. `put` is called on its thread, must be quick and must not raise."""

    @property
    def context(self) -> int | None:
        """Tokens that prompt and text may have together; None where that is not known."""

    @property
    def fault(self) -> str:
        """Why nothing can be written at the moment; empty where all is well."""

    @property
    def adapters(self) -> list[str]:
        """Names of adapters that may be asked for."""

    @property
    def load(self) -> Load:
        """What it is doing now."""

    def start(self, prompt: Prompt, options: CompletionOptions, put: Callable[[Told], None]) -> Work:
        """Begin to complete; tell pieces, then one Completed or Failed.

        Raises InputError for what cannot be done (PromptTooLong among it), EngineBusy for too much at once.
        """

    def start_passage(
        self, prompt: StoryPrompt, options: WriteOptions, put: Callable[[StoryTold], None]
    ) -> Work:
        """Begin a passage of a story; tell what `Generator.write` yields, or Failed. Raises as `start`."""

    def tokenize(self, prompt: str | tuple[Message, ...], *, start: bool = True) -> list[int]:
        """Return the tokens of a prompt; `start`: of a text, with the start token. InputError: without it."""

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; InputError for one that is none."""


def completed(
    completer: Completer, prompt: Prompt, options: CompletionOptions
) -> Iterator[Piece | Completed]:
    """Yield pieces as they come, then one Completed; closing the iterator cancels the work."""
    told: SimpleQueue[Told] = SimpleQueue()
    work = completer.start(prompt, options, told.put)
    try:
        while True:
            item = told.get()
            if isinstance(item, Failed):
                raise item.error
            yield item
            if isinstance(item, Completed):
                return
    finally:
        work.cancel()

"""A completer in front of any OpenAI-compatible server: how our own one stands before another."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

from spellbound.directives import StoryPrompt
from spellbound.errors import EngineBusy, EnvironmentFault, InputError
from spellbound.story.answer import Chunk, Failure
from spellbound.story.asking import Asked, ServerRefused, ServerStopped, place_of, refused
from spellbound.story.background import Background, Running
from spellbound.story.client import Client
from spellbound.story.completion import CompletionOptions, Failed, Load, Message, Prompt, StoryTold, Told
from spellbound.story.completion_request import completion_body
from spellbound.story.generator import WriteOptions
from spellbound.story.remote_text import Completion, Given, Passage, Writer
from spellbound.story.request import request_body
from spellbound.story.server import ServerSettings

_LOOK_S = 15.0
_ANSWER_S = 10.0
_NO_LIST = frozenset({404, 405})
"""Of servers that do not tell what they have."""
_OPTION = "--upstream"
_LOG = logging.getLogger("spellbound.story")
_Models = dict[str, int | None] | Failure


class UpstreamWork:
    """A request that the server works on."""

    def __init__(self, asked: Asked, running: Running) -> None:
        self.taken, self._running = asked.taken, running

    def cancel(self) -> None:
        """Close the connection; its end is told as always."""
        self._running.cancel()


class Upstream:
    """A server and one of its models, as a `Completer`. All requests are worked on in one thread."""

    adapters: list[str] = []
    """Those of a server are models to it."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        tokenizer: Path | None = None,
        max_streams: int = 64,
        max_waiting: int = 1024,
    ) -> None:
        """Ask the server once what it has; ServerStopped if it is not there, InputError for what it refuses.

        `tokenizer`: a model folder with the server's own tokenizer, for `tokenize` and `detokenize` ·
        `max_streams`: requests to the server at once · `max_waiting`: further ones that may wait here.
        """
        for name, value in (("max_streams", max_streams), ("max_waiting", max_waiting)):
            if value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
        self._settings = settings
        self._max_streams, self._max_waiting = max_streams, max_waiting
        self._turns = asyncio.Semaphore(max_streams)
        self._client = Client(settings)
        self._encoder = None
        if tokenizer is not None:
            # Here, for it takes seconds.
            from spellbound.story.prompting import PromptEncoder, load_tokenizer

            self._encoder = PromptEncoder(tokenizer, load_tokenizer(tokenizer))
        self._works: set[Asked] = set()
        self._works_lock = Lock()
        self._first: Future[_Models] = Future()
        self.context: int | None = None
        self.fault = ""
        self._background = Background("spellbound-upstream")
        try:
            self._background.begin(self._look(), self._looked)
            self._meet(self._first.result())
        except BaseException:
            self._background.close()
            raise

    @property
    def model(self) -> str:
        """Name of the model, as the server has it."""
        return self._client.model

    @property
    def load(self) -> Load:
        """What is asked of the server, and what waits here; of its own queue and cache it does not speak."""
        count = len(self._works)
        running = min(count, self._max_streams)
        return Load(running=running, waiting=count - running)

    def close(self) -> None:
        """End what is being written."""
        self._background.close()

    def start(self, prompt: Prompt, options: CompletionOptions, put: Callable[[Told], None]) -> UpstreamWork:
        """Begin to complete; tell pieces, then one Completed or Failed. EngineBusy if too many wait."""
        api, body = completion_body(prompt, options, self._settings)
        asked = Asked(self._client, self._settings, api, body)
        return self._begin(asked, Completion(options, self._settings), put)

    def start_passage(
        self, prompt: StoryPrompt, options: WriteOptions, put: Callable[[StoryTold], None]
    ) -> UpstreamWork:
        """Begin a passage of a story; tell what `OpenAIGenerator.write` yields, or Failed."""
        body = request_body(prompt, options, self._settings)
        asked = Asked(self._client, self._settings, self._settings.api, body)
        return self._begin(asked, Passage(options, self._settings), put)

    def tokenize(self, prompt: str | tuple[Message, ...], *, start: bool = True) -> list[int]:
        """Return the tokens of a prompt; InputError without a tokenizer."""
        if self._encoder is None:
            raise _no_tokenizer()
        return [int(token) for token in self._encoder.encode(prompt, start=start)[0]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; InputError for one that is none, and without a tokenizer."""
        if self._encoder is None:
            raise _no_tokenizer()
        return self._encoder.decode(tokens)

    def _begin(
        self, asked: Asked, writer: Writer[Given], put: Callable[[Given | Failed], None]
    ) -> UpstreamWork:
        def take(chunk: Chunk) -> bool:
            for item in writer.write(chunk):
                put(item)
            return writer.done

        def ended(error: BaseException | None) -> None:
            self._leave(asked)
            # Cancelled is what a reader wanted, and no fault.
            fault = None if isinstance(error, asyncio.CancelledError) else error
            asked.settle(fault)
            last = _last(writer, fault)
            for item in last:
                if isinstance(item, Failed):
                    self._log(item.error)
                put(item)

        self._enter(asked)
        try:
            running = self._background.begin(self._in_turn(asked, take), ended)
        except EnvironmentFault:
            self._leave(asked)
            raise
        return UpstreamWork(asked, running)

    def _enter(self, asked: Asked) -> None:
        """Let a request wait for its turn; EngineBusy if too many do."""
        with self._works_lock:
            if len(self._works) >= self._max_streams + self._max_waiting:
                raise EngineBusy(f"{self._max_waiting} requests are waiting already; try again later")
            self._works.add(asked)

    def _leave(self, asked: Asked) -> None:
        with self._works_lock:
            self._works.discard(asked)

    async def _in_turn(self, asked: Asked, take: Callable[[Chunk], bool]) -> None:
        async with self._turns:
            await asked.read(take)

    # ---- whether it is there

    async def _look(self) -> None:
        """Ask again and again what the server has."""
        while True:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    found: _Models = await self._client.models()
            except TimeoutError:
                found = Failure(f"no answer within {_ANSWER_S:g} s", again=True)
            self._note(found)
            if not self._first.done():
                self._first.set_result(found)
            await asyncio.sleep(_LOOK_S)

    def _looked(self, error: BaseException | None) -> None:
        if error is not None and not self._first.done():
            self._first.set_exception(error)

    def _note(self, found: _Models) -> None:
        """Remember what the last look showed."""
        fault = ""
        if not isinstance(found, Failure):
            self.context = found.get(self.model)
            if found and self.model not in found:
                fault = f"it no longer has the model {self.model!r:.80}"
        # Whoever refuses to tell what it has may write all the same, but not without a key.
        elif found.status == 0 or found.status in (401, 403) or found.status >= 500:
            fault = _wordless(found.status)
        if not self._first.done():  # which model is meant may not be known yet
            return
        if fault and not self.fault:
            _LOG.warning("%s: %s", place_of(self._settings), fault)
        self.fault = fault

    def _meet(self, found: _Models) -> None:
        """Find the model, or say why it cannot be asked for anything."""
        settings, place = self._settings, place_of(self._settings)
        if isinstance(found, Failure):
            if found.status in _NO_LIST and self.model:
                _LOG.warning(
                    "%s: it does not list its models, %s; if nothing can be written, look whether its address"
                    " ends as its API does, mostly in /v1",
                    place,
                    _wordless(found.status),
                )
                return
            if found.again:
                raise ServerStopped(
                    f"{place}: {found.reason}; look whether it runs, or give another {_OPTION}",
                    status=found.status,
                )
            raise refused(found, settings, _OPTION)
        if not self.model:
            only = self._client.only(found)
            if isinstance(only, Failure):
                raise refused(only, settings, _OPTION)
            self._client.model = only
        elif found and self.model not in found:
            raise InputError(
                f"{place}: it has no model {self.model!r:.80}; give {_OPTION}-model, one of:"
                f" {', '.join(list(found)[:8])}"
            )
        self.context = found.get(self.model)

    def _log(self, error: BaseException | None) -> None:
        """Tell whoever runs this what a client cannot mend; without words, which may quote a story."""
        if isinstance(error, ServerStopped):
            told = f"{error.fault}, {error.broke or _wordless(error.status)}"
        elif isinstance(error, ServerRefused) and not error.of_the_request:
            told = _wordless(error.failure.status)
        else:
            return
        _LOG.warning("%s: %s", place_of(self._settings), told)


def _last(writer: Writer[Given], error: BaseException | None) -> list[Given | Failed]:
    """Return what is told at the end."""
    if error is None:
        try:
            return [*writer.ending()]
        except ServerStopped as stopped:
            error = stopped
    return [*writer.cut(), Failed(error)]


def _wordless(status: int) -> str:
    return f"status {status}" if status else "no answer"


def _no_tokenizer() -> InputError:
    return InputError(
        "this server stands before another one and has no tokenizer; start it with"
        f" {_OPTION}-tokenizer FOLDER"
    )

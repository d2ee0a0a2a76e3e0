"""A generator in front of any OpenAI-compatible server: vLLM, llama.cpp, or one that speaks as they do."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from queue import Empty, SimpleQueue

from spellbound.directives import StoryPrompt
from spellbound.errors import SpellboundError
from spellbound.story.answer import Chunk
from spellbound.story.asking import Asked
from spellbound.story.background import Background
from spellbound.story.client import Client
from spellbound.story.generator import Ending, WriteOptions
from spellbound.story.remote_text import Passage
from spellbound.story.request import request_body
from spellbound.story.server import ServerSettings

_TICK_S = 0.05


class OpenAIGenerator:
    """A server and one of its models or adapters; may write for several threads at a time."""

    def __init__(self, settings: ServerSettings) -> None:
        """Make ready; nothing is sent yet. EnvironmentFault if the client is not installed."""
        self._settings = settings
        self._client = Client(settings)

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the passage piece by piece, then its Ending.

        A request is tried again only while nothing has been written. Raises ServerRefused for what the server
        refuses, ServerStopped when it fails; what it wrote before that has been yielded and closed.
        """
        settings = self._settings
        passage = Passage(options, settings)
        asked = Asked(self._client, settings, settings.api, request_body(prompt, options, settings))
        try:
            with closing(_chunks(asked, cancelled)) as chunks:
                for chunk in chunks:
                    yield from passage.write(chunk)
                    if passage.done:
                        break
            ending = passage.ending()
        except SpellboundError:
            yield from passage.cut()
            raise
        yield from ending


def _chunks(asked: Asked, cancelled: Callable[[], bool]) -> Generator[Chunk]:
    """Yield what the server sends, to its end or the reader's wish."""
    if cancelled():
        return
    items: SimpleQueue[Chunk | BaseException | None] = SimpleQueue()

    def take(chunk: Chunk) -> bool:
        items.put(chunk)
        return False

    # A thread of its own reads it, so whoever waits can also stop waiting.
    with closing(Background("spellbound-answer")) as background:
        background.begin(asked.read(take), items.put)
        while not cancelled():
            try:
                item = items.get(timeout=_TICK_S)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

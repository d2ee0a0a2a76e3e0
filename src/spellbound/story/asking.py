"""One request to a server: tried again while nothing has come of it, and given up when it is silent."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal
from urllib.parse import urlsplit

from spellbound.errors import EnvironmentFault, InputError
from spellbound.story.answer import Chunk, Failure, Item
from spellbound.story.client import Client, encoded
from spellbound.story.request import Body
from spellbound.story.server import Api, ServerSettings

_AFTER_THE_END_S = 2.0  # for the last event, which has the usage
_BUSY = frozenset({429, 503, 529})
_SILENT = frozenset({408, 504})
_OF_THE_REQUEST = frozenset({400, 413, 422})

Fault = Literal["failed", "busy", "silent"]
"""failed: it broke off, or cannot be reached · busy: it says so · silent: nothing came in time."""


class ServerStopped(EnvironmentFault):
    """The server does not answer, or ended its answer too early; what it wrote is whole and closed."""

    def __init__(
        self,
        message: str,
        *,
        fault: Fault = "failed",
        status: int = 0,
        wait_s: float | None = None,
        broke: str = "",
    ) -> None:
        """Say it in one line; `status`: the server's, 0 for none; `wait_s`: it asked to wait so long.

        `broke`: what ended an answer that had begun, in words that quote nothing of it.
        """
        super().__init__(message)
        self.fault, self.status, self.wait_s, self.broke = fault, status, wait_s, broke


class ServerRefused(InputError):
    """The server does not do what was asked of it, now or later."""

    def __init__(self, message: str, failure: Failure) -> None:
        """Say it in one line; `failure` has the server's own words."""
        super().__init__(message)
        self.failure = failure
        self.of_the_request = failure.status in _OF_THE_REQUEST
        """Whether another request might not be refused."""


class Asked:
    """A request and what has come of it so far."""

    def __init__(self, client: Client, settings: ServerSettings, api: Api, body: Body) -> None:
        """Prepare; nothing is sent before `read`. InputError for what JSON cannot say."""
        self._client, self._settings, self._api, self._content = client, settings, api, encoded(body)
        self._limit = asyncio.Timeout(None)
        self._characters = 0
        self._begun = False  # a reader has text, or the scores of a token that has none yet
        self._finished = False  # the server said why the model stopped
        self.taken: Future[BaseException | None] = Future()

    async def read(self, take: Callable[[Chunk], bool]) -> None:
        """Hand on chunks as they come, to the last or until `take` says that it is enough.

        A request is tried again only while nothing has come of it. Raises ServerRefused and ServerStopped.
        """
        tries = 0
        while (failure := await self._try(take)) is not None:
            tries += 1
            await asyncio.sleep(self._pause(failure, tries))

    def settle(self, error: BaseException | None) -> None:
        """Note that the request was taken, or what kept it from that; only the first word counts."""
        if not self.taken.done():
            self.taken.set_result(error)

    async def _try(self, take: Callable[[Chunk], bool]) -> Failure | None:
        """Ask once; return what kept the answer from beginning, None if it came to an end."""
        settings = self._settings
        failures: list[Failure] = []

        def put(item: Item) -> bool:
            if isinstance(item, Failure):
                failures.append(item)
                return True
            self._count(item)
            return take(item)

        silent = False
        try:
            async with asyncio.timeout(settings.first_token_s) as self._limit:
                await self._client.read(self._api, self._content, put)
        except TimeoutError:
            silent = True
        failure = failures[0] if failures else None
        if self._finished or (failure is None and not silent):
            return None
        if silent:
            what, patience = ("no text", settings.first_token_s)
            if self._begun:
                what, patience = ("no further text", settings.between_tokens_s)
            message = f"{what} for {patience:g} s; it may be overloaded: try again later"
            raise ServerStopped(f"{place_of(settings)}: {message}", fault="silent", broke=what)
        if failure is not None and self._begun:
            raise ServerStopped(
                f"{place_of(settings)}: broken off after {self._characters} characters: {failure.reason};"
                " keep what there is and go on from there",
                status=failure.status,
                broke=f"broken off after {self._characters} characters",
            )
        return failure

    def _count(self, chunk: Chunk) -> None:
        """Count a chunk in; how long the next one may take is said here."""
        self.settle(None)
        self._characters += len(chunk.text)
        begins = bool(chunk.text or chunk.scores)
        self._begun = self._begun or begins
        if self._finished:
            return
        now = asyncio.get_running_loop().time()
        # Empty events do not count: a proxy may send them for as long as it likes.
        if chunk.finish:
            self._finished = True
            self._limit.reschedule(now + _AFTER_THE_END_S)
        elif begins:
            self._limit.reschedule(now + self._settings.between_tokens_s)

    def _pause(self, failure: Failure, tries: int) -> float:
        """Return how long to wait before another try; raise what there is to say if there is to be none."""
        settings = self._settings
        place = place_of(settings)
        if not failure.again:
            raise refused(failure, settings)
        status, wait_s = failure.status, failure.wait_s
        fault: Fault = "busy" if status in _BUSY else "silent" if status in _SILENT else "failed"
        if tries > settings.retries:
            raise ServerStopped(
                f"{place}: {failure.reason}, {tries} times; look whether it runs and is not overloaded",
                fault=fault,
                status=status,
                wait_s=wait_s,
            )
        pause = settings.backoff_s * 2.0 ** (tries - 1) * random.uniform(0.75, 1.25)
        pause = max(min(pause, settings.longest_wait_s), wait_s or 0.0)
        if pause > settings.longest_wait_s:
            raise ServerStopped(
                f"{place}: {failure.reason}; it asks to wait {pause:.0f} s: try again then",
                fault=fault,
                status=status,
                wait_s=wait_s,
            )
        return pause


def place_of(settings: ServerSettings) -> str:
    """Return how messages name a server."""
    return f"server {urlsplit(settings.url).netloc}"


def refused(failure: Failure, settings: ServerSettings, option: str = "--server") -> ServerRefused:
    """Say what to do about a refusal; `option`: what the settings are called on the command line."""
    key = settings.key_variable
    remedies = {
        401: f"put its key into the environment: export {key}=...",
        403: f"put a key that may use it into the environment: export {key}=...",
        404: f"give the address up to /v1, and a model or adapter that it has ({option}-model)",
        413: "shorten the past story",
    }
    remedy = remedies.get(failure.status, f"mend what it names, or choose another {option}-dialect")
    if 300 <= failure.status < 400:
        remedy = "give its own address"
    return ServerRefused(f"{place_of(settings)}: {failure.reason}; {remedy}", failure)

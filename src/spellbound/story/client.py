"""What sends a request to a server: OpenAI's official client, kept from doing more than it is asked to.

Plain values come out. The client's exceptions hold the request with the key in its headers, so they end here.
"""

import json
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spellbound.errors import EnvironmentFault, InputError
from spellbound.retrying import waiting_time
from spellbound.story.answer import Chunk, Failure, Item, member, read_event
from spellbound.story.request import Body
from spellbound.story.server import Api, ServerSettings

if TYPE_CHECKING:
    import openai

_AGAIN = frozenset({408, 409, 425, 429})
_NEVER = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TOO_LONG = "context_length_exceeded"  # OpenAI's code
_TOO_LONG_TYPE = "exceed_context_size_error"  # llama.cpp's
_TOO_LONG_WORDS = "maximum context length is"  # vLLM has neither code nor type
_PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
# The client adds what it finds in the environment, an organisation say: that is for another server.
_SENT = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
)


class Client:
    """A server, the key for it, and the model that is meant."""

    def __init__(self, settings: ServerSettings) -> None:
        """Make ready to ask; EnvironmentFault if the client is missing."""
        try:  # here: it takes a second, and it may be missing
            import openai
        except ImportError:
            raise EnvironmentFault(
                "the package openai is not installed; run: pip install 'spellbound[studio]'"
            ) from None
        self._openai = openai
        self._settings = settings
        self._key = settings.key()
        self.model = settings.model
        """Empty until it is known."""
        self._certificates = ssl.create_default_context()

    async def read(self, api: Api, content: bytes, put: Callable[[Item], bool]) -> None:
        """Ask, and put what comes, in order, until `put` says that it is enough; a Failure is the last.

        `content`: a body as `encoded` returns it, without the model. An empty Chunk comes first, once the
        server has taken the request.
        """
        async with aclosing(self._items(api, content)) as items:
            async for item in items:
                if put(item):
                    return

    async def _items(self, api: Api, content: bytes) -> AsyncGenerator[Item]:
        try:
            async with self._connection() as client:
                named = self.model or await self._only_model(client)
                if isinstance(named, Failure):
                    yield named
                    return
                self.model = named
                stream = await client.post(
                    _PATHS[api],
                    cast_to=object,
                    content=b'{"model":%b,%b' % (json.dumps(named).encode(), content.removeprefix(b"{")),
                    stream=True,
                    stream_cls=self._openai.AsyncStream[object],
                )
                async with stream:
                    yield Chunk()
                    async for event in stream:
                        yield read_event(event)
            yield Failure("the stream ended before the model did", again=True)
        except (self._openai.APIError, ValueError, RecursionError) as error:
            yield self._failure(error)

    async def models(self) -> dict[str, int | None] | Failure:
        """Return what the server has by name, and the tokens that each may have where it says so."""
        try:
            async with self._connection() as client:
                return await self._listed(client)
        except (self._openai.APIError, ValueError, RecursionError) as error:
            return self._failure(error)

    def _connection(self) -> "openai.AsyncOpenAI":
        """A client for one request: no retries, no redirects, of the environment nothing but proxies."""
        # Silence is measured by whoever waits: in tokens, not in bytes.
        timeout = self._openai.Timeout(None, connect=self._settings.connect_s)
        client: openai.AsyncOpenAI = self._openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._settings.url,
            max_retries=0,
            timeout=timeout,
            http_client=self._openai.DefaultAsyncHttpxClient(
                # A redirect would hand the story on to a server that nobody has named.
                follow_redirects=False,
                timeout=timeout,
                verify=self._certificates,
                event_hooks={"request": [self._strip], "response": [_read_refusal]},
            ),
        )
        return client

    async def _strip(self, request: Any) -> None:
        """Leave only those headers that this server is meant to see."""
        wanted = _SENT | ({"authorization"} if self._key else set())
        for name in [name for name in request.headers if name.lower() not in wanted]:
            del request.headers[name]

    async def _listed(self, client: "openai.AsyncOpenAI") -> dict[str, int | None]:
        listed = await client.get("/models", cast_to=object)
        entries = listed.get("data") if isinstance(listed, Mapping) else None
        found: dict[str, int | None] = {}
        for entry in entries if isinstance(entries, list) else []:
            name, context = member(entry, "id"), member(entry, "max_model_len")
            if isinstance(name, str) and name:
                found[name] = context if type(context) is int and context > 0 else None
        return found

    async def _only_model(self, client: "openai.AsyncOpenAI") -> str | Failure:
        """Ask for the name of the model, where the server has but one."""
        return self.only(await self._listed(client))

    def only(self, names: Mapping[str, object]) -> str | Failure:
        """Return the one name among these."""
        if len(names) == 1:
            return next(iter(names))
        told = f"it has {', '.join(list(names)[:8])}" if names else "it names none"
        return Failure(f"which model is meant must be said: {self._words(told)}", status=404)

    def _failure(self, error: Exception) -> Failure:
        """Say what went wrong, without what the client's exception holds."""
        openai = self._openai
        if isinstance(error, openai.APIStatusError):
            return self._refusal(error)
        if isinstance(error, openai.APIConnectionError):
            return _no_connection(error)
        if isinstance(error, openai.APIError):  # an error in place of an event
            return Failure(f"the server broke off: {self._words(error.message)}", again=True)
        return Failure("the server sent something that is no JSON", again=True)  # or no UTF-8

    def _refusal(self, error: "openai.APIStatusError") -> Failure:
        """Say what a status means."""
        status, headers = error.status_code, error.response.headers
        words = "" if status in (401, 403) else self._words(_said(error))  # they may quote part of a key
        if 300 <= status < 400:
            words = f"it sends us on to {_host(headers.get('location'))}"
        return Failure(
            f"status {status}" + (f": {words}" if words else ""),
            status=status,
            code=_code(error),
            again=(status in _AGAIN or status >= 500) and str(error.code or "") not in _NEVER,
            wait_s=waiting_time(headers.get("retry-after"), headers.get("date"), time.time()),
        )

    def _words(self, said: str) -> str:
        """Return how a server's words begin, on one line and without the key."""
        words = " ".join(said.split())
        # First the key, then the cut: half a key would be one too.
        return (words.replace(self._key, "[key]") if self._key else words)[:300]


async def _read_refusal(response: Any) -> None:
    """Read what is no success here: of a body that breaks off later the client would not say so."""
    if not response.is_success:
        await response.aread()


def encoded(body: Body) -> bytes:
    """Return a body as JSON; InputError for what that cannot hold."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        raise InputError(
            "the request cannot be sent on: it holds half a character, a number that is none or too large,"
            " or objects too deep in each other; leave that out"
        ) from None


def _said(error: "openai.APIStatusError") -> str:
    """The server's own words, without what the client puts before them."""
    said = member(error.body, "message")
    return (
        said if isinstance(said, str) else error.message.removeprefix(f"Error code: {error.status_code} - ")
    )


def _code(error: "openai.APIStatusError") -> str:
    """The server's own code, or OpenAI's for a prompt that llama.cpp or vLLM finds too long."""
    if error.type == _TOO_LONG_TYPE or _TOO_LONG_WORDS in _said(error):
        return _TOO_LONG
    return str(error.code or "")


def _host(location: str | None) -> str:
    try:
        return urlsplit(location or "").hostname or "another address"
    except ValueError:
        return "another address"


def _no_connection(error: Exception) -> Failure:
    """Tell a connection that never was from one that was cut."""
    kind = type(error.__cause__).__name__
    if kind == "ConnectTimeout":
        return Failure("no connection in time", again=True)
    never = kind in ("ConnectError", "PoolTimeout", "ProxyError", "UnsupportedProtocol")
    return Failure("no connection" if never else "the connection was cut", again=True)

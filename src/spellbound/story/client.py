"""What sends a request to a server: OpenAI's official client, kept from doing more than it is asked to.

Plain values come out. The client's exceptions hold the request with the key in its headers, so they end here.
"""

import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spellbound.errors import EnvironmentFault
from spellbound.retrying import waiting_time
from spellbound.story.answer import Answer, Failure, Put, member, read_event
from spellbound.story.request import Body
from spellbound.story.server import ServerSettings

if TYPE_CHECKING:
    import openai

_AGAIN = frozenset({408, 409, 425, 429})
_NEVER = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
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
                "--server: the package openai is not installed; run: pip install 'spellbound[studio]'"
            ) from None
        self._openai = openai
        self._settings = settings
        self._key = settings.key()
        self._model = settings.model
        self._certificates = ssl.create_default_context()

    def ask(self, body: Body) -> Answer:
        """Send a request; its answer is read while it comes."""
        return Answer(partial(self._read, body))

    async def _read(self, body: Body, put: Put) -> None:
        """Put what comes, in order; what follows a failure means nothing."""
        openai = self._openai
        try:
            async with self._connection() as client:
                if not self._model:
                    named = await self._only_model(client)
                    if isinstance(named, Failure):
                        put(named)
                        return
                    self._model = named
                stream = await client.post(
                    _PATHS[self._settings.api],
                    cast_to=object,
                    body={"model": self._model, **body},
                    stream=True,
                    stream_cls=openai.AsyncStream[object],
                )
                async with stream:
                    async for event in stream:
                        put(read_event(event))
            put(Failure("the stream ended before the model did", again=True))
        except openai.APIStatusError as error:
            put(self._refusal(error))
        except openai.APIConnectionError as error:
            put(_no_connection(error))
        except openai.APIError as error:  # an error in place of an event
            put(Failure(f"the server broke off: {self._words(error.message)}", again=True))
        except (ValueError, RecursionError):  # of JSON or UTF-8
            put(Failure("the server sent something that is no JSON", again=True))

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
                event_hooks={"request": [self._strip]},
            ),
        )
        return client

    async def _strip(self, request: Any) -> None:
        """Leave only those headers that this server is meant to see."""
        wanted = _SENT | ({"authorization"} if self._key else set())
        for name in [name for name in request.headers if name.lower() not in wanted]:
            del request.headers[name]

    async def _only_model(self, client: "openai.AsyncOpenAI") -> str | Failure:
        """Ask for the name of the model, where the server has but one."""
        listed = await client.get("/models", cast_to=object)
        entries = listed.get("data") if isinstance(listed, Mapping) else None
        ids = [entry.get("id") for entry in entries or () if isinstance(entry, Mapping)]
        names = [name for name in ids if isinstance(name, str) and name]
        if len(names) == 1:
            return names[0]
        told = f"it has {', '.join(names[:8])}" if names else "it names none"
        return Failure(f"which model is meant must be said: {self._words(told)}", status=404)

    def _refusal(self, error: "openai.APIStatusError") -> Failure:
        """Say what a status means."""
        status, headers = error.status_code, error.response.headers
        words = "" if status in (401, 403) else self._words(_said(error))  # they may quote part of a key
        if 300 <= status < 400:
            words = f"it sends us on to {_host(headers.get('location'))}"
        return Failure(
            f"status {status}" + (f": {words}" if words else ""),
            status=status,
            again=(status in _AGAIN or status >= 500) and str(error.code or "") not in _NEVER,
            wait_s=waiting_time(headers.get("retry-after"), headers.get("date"), time.time()),
        )

    def _words(self, said: str) -> str:
        """Return how a server's words begin, on one line and without the key."""
        words = " ".join(said.split())
        # First the key, then the cut: half a key would be one too.
        return (words.replace(self._key, "[key]") if self._key else words)[:300]


def _said(error: "openai.APIStatusError") -> str:
    """The server's own words, without what the client puts before them."""
    said = member(error.body, "message")
    return (
        said if isinstance(said, str) else error.message.removeprefix(f"Error code: {error.status_code} - ")
    )


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

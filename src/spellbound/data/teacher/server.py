"""One request to an OpenAI-compatible server through its official client: a reply, or what went wrong.

The client's own retries are off: ours count, wait and pay. Its exceptions hold the request with the key in
its headers, so they end here.
"""

import time
from typing import Any
from urllib.parse import urlsplit

from spellbound.data.teacher.replies import Failure, Reply, read_reply
from spellbound.data.teacher.settings import TeacherSettings
from spellbound.retrying import waiting_time

_AGAIN = frozenset({408, 409, 425, 429})
_NEVER = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_PERHAPS_PAID = frozenset({504, 524})
"""What stands before the server lost patience; the server may have gone on."""
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol")


class Server:
    """A server and the key for it."""

    def __init__(self, settings: TeacherSettings) -> None:
        """Make ready to ask; EnvironmentFault if the client or the key is missing."""
        # Loaded here: it takes a second, and it may be missing.
        from spellbound.data.teacher.transport import Connection, openai

        key = settings.key()
        self._key = key if settings.key_variable else ""
        self._errors = openai
        self._client = openai.OpenAI(
            api_key=key,
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            max_retries=0,
            http_client=Connection(settings.timeout_s),
        )

    def ask(self, body: dict[str, Any], worst: tuple[int, int]) -> Reply | Failure:
        """Send a chat completion request; `worst`: its most tokens in and out."""
        try:
            raw = self._client.chat.completions.with_raw_response.create(**body)
        except self._errors.APIStatusError as error:
            return self._refusal(error)
        except self._errors.APIConnectionError as error:
            return _cut(error)
        return read_reply(raw.content, worst)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refusal(self, error: Any) -> Failure:
        """Say what a status means."""
        status, headers = int(error.status_code), error.response.headers
        code = str(error.code or "")
        words = self._words(status, str(error.message), headers.get("location"))
        return Failure(
            status,
            f"status {status}" + (f": {words}" if words else ""),
            again=(status in _AGAIN or status >= 500) and code not in _NEVER,
            wait_s=waiting_time(headers.get("retry-after"), headers.get("date"), time.time()),
            perhaps_paid=status in _PERHAPS_PAID,
            code=code,
        )

    def _words(self, status: int, said: str, location: str | None) -> str:
        """Return how a server's words begin, without the key; nothing of 401 and 403, for parts of it."""
        if status in (401, 403):
            return ""
        if 300 <= status < 400:
            said = f"it sends us on to {_host(location)}"
        words = " ".join(said.removeprefix(f"Error code: {status} - ").split())
        # First the key, then the cut: half a key would be one too.
        return (words.replace(self._key, "[key]") if self._key else words)[:300]


def _host(location: str | None) -> str:
    try:
        return urlsplit(location or "").hostname or "another address"
    except ValueError:
        return "another address"


def _cut(error: Exception) -> Failure:
    """Tell a connection that never was from one that was cut, whose answer may have been paid."""
    if type(error.__cause__).__name__ in _NOT_SENT:
        return Failure(0, "no connection", again=True)
    names = {type(each).__name__: str(each) for each in (error.__cause__, error)}
    timeout = "no answer in time" if "APITimeoutError" in names else "the connection was cut"
    return Failure(0, names.get("EndlessAnswer", timeout), again=True, perhaps_paid=True)

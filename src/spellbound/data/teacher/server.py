"""One request to an OpenAI-compatible server through its official client: a reply, or what went wrong.

The client's own retries are off: ours count, wait and pay. Its exceptions hold the request with the key in
its headers, so they end here.
"""

import time
from typing import Any

from spellbound.data.teacher.replies import Failure, Reply, read_reply, waiting_time
from spellbound.data.teacher.settings import TeacherSettings
from spellbound.errors import EnvironmentFault

_AGAIN = frozenset({408, 409, 425, 429})
_NEVER = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol")


class Server:
    """A server and the key for it."""

    def __init__(self, settings: TeacherSettings) -> None:
        """Make ready to ask; EnvironmentFault if the client or the key is missing."""
        try:
            import openai
        except ImportError:
            raise EnvironmentFault(
                "teacher: the package openai is not installed; run: pip install 'spellbound[data]'"
            ) from None
        self._key = settings.key()
        self._errors = openai
        self._client = openai.OpenAI(
            api_key=self._key, base_url=settings.base_url, timeout=settings.timeout_s, max_retries=0
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
        """Say what a status means; the server's words for 401 and 403 may hold parts of the key."""
        status, headers = int(error.status_code), error.response.headers
        code = str(error.code or "")
        said = str(error.message).removeprefix(f"Error code: {status} - ")
        words = "" if status in (401, 403) else " ".join(said.split())
        return Failure(
            status,
            f"status {status}" + (f": {words[:300]}".replace(self._key, "[key]") if words else ""),
            again=(status in _AGAIN or status >= 500) and code not in _NEVER,
            wait_s=waiting_time(headers.get("retry-after"), headers.get("date"), time.time()),
            code=code,
        )


def _cut(error: Exception) -> Failure:
    """Tell a connection that never was from one that was cut, whose answer may have been paid."""
    cause = type(error.__cause__).__name__
    timeout = type(error).__name__ == "APITimeoutError"
    reason = "no answer in time" if timeout else "the connection was cut"
    if cause in _NOT_SENT:
        return Failure(0, "no connection", again=True)
    return Failure(0, reason, again=True, perhaps_paid=True)

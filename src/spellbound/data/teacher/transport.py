"""The connection to a server: it goes nowhere else, and no answer is endless in size or in time."""

import time
from typing import Any

from spellbound.errors import EnvironmentFault

try:
    import openai
except ImportError:
    raise EnvironmentFault(
        "teacher: the package openai is not installed; run: pip install 'spellbound[data]'"
    ) from None

MOST_BYTES = 32 * 2**20
"""Of one answer, unpacked."""
TIMEOUTS = 4
"""An answer may take so many times as long as the server may stay silent."""
__all__ = ["Connection", "EndlessAnswer", "openai"]

_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class EndlessAnswer(openai.APIConnectionError):
    """An answer that was cut because it did not end."""


class Connection(openai.DefaultHttpxClient):
    """The client that the official one sends through, for which a response is there whole or not at all."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: seconds without a byte after which nothing more is waited for."""
        # A redirect would hand the story on to a server that nobody has named.
        super().__init__(timeout=timeout_s, follow_redirects=False)
        self._longest_s = TIMEOUTS * timeout_s

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request and read what comes; EndlessAnswer for too much of it, or for too long."""
        end = time.monotonic() + self._longest_s
        response = super().send(request, **{**options, "stream": True})
        body = bytearray()
        try:
            for part in response.iter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise EndlessAnswer(
                        message=f"an answer of more than {MOST_BYTES:,} bytes", request=request
                    )
                if time.monotonic() > end:
                    raise EndlessAnswer(
                        message=f"an answer that had no end after {self._longest_s:g} s", request=request
                    )
        finally:
            response.close()
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_BODY]
        return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)

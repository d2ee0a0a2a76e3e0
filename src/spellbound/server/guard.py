"""What is looked at before a request's body is read: host, page, key, size. Plain ASGI."""

import asyncio
import hashlib
import hmac
import logging
import traceback
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spellbound.server.errors import ApiError, api_error
from spellbound.server.settings import ServeSettings, host_name

OPEN = frozenset({"/health"})
"""Paths that need no key."""
BODY_S = 60.0
"""So long a body may take to arrive."""
_BODIES = 16
"""Bodies of the largest size that may be on their way at once."""
_LOG = logging.getLogger("spellbound.server")


class Faults:
    """Answers for whatever goes wrong behind it."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through; say in OpenAI's shape what kept it from an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001 (nothing may reach the log with its words)
            told = api_error(error)
            if told.status == 500:
                log_fault(error)
            if not begun:
                await told.response()(scope, receive, send)


class HostGuard:
    """Outermost: turns away who calls us by another name, or comes from a foreign page."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        """Stand before an application."""
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it with 403."""
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope))
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._settings.lets_in(host):
            raise ApiError(
                403,
                f"this server is not called {host_name(host)[:80]!r}; name it with --allow-host to use that",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is None or origin in self._settings.cors_origins:
            return
        if origin.partition("://")[2] != host:
            raise ApiError(
                403, "this page may not ask here; name it with --cors-origin", code="origin_not_allowed"
            )


class KeyGuard:
    """Asks for the key, if there is one, in a time that says nothing about it."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        """Stand before an application."""
        self._app = app
        self._digest = _digest(settings.key) if settings.key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it with 401."""
        if scope["type"] == "http" and self._digest is not None and scope["path"] not in OPEN:
            kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(_digest(key.strip()), self._digest):
                raise ApiError(
                    401,
                    "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        await self._app(scope, receive, send)


class SizeGuard:
    """Reads a body as far as it may go, so that nobody behind it reads more."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        """Stand before an application."""
        self._app, self._most = app, settings.max_body_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then let the request through; 413 for one that is too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "0")
        if not said.isdecimal() or int(said) > self._most:
            raise self._too_long(said)
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._read(receive)
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {BODY_S:g} s; send it again") from None
        if body is None:  # gone before it was whole
            return
        messages: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replayed() -> Message:
            for message in messages:
                return message
            return await receive()

        await self._app(scope, replayed, send)

    async def _read(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                self._held += len(parts[-1])
                if size > self._most:
                    raise self._too_long(str(size))
                if self._held > _BODIES * self._most:
                    raise ApiError(503, "too much is being sent at once; try again later", code="busy")
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._held -= size

    def _too_long(self, said: str) -> ApiError:
        return ApiError(
            413,
            f"the body has {said[:20]} bytes or more and {self._most} are read; shorten the prompt",
            code="body_too_large",
        )


def log_fault(error: BaseException) -> None:
    """Log where something failed, but no message: it may quote a story."""
    places = "".join(traceback.format_tb(error.__traceback__)[-4:]).rstrip()
    _LOG.error("%s\n%s", type(error).__name__, places)


def _digest(key: str) -> bytes:
    """Hashes have one length, so that comparing takes one time."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

"""What a client is told when something is wrong: OpenAI's error object."""

import json
import math
from collections.abc import Mapping

from fastapi import Response

from spellbound.errors import EngineBusy, EnvironmentFault, InputError, SpellboundError
from spellbound.story import ServerRefused, ServerStopped
from spellbound.story.asking import Fault
from spellbound.story.completion import PromptTooLong

RETRY_AFTER_S = 2
TOO_LONG = "context_length_exceeded"
_STOPPED: dict[Fault, tuple[int, str, str]] = {
    "failed": (502, "failed", "upstream_failed"),
    "busy": (503, "is busy", "upstream_busy"),
    "silent": (504, "did not answer in time", "upstream_timeout"),
}
_LONGEST_S = 86_400
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that is refused."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse with an HTTP status; `param` names the wrong field, `code` the fault for programs."""
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if status in (429, 503):
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The object that is sent."""
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer; ASCII, since what is quoted of a request may hold half a character."""
        content = json.dumps(self.body).encode()
        return Response(content, self.status, self.headers, media_type="application/json")


def api_error(error: BaseException) -> ApiError:
    """Say an error of ours in HTTP; one that nobody expected without its words, which may be a story's."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLong):
        return ApiError(400, str(error), code=TOO_LONG)
    if isinstance(error, ServerRefused):
        return _upstream_refused(error)
    if isinstance(error, ServerStopped):
        return _upstream_stopped(error)
    if isinstance(error, InputError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, EngineBusy):
        return ApiError(503, str(error), code="engine_busy")
    if isinstance(error, EnvironmentFault | SpellboundError):
        return ApiError(503, "the model is not ready; try again later", code="not_ready")
    return ApiError(500, "the server failed; its log names the place", code="internal_error")


def _upstream_refused(error: ServerRefused) -> ApiError:
    """What another server refuses is the request's fault, or that of whoever put us before it."""
    failure = error.failure
    if not error.of_the_request:
        return ApiError(
            502,
            f"the server behind this one refuses us with status {failure.status}; tell whoever runs this one",
            code="upstream_refused",
        )
    code = TOO_LONG if failure.code == TOO_LONG else "invalid_value"
    return ApiError(400, f"the server behind this one refuses it: {failure.reason}", code=code)


def _upstream_stopped(error: ServerStopped) -> ApiError:
    """Without its words, which are for whoever runs it; with the time after which it may be asked again."""
    status, what, code = _STOPPED[error.fault]
    said = f" with status {error.status}" if error.status else ""
    headers = {}
    if error.wait_s is not None:
        headers["Retry-After"] = str(math.ceil(min(error.wait_s, _LONGEST_S)))
    return ApiError(
        status, f"the server behind this one {what}{said}; try again later", code=code, headers=headers
    )

"""What a client is told when something is wrong: OpenAI's error object."""

import json
from collections.abc import Mapping

from fastapi import Response

from spellbound.errors import EngineBusy, EnvironmentFault, InputError, SpellboundError
from spellbound.story.completion import PromptTooLong

RETRY_AFTER_S = 2
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
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, InputError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, EngineBusy):
        return ApiError(503, str(error), code="engine_busy")
    if isinstance(error, EnvironmentFault | SpellboundError):
        return ApiError(503, "the model is not ready; try again later", code="not_ready")
    return ApiError(500, "the server failed; its log names the place", code="internal_error")

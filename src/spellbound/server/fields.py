"""Which field of a request is wrong, and what is told of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from spellbound.errors import DirectiveError, InputError
from spellbound.server.errors import TOO_LONG, ApiError, api_error
from spellbound.story import ServerRefused
from spellbound.story.completion import PromptTooLong

_PROMPTS = ("messages", "prompt", "content", "tokens")
_CONSTRAINTS = ("structured_outputs", "response_format")
_OF_THE_PROMPT = re.compile(r"the prompt\b|token -?\d+ at place ")
_OF_THE_CONSTRAINT = re.compile(r"(?:the|a) (?:grammar|constraint)\b")
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


@contextmanager
def naming(asked: BaseModel) -> Iterator[None]:
    """Let what the model refuses name the field of this request that it is about."""
    try:
        yield
    except InputError as error:
        raise error_about(error, asked) from error


def error_about(error: BaseException, asked: BaseModel) -> ApiError:
    """Say an error in HTTP, with the field of this request that it is about."""
    told = api_error(error)
    if told.status == 400 and told.param is None:
        told.param = _field_of(error, asked)
    return told


def _field_of(error: BaseException, asked: BaseModel) -> str | None:
    """Errors of other rooms know no fields: they begin with the name of one, or with what it holds."""
    if isinstance(error, ServerRefused):  # these words are another server's
        return _given(asked, _PROMPTS) if api_error(error).code == TOO_LONG else None
    message = str(error)
    word = re.match(r"\w+", message)
    if word is not None and word[0] in type(asked).model_fields:
        return word[0]
    if _OF_THE_CONSTRAINT.match(message):
        return _given(asked, _CONSTRAINTS)
    if isinstance(error, PromptTooLong | DirectiveError) or _OF_THE_PROMPT.match(message):
        return _given(asked, _PROMPTS)
    return None


def _given(asked: BaseModel, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if getattr(asked, name, None) is not None), None)


async def wrong_field(request: Request, error: Exception) -> Response:
    """Name the first field that is wrong, without what it holds."""
    found = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = [str(part) for part in found.get("loc", ())[1:] if isinstance(part, int) or _is_field(part)]
    if found.get("type") == "json_invalid":
        return ApiError(400, "the body is not JSON", code="invalid_json").response()
    if not place:
        return _no_object(request).response()
    said = str(found.get("msg")).removeprefix("Value error, ")
    return ApiError(400, f"{'.'.join(place)}: {said}", param=place[0], code="invalid_value").response()


def _no_object(request: Request) -> ApiError:
    kind = request.headers.get("content-type")
    if kind is None or not _JSON.match(kind.strip()):
        was = "there is none" if kind is None else f"it is {kind[:80]!r}"
        return ApiError(
            400,
            f"the body has to be JSON by its Content-Type, but {was}; send application/json",
            code="invalid_content_type",
        )
    return ApiError(
        400, "the body is no JSON object; send one, as docs/server.md has it", code="invalid_value"
    )


def _is_field(part: str) -> bool:
    """Whether a part of a place is a field, not one of the forms that it may have."""
    return part.isidentifier() and part not in ("str", "int", "list", "dict")

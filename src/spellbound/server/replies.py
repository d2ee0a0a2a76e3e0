"""The answers as JSON, for the OpenAPI document: what is sent is made elsewhere, a test compares the two."""

from types import UnionType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema, models_json_schema

from spellbound.story.completion import CompletionReason
from spellbound.story.generator import FinishReason

Count = Annotated[int, Field(ge=0)]
Kind = Literal["quote", "action", "sound"]


def _left_out(schema: dict[str, Any]) -> None:
    """Say nothing of a default: what is not known is not sent."""
    for each in schema.get("properties", {}).values():
        each.pop("default", None)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra=_left_out, use_attribute_docstrings=True)


class Fault(_Reply):
    """What is wrong."""

    message: str
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "rate_limit_error",
        "server_error",
    ]
    param: str | None
    """The wrong field."""
    code: str | None


class Refusal(_Reply):
    """What a request that failed is answered with."""

    error: Fault


class CachedTokens(_Reply):
    """What was known of a prompt."""

    cached_tokens: Count


class Cost(_Reply):
    """What a request cost."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens | SkipJsonSchema[None] = None
    """Only where it is known."""


class LikelyToken(_Reply):
    """A token that could stand at a place."""

    token: str
    logprob: float
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None


class ScoredToken(LikelyToken):
    """A token that was written."""

    top_logprobs: list[LikelyToken]


class ChatScores(_Reply):
    """Log-probabilities of a message."""

    content: list[ScoredToken]
    refusal: None


class ChatAnswer(_Reply):
    """A message that was written."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(_Reply):
    """One of the texts of a chat completion."""

    index: Count
    message: ChatAnswer
    logprobs: ChatScores | None
    finish_reason: CompletionReason


class ChatCompletion(_Reply):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Cost


class ChatDelta(_Reply):
    """What a message goes on with."""

    role: Literal["assistant"] | SkipJsonSchema[None] = None
    content: str | SkipJsonSchema[None] = None


class ChatPiece(_Reply):
    """A piece of one of the texts."""

    index: Count
    delta: ChatDelta
    logprobs: ChatScores | None
    finish_reason: CompletionReason | None


class ChatChunk(_Reply):
    """An event of a chat completion; the one with the usage has no piece."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatPiece]
    usage: Cost | None = None


class TextScores(_Reply):
    """Log-probabilities of a completion."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[Count]


class TextChoice(_Reply):
    """One of the texts of a completion."""

    index: Count
    text: str
    logprobs: TextScores | None
    finish_reason: CompletionReason


class TextCompletion(_Reply):
    """A completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Cost


class TextPiece(_Reply):
    """A piece of one of the texts."""

    index: Count
    text: str
    logprobs: TextScores | None
    finish_reason: CompletionReason | None


class TextChunk(_Reply):
    """An event of a completion; the one with the usage has no piece."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextPiece]
    usage: Cost | None = None


class OpenEvent(_Reply):
    """A tag begins."""

    type: Literal["open"]
    kind: Kind
    speaker: str | None
    """Who speaks, in a quote."""


class TextEvent(_Reply):
    """Text."""

    type: Literal["text"]
    text: str


class CloseEvent(_Reply):
    """A tag ends."""

    type: Literal["close"]
    kind: Kind


class RepairEvent(_Reply):
    """What was mended."""

    type: Literal["repair"]
    code: str
    tag: str
    offset: Count
    line: Count
    column: Count
    message: str


class UsageEvent(Cost):
    """What the passage cost."""

    type: Literal["usage"]


class DoneEvent(_Reply):
    """The last event."""

    type: Literal["done"]
    reason: FinishReason
    words: Count
    closed: list[Kind]


class ErrorEvent(Refusal):
    """The last event of a stream that failed in its midst."""

    type: Literal["error"]


StoryEvent = OpenEvent | TextEvent | CloseEvent | RepairEvent | UsageEvent | DoneEvent


class Passage(_Reply):
    """A passage of a story."""

    object: Literal["story.passage"]
    events: list[Annotated[StoryEvent, Field(discriminator="type")]]


class ModelObject(_Reply):
    """A model that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    max_model_len: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = None
    """Only where it is known."""


class ModelList(_Reply):
    """All of them."""

    object: Literal["list"]
    data: list[ModelObject]


class TokenList(_Reply):
    """The tokens of a text or a chat."""

    count: Count
    tokens: list[Count]
    max_model_len: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = None
    """Only where it is known."""


class TextOfTokens(_Reply):
    """The text of tokens, by vLLM's name and by llama.cpp's."""

    prompt: str
    content: str


class Health(_Reply):
    """Requests are taken."""

    status: Literal["ok"]


_MEANINGS = {
    400: "A wrong field, no JSON, a prompt that is too long, or a grammar that cannot be used",
    401: "No key, or a wrong one",
    403: "A Host that is not ours, or an Origin that was not named",
    404: "No such model or path",
    405: "Another method is for this path",
    408: "The body did not arrive in time",
    413: "The body is too long",
    429: "Too many texts of one address at a time",
    500: "The server failed; its log names the place",
    502: "A server behind this one failed, or refuses us",
    503: "Too many requests wait, a server behind this one is busy, or this one ends",
    504: "A server behind this one wrote nothing in time",
}
_EVERYWHERE = (401, 403, 405, 500)
_WITH_A_BODY = (400, 404, 408, 413, 503)
_RETRY = {"Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": r"^\d+$"}}}
Responses = dict[int | str, dict[str, Any]]
ChatEvent = ChatChunk | Refusal
CompletionEvent = TextChunk | Refusal
StreamedEvent = StoryEvent | ErrorEvent
DONE = "[DONE]"
"""The last event of a completion, which is no JSON."""
_PLACE = "#/components/schemas/{model}"


def refusals(*statuses: int) -> Responses:
    """Return how requests that fail are answered, with these statuses besides those of every path."""
    found: Responses = {}
    for status in sorted({*_EVERYWHERE, *statuses}):
        found[status] = {"model": Refusal, "description": _MEANINGS[status]}
        if status in (429, 503):
            found[status]["headers"] = _RETRY
    return found


def replies(model: type[BaseModel], *statuses: int, body: bool = False) -> Responses:
    """Return how a path answers."""
    well: dict[str, Any] = {"model": model, "description": "What was asked for"}
    return {200: well, **refusals(*statuses, *(_WITH_A_BODY if body else ()))}


def written(model: type[BaseModel], events: UnionType) -> Responses:
    """Return how a path answers that writes: at once, or with server-sent events of one of these kinds."""
    found = replies(model, 429, 502, 504, body=True)
    found[200]["content"] = {"text/event-stream": {"itemSchema": _event(get_args(events))}}
    return found


def definitions() -> dict[str, Any]:
    """Return the schemas of what is in events, by name."""
    models = {*get_args(ChatEvent), *get_args(CompletionEvent), *get_args(StreamedEvent)}
    made = models_json_schema([(each, "serialization") for each in models], ref_template=_PLACE)
    found: dict[str, Any] = made[1]["$defs"]
    return found


def _event(models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    """An event of a stream: its name where it has one, and JSON as text."""
    inside = {"anyOf": [{"$ref": _PLACE.format(model=each.__name__)} for each in models]}
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": inside,
    }
    if ErrorEvent not in models:
        return {
            "type": "object",
            "properties": {"data": {"anyOf": [data, {"const": DONE}]}},
            "required": ["data"],
        }
    names = [get_args(each.model_fields["type"].annotation)[0] for each in models]
    return {
        "type": "object",
        "properties": {"event": {"enum": names}, "data": data},
        "required": ["event", "data"],
    }


METRICS: Responses = {
    200: {"description": "The numbers", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **refusals(),
}

"""The requests as JSON: fields that are not here are ignored, those that are have to be right."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from spellbound.directives.positions import SURROGATE


def _whole(text: str) -> str:
    """Refuse half characters, which JSON can spell and nothing can write."""
    if SURROGATE.search(text):
        raise ValueError("half a character, which cannot be written; remove it")
    return text


def _integer(value: object) -> object:
    """Take 1.0 for the 1 that it is in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _form(value: object) -> str | None:
    """Say which of a field's forms a value is meant to have, so that what is told is wrong with that one."""
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else None


def _prompt_form(value: object) -> str | None:
    match value:
        case [int() | float(), *_]:
            return "a list of tokens"
        case [list(), *_]:
            return "lists of tokens"
    return _form(value)


def _one_of(message: str, form: Callable[[object], str | None] = _form) -> Discriminator:
    return Discriminator(form, custom_error_type="form", custom_error_message=message)


Integer = Annotated[int, BeforeValidator(_integer)]
_WHOLE = AfterValidator(_whole)  # behind the lengths, so that those are said in the words of a string
Text = Annotated[str, _WHOLE]
Limit = Annotated[Integer, Field(ge=1, le=10_000_000)]
Seed = Annotated[Integer, Field(ge=-(2**63), lt=2**63)]
Stop = Annotated[str, Field(min_length=1, max_length=1000), _WHOLE]
Stops = Annotated[
    Annotated[Stop, Tag("a text")] | Annotated[list[Stop], Field(max_length=16), Tag("a list")],
    _one_of("Input should be a text or a list of texts"),
]
Token = Annotated[Integer, Field(ge=0, lt=2**31)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Many = Annotated[Integer, Field(ge=1, le=16)]
Temperature = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]
MinP = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(ge=1, le=10)]
Top = Annotated[Integer, Field(ge=0, le=20)]
Salt = Annotated[str, Field(max_length=200), _WHOLE]
Prompts = Annotated[
    Annotated[Text, Tag("a text")]
    | Annotated[list[Token], Tag("a list of tokens")]
    | Annotated[list[Text], Tag("a list")]
    | Annotated[list[list[Token]], Tag("lists of tokens")],
    _one_of("Input should be a text, a list of tokens, or a list of either", _prompt_form),
]
_GRAMMAR = 200_000


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True)


class StreamOptions(_Fields):
    """What a stream says besides text."""

    include_usage: bool | None = None


class JsonSchema(_Fields):
    """A schema, by OpenAI's wrapping."""

    name: Text | None = None
    json_schema: dict[Text, Any] = Field(alias="schema")


class ResponseFormat(_Fields):
    """What the text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(_Fields):
    """A constraint, by vLLM's names."""

    grammar: Annotated[str, Field(max_length=_GRAMMAR), _WHOLE] | None = None
    """A Lark grammar of llguidance."""
    json_schema: dict[Text, Any] | None = Field(default=None, alias="json")


class Sampling(_Fields):
    """What both kinds of completion take."""

    model: Text | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Many | None = None
    max_tokens: Limit | None = None
    min_tokens: Annotated[Integer, Field(ge=0)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    min_p: MinP | None = None
    repetition_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stops | None = None
    logit_bias: Annotated[dict[Text, Bias], Field(max_length=1024)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: Salt | None = None
    """Requests with another salt, or none, share nothing of the story cache with these."""


class ChatPart(_Fields):
    """A part of a message."""

    type: Text
    text: Text | None = None


class ChatMessage(_Fields):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[Text, Tag("a text")] | Annotated[list[ChatPart], Tag("a list")],
            _one_of("Input should be a text or a list of parts"),
        ]
        | None
    ) = None


class ChatRequest(Sampling):
    """A chat completion."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None


class CompletionRequest(Sampling):
    """A completion of text."""

    prompt: Prompts
    logprobs: Top | None = None
    echo: bool | None = None
    suffix: Text | None = None
    best_of: Many | None = None


class TokenizeRequest(_Fields):
    """A text or a chat whose tokens are asked for."""

    model: Text | None = None
    prompt: Text | None = None
    content: Text | None = None
    """The same, by llama.cpp's name."""
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None


class DetokenizeRequest(_Fields):
    """Tokens whose text is asked for."""

    model: Text | None = None
    tokens: list[Token]


Details = Annotated[
    Annotated[dict[Text, Text], Tag("an object")]
    | Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Tag("a list")],
    _one_of("Input should be an object or a list of pairs"),
]


class CastMember(_Fields):
    """A character."""

    name: Text
    speaker_id: Text
    details: Details | None = None


class Story(_Fields):
    """A StoryPrompt."""

    characters: list[CastMember] = []
    past_story: Text = ""
    instructions: list[Text] = []
    tags: bool = True


class StoryRequest(_Fields):
    """A passage of a story."""

    model: Text | None = None
    prompt: Story
    words: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    max_tokens: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    min_p: MinP | None = None
    repetition_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stops | None = None
    never_speak_as: Annotated[list[Text], Field(max_length=1000)] | None = None
    constrain: bool | None = None
    """False: the model may write what it likes, and it is mended."""
    cache_salt: Salt | None = None
    stream: bool | None = None

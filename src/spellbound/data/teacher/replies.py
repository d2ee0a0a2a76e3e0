"""What a server can answer: a reply, or one of the ways to fail. Plain values; nothing here holds a key."""

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from spellbound.errors import EnvironmentFault


class TeacherStopped(EnvironmentFault):
    """A limit is reached or the server does not answer; what was answered is kept, so the run can go on."""


class Reply(BaseModel):
    """One answer of the model as it came, paid for whatever it is worth."""

    content: str = ""
    refusal: str = ""
    finish: str = ""
    """Why the model stopped: `stop`, `length`, `content_filter`."""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer."""

    status: int
    """HTTP status; 0 where there was none."""
    reason: str
    """In words, without the key."""
    again: bool
    """Whether another try may succeed."""
    wait_s: float | None = None
    """What the server asked for."""
    perhaps_paid: bool = False
    """The request arrived, and whether it was answered nobody knows."""
    code: str = ""
    """The server's own word for it."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


def read_reply(body: bytes, worst: tuple[int, int]) -> Reply | Failure:
    """Read the body of a chat completion; `worst`: tokens in and out to assume where it does not say."""
    try:
        read = _Body.model_validate_json(body)
    except ValidationError:
        return Failure(200, "the server sent no chat completion in JSON", again=True, perhaps_paid=True)
    if not read.choices:
        return Failure(
            200, "the server sent a chat completion without choices", again=True, perhaps_paid=True
        )
    choice = read.choices[0]
    usage = read.usage or _Usage()
    return Reply(
        content=choice.message.content or "",
        refusal=choice.message.refusal or "",
        finish=choice.finish_reason or "",
        input_tokens=_counted(usage.prompt_tokens, worst[0]),
        output_tokens=_counted(usage.completion_tokens, worst[1]),
    )


def _counted(tokens: int | None, worst: int) -> int:
    """What a server says, or the worst where it says nothing or nonsense."""
    return worst if tokens is None or tokens < 0 else tokens

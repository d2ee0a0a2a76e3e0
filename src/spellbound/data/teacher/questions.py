"""Questions to a teacher: a conversation, the form of the answer, and what is wrong with an answer."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from spellbound.data.teacher.replies import Reply
from spellbound.data.teacher.settings import AnswerFormat, TeacherSettings

_KEY_VERSION = 1


class Form(BaseModel):
    """Base of all answers: every field is required and no other is taken, as strict JSON schemas demand."""

    model_config = ConfigDict(frozen=True, extra="forbid")


FormT = TypeVar("FormT", bound=Form)
Message = tuple[str, str]
"""Role and content."""


@dataclass(frozen=True, slots=True)
class Question(Generic[FormT]):
    """What is asked, and how an answer is judged."""

    name: str
    """Of the schema, as the server sees it."""
    messages: tuple[Message, ...]
    form: type[FormT]
    verify: Callable[[FormT], list[str]]
    """Every fault of an answer as one sentence to the model; none if it is right."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[FormT]):
    """The best answer to a question: right if `faults` is empty; `value` is None if none could be read."""

    value: FormT | None
    faults: tuple[str, ...] = ()


def read_answer(question: Question[FormT], reply: Reply) -> Answer[FormT]:
    """Judge a reply; every fault is a sentence that can be told to the model."""
    if reply.refusal or reply.finish == "content_filter":
        return Answer(None, ("You declined. This is published fiction, to be described and not continued.",))
    if reply.finish == "length":
        return Answer(None, ("Your answer was too long and was cut off. Answer more briefly.",))
    if not reply.content.strip():
        return Answer(None, ("Your answer was empty.",))
    try:
        value = question.form.model_validate_json(_bare(reply.content))
    except ValidationError as error:
        return Answer(None, tuple(_in_words(fault) for fault in error.errors(include_url=False)[:5]))
    return Answer(value, tuple(question.verify(value)))


def _bare(content: str) -> str:
    """Return the JSON of an answer without the fence or thoughts that some models write round it."""
    content = content.rpartition("</think>")[2].strip()
    if content.startswith("```") and content.endswith("```"):
        content = content[3:-3].strip().removeprefix("json")
    return content


def _in_words(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    where = f" at {place}" if place else ""
    return f"Your answer does not have the form that was asked for{where}: {fault['msg']}."


def schema_of(form: type[Form]) -> dict[str, Any]:
    """Return the JSON schema of a form, without the words that pydantic takes from the code."""
    bare: dict[str, Any] = _bare_schema(form.model_json_schema())
    return bare


_WORDS = ("title", "description")


def _bare_schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    # A field may have such a name; then it is a schema, not a text.
    return {
        name: _bare_schema(each)
        for name, each in value.items()
        if not (name in _WORDS and isinstance(each, str))
    }


def key_of(question: Question[FormT], messages: tuple[Message, ...], settings: TeacherSettings) -> str:
    """Return what an answer is kept under: all that may change it, and not which server is asked."""
    content = {
        "version": _KEY_VERSION,
        "model": settings.model,
        "messages": messages,
        "schema": schema_of(question.form),
        "temperature": settings.temperature,
        "seed": settings.seed,
        "answer_tokens": settings.answer_tokens,
    }
    text = json.dumps(content, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def body_of(
    question: Question[FormT], messages: tuple[Message, ...], settings: TeacherSettings, form: AnswerFormat
) -> dict[str, Any]:
    """Return the body of a request in the way that the server can be made to answer in JSON."""
    schema = schema_of(question.form)
    if form != "json_schema":
        asked = f"Answer with one JSON object of this schema and nothing else:\n{json.dumps(schema)}"
        messages = ((messages[0][0], f"{messages[0][1]}\n\n{asked}"), *messages[1:])
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": role, "content": content} for role, content in messages],
        settings.limit_field: settings.answer_tokens,
    }
    if settings.send_seed:
        body["seed"] = settings.seed
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if form == "json_schema":
        described = {"name": question.name, "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    elif form == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def most_tokens(body: dict[str, Any], settings: TeacherSettings) -> tuple[int, int]:
    """Return a bound on the tokens of a request and its answer: no tokenizer makes more tokens than bytes."""
    size = len(json.dumps(body, ensure_ascii=False).encode())
    return size + 64, settings.answer_tokens

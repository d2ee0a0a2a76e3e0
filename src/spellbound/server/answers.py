"""A request's texts as an answer: whole, or as server-sent events."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel

from spellbound.server.errors import ApiError
from spellbound.server.fields import error_about
from spellbound.server.guard import log_fault
from spellbound.server.openai_format import Chat, Text, usage_object
from spellbound.server.writing import Writing
from spellbound.story.completion import Completed, Piece, Scored

SILENCE = b": still reading\n\n"


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


def refusal(error: BaseException, asked: BaseModel) -> dict[str, Any]:
    """Return what to tell of an error in the midst of an answer; what nobody expected is logged."""
    told = error_about(error, asked)
    if told.status == 500:
        log_fault(error)
    return told.body


def shut_down() -> ApiError:
    """What to tell those whose text was ended by us."""
    return ApiError(503, "the server is shutting down; the text ends early", code="shutting_down")


async def whole(writing: Writing, objects: Chat | Text) -> dict[str, Any]:
    """Return the answer once all texts have ended."""
    texts: list[list[str]] = [[] for _ in range(writing.count)]
    scores: list[list[Scored]] = [[] for _ in range(writing.count)]
    reasons = [""] * writing.count
    async with aclosing(writing.told()) as all_told:
        async for told in all_told:
            if told is None:
                continue
            index, item = told
            if isinstance(item, Piece):
                texts[index].append(item.text)
                scores[index] += [item.scored] if item.scored else []
            elif item.reason == "cancelled":
                raise shut_down()
            else:
                reasons[index] = item.reason
    made = objects.whole(["".join(text) for text in texts], reasons, scores)
    return made | {"usage": usage_object(writing.usage)}


async def streamed(
    writing: Writing, objects: Chat | Text, asked: BaseModel, *, include_usage: bool
) -> AsyncGenerator[bytes]:
    """Yield the answer as it comes, `[DONE]` last; an error in its midst is an event of its own."""
    extra: dict[str, None] = {"usage": None} if include_usage else {}
    try:
        async with aclosing(_objects(writing, objects)) as made:
            async for each in made:
                yield SILENCE if each is None else event(each | extra)
        if include_usage:
            yield event(objects.usage(writing.usage))
    except Exception as error:  # noqa: BLE001 (told to the client, logged if it is a fault)
        yield event(refusal(error, asked))
    yield b"data: [DONE]\n\n"


async def _objects(writing: Writing, objects: Chat | Text) -> AsyncGenerator[dict[str, Any] | None]:
    """Yield the objects of a stream; None after a long silence."""
    begun: set[int] = set()
    async with aclosing(writing.told()) as all_told:
        async for told in all_told:
            if told is None:
                yield None
                continue
            index, item = told
            if index not in begun:
                begun.add(index)
                if first := objects.first(index):
                    yield first
            if not isinstance(item, Completed):
                yield objects.piece(index, item.text, item.scored)
            elif item.reason == "cancelled":
                raise shut_down()
            else:
                yield objects.last(index, item.reason)

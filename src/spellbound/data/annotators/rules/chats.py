"""Chats: each message says who writes it; what stands between asterisks is an action."""

import re
from collections.abc import Iterator

from spellbound.data.annotators.rules.tagging import Span
from spellbound.data.documents import PARAGRAPH, Document
from spellbound.directives import Kind

_ACTION = re.compile(r"(?<!\*)\*++[^*\n]++\*++")
_MARKED = re.compile(r"\"[^\"\n]+\"|“[^“”\n]+”|«[^«»\n]+»|„[^„“”\n]+[“”]")


def chat_spans(document: Document, ids: dict[str, str]) -> Iterator[Span]:
    """Quotes and actions of a chat's messages; `ids` are the speaker IDs of the chat's speakers."""
    place = 0
    for part in document.parts:
        if part.kind == "message" and part.speakers:
            for start, end, kind in _message(part.text):
                speaker = ids[part.speakers[0]] if kind == "quote" else None
                yield Span(place + start, place + end, kind, speaker)
        place += len(part.text) + len(PARAGRAPH)


def _message(text: str) -> Iterator[tuple[int, int, Kind]]:
    """Speech is what stands in quotation marks; in a message without any, all but the actions."""
    actions = [
        (match.start(), match.end())
        for match in _ACTION.finditer(text)
        if any(char.isalnum() for char in match[0])
    ]
    marked = [(match.start(), match.end()) for match in _MARKED.finditer(text)]
    spoken = [span for span in marked if not any(begin < span[1] and span[0] < end for begin, end in actions)]
    if not marked:
        spoken = _between(text, actions)
    yield from ((start, end, "action") for start, end in actions)
    yield from ((start, end, "quote") for start, end in spoken)


def _between(text: str, actions: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left beside the actions, without the white space round it."""
    edges = [0, *(place for action in actions for place in action), len(text)]
    found = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        part = text[start:end]
        start += len(part) - len(part.lstrip())
        end -= len(part) - len(part.rstrip())
        if any(char.isalnum() for char in text[start:end]):
            found.append((start, end))
    return found

"""Reads SillyTavern chats: who said what, and what else the model had offered to say (swipes)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import one_kind_of_line_end, require_characters
from spellbound.data.readers.macros import resolved
from spellbound.data.readers.stored import numbered_rows
from spellbound.errors import InputError

_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a chat."""

    speaker: str
    """Id of who sent it, a key of the chat's cast; empty for narration."""
    text: str
    by_user: bool = False
    alternatives: tuple[str, ...] = ()
    """What else was offered in its place and not chosen, in the order of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """One place of a chat where several answers were offered: material for preferences."""

    before: tuple[ChatMessage, ...]
    chosen: str
    rejected: tuple[str, ...]
    speaker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A whole chat."""

    id: str
    cast: tuple[Person, ...]
    messages: tuple[ChatMessage, ...]
    hidden: int = 0
    """System messages that were left out."""

    def siblings(self) -> Iterator[Siblings]:
        """Every place where more than one answer was offered."""
        for at, message in enumerate(self.messages):
            if message.alternatives and not message.by_user:
                yield Siblings(
                    before=self.messages[:at],
                    chosen=message.text,
                    rejected=message.alternatives,
                    speaker=message.speaker,
                )

    def document(self) -> Document:
        """The chat as a document, every message a part."""
        parts = tuple(
            Part(kind="message", text=each.text, speakers=(each.speaker,) if each.speaker else ())
            for each in self.messages
        )
        title = " & ".join(person.name for person in self.cast)
        return Document(id=self.id, parts=parts, cast=self.cast, title=title)


def read_chat(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Chat:
    """Read a chat as SillyTavern saves it: a header line, then a line a message.

    Macros are resolved, system messages left out. InputError names the file, the line and the remedy.
    """
    rows = numbered_rows(path)
    _, header = next(rows, (0, {}))
    if not is_chat_header(header):
        raise InputError(f"{path}: line 1 is no header of a SillyTavern chat; give the file as it was saved")
    user = _named(header, "user_name") or defaults.user
    character = _named(header, "character_name")
    cast: dict[str, Person] = {}
    messages: list[ChatMessage] = []
    hidden = 0
    for number, row in rows:
        if row.get("is_system"):
            hidden += 1
            continue
        message = _message(row, f"{path}: line {number}", (user, character))
        if message is None:
            continue
        sender, read = message
        if read.speaker:
            cast.setdefault(read.speaker, Person(id=read.speaker, name=sender))
        messages.append(read)
    return Chat(id=name or path.stem, cast=tuple(cast.values()), messages=tuple(messages), hidden=hidden)


def read_chats(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read the document of a chat; InputError if nobody says anything in it."""
    chat = read_chat(path, defaults, name)
    if not chat.messages:
        raise InputError(f"{path}: has no messages; leave it out")
    yield defaults.complete(chat.document(), path.name)


def is_chat_header(row: dict[str, Any]) -> bool:
    """Whether a row is the first line of a SillyTavern chat."""
    return "user_name" in row or "chat_metadata" in row


def person_id(name: str) -> str:
    """A name as one word."""
    return _SPACES.sub("_", name.strip())


def _message(row: dict[str, Any], place: str, names: tuple[str, str]) -> tuple[str, ChatMessage] | None:
    """Return sender and message; None if nothing is said in it."""
    text = row.get("mes")
    sender = row.get("name")
    if not isinstance(text, str) or not isinstance(sender, str):
        raise InputError(f"{place}: has no mes or no name; remove the line, or save the chat again")
    user, character = names
    by_user = row.get("is_user") is True
    said = resolved(_clean(text, place), user=user, char=character or sender)
    if not said:
        return None
    extra = row.get("extra")
    narrated = not sender.strip() or (isinstance(extra, dict) and extra.get("type") == "narrator")
    swipes = row.get("swipes")
    offered = [
        resolved(_clean(each, place), user=user, char=character or sender)
        for each in (swipes if isinstance(swipes, list) else ())
        if isinstance(each, str)
    ]
    others = tuple(dict.fromkeys(each for each in offered if each and each != said))
    speaker = "" if narrated else person_id(sender)
    return sender.strip(), ChatMessage(speaker=speaker, text=said, by_user=by_user, alternatives=others)


def _clean(text: str, place: str) -> str:
    return one_kind_of_line_end(require_characters(text, place)).strip()


def _named(header: dict[str, Any], key: str) -> str:
    """A name of the header; SillyTavern writes `unused` where the chat is a group's."""
    value = header.get(key)
    return value.strip() if isinstance(value, str) and value != "unused" else ""

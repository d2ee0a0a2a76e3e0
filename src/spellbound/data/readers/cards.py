"""Reads Character Cards, versions 1, 2 and 3: JSON, PNG pictures that carry it, and CHARX archives."""

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers.archives import member, opened
from spellbound.data.readers.chat import person_id
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import decoded, file_bytes, one_kind_of_line_end, require_characters
from spellbound.data.readers.macros import resolved
from spellbound.data.readers.png import SIGNATURE, png_texts
from spellbound.directives import Character, new_speaker_id
from spellbound.errors import InputError

PNG_KEYWORDS = ("ccv3", "chara")
"""In the order in which they are believed."""
_START = re.compile(r"<START>", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterCard:
    """A character with what belongs to it; every macro resolved, every text without outer space."""

    character: Character
    """Details: description and personality. The speaker ID depends on the card's content alone."""
    nickname: str = ""
    """What {{char}} stands for; empty: the name."""
    scenario: str = ""
    first_message: str = ""
    greetings: tuple[str, ...] = ()
    """Other first messages."""
    examples: tuple[str, ...] = ()
    """Blocks of example dialogue, lines beginning `NAME:`."""
    lore: tuple[tuple[str, str], ...] = ()
    """Enabled entries of the lorebook: what calls them up, joined with `, `, and what they say."""
    system_prompt: str = ""
    creator: str = ""
    creator_notes: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    user: str = "User"
    """Name put for {{user}}."""


def read_card(path: Path, defaults: ReaderDefaults = NO_DEFAULTS) -> CharacterCard:
    """Read a card; InputError naming the file if it is none, is damaged or has no name."""
    card = _card_json(path, defaults.encoding)
    data = card.get("data") if isinstance(card.get("data"), dict) else card
    assert isinstance(data, dict)  # noqa: S101 for the type checker: both branches are
    return card_of(data, str(path), defaults.user)


def card_of(data: dict[str, Any], place: str, user: str = "User") -> CharacterCard:
    """The card of its fields: what stands under `data` in versions 2 and 3, at the top in version 1."""
    called = _plain(data, "name", place)
    if not called:
        raise InputError(f"{place}: the card has no name; write one into it")
    nickname = _plain(data, "nickname", place)
    char = nickname or called

    def said(key: str) -> str:
        return resolved(_plain(data, key, place), user=user, char=char)

    pairs = (("Description", said("description")), ("Personality", said("personality")))
    seed = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return CharacterCard(
        character=Character(
            called, new_speaker_id(generator=random.Random(seed)), tuple(pair for pair in pairs if pair[1])
        ),
        nickname=nickname,
        scenario=said("scenario"),
        first_message=said("first_mes"),
        greetings=tuple(
            greeting
            for each in _strings(data.get("alternate_greetings"))
            if (greeting := resolved(one_kind_of_line_end(each), user=user, char=char))
        ),
        examples=tuple(block for each in _START.split(said("mes_example")) if (block := each.strip())),
        lore=tuple(_lore(data.get("character_book"), user, char)),
        system_prompt=said("system_prompt"),
        creator=said("creator"),
        creator_notes=said("creator_notes") or said("creatorcomment"),
        version=said("character_version"),
        tags=tuple(_strings(data.get("tags"))),
        user=user,
    )


def read_cards(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read the documents of a card: one for each greeting, one for each block of example dialogue."""
    card = read_card(path, defaults)
    identity = name or path.stem
    person = Person(id=person_id(card.character.name), name=card.character.name, details=_sheet(card))
    user = Person(id=person_id(card.user), name=card.user)
    if user.id == person.id:
        user = replace(user, id=f"{user.id}_2")
    owners = {user.name: user, person.name: person, card.nickname or person.name: person}
    greetings = [each for each in (card.first_message, *card.greetings) if each]
    if not greetings and not card.examples:
        raise InputError(f"{path}: the card says nothing, neither greeting nor example; leave it out")
    for number, greeting in enumerate(greetings, 1):
        part = Part(kind="message", text=greeting, speakers=(person.id,))
        yield _described(card, f"{identity}/greeting-{number}", (part,), (person,), defaults, path)
    for number, block in enumerate(card.examples, 1):
        parts = tuple(_dialogue(block, owners))
        cast = (person, user) if any(user.id in part.speakers for part in parts) else (person,)
        yield _described(card, f"{identity}/example-{number}", parts, cast, defaults, path)


def is_card(data: object) -> bool:
    """Whether JSON is a character card of any version."""
    if not isinstance(data, dict):
        return False
    inner = data.get("data")
    fields = inner if isinstance(inner, dict) else data
    return "name" in fields and ("first_mes" in fields or "description" in fields)


def _card_json(path: Path, encoding: str) -> dict[str, Any]:
    """The JSON of a card, out of whatever it is wrapped in."""
    content = b"" if path.suffix.lower() == ".charx" else file_bytes(path)
    if path.suffix.lower() == ".charx":
        with opened(path) as archive:
            text = decoded(member(archive, "card.json", path), path)
    elif content.startswith(SIGNATURE):
        text = _from_picture(content, path)
    else:
        text = decoded(content, path, encoding)
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the card is no JSON ({str(error)[:80]}); export it again") from error
    if not is_card(card):
        raise InputError(f"{path}: is JSON, but no character card; give a card of version 1, 2 or 3")
    return dict(card)


def _from_picture(content: bytes, path: Path) -> str:
    texts = png_texts(content, path)
    keyword = next((each for each in PNG_KEYWORDS if each in texts), None)
    if keyword is None:
        raise InputError(
            f"{path}: is a picture without a character card; give one that was exported as a card"
        )
    try:
        return base64.b64decode("".join(texts[keyword].split()), validate=True).decode()
    except ValueError as error:
        raise InputError(
            f"{path}: its text {keyword} is no base64 of UTF-8; export the card again"
        ) from error


def _plain(data: dict[str, Any], key: str, place: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {key} of the card is {value!r:.40}, no text; write a string")
    return one_kind_of_line_end(require_characters(value, f"{place}: {key}")).strip()


def _strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _lore(book: object, user: str, char: str) -> Iterator[tuple[str, str]]:
    entries = book.get("entries") if isinstance(book, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("enabled", True) and isinstance(entry.get("content"), str):
            # Lines with @@ steer the front end that holds the card.
            lines = [line for line in entry["content"].split("\n") if not line.startswith("@@")]
            if told := resolved("\n".join(lines), user=user, char=char):
                yield ", ".join(_strings(entry.get("keys"))), told


def _sheet(card: CharacterCard) -> tuple[tuple[str, str], ...]:
    scenario = (("Scenario", card.scenario),) if card.scenario else ()
    return (*card.character.details, *scenario)


def _dialogue(block: str, owners: dict[str, Person]) -> Iterator[Part]:
    """Parts of an example: a line that begins with a name that somebody has begins a message."""
    names = "|".join(re.escape(name) for name in sorted(owners, key=lambda name: (-len(name), name)))
    told = re.split(rf"^({names}): ?", block, flags=re.M)
    if told[0].strip():
        yield Part(kind="message", text=told[0].strip())
    for name, text in zip(told[1::2], told[2::2], strict=True):
        if text.strip():
            yield Part(kind="message", text=text.strip(), speakers=(owners[name].id,))


def _described(
    card: CharacterCard,
    identity: str,
    parts: tuple[Part, ...],
    cast: tuple[Person, ...],
    defaults: ReaderDefaults,
    path: Path,
) -> Document:
    document = Document(id=identity, parts=parts, cast=cast, title=card.character.name, author=card.creator)
    return defaults.complete(document, path.name)

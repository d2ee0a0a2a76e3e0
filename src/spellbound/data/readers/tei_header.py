"""What the header of a TEI file says of a text, and of the people in it."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from spellbound.data.documents import Person
from spellbound.data.readers.xml import attribute, children, descendants, local, words

_DATED = ("written", "print", "premiere", "firstPerformed", "originalSource")
_GENDERS: dict[str, Literal["female", "male", ""]] = {
    "male": "male", "m": "male", "1": "male",
    "female": "female", "f": "female", "2": "female", "w": "female",
}  # fmt: skip
_WALK_ON = re.compile(r" \([IVXLC]+(?:/\d+)?\)$")


def described(tei: Any) -> dict[str, Any]:
    """Title, author, language, year and licence, as keywords of a document."""
    header = next(children(tei, "teiHeader"), tei)
    statement = next(descendants(header, "titleStmt"), header)
    licence = next(descendants(header, "licence"), None)
    return {
        "title": next((words(each) for each in children(statement, "title")), ""),
        "author": "; ".join(_author(each) for each in children(statement, "author")),
        "language": _language(tei, header),
        "year": _year(tei),
        "licence": "" if licence is None else _short(licence),
    }


def _author(author: Any) -> str:
    """Return `Surname, forename` where the name is in parts, else what is written."""
    surname = next(descendants(author, "surname"), None)
    forenames = " ".join(words(each) for each in descendants(author, "forename", "nameLink"))
    if surname is None:
        return next((words(each) for each in descendants(author, "persName")), words(author))
    return f"{words(surname)}, {forenames}" if forenames else words(surname)


def _language(tei: Any, header: Any) -> str:
    named = next((attribute(each, "ident") for each in descendants(header, "language")), "")
    return attribute(tei, "lang") or named


def _year(tei: Any) -> int | None:
    """The earliest year that the text was written, printed or performed."""
    years = [
        int(match[0])
        for each in descendants(tei, "event", "date")
        if attribute(each, "type") in _DATED
        for key in ("when", "notBefore", "notAfter")
        if (match := re.match(r"\d{4}", attribute(each, key)))
    ]
    return min(years, default=None)


def _short(licence: Any) -> str:
    """What a licence is called: its own first words, or its address."""
    called = next((words(each) for each in descendants(licence, "ab", "p") if words(each)), words(licence))
    return called if 0 < len(called) <= 80 else attribute(licence, "target") or called[:80]


def people(tei: Any) -> Iterator[Person]:
    """Persons and groups that the header lists, once each."""
    seen: set[str] = set()
    for each in descendants(tei, "person", "personGrp"):
        identity = attribute(each, "id")
        if not identity or identity in seen:
            continue
        seen.add(identity)
        called = next((words(name) for name in each if local(name) in ("persName", "name")), "")
        sex = attribute(each, "sex") or next((attribute(s, "value") for s in children(each, "sex")), "")
        yield Person(
            id=identity, name=_WALK_ON.sub("", called) or identity, gender=_GENDERS.get(sex.lower(), "")
        )

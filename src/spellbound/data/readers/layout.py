"""A document as a row: the corpora's columns, the same in Parquet and in JSON."""

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from spellbound.data.documents import Document, Part, PartKind, Person
from spellbound.data.readers.encoding import require_characters
from spellbound.errors import InputError

COLUMNS = (
    "id",
    "source",
    "lang",
    "title",
    "author",
    "year",
    "license",
    "attribution",
    "text",
    "speeches",
    "cast",
)
_TEXTS = ("id", "source", "lang", "title", "author", "license", "attribution", "text")
_SEXES: dict[str, Literal["female", "male", ""]] = {"FEMALE": "female", "MALE": "male"}


def to_row(document: Document) -> dict[str, Any]:
    """Columns of a document. InputError for what a row cannot hold: see `require_storable`."""
    require_storable(document)
    names = {person.id: person.name for person in document.cast}
    return {
        "id": document.id,
        "source": document.source,
        "lang": document.language,
        "title": document.title,
        "author": document.author,
        "year": document.year,
        "license": document.licence,
        "attribution": document.attribution,
        "text": document.text,
        "speeches": [
            {
                "kind": part.kind,
                "speaker": " ".join(part.speakers),
                "name": ", ".join(names[each] for each in part.speakers),
                "text": part.text,
            }
            for part in document.parts
        ],
        "cast": [
            {
                "id": person.id,
                "name": person.name,
                "sex": person.gender.upper(),
                "details": [{"key": key, "value": value} for key, value in person.details],
            }
            for person in document.cast
        ],
    }


def require_storable(document: Document) -> None:
    """Refuse a document without an id, with text and parts, lone surrogates or speakers it does not list."""
    place = f"document {document.id[:80]!r}"
    if not document.id:
        raise InputError("a document has no id; give each its own")
    if document.text and document.parts:
        raise InputError(f"{place}: has both text and parts; leave one of them empty")
    if document.year is not None and not -9999 <= document.year <= 9999:
        raise InputError(f"{place}: year {document.year} is none of this world; leave it out")
    ids = [person.id for person in document.cast]
    known = set(ids)
    for each in ids:
        if not each or len(each.split()) != 1 or each != each.strip():
            raise InputError(f"{place}: cast id {each[:40]!r} is not one word; write it without spaces")
    if len(known) < len(ids):
        raise InputError(f"{place}: two of the cast have the same id; give each its own")
    for part in document.parts:
        for each in part.speakers:
            if each not in known:
                raise InputError(f"{place}: speaker {each[:40]!r} is not in the cast; add a person")
    for text in _all_texts(document):
        require_characters(text, place)


def _all_texts(document: Document) -> list[str]:
    return [
        *(document.id, document.text, document.language, document.title, document.author),
        *(document.source, document.licence, document.attribution),
        *(part.text for part in document.parts),
        *(text for person in document.cast for text in (person.id, person.name)),
        *(text for person in document.cast for pair in person.details for text in pair),
    ]


def from_row(row: Mapping[str, Any], place: str) -> Document:
    """The document of a row; further columns are ignored. InputError names the place and the column."""
    texts = {column: _text(row.get(column), place, column) for column in _TEXTS}
    year = row.get("year")
    if year is not None and (not isinstance(year, int) or isinstance(year, bool)):
        raise InputError(f"{place}: year {year!r:.40} is no whole number; write one, or leave it out")
    speeches = _structs(row, "speeches", place)
    parts = tuple(_part(each, place) for each in speeches)
    people = {person.id: person for person in (_person(each, place) for each in _structs(row, "cast", place))}
    for each in speeches:
        for person in _unlisted(each):
            people.setdefault(person.id, person)
    document = Document(
        id=texts["id"],
        text=texts["text"],
        parts=parts,
        cast=tuple(people.values()),
        language=texts["lang"],
        title=texts["title"],
        author=texts["author"],
        year=year,
        source=texts["source"],
        licence=texts["license"],
        attribution=texts["attribution"],
    )
    if document.text and document.parts:
        raise InputError(f"{place}: has both text and speeches; leave one of them empty")
    return document


def _structs(row: Mapping[str, Any], column: str, place: str) -> list[Mapping[str, Any]]:
    value = row.get(column) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InputError(f"{place}: column {column} is no list of structs; write it as `data read` does")
    return value


def _text(value: object, place: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: column {column} is {value!r:.40}, no text; write a string")
    return require_characters(value, f"{place}, column {column}")


def _part(struct: Mapping[str, Any], place: str) -> Part:
    kind = struct.get("kind")
    if kind not in get_args(PartKind):
        raise InputError(
            f"{place}: item of kind {kind!r:.40} in speeches; use one of {', '.join(get_args(PartKind))}"
        )
    return Part(
        kind=cast(PartKind, kind),
        text=_text(struct.get("text"), place, "speeches.text"),
        speakers=tuple(_text(struct.get("speaker"), place, "speeches.speaker").split()),
    )


def _person(struct: Mapping[str, Any], place: str) -> Person:
    details = struct.get("details") or []
    if not isinstance(details, list) or not all(isinstance(each, dict) for each in details):
        raise InputError(f"{place}: column cast.details is no list of structs; write key and value of each")
    return Person(
        id=_text(struct.get("id"), place, "cast.id"),
        name=_text(struct.get("name"), place, "cast.name"),
        gender=_SEXES.get(str(struct.get("sex", "")).upper(), ""),
        details=tuple(
            (_text(each.get("key"), place, "cast.key"), _text(each.get("value"), place, "cast.value"))
            for each in details
        ),
    )


def _unlisted(struct: Mapping[str, Any]) -> list[Person]:
    """Those who speak in an item, by the display names it gives them; the source's cast may lack some."""
    ids = str(struct.get("speaker") or "").split()
    names = str(struct.get("name") or "").split(", ")
    if len(ids) == 1 or len(names) != len(ids):
        names = [str(struct.get("name") or "")] if len(ids) == 1 else ids
    return [Person(id=each, name=name or each) for each, name in zip(ids, names, strict=True)]

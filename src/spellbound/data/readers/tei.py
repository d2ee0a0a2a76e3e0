"""Reads TEI: plays in the layout of DraCor to parts and a cast, novels to paragraphs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spellbound.data.documents import PARAGRAPH, SCENE_BREAK, Document, Part, PartKind, Person
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import file_bytes
from spellbound.data.readers.prose import joined, one_line
from spellbound.data.readers.tei_header import described, people
from spellbound.data.readers.xml import attribute, descendants, local, parsed
from spellbound.errors import InputError

_UNSAID = (
    *("teiHeader", "speaker", "note", "pb", "lb", "cb", "fw", "gb", "figure", "graphic", "bibl", "argument"),
    *("index", "trailer", "castList"),
)
_FIRST_OF = ("corr", "reg", "expan")


def read_tei(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read the plays and novels of a TEI file, one or, in a teiCorpus, many.

    Raises InputError if it is not well-formed, declares entities, is not TEI or says nothing.
    """
    root = parsed(file_bytes(path), path)
    texts = [each for each in descendants(root, "TEI", "TEI.2") if not list(_inner(each))]
    if not texts:
        raise InputError(f"{path}: is XML, but not TEI (root {local(root)}); give a TEI file")
    for number, tei in enumerate(texts, 1):
        identity = name or path.stem
        yield defaults.complete(
            _document(tei, identity if len(texts) == 1 else f"{identity}/{number}"), path.name
        )


def _inner(tei: Any) -> Iterator[Any]:
    return (each for each in descendants(tei, "TEI", "TEI.2") if each is not tei)


def _document(tei: Any, identity: str) -> Document:
    told = _Told(cast={person.id: person for person in people(tei)})
    for body in descendants(tei, "body"):
        if not any(local(above) in ("body", "floatingText") for above in body.iterancestors()):
            told.walk(body)
    told.flush()
    header = described(tei)
    if not told.parts:
        raise InputError(f"{identity}: the TEI body has no text; leave it out")
    if any(part.kind == "speech" for part in told.parts):
        return Document(id=identity, parts=tuple(told.parts), cast=tuple(told.cast.values()), **header)
    return Document(id=identity, text=joined(part.text for part in told.parts), **header)


@dataclass(slots=True)
class _Told:
    """Parts so far. Text gathers in `pending` and becomes a part when something of another kind begins."""

    cast: dict[str, Person]
    parts: list[Part] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    kind: PartKind = "stage"
    speakers: tuple[str, ...] = ()

    def flush(self) -> None:
        text = _laid_out("".join(self.pending))
        self.pending.clear()
        if text:
            self.parts.append(Part(kind=self.kind, text=text, speakers=self.speakers))

    def walk(self, element: Any) -> None:
        """Take in an element and what is in it."""
        name = local(element)
        if name in _UNSAID or not name:
            self.pending.append(" " if name in ("lb", "pb", "cb") else "")
        elif name == "sp":
            self._as("speech", self._who(element), element)
        elif name == "stage":
            self._as("stage", _ids(element) or self.speakers, element)
        elif name in ("head", "title"):
            self._as("head", (), element)
        elif name == "choice":
            first = next((each for wanted in _FIRST_OF for each in element if local(each) == wanted), None)
            self._within(element[0] if first is None and len(element) else first)
        elif name == "milestone":
            self.pending.append(f"{_PARAGRAPH_MARK}{SCENE_BREAK}{_PARAGRAPH_MARK}")
        elif name in _MARKS:
            self.pending.append(_MARKS[name])
            self._within(element)
            self.pending.append(_MARKS[name])
        else:
            self._within(element)

    def _within(self, element: Any) -> None:
        if element is None:
            return
        self.pending.append(_flat(element.text))
        for child in element:
            self.walk(child)
            self.pending.append(_flat(child.tail))

    def _as(self, kind: PartKind, speakers: tuple[str, ...], element: Any) -> None:
        """Take in an element as parts of a kind, then go on as before."""
        self.flush()
        before = self.kind, self.speakers
        self.kind, self.speakers = kind, speakers
        self._within(element)
        self.flush()
        self.kind, self.speakers = before

    def _who(self, speech: Any) -> tuple[str, ...]:
        """Return who speaks; one not in the header joins the cast by the name before the speech."""
        called = next(
            (" ".join("".join(each.itertext()).split()) for each in speech if local(each) == "speaker"), ""
        )
        ids = _ids(speech)
        if not ids and called:
            ids = (re.sub(r"\W+", "_", called.lower()).strip("_") or "speaker",)
        for each in ids:
            shown = called.rstrip(" .:,") if len(ids) == 1 else each
            self.cast.setdefault(each, Person(id=each, name=shown or each))
        return ids


_PARAGRAPH_MARK, _LINE_MARK, _STANZA_MARK = "\v", "\f", "\x1c"
_MARKS = {
    "p": _PARAGRAPH_MARK,
    "ab": _PARAGRAPH_MARK,
    "div": _PARAGRAPH_MARK,
    "quote": _PARAGRAPH_MARK,
    "lg": _STANZA_MARK,
    "l": _LINE_MARK,
}


def _flat(text: str | None) -> str:
    """Text of the source: its line ends are layout, and none of our marks is in it."""
    return re.sub(
        r"[\s\x1c]", lambda found: found[0] if found[0] in "\u00a0\u202f\u2009" else " ", text or ""
    )


def _laid_out(text: str) -> str:
    """Verse lines one below the other, paragraphs and stanzas apart."""
    paragraphs: list[str] = []
    for paragraph in re.split("[\v\x1c]", text):
        lines = [said for line in paragraph.split("\f") if (said := one_line(line))]
        if lines:
            paragraphs.append("\n".join(lines))
    return PARAGRAPH.join(paragraphs)


def _ids(element: Any) -> tuple[str, ...]:
    """Ids that an element's @who points to, each once."""
    named = (each.lstrip("#") for each in attribute(element, "who").split())
    return tuple(dict.fromkeys(each for each in named if each))

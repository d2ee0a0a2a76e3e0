"""Tagged stories: what annotators give. Without its tags a tagged story is its document, to the character."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from spellbound.data.documents import Document
from spellbound.data.fields import Cast, Language, Licence, Provenance
from spellbound.directives import StreamParser, Text
from spellbound.errors import InputError


class AnnotationRefused(InputError):
    """A passage whose tags changed its text, or that an annotator cannot tag; the message says where."""


class TaggedStory(BaseModel):
    """A whole document in the output markup of the directive language, and who speaks in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    text: str
    """Markup: quotes with speaker IDs of the cast, actions, sounds. Quotation marks stay in the quotes."""
    cast: Cast
    language: Language
    title: str = ""
    author: str = ""
    source: str = ""
    licence: Licence = ""
    attribution: str = ""
    doubtful: tuple[tuple[int, int], ...] = ()
    """Spans (start, end) of the plain text, in code points, whose speaker is unknown or a guess: examples are
    cut around them."""
    provenance: Provenance


class Annotator(Protocol):
    """From a document to a tagged story. Deterministic, or so after its own cache."""

    @property
    def name(self) -> str:
        """What `Provenance.annotator` says."""

    def annotate(self, document: Document) -> TaggedStory:
        """Tag a document; AnnotationRefused if it cannot be tagged without changing it."""


def require_lossless(document: Document, markup: str) -> None:
    """Refuse markup whose text differs from the document's, or that the stream parser has to repair.

    Raises AnnotationRefused with the first place that differs.
    """
    parser = StreamParser()
    events = [*parser.feed(markup), *parser.close()]
    told = "".join(event.text for event in events if isinstance(event, Text))
    if told != document.plain:
        at = next(
            (place for place, (one, two) in enumerate(zip(told, document.plain)) if one != two),  # noqa: B905
            min(len(told), len(document.plain)),
        )
        raise AnnotationRefused(
            f"{document.id}: the tagged text differs from the source at character {at}:"
            f" {told[at : at + 20]!r} for {document.plain[at : at + 20]!r}; the passage is left out"
        )
    if parser.repairs:
        raise AnnotationRefused(
            f"{document.id}: the tags need repair: {parser.repairs[0].message}; the passage is left out"
        )

"""Reads plain text, with or without the frame of Project Gutenberg."""

from collections.abc import Iterator
from pathlib import Path

from spellbound.data.documents import Document
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import decoded, file_bytes
from spellbound.data.readers.gutenberg import without_frame, without_marks
from spellbound.data.readers.prose import joined, paragraphs
from spellbound.errors import InputError


def read_text(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read one document from a text file; InputError if it is not text or says nothing."""
    text = decoded(file_bytes(path), path, defaults.encoding)
    book = without_frame(text)
    told = joined(map(without_marks, paragraphs(book.text)) if book else paragraphs(text))
    if not told:
        raise InputError(f"{path}: has no text; leave it out")
    document = Document(
        id=name or path.stem,
        text=told,
        title=book.title if book else "",
        author=book.author if book else "",
        language=book.language if book else "",
    )
    yield defaults.complete(document, path.name)

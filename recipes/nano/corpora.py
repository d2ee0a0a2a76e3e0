"""Story corpora from a folder of Parquet files (one row a document), and the rule for what is held out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from spellbound.data.documents import PARAGRAPH, Document, Part
from spellbound.data.readers import read_documents
from spellbound.errors import InputError
from spellbound.train import dataset

HELD_OUT = 20
"""One document in this many is never trained on; the recipes say the same in `data.held_out`."""


def held_out(name: str) -> bool:
    """Whether a document of this id is kept for measuring, by the rule of `spellbound train`."""
    return dataset.held_out(name, HELD_OUT)


def collections(folder: Path) -> list[str]:
    """Names of the Parquet files in the folder, sorted; an error if there is none."""
    if not folder.is_dir():
        raise InputError(f"corpora folder '{folder}' does not exist; name one with --corpora FOLDER")
    names = sorted(path.stem for path in folder.glob("*.parquet"))
    if not names:
        raise InputError(f"corpora folder '{folder}' holds no .parquet file; see recipes/nano/README.md")
    return names


def read(folder: Path, collection: str) -> Iterator[Document]:
    """The documents of one collection, in the order of the file, plays as text; empty ones are skipped."""
    for document in read_documents([folder / f"{collection}.parquet"]):
        text = document.text or play_text(document)
        if text.strip():
            yield replace(document, text=text, parts=(), cast=())


def play_text(play: Document) -> str:
    """A play as text: `Name: line` for a speech, brackets round a stage direction, heads as they are."""
    names = {person.id: person.name for person in play.cast}

    def told(part: Part) -> str:
        if part.kind == "stage":
            return f"({part.text})"
        speakers = ", ".join(names[speaker] for speaker in part.speakers)
        return f"{speakers}: {part.text}" if part.kind == "speech" and speakers else part.text

    return PARAGRAPH.join(map(told, play.parts))

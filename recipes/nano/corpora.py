"""Story corpora from a folder of Parquet files (one row a document), and the rule for what is held out.

Columns that are read: id, lang, license, text; for plays, whose text is empty, speeches (kind, name, text).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as parquet
from pyarrow import ArrowInvalid

from spellbound.errors import InputError

HELD_OUT_SHARE = 20
"""One document in this many is never trained on, by a hash of its id."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One story, novel or play."""

    id: str
    collection: str
    """The Parquet file's name without its ending."""
    lang: str
    license: str
    text: str


def held_out(name: str) -> bool:
    """Whether a document of this id is kept for measuring (a stable 5 % of all ids)."""
    return int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16) % HELD_OUT_SHARE == 7


def collections(folder: Path) -> list[str]:
    """Names of the Parquet files in the folder, sorted; an error if there is none."""
    if not folder.is_dir():
        raise InputError(f"corpora folder '{folder}' does not exist; name one with --corpora FOLDER")
    names = sorted(path.stem for path in folder.glob("*.parquet"))
    if not names:
        raise InputError(f"corpora folder '{folder}' holds no .parquet file; see recipes/nano/README.md")
    return names


def read(folder: Path, collection: str) -> Iterator[Document]:
    """The documents of one collection, in the order of the file; empty ones are skipped."""
    path = folder / f"{collection}.parquet"
    try:
        table = parquet.ParquetFile(path)
    except (OSError, ArrowInvalid) as error:
        raise InputError(f"'{path}' cannot be read as Parquet ({error}); fetch the file again") from error
    needed = ["id", "lang", "license", "text"]
    missing = [name for name in needed if name not in table.schema_arrow.names]
    if missing:
        raise InputError(f"'{path}' has no column '{missing[0]}'; see the layout in recipes/nano/README.md")
    if "speeches" in table.schema_arrow.names:
        needed.append("speeches")
    for batch in table.iter_batches(batch_size=16, columns=needed):
        for row in batch.to_pylist():
            text = row["text"] or play_text(row.get("speeches") or [])
            if text.strip():
                yield Document(
                    id=row["id"], collection=collection, lang=row["lang"], license=row["license"], text=text
                )


def play_text(speeches: list[dict[str, str]]) -> str:
    """A play as text: `Name: line` for a speech, brackets round a stage direction, heads as they are."""
    parts: list[str] = []
    for item in speeches:
        if item["kind"] == "speech" and item["name"]:
            parts.append(f"{item['name']}: {item['text']}")
        elif item["kind"] == "stage":
            parts.append(f"({item['text']})")
        else:
            parts.append(item["text"])
    return "\n\n".join(parts)

"""Finds files in folders, tells what kind each is, and reads them all, one after the other."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from spellbound.data.documents import Document
from spellbound.data.readers.cards import PNG_KEYWORDS, is_card
from spellbound.data.readers.chat import is_chat_header
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import file_bytes
from spellbound.data.readers.png import SIGNATURE, png_texts
from spellbound.data.readers.stored import JSONL_ENDINGS, numbered_rows
from spellbound.errors import InputError
from spellbound.files import words_of

ENDINGS = {
    ".txt": "plain.read_text",
    ".text": "plain.read_text",
    ".md": "markdown.read_markdown",
    ".markdown": "markdown.read_markdown",
    ".epub": "epub.read_epub",
    ".xml": "tei.read_tei",
    ".tei": "tei.read_tei",
    ".parquet": "stored.read_rows",
    **dict.fromkeys(JSONL_ENDINGS, "lines"),
    ".json": "cards.read_cards",
    ".png": "cards.read_cards",
    ".charx": "cards.read_cards",
}
"""Which reader reads files of an ending, and is imported when the first one comes."""

_OTHERS = {
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "an old Word file",
    b"BOOKMOBI": "a Mobipocket book",
    b"{\\rtf": "RTF",
}

_ASIDE = re.compile(
    r"\..*|(?:readme|licen[cs]e|copying|notice|changelog|contributing)(?:[-_.]\S*)?", re.IGNORECASE
)
"""Files of a folder that are hidden or about the others."""


class _Read(Protocol):
    def __call__(self, path: Path, defaults: ReaderDefaults, name: str) -> Iterator[Document]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to be read, and the name that its documents' ids begin with."""

    path: Path
    name: str


def read(
    paths: Iterable[Path],
    *,
    defaults: ReaderDefaults = NO_DEFAULTS,
    refused: Callable[[InputError], None] | None = None,
) -> Iterator[Document]:
    """Read everything in files and folders, folders in the order of their names.

    Raises InputError at the first file that cannot be read, or hands it to `refused` and goes on.
    """
    for source in sources(paths):
        try:
            yield from read_source(source, defaults)
        except InputError as error:
            if refused is None:
                raise
            refused(error)


def read_source(source: Source, defaults: ReaderDefaults = NO_DEFAULTS) -> Iterator[Document]:
    """Read the documents of one file."""
    room, _, function = kind_of(source.path).partition(".")
    module = import_module(f"spellbound.data.readers.{room}")
    yield from cast(_Read, getattr(module, function))(source.path, defaults, source.name)


def sources(paths: Iterable[Path], left_out: Callable[[Path], None] = lambda path: None) -> list[Source]:
    """The files in question; of a folder, those of a known ending that are not hidden nor about others.

    Names are made of the folder's name and the path in it; where two would have one name, of the ending too,
    and then of a number. `left_out` is told of a folder's files that no reader knows, hidden ones and those
    about others apart. Raises InputError for what is not there.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            found += [
                (file, f"{path.resolve().name}/{file.relative_to(path).as_posix()}")
                for file in _walk(path, left_out)
            ]
        elif path.exists():
            found.append((path, path.name))
        else:
            raise InputError(f"{path}: is not there; give a file or a folder")
    shared = Counter(_without_ending(name) for _, name in found)
    named: list[Source] = []
    seen: Counter[str] = Counter()
    for path, full in found:
        short = _without_ending(full)
        name = short if shared[short] == 1 else full
        seen[name] += 1
        named.append(Source(path=path, name=name if seen[name] == 1 else f"{name}-{seen[name]}"))
    return named


def kind_of(path: Path) -> str:
    """Room and name of the reader for a file, by its ending, or by how it begins if the ending says nothing.

    Raises InputError for a file of a kind that nobody here reads.
    """
    kind = ENDINGS.get(_ending(path.name))
    begins = _beginning(path)
    if kind is None:
        kind = _by_content(path, begins)
    if kind == "lines":
        first = next(numbered_rows(path), (0, {}))[1]
        return "chat.read_chats" if is_chat_header(first) else "stored.read_rows"
    return kind


def _by_content(path: Path, begins: bytes) -> str:
    for mark, called in _OTHERS.items():
        if mark in begins[:80]:
            raise InputError(
                f"{path}: is {called}, which is not read here; save it as text, Markdown or EPUB"
            )
    if begins.startswith(b"PAR1"):
        return "stored.read_rows"
    if begins.startswith(b"PK\3\4"):
        return "epub.read_epub"
    if begins.startswith(SIGNATURE):
        return "cards.read_cards"
    bare = begins.removeprefix(b"\xef\xbb\xbf").lstrip()
    if bare.startswith((b"<?xml", b"<TEI")):
        return "tei.read_tei"
    if bare.startswith(b"{"):
        return "cards.read_cards" if _is_card_file(path) else "lines"
    return "plain.read_text"


def _is_card_file(path: Path) -> bool:
    try:
        return is_card(json.loads(file_bytes(path)))
    except (ValueError, RecursionError):
        return False


def _walk(folder: Path, left_out: Callable[[Path], None]) -> Iterator[Path]:
    """Files of known endings below a folder, in the order of their paths; pictures only if they are cards."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {words_of(error)}; give a folder that can be")

    for here, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if _ASIDE.fullmatch(name):
                continue
            if _ending(name) in ENDINGS and _is_meant(path):
                yield path
            else:
                left_out(path)


def _is_meant(path: Path) -> bool:
    """Whether a file of a known ending is likely to be a story: a picture or JSON may be anything."""
    if path.suffix.lower() == ".png":
        try:
            return any(each in png_texts(file_bytes(path), path) for each in PNG_KEYWORDS)
        except InputError:
            return True  # the reader will say what is wrong with it
    return path.suffix.lower() != ".json" or _is_card_file(path)


def _ending(name: str) -> str:
    lower = name.lower()
    return next((each for each in ENDINGS if lower.endswith(each)), "")


def _without_ending(name: str) -> str:
    return name[: len(name) - len(_ending(name))] or name


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file that can be") from error

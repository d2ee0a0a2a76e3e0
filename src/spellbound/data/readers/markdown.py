"""Reads Markdown: front matter to metadata, headings to paragraphs, emphasis and links to their words."""

import html
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from spellbound.data.documents import SCENE_BREAK, Document
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import decoded, file_bytes
from spellbound.data.readers.prose import SPACE, joined, one_line
from spellbound.errors import InputError

_YAML = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S | re.M)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.S | re.M)
_PAIR = re.compile(r"([A-Za-z_]+):[ \t]*(.*)")
_MARKUP = re.compile(r"<!--.*?-->|<[^<>]*>", re.S)
_BREAK = re.compile(r"<br\s*/?>", re.I)


def read_markdown(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read one document from a Markdown file; InputError if it is not text or says nothing."""
    said, body = front_matter(decoded(file_bytes(path), path, defaults.encoding), path)
    text = joined(markdown_paragraphs(body))
    if not text:
        raise InputError(f"{path}: has no text; leave it out")
    year = re.search(r"\b\d{4}\b", said.get("year", "") or said.get("date", ""))
    document = Document(
        id=name or path.stem,
        text=text,
        title=said.get("title", ""),
        author=said.get("author", "") or said.get("authors", ""),
        language=said.get("language", "") or said.get("lang", ""),
        year=int(year[0]) if year else None,
        source=said.get("source", ""),
        licence=said.get("licence", "") or said.get("license", ""),
        attribution=said.get("attribution", ""),
    )
    yield defaults.complete(document, path.name)


def front_matter(text: str, place: object) -> tuple[dict[str, str], str]:
    """Split off YAML or TOML front matter; of YAML, plain pairs and lists, the items joined with `; `."""
    if match := _TOML.match(text):
        try:
            table = tomllib.loads(match[1])
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{place}: the front matter is no TOML ({error}); mend it") from error
        return {key.lower(): _flat(value) for key, value in table.items()}, text[match.end() :]
    match = _YAML.match(text)
    if match is None or not _PAIR.match(match[1].lstrip()):
        return {}, text
    said: dict[str, list[str]] = {}
    items: list[str] = []
    for line in match[1].split("\n"):
        if pair := _PAIR.match(line):
            items = said.setdefault(pair[1].lower(), [])
            items += _values(pair[2])
        elif line.lstrip().startswith("- "):
            items += _values(line.lstrip()[2:])
    return {key: "; ".join(values) for key, values in said.items()}, text[match.end() :]


def _values(written: str) -> list[str]:
    bare = written.strip()
    listed = bare[1:-1].split(",") if bare.startswith("[") and bare.endswith("]") else [bare]
    return [value for each in listed if (value := each.strip().strip("\"'"))]


def _flat(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown_paragraphs(text: str) -> list[str]:
    """Paragraphs of a CommonMark text: what is read when it is shown, without pictures and HTML."""
    told: list[str] = []
    number = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "list_item_open":
            number = f"{token.info}{token.markup} " if token.info else ""
        elif token.type == "inline":
            told += [f"{number}{shown}" for shown in _shown(token.children or ())]
            number = ""
        elif token.type in ("fence", "code_block"):
            told += [part for part in re.split(r"\n\s*\n", token.content) if part.strip(SPACE)]
        elif token.type == "hr":
            told.append(SCENE_BREAK)
        elif token.type == "html_block":
            told += map(one_line, html.unescape(_MARKUP.sub("", token.content)).split("\n\n"))
    return [paragraph.strip("\n") for paragraph in told]


def _shown(children: Sequence[Token]) -> list[str]:
    """Words of one block; where a line is broken on purpose it stays broken."""
    words: list[str] = []
    for child in children:
        if child.type in ("text", "code_inline"):
            words.append(child.content)
        elif child.type == "softbreak":
            words.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and _BREAK.fullmatch(child.content)):
            words.append("\n")
    lines = [one_line(line) for line in "".join(words).split("\n")]
    return ["\n".join(line for line in lines if line)]

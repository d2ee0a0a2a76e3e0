"""Reads EPUB: the pages in the order of the spine, without cover, contents, notes and pictures."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from spellbound.data.documents import Document
from spellbound.data.readers.archives import member, opened
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.html_text import is_story_page, page_paragraphs
from spellbound.data.readers.prose import joined
from spellbound.data.readers.xml import attribute, descendants, local, parsed, parsed_html, words
from spellbound.errors import InputError

_CONTAINER = "META-INF/container.xml"
_LOCKS = "META-INF/encryption.xml"
_FONT_LOCKS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_NO_STORY = frozenset(("cover", "toc", "title-page", "copyright-page", "index", "loi", "lot", "colophon"))


def read_epub(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read one document from an EPUB 2 or 3.

    Raises InputError if the file is broken, protected, larger than a book can be, or says nothing.
    """
    with opened(path) as archive:
        _require_unlocked(archive, path)
        container = parsed(member(archive, _CONTAINER, path), f"{path}: {_CONTAINER}")
        root = next(descendants(container, "rootfile"), None)
        if root is None:
            raise InputError(f"{path}: {_CONTAINER} names no package; make the file again")
        at = attribute(root, "full-path")
        package = parsed(member(archive, at, path), f"{path}: {at}")
        told: list[str] = []
        # Each once, however often it is listed: a small file must not become an endless book.
        for page in dict.fromkeys(_spine(package, posixpath.dirname(at))):
            told += _page(member(archive, page, path), f"{path}: {page}")
    text = joined(told)
    if not text:
        raise InputError(f"{path}: has no text, only pictures perhaps; leave it out")
    yield defaults.complete(_described(package, text, name or path.stem), path.name)


def _require_unlocked(archive: zipfile.ZipFile, path: Path) -> None:
    """Fonts may be scrambled; anything else that is says the book is protected."""
    if _LOCKS not in archive.namelist():
        return
    locks = parsed(member(archive, _LOCKS, path), f"{path}: {_LOCKS}")
    methods = {attribute(each, "Algorithm") for each in descendants(locks, "EncryptionMethod")}
    if methods - set(_FONT_LOCKS):
        raise InputError(f"{path}: is protected (DRM) and cannot be read; give a copy without protection")


def _spine(package: Any, folder: str) -> Iterator[str]:
    """Names in the archive of the pages of the story, in reading order."""
    items = {attribute(each, "id"): each for each in descendants(package, "item")}
    skipped = {
        attribute(each, "href").split("#")[0]
        for each in descendants(package, "reference")
        if attribute(each, "type") in _NO_STORY
    }
    for reference in descendants(package, "itemref"):
        item = items.get(attribute(reference, "idref"))
        if item is None or attribute(reference, "linear") == "no":
            continue
        href = attribute(item, "href")
        is_page = attribute(item, "media-type") in _PAGES
        if is_page and href not in skipped and "nav" not in attribute(item, "properties").split():
            yield posixpath.normpath(posixpath.join(folder, unquote(href)))


def _page(content: bytes, place: str) -> list[str]:
    try:
        root = parsed(content, place)
    except InputError:
        root = parsed_html(content)  # many books have pages that browsers alone can read
    return page_paragraphs(root) if root is not None and is_story_page(root) else []


def _described(package: Any, text: str, identity: str) -> Document:
    metadata = next(descendants(package, "metadata"), package)
    said: dict[str, list[str]] = {}
    for element in metadata.iter():
        if words(element) and "purl.org/dc" in str(element.tag):
            said.setdefault(local(element), []).append(words(element))
    year = re.search(r"\b\d{4}\b", " ".join(said.get("date", [])))
    return Document(
        id=identity,
        text=text,
        title=" ".join(said.get("title", [])[:1]),
        author="; ".join(said.get("creator", [])),
        language=" ".join(said.get("language", [])[:1]),
        year=int(year[0]) if year else None,
        licence=" ".join(said.get("rights", [])[:1]),
    )

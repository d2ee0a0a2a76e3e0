"""Paragraphs of an HTML or XHTML page: what is read, without what is only for finding one's way."""

import re
from typing import Any

from spellbound.data.documents import SCENE_BREAK
from spellbound.data.readers.prose import one_line
from spellbound.data.readers.xml import attribute, local


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_BLOCKS = _set(
    """address article aside blockquote body caption center dd details div dl dt figcaption figure footer
    form h1 h2 h3 h4 h5 h6 header li main ol p pre section summary table tbody td th tr ul"""
)
_UNSEEN = _set("script style head title nav svg math img audio video object iframe template rt rp")
_APPARATUS = _set(
    """cover toc landmarks page-list loi lot index titlepage halftitlepage copyright-page imprint colophon
    noteref footnote footnotes endnote endnotes rearnote rearnotes pagebreak"""
)
_GUTENBERG = frozenset(("pg-header", "pg-footer"))
_LINE = "\v"


def page_paragraphs(root: Any) -> list[str]:
    """Paragraphs and headings in order, `* * *` for each rule; line breaks within a paragraph stay."""
    told: list[str] = []
    pending: list[str] = []

    def flush() -> None:
        for paragraph in re.split(rf"{_LINE}\s*{_LINE}", "".join(pending)):
            lines = [one_line(line) for line in paragraph.split(_LINE)]
            told.append("\n".join(line for line in lines if line))
        pending.clear()

    # A stack of our own: pages nest deeper than Python calls.
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        element, left = waiting.pop()
        name = local(element)
        if left:
            if name in _BLOCKS:
                flush()
            pending.append(_text(element.getparent(), element.tail))
            continue
        if not name or name in _UNSEEN or _is_apparatus(element):
            pending.append(_text(element.getparent(), element.tail))
            continue
        if name in _BLOCKS:
            flush()
        if name == "br":
            pending.append(_LINE)
        elif name == "hr":
            flush()
            told.append(SCENE_BREAK)
        pending.append(_text(element, element.text))
        waiting.append((element, True))
        waiting += [(child, False) for child in reversed(element)]
    flush()
    return [paragraph for paragraph in told if paragraph]


def is_story_page(root: Any) -> bool:
    """Whether a page, by what its body or its only section says of itself, is more than a cover or a list."""
    tops = [each for each in root.iter() if local(each) in ("html", "body")]
    return not any(_is_apparatus(each) for each in tops)


def _text(parent: Any, text: str | None) -> str:
    """Text that stands directly within an element: lines end where the source's do in `pre` alone."""
    if not text:
        return ""
    kept = text.replace(_LINE, " ")
    return kept.replace("\n", _LINE) if parent is not None and local(parent) == "pre" else kept


def _is_apparatus(element: Any) -> bool:
    """Whether an element calls itself a cover, a list of contents, a note, or the frame of Gutenberg."""
    kinds = {*attribute(element, "type").split(), attribute(element, "role").removeprefix("doc-")}
    return bool(kinds & _APPARATUS) or attribute(element, "id") in _GUTENBERG

"""Takes the header and footer of Project Gutenberg off a text, and reads what the header says."""

import re
from dataclasses import dataclass

from spellbound.data.readers.prose import one_line_each

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG E[^*]*\*{3}[ \t]*$", re.M | re.I)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg)", re.M | re.I
)
_FIELD = re.compile(r"^(Title|Author|Language): *(.+(?:\n[ \t]+\S.*)*)", re.M)
_CREDIT = re.compile(r"^\s*(?:E-text prepared|Produced|Transcribed) by\b.*?(?:\n[ \t]*\n|\Z)", re.S | re.I)
_ILLUSTRATION = re.compile(r"\[Illustration(?::[^\[\]]*)?\]")
_EMPHASIS = re.compile(r"(?<!\w)_(?=\S)([^_]{1,2000}?)(?<=\S)_(?!\w)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GutenbergText:
    """The text between the marks, and the header's fields."""

    text: str
    title: str = ""
    author: str = ""
    language: str = ""


def without_frame(text: str) -> GutenbergText | None:
    """Read a text of Project Gutenberg; None if there is no mark where one starts."""
    start = _START.search(text)
    if start is None:
        return None
    end = _END.search(text, start.end())
    said = {key: " ".join(value.split()) for key, value in _FIELD.findall(text[: start.start()])}
    body = _CREDIT.sub("", text[start.end() : end.start() if end else len(text)])
    return GutenbergText(
        text=body,
        title=said.get("Title", ""),
        author=said.get("Author", ""),
        language=said.get("Language", ""),
    )


def without_marks(paragraph: str) -> str:
    """A paragraph without pictures and without underscores for emphasis; lines must be joined by now."""
    return one_line_each(_EMPHASIS.sub(r"\1", _ILLUSTRATION.sub("", paragraph)))

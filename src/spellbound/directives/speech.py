"""Puts quotation marks round speech, unless it brings its own."""

import re

from spellbound.directives.languages import QuotationMarks

_PAIRS = {
    '"': '"',
    "'": "'’",
    "“": "”“",
    "”": "”",
    "„": "“”",
    "«": "»",
    "»": "«»",
    "‘": "’‘",
    "’": "’",
    "‚": "‘’",
    "‹": "›",
    "›": "‹",
}
_DASHES = "—–―"
_DOUBLE = re.compile('"|“|”|„|«[\u00a0\u202f ]?|[\u00a0\u202f ]?»')
_BEFORE_OPENING = "([{—–-…"


def brings_marks(speech: str, marks: QuotationMarks) -> bool:
    """Whether speech begins and ends with quotation marks of any language, or begins with a dialogue dash."""
    bare = speech.strip()
    if marks.dash and bare[:1] in tuple(_DASHES):
        return True
    return len(bare) > 1 and bare[-1] in _PAIRS.get(bare[0], "")


def without_marks(speech: str, marks: QuotationMarks) -> str:
    """Speech without white space round it and without the marks or the dash that it brings."""
    bare = speech.strip()
    if not brings_marks(bare, marks):
        return bare
    return bare[1:].strip() if bare[0] in _DASHES else bare[1:-1].strip()


def with_marks(speech: str, marks: QuotationMarks) -> str:
    """Speech as prose has it: in marks, inside of its outer white space; a quotation in it in inner marks."""
    bare = speech.strip()
    if not bare or brings_marks(bare, marks):
        return speech
    before, after = speech[: len(speech) - len(speech.lstrip())], speech[len(speech.rstrip()) :]
    return f"{before}{marks.opening}{_with_inner_marks(bare, marks)}{marks.closing}{after}"


def _with_inner_marks(speech: str, marks: QuotationMarks) -> str:
    """Straight double marks, and the outer marks of the language, become inner ones."""
    outer = (marks.opening.strip(), marks.closing.strip())

    def inner(match: re.Match[str]) -> str:
        mark = match[0].strip()
        if mark != '"' and mark not in outer:
            return match[0]
        opens = mark == outer[0]
        if mark == '"' or outer[0] == outer[1]:
            before = speech[max(match.start() - 1, 0) : match.start()]
            opens = not before or before.isspace() or before in _BEFORE_OPENING
        return marks.inner_opening if opens else marks.inner_closing

    return _DOUBLE.sub(inner, speech)

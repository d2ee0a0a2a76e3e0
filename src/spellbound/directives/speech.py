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
_LINE_BREAKS = re.compile("([\n\r\u2028\u2029]+)")


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
    """Speech as prose has it: in marks, inside of its outer white space; a quotation in it in inner marks.

    Each of several lines has both marks, for whoever looks for speech later looks at one line at a time.
    """
    bare = speech.strip()
    if marks.dash and bare[:1] in tuple(_DASHES):
        return speech
    lines = _LINE_BREAKS.split(speech)
    if brings_marks(bare, marks):
        lines = [_without_half(line, bare[0], bare[-1], marks) for line in lines]
    return "".join(_line_with_marks(line, marks) for line in lines)


def _without_half(line: str, opening: str, closing: str, marks: QuotationMarks) -> str:
    """A line without the mark that another line has the partner of."""
    bare = line.strip()
    if not bare or brings_marks(bare, marks):
        return line
    if bare[0] == opening and not re.search(rf"{re.escape(closing)}(?!\w)", bare[1:]):
        return line.replace(bare, bare[1:].lstrip(), 1)
    if bare[-1] == closing and not re.search(rf"(?<!\w){re.escape(opening)}", bare[:-1]):
        return line.replace(bare, bare[:-1].rstrip(), 1)
    return line


def _line_with_marks(line: str, marks: QuotationMarks) -> str:
    bare = line.strip()
    if not bare or brings_marks(bare, marks):
        return line
    before, after = line[: len(line) - len(line.lstrip())], line[len(line.rstrip()) :]
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

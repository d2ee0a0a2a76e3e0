"""Character references: how `<`, `>`, a literal `&lt;` or a line feed are written as ordinary characters.

Known are `&lt; &gt; &amp; &quot; &apos;`, `&#N;` (one to seven digits) and `&#xN;` (one to six hexadecimal
digits) for any code point but U+0000 and the surrogates. Everything else that begins with `&` is text.
"""

import re

NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}

REFERENCE_PATTERN = r"&(?:lt|gt|amp|quot|apos|\#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6}));"
REFERENCE_PREFIX = re.compile(
    r"&(?:l|lt|g|gt|a|am|amp|ap|apo|apos|q|qu|quo|quot|\#|\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{0,6})?\Z"
)
"""A string that may still become a character reference (matched at its `&`, to the end of what is known)."""

_REFERENCE = re.compile(REFERENCE_PATTERN)
_MARKS = re.compile(r"[<>&]")


def referenced(reference: str) -> str | None:
    """The character that a reference matching `REFERENCE_PATTERN` stands for; None if it is only text."""
    body = reference[1:-1]
    if not body.startswith("#"):
        return NAMED[body]
    code = int(body[2:], 16) if body[1] in "xX" else int(body[1:])
    if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return None
    return chr(code)


def decode(text: str) -> str:
    """Replace every character reference by its character."""
    return _REFERENCE.sub(lambda match: referenced(match[0]) or match[0], text)


def encode(text: str) -> str:
    """Write text so that `decode` and the stream parser give it back and see no tag in it.

    `<` and `>` always become references; `&` only where it would otherwise begin one, so that
    ordinary prose stays as it is.
    """

    def reference(match: re.Match[str]) -> str:
        if match[0] != "&":
            return "&lt;" if match[0] == "<" else "&gt;"
        ambiguous = _REFERENCE.match(text, match.start())
        return "&amp;" if ambiguous and referenced(ambiguous[0]) is not None else "&"

    return _MARKS.sub(reference, text)


def numeric(character: str) -> str:
    """The decimal reference of one character."""
    return f"&#{ord(character)};"

"""Bytes of a text file to its characters: UTF-8, what a byte order mark says, or what the user says."""

import codecs
from pathlib import Path

from spellbound.errors import InputError
from spellbound.files import words_of

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE_ENDS = str.maketrans({"\r": "\n", "\x0b": "\n", "\x0c": "\n", "\x85": "\n", "\u2028": "\n"})


def file_bytes(path: Path) -> bytes:
    """The content of a file; InputError in words if the system refuses."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file that can be") from error


def decoded(content: bytes, place: object, encoding: str = "") -> str:
    """Characters of a text file, every line end a line feed and no byte order mark.

    The encoding is for files that are not UTF-8: a byte order mark, and letters that are UTF-8, are believed.
    Raises InputError naming the place for bytes that the encoding does not have, and for binary files.
    """
    used = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    used = used or (encoding if encoding and not _has_utf8_letters(content) else "utf-8")
    try:
        text = content.decode(used).removeprefix("\ufeff")
    except UnicodeError as error:
        raise InputError(
            f"{place}: byte {getattr(error, 'start', 0)} is not {used}; say what it is with --encoding, as"
            " cp1252 or iso8859-8, or save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{place}: has zero bytes and is no text; give a text file, or its --encoding")
    return one_kind_of_line_end(text)


def _has_utf8_letters(content: bytes) -> bool:
    """Whether a file has letters beyond ASCII that are UTF-8 throughout, as text in no other encoding is."""
    if content.isascii() or b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def one_kind_of_line_end(text: str) -> str:
    """Make every kind of line end, page break included, a line feed; a paragraph separator two."""
    return text.replace("\r\n", "\n").replace("\u2029", "\n\n").translate(_LINE_ENDS)


def require_characters(text: str, place: object) -> str:
    """Return the text; InputError if it has lone surrogates, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: character {error.start} is a lone surrogate; mend the source where it was cut"
        ) from error
    return text

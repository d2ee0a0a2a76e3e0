"""Characters that steer a terminal: a story, or a model, must not be able to do that."""

import re
import unicodedata

# C0 and C1 without tab, line feed and carriage return; separators; what turns the direction of writing.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)


def without_controls(text: str) -> str:
    """Leave out what would move the cursor, set colours or turn the direction; returns become line ends."""
    return _CONTROL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def one_line(text: str) -> str:
    """Put a message on one line and show what cannot be printed as an escape."""
    return "".join(char if _printable(char) else _escaped(char) for char in " ".join(text.split()))


def _printable(char: str) -> bool:
    # Joiners are part of words in many scripts.
    return char.isprintable() or char in "\u200c\u200d" or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")

"""Speaker IDs: six characters of A-Z and 0-9, so that none is the beginning of another."""

import random
import re
import secrets
import string
from collections.abc import Collection

from spellbound.errors import DirectiveError

ALPHABET = string.ascii_uppercase + string.digits
LENGTH = 6

_SPEAKER_ID = re.compile(rf"[{ALPHABET}]{{{LENGTH}}}")


def is_speaker_id(text: str) -> bool:
    """Whether the text is exactly six characters of A-Z and 0-9."""
    return _SPEAKER_ID.fullmatch(text) is not None


def require_speaker_id(text: str, place: str) -> None:
    """Raise DirectiveError, naming the place, unless the text is a speaker ID."""
    if not is_speaker_id(text):
        raise DirectiveError(
            f"{place}: speaker ID {text[:40]!r} is not {LENGTH} of A-Z and 0-9; write one as 32AN4R"
        )


def new_speaker_id(taken: Collection[str] = (), generator: random.Random | None = None) -> str:
    """A speaker ID that is not taken; from the system's randomness, or from a seeded generator."""
    choose = secrets.choice if generator is None else generator.choice
    while True:
        candidate = "".join(choose(ALPHABET) for _ in range(LENGTH))
        if candidate not in taken:
            return candidate

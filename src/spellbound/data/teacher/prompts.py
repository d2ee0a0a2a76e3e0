"""The texts a teacher is told: from `prompts.toml`, filled in once and never again."""

import re
import tomllib
from functools import cache
from importlib.resources import files

from spellbound.data.teacher.questions import Message
from spellbound.data.versions import digest_of

FILE = "prompts.toml"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
LANGUAGES = {
    "en": "English",
    "fr": "French",
    "de": "German",
    "nl": "Dutch",
    "es": "Spanish",
    "pt": "Portuguese",
    "it": "Italian",
    "ar": "Arabic",
    "he": "Hebrew",
}


@cache
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads((files(__package__) / FILE).read_text(encoding="utf-8"))


def prompts_version() -> str:
    """Return a digest of all texts, for the provenance of what was made with them."""
    return digest_of(__package__, FILE)


def messages(task: str, language: str, **values: str) -> tuple[Message, ...]:
    """Return the messages of a task; what is filled in is not looked at for places again."""
    named = {**values, "language": f" (in {LANGUAGES[language]})" if language in LANGUAGES else ""}
    return tuple(
        (role, _PLACE.sub(lambda place: named[place[1]], text.strip()))
        for role, text in _texts()[task].items()
    )

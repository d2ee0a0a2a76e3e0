"""How instructions are put in nine languages: the TOML files in `phrases/`, read once."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "fr", "de", "nl", "es", "pt", "it", "ar", "he")
FILES = tuple(f"phrases/{language}.toml" for language in LANGUAGES)


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates and word lists of one language."""

    language: str
    ask: dict[str, tuple[str, ...]]
    """Several phrasings of each wish, with {a} for a name and {x} for a word or a number."""
    places: tuple[str, ...]
    """Words of one place, separated by "|"; the first is what the instruction says."""
    moods: tuple[str, ...]
    """Words of one mood or their beginnings, likewise."""
    stop: frozenset[str]
    """Words that say nothing of what a passage is about."""


@cache
def phrases(language: str) -> Phrases:
    """Phrases of a language; English ones for a tenth."""
    known = language if language in LANGUAGES else "en"
    table = tomllib.loads((files(__package__) / "phrases" / f"{known}.toml").read_text(encoding="utf-8"))
    return Phrases(
        known,
        {key: tuple(texts) for key, texts in table["ask"].items()},
        tuple(table["places"]["words"]),
        tuple(table["moods"]["words"]),
        frozenset(table["stop"]["words"].split()),
    )

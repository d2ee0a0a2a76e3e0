"""Who tells, and in which tense: decided by function words and common verbs, or not at all."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from spellbound.data.checks.segments import Segment

Person = Literal["first", "third", "unknown"]
Tense = Literal["past", "present", "unknown"]

_SPOKEN = r"“[^“”]*[”“]|„[^“”„]*[“”]|\"[^\"]*\"|”[^”“]*”|‘[^‘’\n]*’(?!\w)|^\s*[—–].*$"
_OUTWARD = re.compile(rf"«[^«»]*»|{_SPOKEN}", re.MULTILINE)
_INWARD = re.compile(rf"»[^«»]*«|{_SPOKEN}", re.MULTILINE)
_WORD = re.compile(r"\w+(?:['’](?:m|ve|d|ll|t))?")
_JOINED_AND = "وفו"
"""Letters for "and", joined to the word after them in Arabic and Hebrew."""
_SHORT = 3
_ENOUGH_WORDS = 40
"""Words of narration from which the absence of an "I" says something."""
_FIRST_SHARE = 0.015
_ENOUGH_VERBS = 4
_ONE_SIDED = 0.8
"""Share of the telling verbs that have to be of one tense."""


@dataclass(frozen=True, slots=True)
class _Lists:
    first: frozenset[str]
    first_only: bool
    past: frozenset[str]
    present: frozenset[str]


@cache
def _lists(language: str) -> _Lists:
    table: dict[str, Any] = tomllib.loads((files(__package__) / "narration.toml").read_text(encoding="utf-8"))
    own = table.get(language, {})
    words = {name: frozenset(own.get(name, ())) for name in ("first", "past", "present")}
    return _Lists(first_only=bool(own.get("first_only", False)), **words)


def person(parts: Sequence[Segment], language: str) -> Person:
    """Whether "I" tells the story; unknown where there is too little narration or the language hides it."""
    words = _narrated(parts)
    lists = _lists(language)
    own = sum(word in lists.first for word in words)
    if own >= 2 and own >= _FIRST_SHARE * len(words):
        return "first"
    told = bool(lists.first) and not lists.first_only and len(words) >= _ENOUGH_WORDS
    return "third" if own == 0 and told else "unknown"


def tense(parts: Sequence[Segment], language: str) -> Tense:
    """Whether the narration is in the past or the present tense; unknown where few verbs say so."""
    words = _narrated(parts)
    lists = _lists(language)
    past = sum(word in lists.past for word in words)
    present = sum(word in lists.present for word in words)
    if past + present < _ENOUGH_VERBS:
        return "unknown"
    if past >= _ONE_SIDED * (past + present):
        return "past"
    return "present" if present >= _ONE_SIDED * (past + present) else "unknown"


def _narrated(parts: Sequence[Segment]) -> list[str]:
    """Words outside of speech, whether speech is tagged or stands in quotation marks."""
    text = "\n".join(part.text for part in parts if part.kind != "quote")
    # German books point their guillemets inwards; whichever comes first opens.
    first = re.search("[«»]", text)
    spoken = _INWARD if first and first[0] == "»" else _OUTWARD
    words = _WORD.findall(spoken.sub(" ", text).lower().replace("’", "'"))
    return [word[1:] if word[0] in _JOINED_AND and len(word) > _SHORT else word for word in words]

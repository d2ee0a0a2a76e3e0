"""The grammar of what a model may write with a given cast, for the two constraint libraries we use.

Text is anything but `<` and `>`; who needs one of these in prose writes a reference. A tag may stand in any
other, but in none of its own kind, as for the stream parser: hence one rule for each set of open kinds.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import combinations

from spellbound.directives.characters import Character, speaker_ids
from spellbound.directives.events import KINDS, Kind, Open
from spellbound.directives.tags import closing_tag, opening_tag

_TEXT = "TEXT: /[^<>]+/\n"
_ONLY_TEXT: dict[str, object] = {"type": "regex", "pattern": "[^<>]*"}


def grammar(cast: Iterable[Character | str], *, tags: bool = True) -> str:
    """The llguidance (Lark) grammar of the output; without tags it is any text without `<` and `>`.

    It accepts exactly the text that the stream parser with this cast reads without a repair and that has
    no `<` or `>` but in its tags. To keep a model from speaking for a character, leave it out of the cast.
    """
    if not tags:
        return f"start: TEXT?\n{_TEXT}"
    speakers = speaker_ids(cast)
    kinds = _kinds(speakers)
    rules = ["start: inside"]
    for open_kinds in _sets(kinds):
        elements = [
            f"{_opening(kind)} {_inside({*open_kinds, kind})} {json.dumps(closing_tag(kind))}"
            for kind in kinds
            if kind not in open_kinds
        ]
        rules.append(f"{_inside(open_kinds)}: ({' | '.join(['TEXT', *elements])})*")
    for kind in kinds:
        openings = " | ".join(json.dumps(tag) for tag in _opening_tags(kind, speakers))
        rules.append(f"{_opening(kind)}: {openings}")
    return "\n".join([*rules, _TEXT])


def _kinds(speakers: tuple[str, ...]) -> list[Kind]:
    """The kinds that can be written: without anybody to speak there are no quotes."""
    return [kind for kind in KINDS if kind != "quote" or speakers]


def _sets(kinds: list[Kind]) -> Iterator[frozenset[Kind]]:
    """Every set of kinds that can be open at once, the empty one first."""
    for size in range(len(kinds) + 1):
        yield from map(frozenset, combinations(kinds, size))


def _inside(open_kinds: Iterable[Kind]) -> str:
    return "_".join(["inside", *sorted(open_kinds)])


def _opening(kind: Kind) -> str:
    return f"OPEN_{kind.upper()}"


def _opening_tags(kind: Kind, speakers: tuple[str, ...]) -> list[str]:
    named = [opening_tag(Open("quote", speaker)) for speaker in speakers]
    return named if kind == "quote" else [opening_tag(Open(kind))]


def structural_tag(cast: Iterable[Character | str], *, tags: bool = True) -> str:
    """The same language as `grammar`, as JSON for xgrammar and so for vLLM's `structural_tag`."""
    speakers = speaker_ids(cast)
    shape = _content(frozenset(), _kinds(speakers), speakers) if tags else _ONLY_TEXT
    return json.dumps({"type": "structural_tag", "format": shape})


def _content(open_kinds: frozenset[Kind], kinds: list[Kind], speakers: tuple[str, ...]) -> dict[str, object]:
    """Text and tags, as triggered tags: with `<` as the trigger no other `<` can be written."""
    elements = [
        {
            "type": "tag",
            "begin": begin,
            "content": _content(open_kinds | {kind}, kinds, speakers),
            "end": closing_tag(kind),
        }
        for kind in kinds
        if kind not in open_kinds
        for begin in _opening_tags(kind, speakers)
    ]
    if not elements:
        return _ONLY_TEXT
    return {"type": "triggered_tags", "triggers": ["<"], "tags": elements, "excludes": [">"]}

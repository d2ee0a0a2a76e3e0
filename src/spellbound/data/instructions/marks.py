"""Quotation marks at the ends of tagged speech: taken off, or known to be there."""

import re
from collections.abc import Iterator

from spellbound.directives import Close, Event, Open, Text

_PAIRS = {
    '"': '"',
    "'": "'",
    "“": "”",
    "”": "”",
    "„": "“”",
    "«": "»",
    "»": "«»",
    "‘": "’",
    "’": "’",
    "‚": "‘’",
    "‹": "›",
    "›": "‹",
}
_DASHES = "—–―"
_SINGLE = "'’‘‚‹›"
_LEADING = re.compile(rf"^(\s*)([{re.escape(''.join(_PAIRS) + _DASHES)}]|-(?=\s))[\s\u00a0\u202f]*")
_TRAILING = re.compile(r"[\s\u00a0\u202f]*(\S)(\s*)$")
_ONLY_DOUBLE = "”»"


def brings_marks(speech: str) -> bool:
    """Whether speech has a mark of its own at either end; part of a longer speech may have just one."""
    lead, trail = _ends(speech)
    return lead or trail


def without_outer_marks(events: list[Event]) -> list[Event]:
    """The same events, quotes without the marks or the dash at their ends; marks within them stay."""
    made = list(events)
    for opening, closing in _quotes(events):
        texts = [at for at in range(opening, closing) if isinstance(events[at], Text)]
        if not texts:
            continue
        lead, trail = _ends(_told(events[opening:closing]))
        if lead:
            made[texts[0]] = Text(_LEADING.sub(r"\1", _text(made[texts[0]])))
        if trail:
            made[texts[-1]] = Text(_TRAILING.sub(r"\2", _text(made[texts[-1]])))
    return made


def unwrapped(events: list[Event]) -> list[Event]:
    """The same events without the tags of quotes that bring marks, so that `plain` gives them no others."""
    dropped = {
        at for pair in _quotes(events) if brings_marks(_told(events[pair[0] : pair[1]])) for at in pair
    }
    return [event for at, event in enumerate(events) if at not in dropped]


def _quotes(events: list[Event]) -> Iterator[tuple[int, int]]:
    """Places of the opening and the closing of each quote."""
    start = 0
    for at, event in enumerate(events):
        if isinstance(event, Open) and event.kind == "quote":
            start = at
        elif isinstance(event, Close) and event.kind == "quote":
            yield start, at


def _told(events: list[Event]) -> str:
    return "".join(map(_text, events))


def _text(event: Event) -> str:
    return event.text if isinstance(event, Text) else ""


def _ends(speech: str) -> tuple[bool, bool]:
    """Whether a mark of its own stands at the beginning, and at the end."""
    bare = speech.strip()
    found = _LEADING.match(bare)
    if len(bare) < 2 or found is None:
        last = bare[-1:]
        opener = {"”": "“„", "»": "«"}.get(last, "")
        return False, bool(last) and last in _ONLY_DOUBLE and not any(mark in bare for mark in opener)
    mark, rest = found[2], bare[found.end() :]
    if mark in _DASHES or mark == "-":
        return True, False
    closed = rest.endswith(tuple(_PAIRS[mark]))
    # A single mark that nothing closes is an apostrophe: ’t, ’Tis.
    return closed or mark not in _SINGLE, closed

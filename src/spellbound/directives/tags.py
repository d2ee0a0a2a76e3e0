"""The three tags of the output: how they are written, and what we accept as one of them.

Canonical are `<quote speaker="32AN4R">`, `<action>`, `<sound>` and their closing tags. Accepted is any case,
white space, any quoting of attributes, unknown attributes and self-closing, in at most 256 code points.
No tag contains `<` or `>` between its ends: this is what makes the parser linear, since no two
attempts to read a tag look at the same character.
"""

import re
from dataclasses import dataclass

from spellbound.directives.events import KINDS, TAG_SPACE, Kind, Open
from spellbound.directives.repairs import RepairCode

MAX_TAG_LENGTH = 256

_SPACE = r"[ \t\r\n]"
_VALUE = rf"(?:\"[^\"<>]{{0,200}}+\"|'[^'<>]{{0,200}}+'|[^{TAG_SPACE}\"'<>=/]{{1,200}}+)"
_PARTIAL_VALUE = rf"(?:\"[^\"<>]{{0,200}}+|'[^'<>]{{0,200}}+|[^{TAG_SPACE}\"'<>=/]{{1,200}}+)"
_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*+"
_ATTRIBUTE = rf"{_SPACE}++{_NAME}(?:{_SPACE}*+={_SPACE}*+{_VALUE})?+"
_KIND = r"(quote|action|sound)"
_KIND_PREFIX = r"(?:q|qu|quo|quot|a|ac|act|acti|actio|s|so|sou|soun)?"

TAG_PATTERN = (
    rf"<(?ai:(?=[^<>]{{1,{MAX_TAG_LENGTH - 2}}}+>)"
    rf"{_SPACE}*+(/?){_SPACE}*+{_KIND}((?:{_ATTRIBUTE})*+){_SPACE}*+(/?){_SPACE}*+>)"
)
"""One accepted tag; groups: closing slash, kind, attributes, self-closing slash."""

_TAG_PREFIX = re.compile(
    rf"<(?ai:{_SPACE}*+/?{_SPACE}*+(?:(?P<name>{_KIND_PREFIX})|{_KIND}(?:{_ATTRIBUTE})*"
    rf"(?:{_SPACE}*+/?{_SPACE}*+|{_SPACE}++{_NAME}{_SPACE}*+(?P<equals>=){_SPACE}*+(?:{_PARTIAL_VALUE})?))\Z)"
)

_PAIR = re.compile(rf"({_NAME})(?:{_SPACE}*+={_SPACE}*+({_VALUE}))?+")


@dataclass(frozen=True, slots=True)
class Tag:
    """An accepted tag and whether it was written as it should be.

    `flaw` is None for a canonical tag, else the first that applies of
    `self-closing`, `attribute` (one that this tag does not have) and `spelling`.
    """

    kind: Kind
    closing: bool = False
    self_closing: bool = False
    speaker: str | None = None
    flaw: RepairCode | None = None


def opening_tag(event: Open) -> str:
    """The canonical opening tag of an event."""
    if event.speaker is None:
        return f"<{event.kind}>"
    mark = "'" if '"' in event.speaker else '"'
    return f"<{event.kind} speaker={mark}{event.speaker}{mark}>"


def closing_tag(kind: Kind) -> str:
    """The canonical closing tag."""
    return f"</{kind}>"


def may_become_tag(text: str, start: int) -> bool:
    """Whether a text that ends unfinished may still have a tag at its `<` at `start`."""
    match = _TAG_PREFIX.match(text, start)
    if match is None:
        return False
    missing = 2 if match["equals"] else 1
    if match["name"] is not None:
        begun = match["name"].lower()
        missing += min(len(kind) - len(begun) for kind in KINDS if kind.startswith(begun))
    return len(text) - start + missing <= MAX_TAG_LENGTH


def read_tag(match: re.Match[str]) -> Tag:
    """Read a match of `TAG_PATTERN`."""
    slash, name, attributes, self_closing = match.group(1, 2, 3, 4)
    kind = _kind(name)
    speaker, superfluous = _speaker(kind, bool(slash), attributes)
    canonical = closing_tag(kind) if slash else opening_tag(Open(kind, speaker))
    flaw: RepairCode | None = None
    if match[0] != canonical:
        flaw = "self-closing" if self_closing else "attribute" if superfluous else "spelling"
    return Tag(kind, bool(slash), bool(self_closing) and not slash, speaker, flaw)


def _kind(name: str) -> Kind:
    match name.lower():
        case "quote":
            return "quote"
        case "action":
            return "action"
        case _:
            return "sound"


def _speaker(kind: Kind, closing: bool, attributes: str) -> tuple[str | None, bool]:
    """The first speaker that a quote's attributes name, and whether there are attributes besides it."""
    speaker: str | None = None
    seen = superfluous = False
    for name, quoted in _PAIR.findall(attributes):
        if kind != "quote" or closing or seen or name.lower() != "speaker":
            superfluous = True
            continue
        seen = True
        bare = quoted[1:-1] if quoted[:1] in ('"', "'") else quoted
        speaker = bare.strip(TAG_SPACE) or None
    return speaker, superfluous

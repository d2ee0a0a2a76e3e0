"""Characters, and the names of the blocks in which their sheets stand."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from spellbound.directives.speaker_ids import require_speaker_id
from spellbound.errors import DirectiveError

SHEET_SUFFIX = "Description"
MAX_SHEET_NAME = 64
"""Longest block name before its suffix, in code points."""

_DROPPED = "'’ʼ"


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody who can speak in a story.

    `details` are ordered (key, value) pairs of any text; `speaker_id` is six characters of A-Z and 0-9.
    Raises DirectiveError for anything else.
    """

    name: str
    speaker_id: str
    details: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Take any iterable of pairs as details, and refuse what a sheet cannot hold."""
        if not isinstance(self.name, str) or not isinstance(self.speaker_id, str):
            raise DirectiveError(
                f"Character {self.name!r:.60}, {self.speaker_id!r:.60}: name and speaker ID must be strings"
            )
        require_speaker_id(self.speaker_id, f"Character {self.name[:40]!r}")
        object.__setattr__(self, "details", tuple(_pair(self.name, detail) for detail in self.details))


def _pair(name: str, detail: object) -> tuple[str, str]:
    match detail:
        case (str(key), str(value)):
            return key, value
    raise DirectiveError(
        f"Character {name[:40]!r}: detail {detail!r:.40} is not a pair of strings (key, value)"
    )


def speaker_ids(cast: Iterable[Character | str]) -> tuple[str, ...]:
    """The speaker IDs of a cast given as characters, as IDs or as a mixture, each once, in order."""
    found: dict[str, None] = {}
    for member in cast:
        speaker_id = member if isinstance(member, str) else member.speaker_id
        require_speaker_id(speaker_id, "cast")
        found[speaker_id] = None
    return tuple(found)


def sheet_names(characters: Iterable[Character]) -> list[str]:
    """The block name of each character's sheet: valid in XML, and none twice.

    `Mara Voss` has `MaraVossDescription`; a second one `MaraVoss2Description`.
    """
    names: list[str] = []
    used: set[str] = set()
    numbers: dict[str, int] = {}
    for character in characters:
        base = name = _joined(character.name)
        while name in used:
            numbers[base] = numbers.get(base, 1) + 1
            name = f"{base}{numbers[base]}"
        used.add(name)
        names.append(name + SHEET_SUFFIX)
    return names


def _joined(name: str) -> str:
    """Letters, marks and decimal digits of a name, its words joined, each with a capital if it has one."""
    joined: list[str] = []
    in_word = False
    for char in name:
        if len(joined) == MAX_SHEET_NAME:
            break
        if _may_stand(char, in_word=in_word):
            joined.append(char if in_word else _capital(char))
            in_word = True
        elif char not in _DROPPED:
            in_word = False
    return _beginning_with_a_letter("".join(joined))


def _beginning_with_a_letter(joined: str) -> str:
    if joined and unicodedata.category(joined[0]).startswith("L"):
        return joined
    return f"Character{joined}"[:MAX_SHEET_NAME]


def _capital(char: str) -> str:
    upper = char.upper()
    return upper if len(upper) == 1 else char


def _may_stand(char: str, *, in_word: bool) -> bool:
    """Whether a character may stand in an XML name and is a letter, a decimal digit, or a mark on one."""
    if char.isascii():
        return char.isalnum()
    category = unicodedata.category(char)
    known = category[0] == "L" or category == "Nd" or (category in ("Mn", "Mc") and in_word)
    return known and _in_xml_name(ord(char))


def _in_xml_name(code: int) -> bool:
    """NameChar of XML 1.0, fifth edition, above ASCII and without punctuation."""
    return (
        (0xC0 <= code <= 0x37D and code not in (0xD7, 0xF7))
        or 0x37F <= code <= 0x1FFF
        or 0x2070 <= code <= 0x218F
        or 0x2C00 <= code <= 0x2FEF
        or 0x3001 <= code <= 0xD7FF
        or 0xF900 <= code <= 0xFDCF
        or 0xFDF0 <= code <= 0xFFFD
        or 0x10000 <= code <= 0xEFFFF
    )

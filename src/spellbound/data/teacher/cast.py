"""The cast of a story, from what a model saw in each passage: entries, put together, as character sheets."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from spellbound.data.documents import Document, Person
from spellbound.data.teacher.passages import Passage
from spellbound.data.teacher.placing import UNKNOWN
from spellbound.data.teacher.questions import Form
from spellbound.directives import Character, new_speaker_id

NARRATOR = "narrator"
_LONGEST = {"name": 80, "personality": 200, "voice": 200, "description": 300}
"""In characters; a model that writes more is asked again."""


class Sheet(Form):
    """What one passage shows of a character."""

    name: str
    aliases: list[str]
    gender: Literal["female", "male", "other", "unknown"]
    personality: str
    voice: str
    description: str


class Sheets(Form):
    """Everybody in a passage."""

    characters: list[Sheet]


class Group(Form):
    """Entries that mean one character."""

    members: list[int]
    name: str
    personality: str
    voice: str
    description: str


class Groups(Form):
    """All entries, in groups."""

    characters: list[Group]


@dataclass(slots=True)
class Member:
    """A character as far as it is known: texts of several passages until they are put together."""

    names: list[str]
    genders: Counter[str] = field(default_factory=Counter)
    personality: list[str] = field(default_factory=list)
    voice: list[str] = field(default_factory=list)
    description: list[str] = field(default_factory=list)
    details: tuple[tuple[str, str], ...] = ()
    """What the source itself says."""
    seen: int = 0
    """Passages it is in."""

    @property
    def name(self) -> str:
        """What it is called in the cast."""
        return self.names[0]

    def take(self, other: "Member") -> None:
        """Add what another entry of the same character says."""
        known = {fold(name) for name in self.names}
        self.names += [name for name in other.names if fold(name) not in known]
        self.genders += other.genders
        for own, new in (
            (self.personality, other.personality),
            (self.voice, other.voice),
            (self.description, other.description),
        ):
            own += [text for text in new if text not in own]
        self.details = self.details or other.details
        self.seen += other.seen


def fold(name: str) -> str:
    """Return a name as names are compared: without case and surplus space."""
    return " ".join(name.split()).casefold()


def faults_of_sheets(passage: Passage, answer: Sheets) -> list[str]:
    """Say what is wrong with a passage's sheets: names that do not stand there, long texts, doubles."""
    faults: list[str] = []
    folded = fold(passage.plain)
    names = Counter(fold(sheet.name) for sheet in answer.characters)
    for sheet in answer.characters:
        name = fold(sheet.name)
        if not name or name == UNKNOWN:
            faults.append("A character has no name; use the words that the passage uses.")
        elif name != NARRATOR and name not in folded:
            faults.append(f"The name {sheet.name[:60]!r} does not stand in the passage; write it as it does.")
        if names[name] > 1:
            faults.append(f"The name {sheet.name[:60]!r} stands twice; give one entry to each character.")
        faults += _too_long(sheet)
    return list(dict.fromkeys(faults))


def faults_of_groups(members: Sequence[Member], answer: Groups) -> list[str]:
    """Say what is wrong with groups: numbers missing, twice or unknown, names that no entry has."""
    count = Counter(number for group in answer.characters for number in group.members)
    all_numbers = range(1, len(members) + 1)
    faults = [
        f"Entry {number} stands in {count[number]} groups; it must be in exactly one."
        for number in all_numbers
        if count[number] != 1
    ]
    faults += [f"There is no entry {number}." for number in sorted(set(count) - set(all_numbers))]
    for group in answer.characters:
        numbers = [number for number in group.members if 1 <= number <= len(members)]
        names = {fold(name) for number in numbers for name in members[number - 1].names}
        if fold(group.name) not in names:
            faults.append(f"No entry of its group has the name {group.name[:60]!r}; take one that has.")
        faults += _too_long(group)
    return faults


def _too_long(sheet: Sheet | Group) -> list[str]:
    return [
        f"{sheet.name[:60]!r}: its {key} has more than {most} characters; be brief."
        for key, most in _LONGEST.items()
        if len(getattr(sheet, key)) > most
    ]


def member_of(sheet: Sheet) -> Member:
    """Return the entry of one passage's sheet."""
    names = {fold(name): " ".join(name.split()) for name in (sheet.name, *sheet.aliases) if fold(name)}
    texts = {key: [text] if (text := _line(getattr(sheet, key))) else [] for key in ("personality", "voice")}
    description = _line(sheet.description)
    return Member(
        list(names.values()),
        Counter([sheet.gender]),
        texts["personality"],
        texts["voice"],
        [description] if description else [],
        seen=1,
    )


def known_members(document: Document) -> list[Member]:
    """Return the entries of those whom the source itself lists."""
    return [_known(person) for person in document.cast if fold(person.name)]


def _known(person: Person) -> Member:
    genders: Counter[str] = Counter([person.gender] if person.gender else [])
    return Member([" ".join(person.name.split())], genders, details=person.details)


def joined(entries: Iterable[Member]) -> list[Member]:
    """Put together entries with the same name, and those whose name is an alias of just one other."""
    by_name: dict[str, Member] = {}
    for entry in entries:
        if (known := by_name.get(fold(entry.name))) is not None:
            known.take(entry)
        else:
            by_name[fold(entry.name)] = entry
    owners = Counter(
        fold(alias) for member in by_name.values() for alias in member.names[1:] if fold(alias) in by_name
    )
    for name in [name for name, count in owners.items() if count == 1]:
        # Two may be each other's alias: then the second one finds no owner any more.
        others = (each for key, each in by_name.items() if key != name)
        owner = next((each for each in others if name in map(fold, each.names[1:])), None)
        if owner is not None:
            owner.take(by_name.pop(name))
    return list(by_name.values())


def regrouped(members: Sequence[Member], answer: Groups) -> list[Member]:
    """Put entries together as the model said, with the texts it drew from them."""
    made: list[Member] = []
    for group in answer.characters:
        first, *others = (members[number - 1] for number in group.members)
        for other in others:
            first.take(other)
        names = sorted(first.names, key=lambda name: fold(name) != fold(group.name))
        drawn = {key: _line(getattr(group, key)) for key in _TEXTS}
        texts = ([text] if text else getattr(first, key) for key, text in drawn.items())
        personality, voice, description = texts
        made.append(Member(names, first.genders, personality, voice, description, first.details, first.seen))
    return made


_TEXTS = ("personality", "voice", "description")


def entry_text(number: int, member: Member) -> str:
    """Return an entry as the model is shown it."""
    also = f" (also: {', '.join(member.names[1:6])})" if member.names[1:] else ""
    texts = "; ".join(text for key in _TEXTS for text in getattr(member, key)[:2])
    return f"{number}. {member.name}{also}: {texts}"


def cast_of(document_id: str, members: Sequence[Member]) -> tuple[Character, ...]:
    """Return the sheets, with speaker IDs that are the same in every run."""
    generator = Random(f"teacher {document_id}")
    made: list[Character] = []
    taken: set[str] = set()
    for member in members:
        made.append(Character(member.name, new_speaker_id(taken, generator), tuple(_details(member))))
        taken.add(made[-1].speaker_id)
    return tuple(made)


def _details(member: Member) -> Iterable[tuple[str, str]]:
    if member.names[1:]:
        yield "Also called", ", ".join(member.names[1:])
    gender = (member.genders - Counter({"unknown": member.genders["unknown"]})).most_common(1)
    if gender:
        yield "Gender", gender[0][0]
    yield from member.details
    given = {key for key, _ in member.details}
    for key in _TEXTS:
        if (texts := getattr(member, key)) and key.capitalize() not in given:
            yield key.capitalize(), texts[0]


def speakers_of(members: Sequence[Member], cast: Sequence[Character]) -> dict[str, str]:
    """Return the speaker ID of every name and of every alias that only one character has."""
    owners = Counter(fold(name) for member in members for name in {fold(each): each for each in member.names})
    found = {
        fold(name): character.speaker_id
        for member, character in zip(members, cast, strict=True)
        for name in member.names
        if owners[fold(name)] == 1
    }
    names = {fold(character.name): character.speaker_id for character in cast}
    return {**found, **names}


def _line(text: str) -> str:
    return " ".join(text.split())

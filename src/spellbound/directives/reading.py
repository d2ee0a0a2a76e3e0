"""Reads a story prompt from its text and notes every problem on the way."""

import random
from dataclasses import dataclass, field

from spellbound.directives.blocks import PAST_STORY, WRITING_INSTRUCTIONS, Block, BlockReader
from spellbound.directives.characters import Character
from spellbound.directives.fields import decode_field, items
from spellbound.directives.positions import SURROGATE, Lines
from spellbound.directives.problems import Problem
from spellbound.directives.speaker_ids import is_speaker_id, new_speaker_id

NAME_KEY = "Name"
SPEAKER_ID_KEY = "Speaker ID"
RESERVED_KEYS = frozenset({NAME_KEY, SPEAKER_ID_KEY})
WITHOUT_TAGS = "Write plain prose, without tags."
"""The item of the writing instructions that asks for no tags."""


@dataclass(slots=True)
class Reading:
    """The parts of a prompt as far as they could be read, and the problems, in order of place.

    `speaker_ids` has those of sheets with another fault too.
    """

    characters: list[Character] = field(default_factory=list)
    speaker_ids: list[str] = field(default_factory=list)
    past_story: str = ""
    past_story_offset: int = 0
    instructions: list[str] = field(default_factory=list)
    tags: bool = True
    problems: list[Problem] = field(default_factory=list)


class PromptReader:
    """Reads one text, once."""

    def __init__(self, text: str) -> None:
        """Prepare to read the text; nothing is read before `read`."""
        self._text = text
        self._lines = Lines(text)
        self._result = Reading()
        self._seen: set[str] = set()
        self._taken: dict[str, int] = {}

    def read(self) -> Reading:
        """Read the whole text; never raises."""
        reader = BlockReader(self._text, self._lines)
        for found in SURROGATE.finditer(self._text):
            code = f"U+{ord(found[0]):04X}"
            self._note(found.start(), f"{code} is half a character, or a byte that is not UTF-8", "remove it")
        if not self._text.strip().strip("\ufeff"):
            self._note(0, "the text is empty", f"write at least <{WRITING_INSTRUCTIONS}>")
        for block in reader.blocks():
            self._block(block)
        self._result.speaker_ids = list(self._taken)
        self._result.problems.extend(reader.problems)
        self._result.problems.sort()
        return self._result

    def _block(self, block: Block) -> None:
        if block.is_sheet:
            self._sheet(block)
            return
        if block.name in self._seen:
            self._note(block.offset, f"a second <{block.name}>", "join the two into one")
            return
        self._seen.add(block.name)
        if block.name == PAST_STORY:
            self._past_story(block)
        else:
            self._instructions(block)

    def _past_story(self, block: Block) -> None:
        """Its content is everything but one line break after the opening and one before the closing tag."""
        content, offset = block.content, block.content_offset
        first = "\n" if content.startswith("\n") else "\r\n" if content.startswith("\r\n") else ""
        content = content[len(first) :]
        last = "\r\n" if first != "\n" and content.endswith("\r\n") else "\n"
        self._result.past_story = content.removesuffix(last)
        self._result.past_story_offset = offset + len(first)

    def _instructions(self, block: Block) -> None:
        for item in items(block.content):
            if item.raw == WITHOUT_TAGS:
                self._result.tags = False
            else:
                self._result.instructions.append(decode_field(item.raw))

    def _sheet(self, block: Block) -> None:
        before = len(self._result.problems)
        reserved: dict[str, str] = {}
        details: list[tuple[str, str]] = []
        for item in items(block.content):
            key, colon, value = item.raw.partition(":")
            key = key.strip(" \t")
            place = block.content_offset + item.offset
            if not item.hyphen or not colon:
                line = " ".join(item.raw.split())[:40]
                self._note(place, f"{line!r} is no field of <{block.name}>", "write it as `- Key: value`")
            elif key not in RESERVED_KEYS:
                details.append((decode_field(key), decode_field(value)))
            elif key in reserved:
                self._note(place, f"a second `{key}` in <{block.name}>", "remove one of the two")
            else:
                reserved[key] = decode_field(value)
                if key == SPEAKER_ID_KEY:
                    self._speaker_id(reserved[key], place)
        self._note_missing(block, reserved)
        if len(self._result.problems) == before:
            character = Character(reserved[NAME_KEY], reserved[SPEAKER_ID_KEY], tuple(details))
            self._result.characters.append(character)

    def _speaker_id(self, speaker_id: str, place: int) -> None:
        if not is_speaker_id(speaker_id):
            remedy = f"write six of A-Z and 0-9, for example {self._free_id()}"
            self._note(place, f"speaker ID {speaker_id[:40]!r} is not valid", remedy)
        elif speaker_id in self._taken:
            line = self._lines.position(self._taken[speaker_id]).line
            remedy = f"give each character its own, for example {self._free_id()}"
            self._note(place, f"speaker ID {speaker_id} is that of line {line} already", remedy)
        else:
            self._taken[speaker_id] = place

    def _note_missing(self, block: Block, reserved: dict[str, str]) -> None:
        if NAME_KEY not in reserved:
            self._note(block.offset, f"<{block.name}> has no name", f"add `- {NAME_KEY}: …`")
        if SPEAKER_ID_KEY not in reserved:
            remedy = f"add `- {SPEAKER_ID_KEY}: {self._free_id()}`"
            self._note(block.offset, f"<{block.name}> has no speaker ID", remedy)

    def _free_id(self) -> str:
        """An ID to propose; the same for the same file, so that messages do not change from run to run."""
        return new_speaker_id(self._taken, random.Random(len(self._taken)))

    def _note(self, offset: int, message: str, remedy: str) -> None:
        self._result.problems.append(Problem.at(self._lines.position(offset), message, remedy))

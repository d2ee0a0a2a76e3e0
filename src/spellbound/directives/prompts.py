"""The story prompt: who is in the story, what has happened, and what to write next."""

from dataclasses import dataclass
from typing import Self

from spellbound.directives.blocks import PAST_STORY, WRITING_INSTRUCTIONS, contain
from spellbound.directives.characters import Character, sheet_names
from spellbound.directives.fields import encode_field, encode_key
from spellbound.directives.positions import require_writable
from spellbound.directives.reading import (
    NAME_KEY,
    RESERVED_KEYS,
    SPEAKER_ID_KEY,
    WITHOUT_TAGS,
    PromptReader,
)
from spellbound.directives.references import numeric
from spellbound.errors import DirectiveError


@dataclass(frozen=True, slots=True)
class StoryPrompt:
    """Everything a model is told before it writes.

    `past_story` is markup as in the output; a prompt's own block tags in it become text (`</pastStory&gt;`).
    `instructions` are single wishes, in order. `tags` False asks for plain prose.
    Raises DirectiveError for a speaker ID that two characters share, or for values of another type.
    """

    characters: tuple[Character, ...] = ()
    past_story: str = ""
    instructions: tuple[str, ...] = ()
    tags: bool = True

    def __post_init__(self) -> None:
        """Take any iterables, and refuse what no prompt can hold."""
        object.__setattr__(self, "characters", tuple(self.characters))
        _require_strings(self.past_story, self.instructions)
        object.__setattr__(self, "instructions", tuple(self.instructions))
        object.__setattr__(self, "past_story", contain(self.past_story))
        owners: dict[str, str] = {}
        for character in self.characters:
            if owner := owners.get(character.speaker_id):
                raise DirectiveError(
                    f"speaker ID {character.speaker_id} belongs to {owner} and to {character.name[:40]!r}; "
                    "give each character its own"
                )
            owners[character.speaker_id] = repr(character.name[:40])

    def render(self) -> str:
        """The prompt's text, unchanging parts first; DirectiveError if it holds half a character."""
        sheets = zip(sheet_names(self.characters), self.characters, strict=True)
        past = f"{self.past_story}\n" if self.past_story else ""
        wishes = "".join(_instruction(wish) for wish in self.instructions)
        without_tags = "" if self.tags else f"- {WITHOUT_TAGS}\n"
        text = (
            "".join(_sheet(name, character) for name, character in sheets)
            + f"<{PAST_STORY}>\n{past}</{PAST_STORY}>\n"
            + f"<{WRITING_INSTRUCTIONS}>\n{wishes}{without_tags}</{WRITING_INSTRUCTIONS}>\n"
        )
        return require_writable(text, "prompt")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a prompt's text; DirectiveError names the first fatal problem and its place.

        What the stream parser would mend in the past story is no such problem (`check_story` reports it).
        """
        reading = PromptReader(text).read()
        if reading.problems:
            first = reading.problems[0]
            raise DirectiveError(f"line {first.line}, column {first.column}: {first.message}; {first.remedy}")
        return cls(tuple(reading.characters), reading.past_story, tuple(reading.instructions), reading.tags)


def _require_strings(past_story: object, instructions: object) -> None:
    if not isinstance(past_story, str):
        raise DirectiveError(f"past_story is {type(past_story).__name__}; give its markup as a string")
    if isinstance(instructions, str) or not all(isinstance(wish, str) for wish in instructions):  # type: ignore[attr-defined]
        raise DirectiveError(f"instructions {instructions!r:.60} are not a list of strings; give one a wish")


def _sheet(name: str, character: Character) -> str:
    details = "".join(_line(encode_key(key, RESERVED_KEYS), value) for key, value in character.details)
    own_name, speaker_id = _line(NAME_KEY, character.name), _line(SPEAKER_ID_KEY, character.speaker_id)
    return f"<{name}>\n{own_name}{details}{speaker_id}</{name}>\n"


def _line(key: str, value: str) -> str:
    return f"- {key}: {encode_field(value)}\n" if value else f"- {key}:\n"


def _instruction(wish: str) -> str:
    line = numeric(wish[0]) + wish[1:] if wish == WITHOUT_TAGS else encode_field(wish)
    return f"- {line}\n" if line else "-\n"

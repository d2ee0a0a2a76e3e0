"""The user's story file: the prompt in it, and a new passage put into it without touching anything else."""

from dataclasses import dataclass
from pathlib import Path

from spellbound.cli import files
from spellbound.directives import Character, StoryPrompt, extend_story, is_story
from spellbound.errors import DirectiveError, InputError

_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class StoryFile:
    """A story file as it was read; `name` is what the user called it."""

    name: str
    text: str
    prompt: StoryPrompt


def read_story(name: str, text: str | None = None) -> StoryFile:
    """Read a story file, or the standard input for `-`; `text` if that was read already."""
    text = files.read_text(name) if text is None else text
    try:
        return StoryFile(name, text, StoryPrompt.parse(text))
    except DirectiveError as error:
        raise InputError(f"{name}: {error}") from error


def past_story(name: str) -> tuple[str, tuple[Character, ...]]:
    """Return tagged text and the cast if known: of a story file its past story, else the whole file."""
    text = files.read_text(name)
    if not is_story(text):
        return text, ()
    story = read_story(name, text)
    return story.prompt.past_story, story.prompt.characters


def append_passage(name: str, passage: str) -> None:
    """Put a passage at the end of the past story of a file, as the file is now; the rest keeps every byte.

    A file that was spoilt or removed meanwhile is left alone, and the passage put beside it.
    """
    file = Path(name)
    try:
        with files.alone(file):
            files.require_writable(file)
            # Read again: whoever edited the story while it was written keeps the edit.
            text = files.decoded(files.read_bytes(name), name)
            mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
            extended = extend_story(text.removeprefix(_BYTE_ORDER_MARK), passage)
            files.replace(file, (mark + extended).encode("utf-8"))
    except InputError as error:
        place = "" if str(error).startswith(name) else f"{name}: "
        rescue = files.free_name(file.with_name(f"{file.name}.passage.txt"))
        files.replace(rescue, f"{passage}\n".encode())
        raise InputError(f"{place}{error}; what was written is in {rescue}") from error

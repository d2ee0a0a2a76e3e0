"""The user's story file: the prompt in it, and a new passage put into it without touching anything else."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from spellbound.cli import files
from spellbound.directives import Character, StoryPrompt
from spellbound.directives.blocks import PAST_STORY, WRITING_INSTRUCTIONS, contain
from spellbound.directives.characters import SHEET_SUFFIX
from spellbound.directives.reading import PromptReader
from spellbound.errors import DirectiveError, InputError

# What begins like this is meant as a story file, even if it has mistakes.
_BLOCK = re.compile(rf"^<(?:{PAST_STORY}|{WRITING_INSTRUCTIONS}|[^<>\s/]+{SHEET_SUFFIX})>", re.MULTILINE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENING, _CLOSING = f"<{PAST_STORY}>", f"</{PAST_STORY}>"


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
    if not _BLOCK.search(text):
        return text, ()
    story = read_story(name, text)
    return story.prompt.past_story, story.prompt.characters


def append_passage(name: str, passage: str) -> None:
    """Put a passage at the end of the past story of a file, as the file is now; the rest keeps every byte.

    A file that was spoilt or removed meanwhile is left alone, and the passage put beside it.
    """
    try:
        # Read again: whoever edited the story while it was written keeps the edit.
        extended = with_passage(read_story(name).text, passage)
        mark = _BYTE_ORDER_MARK if files.read_bytes(name).startswith(_BYTE_ORDER_MARK) else b""
        files.replace(Path(name), mark + extended.encode("utf-8"))
    except InputError as error:
        rescue = Path(f"{name}.passage.txt")
        files.replace(rescue, f"{passage}\n".encode())
        raise InputError(f"{error}; what was written is in {rescue}") from error


def with_passage(text: str, passage: str) -> str:
    """Return a story file's text with a passage as the last paragraph of its past story."""
    line = "\r\n" if "\r\n" in text else "\n"
    passage = contain(passage.strip("\r\n")).replace("\r\n", "\n").replace("\n", line)
    before = StoryPrompt.parse(text)
    at, past = _end_of_past_story(text), before.past_story
    if at is None:
        at = max(text.find(f"<{WRITING_INSTRUCTIONS}>"), 0)
        inserted = f"{_OPENING}{line}{passage}{line}{_CLOSING}{line}"
        wanted = passage
    elif not past:
        lead = "" if text[:at].endswith("\n") else line
        inserted = f"{lead}{passage}" + ("" if text[at:].startswith(("\n", "\r\n")) else line)
        wanted = passage
    else:
        inserted = _gap(past, line) + passage
        wanted = past + inserted
    extended = text[:at] + inserted + text[at:]
    if StoryPrompt.parse(extended) != replace(before, past_story=wanted):
        raise InputError("the passage cannot be put into the story file; save it with -o and paste it")
    return extended


def _end_of_past_story(text: str) -> int | None:
    """Return the offset at which the past story's content ends; None if the file has no such block."""
    reading = PromptReader(text).read()
    if _OPENING not in text[: reading.past_story_offset]:
        return None
    return reading.past_story_offset + len(reading.past_story)


def _gap(past: str, line: str) -> str:
    """Return what makes a new paragraph after this past story."""
    ends = len(past) - len(past.rstrip("\r\n"))
    return line * max(0, 2 - past[len(past) - ends :].count("\n"))

"""Story files, `NAME.story.md`: the text of a prompt that a person wrote, and a passage added to it."""

import re
from dataclasses import replace

from spellbound.directives.blocks import KNOWN_BLOCKS, PAST_STORY, WRITING_INSTRUCTIONS, BlockReader, contain
from spellbound.directives.events import Close
from spellbound.directives.positions import Lines
from spellbound.directives.prompts import StoryPrompt
from spellbound.directives.reading import PromptReader
from spellbound.directives.stream import StreamParser
from spellbound.directives.tags import closing_tag
from spellbound.errors import DirectiveError

_BLOCK = re.compile(rf"^[ \t]*<(?:{KNOWN_BLOCKS})>", re.MULTILINE)


def is_story(text: str) -> bool:
    """Whether a text is meant as a story file, even if it has mistakes: a line begins with a block."""
    return _BLOCK.search(text) is not None


def extend_story(text: str, passage: str) -> str:
    """A story file's text with a passage as the last paragraph of its past story; the rest keeps every byte.

    Tags that the past story leaves open are closed before it. DirectiveError if the text cannot be read.
    """
    before = StoryPrompt.parse(text)
    line = "\r\n" if "\r\n" in text else "\n"
    passage = contain(passage.strip("\r\n")).replace("\r\n", "\n").replace("\n", line)
    reading = PromptReader(text).read()
    past, at = reading.past_story, reading.past_story_offset + len(reading.past_story)
    wanted = passage
    if reading.past_story_offset == 0:
        at = _place_of_past_story(text)
        lead = "" if text[:at].endswith("\n") or not at else line
        inserted = f"{lead}<{PAST_STORY}>{line}{passage}{line}</{PAST_STORY}>{line}"
    elif not past:
        lead = "" if text[:at].endswith("\n") else line
        inserted = f"{lead}{passage}" + ("" if text[at:].startswith(("\n", "\r\n")) else line)
    else:
        inserted = _missing_closing_tags(past) + _gap(past, line) + passage
        wanted = before.past_story + inserted
    extended = text[:at] + inserted + text[at:]
    if StoryPrompt.parse(extended) != replace(before, past_story=wanted):
        raise DirectiveError("the passage cannot be put into this story file; save it with -o and paste it")
    return extended


def _place_of_past_story(text: str) -> int:
    """Where a past story belongs in a file that has none: before the instructions, else at the end."""
    for block in BlockReader(text, Lines(text)).blocks():
        if block.name == WRITING_INSTRUCTIONS:
            return block.offset
    return len(text)


def _missing_closing_tags(past: str) -> str:
    """What would otherwise make the passage part of a quote that was cut off."""
    parser = StreamParser()
    parser.feed(past)
    return "".join(closing_tag(event.kind) for event in parser.close() if isinstance(event, Close))


def _gap(past: str, line: str) -> str:
    """What makes a new paragraph after this past story."""
    ends = len(past) - len(past.rstrip("\r\n"))
    return line * max(0, 2 - past[len(past) - ends :].count("\n"))

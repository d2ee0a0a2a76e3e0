"""Checks a whole story file."""

from spellbound.directives.positions import Lines
from spellbound.directives.problems import Problem
from spellbound.directives.reading import PromptReader
from spellbound.directives.stream import StreamParser


def check_story(text: str) -> list[Problem]:
    """Every problem of a story file's text, in order of place; an empty list if there is none.

    Besides what makes the prompt unreadable (`fatal`), this is everything that the stream parser mends in the
    past story, quotes by speakers outside the cast included. Read a file for it with
    `errors="surrogateescape"`: bytes that are not UTF-8 then have their place too.
    """
    reading = PromptReader(text).read()
    parser = StreamParser(reading.speaker_ids)
    parser.feed(reading.past_story)
    parser.close()
    lines = Lines(text)
    problems = list(reading.problems)
    for repair in parser.repairs:
        what, _, remedy = repair.message.partition("; ")
        at = lines.position(reading.past_story_offset + repair.offset)
        problems.append(Problem.at(at, what, remedy, fatal=False))
    return sorted(problems)

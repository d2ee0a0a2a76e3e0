"""The blocks of a story prompt: `<pastStory>`, `<writingInstructions>` and one sheet a character.

Blocks do not nest: each ends at the first closing tag of its name.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from spellbound.directives.characters import SHEET_SUFFIX
from spellbound.directives.positions import Lines
from spellbound.directives.problems import Problem

PAST_STORY = "pastStory"
WRITING_INSTRUCTIONS = "writingInstructions"
MAX_BLOCK_NAME = 256

_IN_NAME = r"[^<>/&\"'= \t\r\n]"
KNOWN_BLOCKS = (
    rf"{PAST_STORY}|{WRITING_INSTRUCTIONS}|{_IN_NAME}{{0,{MAX_BLOCK_NAME - len(SHEET_SUFFIX)}}}{SHEET_SUFFIX}"
)
"""Pattern of the names of blocks."""

_BLOCK_TAG = re.compile(rf"(</?(?:{KNOWN_BLOCKS}))>")
_CLOSING_TAG = re.compile(rf"</({_IN_NAME}{{1,{MAX_BLOCK_NAME}}})>")
_ANY_TAG = re.compile(rf"<(/?)({_IN_NAME}{{1,{MAX_BLOCK_NAME}}})>")
_OPENING_TAG = re.compile(rf"<(?:{KNOWN_BLOCKS})>")
_SOMETHING = re.compile("[^\\s\ufeff]")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its name, its content as written and where that begins, and where the block itself does."""

    name: str
    content: str
    content_offset: int
    offset: int

    @property
    def is_sheet(self) -> bool:
        """Whether this is a character's sheet."""
        return self.name.endswith(SHEET_SUFFIX)


def contain(past_story: str) -> str:
    """The past story with each block tag in it made text, so that none can end its block or begin another.

    Its `>` becomes a reference, since without its `<` an unfinished tag before it could become a whole one.
    """
    return _BLOCK_TAG.sub(r"\1&gt;", past_story)


class BlockReader:
    """Walks through the blocks of a text and notes in `problems` what is not one."""

    def __init__(self, text: str, lines: Lines) -> None:
        """Prepare to read the text; nothing is read before `blocks`."""
        self.problems: list[Problem] = []
        self._text = text
        self._lines = lines
        self._closings: dict[str, list[int]] = defaultdict(list)
        for match in _CLOSING_TAG.finditer(text):
            self._closings[match[1]].append(match.start())

    def blocks(self) -> Iterator[Block]:
        """Every known block, in order."""
        done = 0
        while match := _ANY_TAG.search(self._text, done):
            self._note_stray_text(done, match.start())
            closing, name = match.groups()
            if closing:
                self._note(
                    match.start(), f"{match[0]} closes no block", f"remove it or write <{name}> before"
                )
                done = match.end()
                continue
            end, done = self._ends(match)
            if not _OPENING_TAG.fullmatch(match[0]):
                remedy = f"known are <{PAST_STORY}>, <{WRITING_INSTRUCTIONS}> and <Name{SHEET_SUFFIX}>"
                self._note(match.start(), f"{match[0]} is an unknown block", remedy)
                continue
            yield Block(name, self._text[match.end() : end], match.end(), match.start())
        self._note_stray_text(done, len(self._text))

    def _ends(self, opening: re.Match[str]) -> tuple[int, int]:
        """Where the content of a block ends, and where its closing tag does."""
        name = opening[2]
        closings = self._closings.get(name, [])
        index = bisect_left(closings, opening.end())
        if index < len(closings):
            return closings[index], closings[index] + len(name) + 3
        if not _OPENING_TAG.fullmatch(opening[0]):
            return opening.end(), opening.end()
        self._note(opening.start(), f"{opening[0]} is never closed", f"write </{name}> where it ends")
        following = _OPENING_TAG.search(self._text, opening.end())
        end = following.start() if following else len(self._text)
        return end, end

    def _note_stray_text(self, start: int, end: int) -> None:
        if found := _SOMETHING.search(self._text, start, end):
            words = " ".join(self._text[found.start() : min(end, found.start() + 40)].split())
            remedy = f"put it into <{PAST_STORY}>, <{WRITING_INSTRUCTIONS}> or a sheet"
            self._note(found.start(), f"text {words!r} stands outside every block", remedy)

    def _note(self, offset: int, message: str, remedy: str) -> None:
        self.problems.append(Problem.at(self._lines.position(offset), message, remedy))

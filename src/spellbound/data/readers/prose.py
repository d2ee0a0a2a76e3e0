"""Lines of plain text to paragraphs: what was wrapped is joined, verse keeps its lines."""

import re
from collections.abc import Iterable

from spellbound.data.documents import PARAGRAPH, SCENE_BREAK

LEAST_WIDTH, MOST_WIDTH = 40, 100
"""Widths, in characters, to which people and programs wrap prose."""

SPACE = " \t\n"
_SPACES = re.compile(r"[ \t\n]+")
_SCENE_BREAK = re.compile(r"(?:[*#~•·⁂❦※☙❧◆◇] ?)+|(?:[-–—_=] ?){3,}|o ?O ?o", re.IGNORECASE)


def is_scene_break(paragraph: str) -> bool:
    """Whether a paragraph is an ornament between scenes: `* * *`, `---`, `#`, `⁂`."""
    return _SCENE_BREAK.fullmatch(paragraph) is not None


def one_line(text: str) -> str:
    """Text with every run of spaces, tabs and line feeds made one space; other space stays as it is."""
    return _SPACES.sub(" ", text).strip(SPACE)


def one_line_each(text: str) -> str:
    """Text with its line breaks kept, and within each line every run of spaces made one."""
    return "\n".join(said for line in text.split("\n") if (said := one_line(line)))


def joined(paragraphs: Iterable[str]) -> str:
    """The text of a document: paragraphs that say something, ornaments made scene breaks."""
    told: list[str] = []
    for paragraph in paragraphs:
        said = SCENE_BREAK if is_scene_break(paragraph) else paragraph
        if said and not (said == SCENE_BREAK and told[-1:] in ([], [SCENE_BREAK])):
            told.append(said)
    if told[-1:] == [SCENE_BREAK]:
        told.pop()
    return PARAGRAPH.join(told)


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a plain text whose lines end in line feeds.

    Blank lines part paragraphs. Within a block, lines wrapped to the file's width are joined, and a further
    indented line begins a paragraph; lines that end early for no reason but their own are verse and stay.
    A file of long lines, or without blank lines, has a paragraph a line.
    """
    blocks = _blocks(text)
    lengths = sorted(len(line) for block in blocks for line in block)
    if not lengths:
        return []
    width = lengths[(len(lengths) - 1) * 19 // 20]
    if width < LEAST_WIDTH and len(blocks) > 1:
        return [one_line_each("\n".join(block)) for block in blocks]
    if width > MOST_WIDTH or width < LEAST_WIDTH:
        return _long_lines(blocks)
    if len(blocks) == 1:
        return _without_blank_lines(blocks[0], width)
    return [paragraph for block in blocks for paragraph in _wrapped(block, width)]


def _blocks(text: str) -> list[list[str]]:
    """Lines between blank lines, their indentation kept."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip(SPACE):
            blocks[-1].append(line.expandtabs(4).rstrip(SPACE))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _long_lines(blocks: list[list[str]]) -> list[str]:
    """If most blocks are one line, blank lines part paragraphs and longer ones are verse; else lines do."""
    if len(blocks) > 1 and 2 * sum(len(block) == 1 for block in blocks) >= len(blocks):
        return [one_line_each("\n".join(block)) for block in blocks]
    return [one_line(line) for block in blocks for line in block]


def _without_blank_lines(lines: list[str], width: int) -> list[str]:
    """A line that ends early ends a paragraph; if most do, nothing was wrapped and each line is one."""
    early = _early(lines, width)
    indented = _indented(lines)
    found: list[list[str]] = [[lines[0]]]
    for at, line in enumerate(lines[1:]):
        if early[at] or indented[at + 1]:
            found.append([line])
        else:
            found[-1].append(line)
    return [_rejoined(each) for each in found]


def _wrapped(block: list[str], width: int) -> list[str]:
    early = _early(block, width)
    if 2 * sum(early) > len(early):
        return [one_line_each("\n".join(block))]
    indented = _indented(block)
    found: list[list[str]] = [[]]
    for line, begins in zip(block, indented, strict=True):
        if begins and found[-1]:
            found.append([])
        found[-1].append(line)
    return [_rejoined(each) for each in found]


def _early(lines: list[str], width: int) -> list[bool]:
    """Of each line but the last: would the first word of the next one have fitted on it?"""
    bare = [line.strip(SPACE) for line in lines]
    return [len(line) + 1 + len(bare[at + 1].split(" ", 1)[0]) <= width for at, line in enumerate(lines[:-1])]


def _indented(lines: list[str]) -> list[bool]:
    """Which lines begin further in than the others of their block."""
    depths = [len(line) - len(line.lstrip(" ")) for line in lines]
    return [depth > min(depths) for depth in depths]


def _rejoined(lines: list[str]) -> str:
    """Lines as one; no space after a hyphen or an unspaced dash, and a soft hyphen goes."""
    told: list[str] = []
    for line in map(one_line, lines):
        if told and told[-1].endswith("\u00ad"):
            told[-1] = told[-1][:-1]
        elif told and not re.search(r"\S[-—]$", told[-1]):
            told.append(" ")
        told.append(line)
    return "".join(told)

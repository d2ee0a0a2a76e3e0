"""A story in the terminal: speakers' names in a margin, each in a colour; actions and sounds set apart.

Nothing is ever redrawn, so it streams, and looks the same in a pipe, only without colours.
"""

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.text import Text as Styled

from spellbound.cli.controls import without_controls
from spellbound.directives import Character, Close, Event, Kind, Open, Text, quotation_marks

_COLOURS = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "red",
    "bright_cyan",
    "bright_magenta",
    "bright_green",
)
_STYLES = {"action": Style(italic=True, dim=True), "sound": Style(italic=True, bold=True)}
# Where there are no styles, these stand round an action or a sound.
_MARKS = {"action": "*", "sound": "~"}
_PAGE = 80
_LEAST_PAGE = 40
_WIDEST_MARGIN = 18
_OWN_MARKS = '"“”„«»‘‹—–―'
_RUN = re.compile(r"\s+|\S+")


class TerminalPage:
    """Takes events and lays them out, word by word."""

    def __init__(self, console: Console, cast: Sequence[Character], language: str) -> None:
        """Begin a page for the cast of a story, with the quotation marks of its language."""
        self._console = console
        self._names = {
            character.speaker_id: _label(character.name) or character.speaker_id for character in cast
        }
        self._colours = {
            character.speaker_id: Style(color=_COLOURS[place % len(_COLOURS)])
            for place, character in enumerate(cast)
        }
        self._marks = quotation_marks(language)
        width = min(console.width, _PAGE)
        longest = max((cell_len(name) for name in self._names.values()), default=-2)
        self._margin = min(longest + 2, _WIDEST_MARGIN) if width >= _LEAST_PAGE else 0
        self._width = width - self._margin
        self._open: list[tuple[Kind, Style]] = []
        self._word: list[tuple[str, Style]] = []
        # Of the open quote: the mark that ends it; None as long as nothing is said in it.
        self._closing_mark: str | None = None
        self._label: tuple[str, Style] | None = None
        self._column = 0
        self._blank = True

    def show(self, events: Iterable[Event]) -> None:
        """Lay out some more of the story; the last word waits until it is whole."""
        for event in events:
            match event:
                case Text(text):
                    self._text(text)
                case Open(kind, speaker):
                    self._begin(kind, speaker)
                case Close(kind):
                    self._end(kind)
        self._console.file.flush()

    def close(self) -> None:
        """End the page."""
        self._place_word()
        if self._column:
            self._break()
        self._console.file.flush()

    def _text(self, text: str) -> None:
        for match in _RUN.finditer(text):
            run = match[0]
            if not run.isspace():
                self._add(self._opening_mark(run) + without_controls(run))
                continue
            self._place_word()
            breaks = run.count("\n")
            if breaks and self._column:
                self._break()
            if breaks > 1 and not self._blank:
                self._break()

    def _begin(self, kind: Kind, speaker: str | None) -> None:
        if kind != "quote":
            self._open.append((kind, _STYLES[kind]))
            self._add(self._mark(kind))
            return
        self._place_word()
        if self._column:
            self._break()
        style = self._colours.get(speaker or "", Style(bold=True))
        self._label = (self._names.get(speaker or "", _label(speaker or "?")), style)
        self._open.append((kind, style))
        self._closing_mark = None

    def _opening_mark(self, run: str) -> str:
        """Return the mark before the first words of a quote; none if it brings its own."""
        if self._closing_mark is not None or all(kind != "quote" for kind, _ in self._open):
            return ""
        brings = run[0] in _OWN_MARKS
        self._closing_mark = "" if brings else self._marks.closing
        return "" if brings else self._marks.opening

    def _end(self, kind: Kind) -> None:
        mark = (self._closing_mark or "") if kind == "quote" else self._mark(kind)
        if self._word or not self._column:
            self._add(mark)
        else:
            self._print_cells(mark, self._open[-1][1])
        if kind == "quote" and not self._word:
            self._label = None  # nothing was said: what follows is nobody's speech
        self._open.pop()

    def _mark(self, kind: Kind) -> str:
        return _MARKS[kind] if self._console.color_system is None else ""

    def _add(self, text: str) -> None:
        """Make the current word longer."""
        style = Style.combine(style for _, style in self._open) if self._open else Style.null()
        if text:
            self._word.append((text, style))

    def _place_word(self) -> None:
        """Write the current word, on a new line if it does not fit."""
        width = sum(cell_len(text) for text, _ in self._word)
        if not self._word:
            return
        if self._column and self._column + 1 + width > self._width:
            self._break()
        if not self._column:
            self._begin_line()
        if self._column:
            self._print(" ", Style.null())
            self._column += 1
        for text, style in self._word:
            self._print_cells(text, style)
        self._word.clear()
        self._blank = False

    def _begin_line(self) -> None:
        """Write the margin, with the name of who begins to speak."""
        name, style = self._label or ("", Style.null())
        self._label = None
        if not name:
            self._print(" " * self._margin, Style.null())
        elif self._margin:
            label = name if cell_len(name) < self._margin else set_cell_size(name, self._margin - 2) + "…"
            self._print(set_cell_size(label, self._margin), style + Style(bold=True))
        else:
            self._print(f"{name}:", style + Style(bold=True))
            self._column = cell_len(name) + 1

    def _print_cells(self, text: str, style: Style) -> None:
        """Write part of a word; what is longer than a line goes on in the next."""
        for character in text if cell_len(text) > self._width - self._column else [text]:
            if self._column and self._column + cell_len(character) > self._width:
                self._break()
                self._begin_line()
            self._print(character, style)
            self._column += cell_len(character)

    def _break(self) -> None:
        """Go to the next line."""
        self._blank = self._column == 0
        self._column = 0
        self._console.file.write("\n")

    def _print(self, text: str, style: Style) -> None:
        self._console.print(Styled(text, style), end="", soft_wrap=True)


def _label(name: str) -> str:
    """A name as it can stand in the margin: on one line, and nothing in it that steers a terminal."""
    return without_controls(" ".join(name.split()))

"""The forms a passage can have on the way out, each as something that takes events and gives text."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console

from spellbound.cli.controls import without_controls
from spellbound.cli.terminal import TerminalPage
from spellbound.directives import FORMATS as RENDERED
from spellbound.directives import Character, Event, FormatName, Renderer, StreamParser, parse, render
from spellbound.errors import InputError

TERMINAL = "terminal"
FORMATS: tuple[str, ...] = RENDERED
WRITE_FORMATS: tuple[str, ...] = (TERMINAL, *(name for name in RENDERED if name != "ssml"))
_BY_SUFFIX = {".html": "html", ".htm": "html", ".json": "json", ".txt": "plain"}


def require_format(name: str, known: Sequence[str]) -> None:
    """Refuse a format that does not exist."""
    if name not in known:
        raise InputError(f"--to {name}: unknown format; give one of {', '.join(known)}")


def format_for(file: Path) -> str:
    """Return the format that a file's name asks for; tagged text if it asks for none."""
    return _BY_SUFFIX.get(file.suffix.lower(), "tagged")


def rendered(text: str, *, to: str, cast: Iterable[Character], language: str) -> str:
    """Convert a whole tagged text."""
    cast = tuple(cast)
    if to != TERMINAL:
        return render(parse(text), _name(to), language=language, cast=cast)
    paper = io.StringIO()
    page = TerminalPage(Console(file=paper, width=80, color_system=None), cast, language)
    page.show(parse(text))
    page.close()
    return paper.getvalue()


class Display(Protocol):
    """Shows a passage while it is written."""

    def show(self, events: Iterable[Event]) -> None:
        """Take some more of it."""

    def close(self) -> None:
        """End it."""


class Printed:
    """A passage on the standard output, in any format but the terminal's."""

    def __init__(self, console: Console, to: str, cast_: Sequence[Character], language: str) -> None:
        """Begin a text."""
        self._file = console.file
        self._on_terminal = console.is_terminal
        self._renderer = Renderer(_name(to), language=language, cast=cast_)
        self._line_open = False

    def show(self, events: Iterable[Event]) -> None:
        """Print what can be printed already."""
        self._print(self._renderer.write(events))

    def close(self) -> None:
        """Print the rest; the last line is ended."""
        self._print(self._renderer.close())
        if self._line_open:
            self._print("\n")

    def _print(self, text: str) -> None:
        if text:
            self._line_open = not text.endswith("\n")
            self._file.write(without_controls(text) if self._on_terminal else text)
            self._file.flush()


class Hidden:
    """A passage that nobody watches."""

    def show(self, events: Iterable[Event]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """End nothing."""


class Watched:
    """Turns pieces of tagged text into events for a display."""

    def __init__(self, display: Display) -> None:
        """Begin a passage."""
        self.display = display
        self._parser = StreamParser()

    @property
    def unseen(self) -> bool:
        """Whether nobody watches."""
        return isinstance(self.display, Hidden)

    def write(self, piece: str) -> None:
        """Show a piece."""
        self.display.show(self._parser.feed(piece))

    def close(self) -> None:
        """Show what is left."""
        self.display.show(self._parser.close())
        self.display.close()


def _name(to: str) -> FormatName:
    require_format(to, RENDERED)
    return cast(FormatName, to)

"""The page in the terminal, as it looks."""

import io

import pytest
from rich.console import Console

from spellbound.cli.formats import rendered
from spellbound.cli.terminal import TerminalPage
from spellbound.directives import Character, parse

CAST = (Character("Mara Voss", "32AN4R"), Character("Tom", "K7Q2ZX"))
TEXT = (
    "The fog lay on the harbour, and nobody had seen the boat since the evening before last.\n\n"
    '<quote speaker="K7Q2ZX">Is it gone?</quote> asked Tom. <action>He bent down.</action>'
    ' <quote speaker="32AN4R">It is,</quote> said Mara.\n\n\n\n<sound>Clang!</sound>\nEnd.'
)
PAGE = """\
           The fog lay on the harbour, and nobody had seen the boat since the
           evening before last.

Tom        “Is it gone?” asked Tom. *He bent down.*
Mara Voss  “It is,” said Mara.

           ~Clang!~
           End.
"""


def page(text: str, *, width: int = 80, pieces: int | None = None, colours: bool = False) -> str:
    paper = io.StringIO()
    console = Console(
        file=paper, width=width, force_terminal=colours, color_system="standard" if colours else None
    )
    sheet = TerminalPage(console, CAST, "en")
    for event in parse(text):
        sheet.show([event])
    sheet.close()
    return paper.getvalue()


def test_page() -> None:
    assert page(TEXT) == rendered(TEXT, to="terminal", cast=CAST, language="en") == PAGE


def test_colours_and_styles() -> None:
    shown = page('<quote speaker="32AN4R">Hi</quote> <action>a</action> <sound>b</sound>', colours=True)
    assert shown == (
        "\x1b[1;36mMara Voss  \x1b[0m\x1b[36m“Hi\x1b[0m\x1b[36m”\x1b[0m \x1b[2;3ma\x1b[0m \x1b[1;3mb\x1b[0m\n"
    )
    assert "\x1b[35m" in page('<quote speaker="K7Q2ZX">Hi</quote>', colours=True)


@pytest.mark.parametrize("width", [20, 39, 40, 60, 80, 200])
def test_no_line_is_too_long(width: int) -> None:
    text = f'{TEXT} {"x" * 300} <quote speaker="32AN4R">{"漢字" * 40} {"wide " * 30}</quote>'
    from rich.cells import cell_len

    lines = page(text, width=width).splitlines()
    assert max(map(cell_len, lines)) <= min(width, 80)
    assert "".join(lines).count("x") >= 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<quote speaker="ZZZZZZ">Hi</quote>', "ZZZZZZ     “Hi”\n"),
        ("<quote>Hi</quote>", "?          “Hi”\n"),
        ('<quote speaker="K7Q2ZX">«Hi»</quote>', "Tom        «Hi»\n"),
        ('<quote speaker="K7Q2ZX"></quote>', ""),
        ('<quote speaker="K7Q2ZX">Hi <action>low</action></quote>!', "Tom        “Hi *low*”!\n"),
        ("a\x1b[31mb\x07\u202e", "           a[31mb\n"),
        ('<quote speaker="K7Q2ZX"></quote>He left.', "           He left.\n"),
        ('<quote speaker="K7Q2ZX"> </quote><quote speaker="32AN4R">Hi</quote>', "Mara Voss  “Hi”\n"),
        ('<quote speaker="\x1b]0;x\x07Y">Hi</quote>', "]0;xY      “Hi”\n"),
        (
            '<quote speaker="K7Q2ZX">[red]Hi[/red] [link=x]y[/link]</quote>',
            "Tom        “[red]Hi[/red] [link=x]y[/link]”\n",
        ),
        ("", ""),
    ],
)
def test_odd_texts(text: str, shown: str) -> None:
    assert page(text) == shown


def test_a_narrow_page_has_the_name_in_the_line() -> None:
    assert page('<quote speaker="K7Q2ZX">Hi</quote>', width=30) == "Tom: “Hi”\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mEvil\n\nTwo\u202e", "[31mEvil Two"),
        ("[red]Tom[/red]", "[red]Tom[/red]"),
        ("\x1b\n", "K7Q2ZX"),
        ("", "K7Q2ZX"),
    ],
)
def test_a_name_steers_nothing(name: str, shown: str) -> None:
    text = '<quote speaker="K7Q2ZX">Hi</quote>'
    page = rendered(text, to="terminal", cast=[Character(name, "K7Q2ZX")], language="en")
    assert page == f"{shown}  “Hi”\n"

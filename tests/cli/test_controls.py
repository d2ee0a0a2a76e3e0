"""Nothing that a story, a name or a file says can steer the terminal."""

import pytest

from spellbound.cli.controls import one_line, without_controls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x9b1m\x07\x7f", "a[31mb1m"),
        ("a\tb\nc\r\nd\re", "a\tb\nc\nd\ne"),
        ("\u202eevil\u2066\u200b\ufeff", "evil"),
        ("שלום e\u0301 👩\u200d👧 \u00a0", "שלום e\u0301 👩\u200d👧 \u00a0"),
    ],
)
def test_without_controls(text: str, shown: str) -> None:
    assert without_controls(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n b\u2028c", "a b c"),
        ("<\x1b[2J>", "<\\x1b[2J>"),
        ("\u202eevil", "\\u202eevil"),
        ("half \udcff", "half \\udcff"),
        ("שלום « x »", "שלום « x »"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown

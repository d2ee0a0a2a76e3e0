"""Plain text to paragraphs: wrapping, verse, scene breaks, encodings, the frame of Project Gutenberg."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.readers import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.plain import read_text
from spellbound.data.readers.prose import is_scene_break, joined, paragraphs
from spellbound.errors import InputError

LONG = "The harbour lay still under the fog, and nobody had come down to the boats since the bell rang twice."
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "P"]), min_size=1, max_size=12)
PROSE = st.lists(WORDS.filter(lambda word: word.strip("-*#~•_=–—oO")), min_size=25, max_size=40).map(" ".join)


def told(text: str) -> list[str]:
    return paragraphs(text)


def read_file(path: Path, content: bytes, **settings: str) -> str:
    path.write_bytes(content)
    (document,) = read_text(path, ReaderDefaults(**settings))
    return document.text


@settings(deadline=None, max_examples=40)
@given(st.lists(PROSE, min_size=2, max_size=4), st.integers(60, 90))
def test_wrapped_paragraphs_come_back(prose: list[str], width: int) -> None:
    wrapped = [textwrap.wrap(each, width, break_on_hyphens=False, break_long_words=False) for each in prose]
    for lines in wrapped:
        # Only what a reader can know: text that fills its lines, and no hyphen where one ends.
        if any(line[-1] in "-—\u00ad" for line in lines):
            return
    assert told("\n\n".join("\n".join(lines) for lines in wrapped)) == prose


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_word_is_lost_or_moved(text: str) -> None:
    kept = "".join(told(text.replace("\u00ad", ""))).replace("\n", "").replace(" ", "")
    plain = text.replace("\u00ad", "")
    for space in " \t\n":
        plain = plain.replace(space, "")
    assert kept == plain


@settings(deadline=None, max_examples=40)
@given(st.lists(PROSE, min_size=3, max_size=4))
def test_text_that_was_read_is_read_alike_again(prose: list[str]) -> None:
    once = joined(paragraphs("\n\n".join(prose)))
    assert joined(paragraphs(once)) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t\n", []),
        (f"{LONG}\n{LONG}\n", [LONG, LONG]),
        (f"{LONG}\n\nOne short\nand two.\n\n{LONG}", [LONG, "One short\nand two.", LONG]),
        ("Red,\nblue\n\nSweet,\nyou", ["Red,\nblue", "Sweet,\nyou"]),
        ("A  word\tor  two", ["A word or two"]),
    ],
    ids=["nothing", "blank", "a line each", "verse in prose", "poem", "spaces"],
)  # fmt: skip
def test_shapes_of_text(text: str, expected: list[str]) -> None:
    assert told(text) == expected


def test_indented_lines_begin_paragraphs() -> None:
    lines = textwrap.wrap(f"{LONG} {LONG}", 60)
    text = "\n".join([*lines, "    " + lines[0], *lines[1:]])
    assert told(f"{text}\n\n{text}") == [f"{LONG} {LONG}"] * 4


def test_verse_in_a_wrapped_book_keeps_its_lines() -> None:
    prose = "\n".join(textwrap.wrap(f"{LONG} {LONG} {LONG}", 70))
    verse = "    Full fathom five thy father lies,\n    Of his bones are coral made;\n    Those are pearls"
    assert told(f"{prose}\n\n{verse}\n\n{prose}")[1] == (
        "Full fathom five thy father lies,\nOf his bones are coral made;\nThose are pearls"
    )


def test_hyphens_and_dashes_at_line_ends() -> None:
    first = "It was a long and cold night, and all of them had gone to the half-"
    second = "deserted inn by the sea, where the fire burned low and the wind—"
    third = "always the wind, and never once did it rest—was in the old win\u00ad"
    fourth = "dows of the upper rooms that nobody had taken for the whole year."
    book = "\n".join((first, second, third, fourth))
    joined_lines = told(f"{book}\n\n{book}")[0]
    assert "half-deserted" in joined_lines
    assert "wind—always" in joined_lines
    assert "windows" in joined_lines


@pytest.mark.parametrize("ornament", ["*", "***", "* * *", "---", "— — —", "#", "⁂", "~~~~", "o O o"])
def test_ornaments_are_scene_breaks(ornament: str) -> None:
    assert is_scene_break(ornament)
    assert joined(["One.", ornament, ornament, "Two.", ornament]) == "One.\n\n* * *\n\nTwo."


@pytest.mark.parametrize("text", ["-", "—", "*so*", "Oh", "1.", "* a *", "— Oui"])
def test_words_are_no_ornaments(text: str) -> None:
    assert not is_scene_break(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_what_they_are(tmp_path: Path, encoding: str) -> None:
    assert (
        read_file(tmp_path / "a.txt", "«Où ?» demanda-t-il.\r\n".encode(encoding)) == "«Où ?» demanda-t-il."
    )


def test_other_encodings_have_to_be_named(tmp_path: Path) -> None:
    content = "Où est-il ? Straße".encode("cp1252")
    assert read_file(tmp_path / "a.txt", content, encoding="cp1252") == "Où est-il ? Straße"
    with pytest.raises(InputError, match=r"a\.txt: byte 1 is not utf-8; .*--encoding"):
        read_file(tmp_path / "a.txt", content)


@pytest.mark.parametrize("encoding", ["cp1252", "cp1255", "shift_jis"])
def test_files_that_are_utf8_stay_so_among_others_that_are_not(tmp_path: Path, encoding: str) -> None:
    for content in ("Grüße, “ja”".encode(), "Grüße, “ja”".encode("utf-16"), "\ufeffGrüße, “ja”".encode()):
        assert read_file(tmp_path / "a.txt", content, encoding=encoding) == "Grüße, “ja”"


def test_letters_in_ascii_bytes_are_read_as_they_were_named(tmp_path: Path) -> None:
    content = "こんにちは".encode("iso2022_jp")
    assert content.isascii()
    assert read_file(tmp_path / "a.txt", content, encoding="iso2022_jp") == "こんにちは"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a\0b", "zero bytes"), (b"  \n", "has no text"), (b"\xff\xfe\x00", "not utf-16")],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_file(tmp_path / "a.txt", content)


def test_unknown_encodings_and_languages_are_refused() -> None:
    for encoding in ("klingon", "base64", "rot13", "undefined"):
        with pytest.raises(InputError, match=f"encoding '{encoding}' is unknown"):
            ReaderDefaults(encoding=encoding)
    for encoding in ("utf-16-le", "utf-32", "shift_jis", "idna"):
        ReaderDefaults(encoding=encoding)
    with pytest.raises(InputError, match=r"user ' ' is no name"):
        ReaderDefaults(user=" ")
    with pytest.raises(InputError, match="'english' is not ISO 639-1"):
        ReaderDefaults(language="english")


def test_a_gutenberg_book_loses_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "pg1.txt"
    body = textwrap.fill(f"{LONG} It was _very_ cold. [Illustration: A boat] {LONG}", 70)
    path.write_text(
        "\ufeffThe Project Gutenberg eBook of The Bell\n\nTitle: The Bell:\n    A Tale\n\n"
        "Author: Ann Example\n\nLanguage: English\n\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK THE BELL ***\n\n\n"
        "Produced by Some Body and\nSomebody Else\n\n\nCHAPTER I\n\n"
        f"{body}\n\n{body}\n\n*** END OF THE PROJECT GUTENBERG EBOOK THE BELL ***\n\nThe licence.\n",
        encoding="utf-8",
    )
    (document,) = read_text(path, NO_DEFAULTS, "books/pg1")
    paragraph = f"{LONG} It was very cold. {LONG}"
    assert document.text == f"CHAPTER I\n\n{paragraph}\n\n{paragraph}"
    assert (document.title, document.author, document.language) == ("The Bell: A Tale", "Ann Example", "en")
    assert (document.id, document.source) == ("books/pg1", "pg1.txt")

"""The pen: what it lets through, and where it stops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.directives import Text, parse
from spellbound.story import Pen

PIECES = st.lists(
    st.sampled_from(
        [
            "word",
            " ",
            "\n\n",
            "Ende.",
            '<quote speaker="AAAAAA">',
            "</quote>",
            "<action>",
            "</action>",
            "<",
            "&",
            "lt;",
        ]
    ),
    max_size=60,
)


def written(pieces: list[str], words: int | None = None, *, cut: bool = False) -> tuple[str, Pen]:
    pen = Pen(words)
    text = "".join([pen.write(piece) for piece in pieces])
    return text + pen.finish(cut=cut), pen


@settings(max_examples=150, deadline=None)
@given(PIECES, st.none() | st.integers(1, 30), st.booleans())
def test_whatever_is_fed_well_formed_text_comes_out(pieces: list[str], words: int | None, cut: bool) -> None:
    text, pen = written(pieces, words, cut=cut)
    again, second = written([text])
    assert again == text
    assert second.repairs == []
    assert pen.done
    assert pen.words == len("".join(event.text for event in parse(text) if isinstance(event, Text)).split())


@settings(max_examples=100, deadline=None)
@given(PIECES, st.data())
def test_cuts_do_not_matter(pieces: list[str], data: st.DataObject) -> None:
    whole = "".join(pieces)
    at = data.draw(st.integers(0, len(whole)))
    assert written([whole[:at], whole[at:]])[0] == written([whole])[0] == written(list(whole))[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tag: <acti", "Tag:"),
        ("a &am", "a"),
        ("Wort \n\n", "Wort"),
        ('<quote speaker="AAAAAA">Hal', '<quote speaker="AAAAAA">Hal</quote>'),
        ('<quote speaker="AAAAAA">a <action>b', '<quote speaker="AAAAAA">a <action>b</action></quote>'),
        ("<sound></sou", "<sound></sound>"),
        ("", ""),
    ],
)
def test_cut_off_text_is_closed(text: str, expected: str) -> None:
    assert written([text], cut=True)[0] == expected


def test_a_cut_is_no_repair_but_an_end_in_an_open_tag_is() -> None:
    for cut, repairs in ((True, []), (False, ["unclosed"])):
        _, pen = written(["<action>x"], cut=cut)
        assert pen.closed == ("action",)
        assert [repair.code for repair in pen.repairs] == repairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two\n\nthree four\n\nfive", "one two\n\nthree four"),
        ("one two three four five\n\nsix", "one two three four five"),
        ("one two three <action>four\n\nfive</action>\n\nsix", "one two three <action>four\n\nfive</action>"),
        ("one two", "one two"),
    ],
)
def test_stops_at_the_end_of_a_paragraph(text: str, expected: str) -> None:
    assert written([text], 3)[0] == expected


def test_without_a_paragraph_it_stops_at_a_sentence() -> None:
    text, pen = written([f"{'word ' * 50}end. More words."], 10)
    assert text.endswith("end.")
    assert pen.words == 51


def test_speech_alone_is_not_the_end_of_a_sentence() -> None:
    text, _ = written([f'{"word " * 50}<quote speaker="AAAAAA">Go!</quote> she said. Then'], 10)
    assert text.endswith("</quote> she said.")


def test_without_any_good_place_it_stops_anyway() -> None:
    text, pen = written([f"<action>{'word ' * 500}"], 10)
    assert pen.words == 100
    assert text.endswith("word</action>")


def test_words_are_counted_without_tags_and_across_pieces() -> None:
    _, pen = written(["on", "e t", 'wo <quote speaker="AAAAAA">three</quote> ', "four"])
    assert pen.words == 4
    assert not pen.wants_more


def test_repairs_are_told() -> None:
    _, pen = written(['<QUOTE speaker="AAAAAA">x</quote>'])
    assert [repair.code for repair in pen.repairs] == ["spelling"]
    assert parse(written(["<Action>x</action>"])[0]) == parse("<action>x</action>")


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_a_stop_string_ends_the_text_before_it_and_what_is_open_is_closed(piece: int) -> None:
    text = '<quote speaker="AAAAAA">Go home. The end, she said.</quote>'
    pen = Pen(stop=("The end", "nowhere"))
    out = "".join(pen.write(text[at : at + piece]) for at in range(0, len(text), piece))
    assert pen.done
    assert pen.stopped
    assert out + pen.finish(cut=False) == '<quote speaker="AAAAAA">Go home.</quote>'
    assert pen.repairs == []


@settings(max_examples=150, deadline=None)
@given(PIECES, st.lists(st.sampled_from(["wo", "d ", "de.", " E", '"', "quote", "<", "\n"]), min_size=1))
def test_a_stop_string_is_one_of_the_text_and_of_no_tag(pieces: list[str], stops: list[str]) -> None:
    said = "".join(event.text for event in parse("".join(pieces)) if isinstance(event, Text))
    ends = {said.find(stop) + len(stop): said.find(stop) for stop in stops if stop in said}
    pen = Pen(stop=stops)
    out = "".join(pen.write(piece) for piece in pieces) + pen.finish(cut=False)
    shown = "".join(event.text for event in parse(out) if isinstance(event, Text))
    assert pen.stopped is bool(ends)
    expected = min((end, at) for end, at in ends.items())[1] if ends else len(said)
    assert shown.split() == said[:expected].split()


@pytest.mark.parametrize("piece", [1, 4, 100])
def test_a_stop_string_goes_on_behind_a_tag(piece: int) -> None:
    text = 'Fog. <quote speaker="AAAAAA">The</quote> <action>end comes.</action>'
    pen = Pen(stop=('"', "The end"))
    out = "".join(pen.write(text[at : at + piece]) for at in range(0, len(text), piece))
    assert out + pen.finish(cut=False) == 'Fog. <quote speaker="AAAAAA"></quote>'


def test_what_only_began_like_a_stop_string_is_written_at_the_end() -> None:
    pen = Pen(stop=("The end",))
    assert pen.write("It was The ") == "It was"
    assert pen.finish(cut=False) == " The"
    assert not pen.stopped

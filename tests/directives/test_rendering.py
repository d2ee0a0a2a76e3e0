"""The six formats, at once and piece by piece."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings

from spellbound.directives import (
    FORMATS,
    MARKS,
    Character,
    Close,
    Event,
    FormatName,
    Open,
    Renderer,
    Text,
    parse,
    quotation_marks,
    render,
)
from spellbound.directives.events import merge_text
from spellbound.errors import DirectiveError
from tests.directives.strategies import events, markup

CAST = (Character("Mara Voss", "32AN4R"), Character("Joss\n de  Wit", "7QK2MD"), Character("", "AAAAAA"))
STORY = (
    "The harbour lay still.\n\n"
    '<quote speaker="32AN4R">Who said "run" <action>lifts the lamp</action> just now?</quote> '
    "<action>She turns.\n"
    '</action>\n\n<sound>Bong.</sound> <quote speaker="7QK2MD">“Me, &lt;3”</quote>, he said & left.'
)


def says(speech: str, language: str = "en") -> str:
    return render([Open("quote", "32AN4R"), Text(speech), Close("quote")], "plain", language=language)


@settings(deadline=None, max_examples=120)
@given(events)
def test_tagged_text_reads_as_the_same_events(said: list[Event]) -> None:
    assert parse(render(said)) == list(merge_text(said))


@settings(deadline=None, max_examples=100)
@given(markup)
def test_canonical_text_stays_as_it_is(text: str) -> None:
    writable = text.replace("\ud800", "").encode(errors="ignore").decode()
    canonical = render(parse(writable))
    assert render(parse(canonical)) == canonical


@settings(deadline=None, max_examples=120)
@given(events)
@example([Text("a<"), Text(" \r\r:")])  # space before a blank line that began another piece
def test_every_format_is_the_same_piece_by_piece(said: list[Event]) -> None:
    for to in FORMATS:
        renderer = Renderer(to, cast=CAST, voices={"32AN4R": "amy"})
        pieces = [renderer.write([event]) for event in said] + [renderer.close()]
        assert "".join(pieces) == render(merge_text(said), to, cast=CAST, voices={"32AN4R": "amy"})


def test_tagged_writes_as_little_as_it_needs() -> None:
    text = "“Don’t”, 'she' \"said\" — R&D &nbsp; a &amp;lt; b &lt;3\r\n\u0000"
    assert render(parse(text)) == text


def test_events_that_do_not_nest_are_mended() -> None:
    said: list[Event] = [Close("sound"), Open("action"), Text("x"), Open("action"), Text("y")]
    assert render(said) == "<action>x</action><action>y</action>"


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "“Who ‘ran’ away?”"),
        ("fr", "«\u00a0Who “ran” away?\u00a0»"),
        ("de", "„Who ‚ran‘ away?“"),
        ("nl", "‘Who “ran” away?’"),
        ("es", "«Who “ran” away?»"),
        ("pt", "“Who ‘ran’ away?”"),
        ("it", "«Who “ran” away?»"),
        ("ar", "«Who ‹ran› away?»"),
        ("he", "”Who ’ran’ away?”"),
    ],
)
def test_quotation_marks_of_a_language(language: str, expected: str) -> None:
    assert says('Who "ran" away?', language) == expected
    assert says(expected, language) == expected


def test_there_are_nine_languages() -> None:
    assert list(MARKS) == ["en", "fr", "de", "nl", "es", "pt", "it", "ar", "he"]
    assert quotation_marks("pt-BR") == quotation_marks("PT_pt") == MARKS["pt"]
    with pytest.raises(DirectiveError, match=r"language 'sv'.*use one of en, fr"):
        render([], "plain", language="sv")


@pytest.mark.parametrize(
    ("language", "speech", "expected"),
    [
        ("en", "Hello.", "“Hello.”"),
        ("en", "“Hello.”", "“Hello.”"),
        ("en", '"Hello."', '"Hello."'),
        ("en", "'Hello.'", "'Hello.'"),
        ("en", "«Bonjour»", "«Bonjour»"),
        ("en", " “Hello.” ", " “Hello.” "),
        ("en", "'Tis late.", "“'Tis late.”"),
        ("en", "The dogs' bowls", "“The dogs' bowls”"),
        ("en", "—and then", "“—and then”"),
        ("es", "—Hola", "—Hola"),
        ("fr", "— Bonjour", "— Bonjour"),
        ("en", "I read “Emma” twice", "“I read ‘Emma’ twice”"),
        ("de", "Ich las „Emma“ gern", "„Ich las ‚Emma‘ gern“"),
        ("fr", "Il a dit « oui » hier", "«\u00a0Il a dit “oui” hier\u00a0»"),
        ("he", "אמר ”כן” אתמול", "”אמר ’כן’ אתמול”"),
        ("nl", "'s Avonds, foto's en \"ja\"", "‘'s Avonds, foto's en “ja”’"),
        ("en", '("so") he said', "“(‘so’) he said”"),
        ("en", "  Hello.\n", "  “Hello.”\n"),
        ("en", "", ""),
        ("en", " \n", " \n"),
        ("en", '"', "“‘”"),
        ("en", "One.\n\nTwo.", "“One.”\n\n“Two.”"),
        ("en", " One.\r\n \r\n“Two.”\n", " “One.”\r\n \r\n“Two.”\n"),
        ("en", "“One.\n\nTwo.”", "“One.”\n\n“Two.”"),
        ("en", "“One.\n\n“Two.”", "“One.”\n\n“Two.”"),
        ("en", '"One.\n\n"Two.\n\nThree."', "“One.”\n\n“Two.”\n\n“Three.”"),
        ("en", "“Yes,” he said.\n“No.”", "“‘Yes,’ he said.”\n“No.”"),
        ("en", "'Tis late.\n\nGo.", "“'Tis late.”\n\n“Go.”"),
        ("nl", "‘Oma’s.\n\nFoto’s.’", "‘Oma’s.’\n\n‘Foto’s.’"),
        ("fr", "« Un.\n\nDeux. »", "«\u00a0Un.\u00a0»\n\n«\u00a0Deux.\u00a0»"),
        ("fr", "— Un.\n\nDeux.", "— Un.\n\nDeux."),
        ("he", "אחת\n\nשתיים", "”אחת”\n\n”שתיים”"),
    ],
)
def test_plain_speech(language: str, speech: str, expected: str) -> None:
    assert says(speech, language) == expected


def test_plain() -> None:
    assert render(parse(STORY), "plain") == (
        "The harbour lay still.\n\n“Who said ‘run’ lifts the lamp just now?” She turns.\n\n\n"
        "Bong. “Me, <3”, he said & left."
    )


def test_script() -> None:
    assert render(parse(STORY), "script", cast=CAST) == (
        "The harbour lay still.\n"
        'MARA VOSS: Who said "run" (lifts the lamp) just now?\n'
        "(She turns.)\n"
        "[Bong.]\n"
        "JOSS DE WIT: Me, <3\n"
        ", he said & left.\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n", ""),
        ("One.\n\nTwo\nthree.", "One.\nTwo three.\n"),
        ("<quote>Hi</quote>", "?: Hi\n"),
        ('<quote speaker="ZZZZZZ">Hi</quote>.', "ZZZZZZ: Hi.\n"),
        ('<quote speaker="AAAAAA">Hi</quote>', "AAAAAA: Hi\n"),
        ('<quote speaker="32AN4R"></quote>', "MARA VOSS:\n"),
        (
            '<action>He says <quote speaker="32AN4R">yes</quote> and goes</action>',
            "(He says)\nMARA VOSS: yes\n(and goes)\n",
        ),
        ("<action>He knocks <sound>tock</sound></action>", "(He knocks)\n([tock])\n"),
        ("…<sound>x</sound>", "…\n[x]\n"),
    ],
)
def test_script_lines(text: str, expected: str) -> None:
    assert render(parse(text), "script", cast=CAST) == expected


def test_html() -> None:
    assert render(parse(STORY), "html", language="en-GB") == (
        '<article lang="en-GB" dir="auto">\n'
        '<p dir="auto">The harbour lay still.</p>\n'
        '<p dir="auto"><q data-speaker="32AN4R" dir="auto">Who said "run" <span class="action">lifts the '
        'lamp</span> just now?</q> <span class="action">She turns.</span></p>\n'
        '<p dir="auto"><span class="sound">Bong.</span> <q class="marked" data-speaker="7QK2MD" dir="auto">'
        "“Me, &lt;3”</q>, he said &amp; left.</p>\n"
        "</article>\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a\nb", '<p dir="auto">a<br>\nb</p>\n'),
        ("a\r\n\r\nb", '<p dir="auto">a</p>\n<p dir="auto">b</p>\n'),
        ("a\n\n\n \n b", '<p dir="auto">a</p>\n<p dir="auto">b</p>\n'),
        ("a\u0000\u001bb", '<p dir="auto">ab</p>\n'),
        (
            '<quote speaker="&quot;&amp;">x',
            '<p dir="auto"><q data-speaker="&amp;quot;&amp;amp;" dir="auto">x</q></p>\n',
        ),
        ("<quote>a\n\nb</quote>c", '<p dir="auto">{q}a</q></p>\n<p dir="auto">{q}b</q>c</p>\n'),
        ("<quote>a\n\n</quote>b", '<p dir="auto">{q}a</q></p>\n<p dir="auto">b</p>\n'),
        ("a&lt;script&gt;", '<p dir="auto">a&lt;script&gt;</p>\n'),
    ],
)
def test_html_of(text: str, expected: str) -> None:
    body = expected.replace("{q}", '<q data-speaker="" dir="auto">')
    assert render(parse(text), "html") == f'<article lang="en" dir="auto">\n{body}</article>\n'


def test_attributes_are_escaped() -> None:
    assert (
        render([], "html", language='"><b>')
        == '<article lang="&quot;&gt;&lt;b&gt;" dir="auto">\n</article>\n'
    )


class Balance(HTMLParser):
    """Notes what is open, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("article", "p", "q", "span", "br")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data += data


def letters(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and not char.isspace() and char.isascii())


@settings(deadline=None, max_examples=100)
@given(events)
def test_html_is_balanced_and_keeps_the_words(said: list[Event]) -> None:
    reader = Balance()
    reader.feed(render(said, "html"))
    reader.close()
    assert reader.open == []
    assert letters(reader.data) == letters("".join(event.text for event in said if isinstance(event, Text)))


@settings(deadline=None, max_examples=100)
@given(events)
def test_ssml_is_xml_and_keeps_the_words(said: list[Event]) -> None:
    tree = ElementTree.fromstring(render(said, "ssml", voices={"32AN4R": 'a"my'}))  # noqa: S314
    assert letters("".join(tree.itertext())) == letters("".join(e.text for e in said if isinstance(e, Text)))


def test_ssml() -> None:
    assert render(parse(STORY), "ssml", language="en", voices={"7QK2MD": "en-joss"}) == (
        '<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en">\n'
        "<p>The harbour lay still.</p>\n"
        '<p><mark name="32AN4R"/>Who said "run" lifts the lamp just now? She turns.</p>\n'
        '<p>Bong. <mark name="7QK2MD"/><voice name="en-joss">“Me, &lt;3”</voice>, he said &amp; left.</p>\n'
        "</speak>\n"
    )


def test_ssml_has_no_character_that_xml_forbids() -> None:
    text = "a\u0000\u0008\u000b\u001f\ufffe\uffffb\U0001f514"
    rendered = render(
        [Open("quote", "x\u0001"), Text(text), Close("quote")], "ssml", voices={"x\u0001": "v\u0002"}
    )
    assert "ab\U0001f514" in rendered
    assert '<mark name="x"/><voice name="v">' in rendered


def test_json() -> None:
    assert json.loads(render(parse('a <quote speaker="32AN4R">b<sound></sound></quote><quote>'), "json")) == [
        {"type": "text", "text": "a "},
        {"type": "open", "kind": "quote", "speaker": "32AN4R"},
        {"type": "text", "text": "b"},
        {"type": "open", "kind": "sound"},
        {"type": "close", "kind": "sound"},
        {"type": "close", "kind": "quote"},
        {"type": "open", "kind": "quote", "speaker": None},
        {"type": "close", "kind": "quote"},
    ]
    assert json.loads(render([], "json")) == []


@pytest.mark.parametrize("to", FORMATS)
def test_half_characters_are_not_written(to: FormatName) -> None:
    with pytest.raises(
        DirectiveError, match=rf"{to} text, line \d+, column \d+: U\+D83D is half a character"
    ):
        render([Text("a\n\ud83d")], to)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(DirectiveError, match=r"format 'pdf' is unknown; use one of tagged, plain"):
        render([], "pdf")  # type: ignore[arg-type]


@pytest.mark.parametrize("speaker", ["", " x", "x\n", "a<b", "a>b", "both ' and \"", "x" * 201])
def test_a_speaker_that_no_tag_can_carry_is_refused(speaker: str) -> None:
    with pytest.raises(DirectiveError, match="Open speaker"):
        Open("quote", speaker)


def test_unknown_kinds_and_misplaced_speakers_are_refused() -> None:
    with pytest.raises(DirectiveError, match="Open kind 'song'"):
        Open("song")  # type: ignore[arg-type]
    with pytest.raises(DirectiveError, match="Close kind 'song'"):
        Close("song")  # type: ignore[arg-type]
    with pytest.raises(DirectiveError, match="only a quote has one"):
        Open("action", "32AN4R")

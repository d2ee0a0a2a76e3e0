"""Plays: what is said, done and heard, and not a character changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spellbound.data.annotators import ANNOTATORS, annotator
from spellbound.data.annotators.drama import Drama
from spellbound.data.documents import Document, Part, PartKind, Person
from spellbound.data.tagged import AnnotationRefused, TaggedStory
from spellbound.directives import Open, Text, parse
from spellbound.errors import InputError

CAST = (
    Person(id="faust", name="FAUST", gender="male"),
    Person(id="grete", name="Margarete", gender="female", details=(("Age", "16"),)),
    Person(id="wagner", name="Wagner"),
)


def part(kind: PartKind, text: str, *speakers: str) -> Part:
    return Part(kind=kind, text=text, speakers=speakers)


def play(*parts: Part, language: str = "de", cast: tuple[Person, ...] = CAST) -> Document:
    return Document(
        id="plays/one", parts=parts, cast=cast, language=language, title="Eins", licence="CC0-1.0"
    )


def kinds(story: TaggedStory) -> list[tuple[str, str]]:
    """Innermost tag ("" for none) and text, in order, without what separates parts."""
    found, opened = [], ""
    for event in parse(story.text):
        if isinstance(event, Open):
            opened = event.kind
        elif not isinstance(event, Text):
            opened = ""
        elif event.text.strip():
            found.append((opened, event.text.strip()))
    return found


def test_a_scene() -> None:
    document = play(
        part("head", "Erster Auftritt."),
        part("stage", "Faust. Margarete. Man hört eine Glocke. Faust tritt ein."),
        part("speech", "Wer da?\nIch & du <3\n\nSprich!", "faust"),
        part("stage", "für sich.", "grete"),
        part("speech", "Er ist's.", "grete"),
        part("stage", "ab.", "grete"),
    )
    story = Drama().annotate(document)
    assert kinds(story) == [
        ("", "Erster Auftritt.\n\nFaust. Margarete."),
        ("sound", "Man hört eine Glocke."),
        ("action", "Faust tritt ein."),
        ("quote", "Wer da?\nIch & du <3"),
        ("quote", "Sprich!"),
        ("", "für sich."),
        ("quote", "Er ist's."),
        ("action", "ab."),
    ]
    assert (story.id, story.title, story.licence, story.provenance.annotator) == (
        "plays/one",
        "Eins",
        "CC0-1.0",
        "drama",
    )
    assert [(one.name, one.details) for one in story.cast] == [
        ("Faust", (("Gender", "male"),)),
        ("Margarete", (("Gender", "female"), ("Age", "16"))),
        ("Wagner", ()),
    ]
    assert story.doubtful == ()


@pytest.mark.parametrize(
    ("language", "text", "acting", "expected"),
    [
        ("de", "lacht.", True, "action"),
        ("de", "leise.", True, ""),
        ("de", "zu Wagner", True, ""),
        ("de", "Alle ab.", False, "action"),
        ("de", "Der Vorhang fällt.", False, ""),
        ("de", "Faust. Wagner. Die Vorigen.", False, ""),
        ("de", "klopft an die Tür.", True, "sound"),
        ("de", "klopft ihm auf die Schulter.", True, ""),
        ("de", "nimmt die Trompete.", True, "action"),
        ("de", "Trompeten.", False, "sound"),
        ("de", f"Wagner geht {'und ' * 40} ab.", False, ""),
        ("es", "Vase.", True, "action"),
        ("es", "Sale FABIO.", False, "action"),
        ("es", "Dale una carta.", False, "action"),
        ("es", "Aparte.", True, ""),
        ("es", "A Laura", True, ""),
        ("es", "Descúbrese un monte.", False, ""),
        ("es", "Dentro ruido.", False, "sound"),
        ("es", "Cajas y trompetas.", False, "sound"),
        ("nl", "Binnen.", False, "action"),
        ("nl", "Hy klopt.", False, "sound"),
        ("nl", "Wagner leest.", False, "action"),
        ("nl", "tegen Iwan.", True, ""),
        ("nl", "Einde van het Eerste Bedryf.", False, ""),
        ("en", "Exeunt.", False, "action"),
        ("en", "Aside.", True, ""),
        ("en", "Wagner draws his sword.", False, "action"),
        ("en", "Thunder and lightning.", False, "sound"),
        ("fr", "Il sort.", True, ""),
    ],
)
def test_directions(language: str, text: str, acting: bool, expected: str) -> None:
    stage = part("stage", text, *(("faust",) if acting else ()))
    story = Drama().annotate(play(part("speech", "Ja.", "faust"), stage, language=language))
    assert kinds(story)[1:] == [(expected, text)]


def test_people_who_speak_together_and_people_the_list_forgets() -> None:
    document = play(
        part("speech", "Hoch!", "faust", "wagner"),
        part("speech", "Hoch!", "faust", "grete", "wagner", "erster_bürger"),
        part("speech", "Ich auch.", "erster_bürger"),
        part("speech", "Hoch!", "faust", "wagner"),
    )
    story = Drama().annotate(document)
    names = {one.speaker_id: one.name for one in story.cast}
    said = [names[event.speaker or ""] for event in parse(story.text) if isinstance(event, Open)]
    assert said == [
        "Faust und Wagner",
        "Faust, Margarete, Wagner und 1 weitere",
        "Erster Bürger",
        "Faust und Wagner",
    ]
    assert ("Members", "Faust, Margarete, Wagner, Erster Bürger") in story.cast[-1].details


def test_speech_of_nobody_stays_plain_and_is_doubtful() -> None:
    document = play(part("speech", "Ja.", "faust"), part("speech", "Wer spricht?"))
    story = Drama().annotate(document)
    assert kinds(story)[1] == ("", "Wer spricht?")
    [(start, end)] = story.doubtful
    assert document.plain[start:end] == "Wer spricht?"


@pytest.mark.parametrize(
    ("document", "remedy"),
    [
        (Document(id="a", text="Es war einmal."), "rules or teacher"),
        (Document(id="a", parts=(part("message", "Hi.", "x"),)), "with rules"),
        (Document(id="a", parts=(part("stage", "Geht ab."),)), "nobody speaks"),
    ],
)
def test_what_is_no_play_is_refused(document: Document, remedy: str) -> None:
    with pytest.raises(AnnotationRefused, match=f"^a: .*{remedy}"):
        Drama().annotate(document)


TEXTS = st.text(alphabet="ab <>&;\n.\u00a0/=\"'ü!lacht", max_size=30)
PARTS = st.builds(
    Part,
    kind=st.sampled_from(["speech", "stage", "head"]),
    text=TEXTS,
    speakers=st.lists(st.sampled_from(["faust", "grete", "unknown-1"]), max_size=3, unique=True).map(tuple),
)


@given(st.lists(PARTS, max_size=6), st.sampled_from(["de", "es", "nl", "en", "fr", ""]))
def test_any_play_is_lossless_and_always_the_same(parts: list[Part], language: str) -> None:
    document = play(part("speech", "Ja.", "faust"), *parts, language=language)
    story = Drama().annotate(document)
    events = parse(story.text, story.cast)
    assert "".join(event.text for event in events if isinstance(event, Text)) == document.plain
    assert story == Drama().annotate(document)
    assert len({one.speaker_id for one in story.cast}) == len(story.cast)


def test_annotators_by_name() -> None:
    assert isinstance(annotator("drama"), Drama)
    assert ANNOTATORS == ("rules", "drama", "teacher")
    with pytest.raises(InputError, match="'dram' is unknown; use one of rules, drama, teacher"):
        annotator("dram")
    with pytest.raises(InputError, match=r"annotator drama has no setting .*leave the setting out"):
        annotator("drama", speed=3)

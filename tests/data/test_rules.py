"""The annotator `rules`: lossless on any text, the same in every run; speakers, deeds, chats and plays."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.annotators.rules import LANGUAGES, Rules, lexicon
from spellbound.data.documents import Document, Part, Person
from spellbound.data.tagged import AnnotationRefused, TaggedStory, require_lossless
from spellbound.directives import Close, Open, StreamParser, Text, parse
from spellbound.errors import InputError

PIECES = st.sampled_from(
    [
        *"\"“”„«»‘’‚‹›'—–-*<>&;:,.!?…\n ",
        "\n\n",
        "\r\n",
        "\u00a0",
        "\u200f",
        "&lt;",
        "&#x26;",
        "<quote>",
        '</quote speaker="X">',
        "<action>",
        "</sound>",
        "* * *",
        " said Anna",
        "“Yes,” said Mr. Hale. ",
        "— Oui, dit-il, je viens.",
        "»Nein«, sagte Otto. ",
        "–¿Qué? –dijo Luz–. ",
        "קרא דוד: ”בוא”",
        "قالت ليلى: «نعم»",
        "He nodded.",
        "Bang!",
        "The bell rang.",
        "'tis ",
        "🐺",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=30).map("".join)


def surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def quotes(story: TaggedStory) -> list[tuple[str, str]]:
    """Speaker's name and text of every quote."""
    names = {character.speaker_id: character.name for character in story.cast}
    found: list[tuple[str, str]] = []
    inside = False
    for event in parse(story.text):
        if isinstance(event, Open) and event.kind == "quote":
            found.append((names[event.speaker or ""], ""))
            inside = True
        elif isinstance(event, Close):
            inside = False
        elif isinstance(event, Text) and inside:
            found[-1] = (found[-1][0], found[-1][1] + event.text)
    return found


def stretches(story: TaggedStory, kind: str) -> list[str]:
    """Texts of all actions, or of all sounds."""
    events = parse(story.text)
    return [
        after.text
        for event, after in pairwise(events)
        if isinstance(event, Open) and event.kind == kind and isinstance(after, Text)
    ]


def annotate(text: str, language: str = "en", **options: object) -> TaggedStory:
    return Rules(**options).annotate(Document(id="d", text=text, language=language))  # type: ignore[arg-type]


@given(text=TEXTS, language=st.sampled_from(LANGUAGES))
@settings(max_examples=300, deadline=None)
def test_any_text_stays_as_it_is(text: str, language: str) -> None:
    document = Document(id="any", text=text, language=language)
    if surrogates(text):
        with pytest.raises(AnnotationRefused, match="any"):
            Rules().annotate(document)
        return
    story = Rules().annotate(document)
    require_lossless(document, story.text)
    parser = StreamParser(story.cast)
    parser.feed(story.text)
    parser.close()
    assert parser.repairs == []
    assert all(0 <= start < end <= len(text) for start, end in story.doubtful)
    assert Rules().annotate(document) == story


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["message", "head"]), TEXTS, st.sampled_from(["", "a", "b"])),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_chat_stays_as_it_is(parts: list[tuple[str, str, str]]) -> None:
    made = tuple(
        Part(kind=kind, text=text, speakers=(who,) if who else ())  # type: ignore[arg-type]
        for kind, text, who in parts
        if not surrogates(text)
    )
    document = Document(id="chat", parts=made)
    require_lossless(document, Rules().annotate(document).text)


def test_provenance_names_the_lexicon() -> None:
    story = annotate("“Yes,” said Anna.")
    assert story.provenance.annotator == "rules"
    assert story.provenance.versions["lexicon"] == f"en-{lexicon('en').digest}"


def test_document_facts_are_kept() -> None:
    document = Document(
        id="d", text="Nothing.", title="T", author="A", source="s", licence="CC0-1.0", attribution="by A"
    )
    story = Rules(language="en").annotate(document)
    assert (story.title, story.author, story.source, story.licence, story.attribution) == (
        "T",
        "A",
        "s",
        "CC0-1.0",
        "by A",
    )
    assert story.language == "en"


def test_names_of_one_person_are_one_character() -> None:
    text = (
        "Mr. Lucian Gregory rose. “It may be,” said Gregory.\n\n“So it is,” said Rosamond.\n\n"
        "“Nonsense!” said Mr. Gregory, and he laughed.\n\n“You laugh,” said Lucian's sister Rosamond."
    )
    story = annotate(text)
    assert [character.name for character in story.cast] == ["Mr. Lucian Gregory", "Rosamond"]
    assert ("Gender", "male") in story.cast[0].details
    assert dict(story.cast[0].details)["Aliases"] == "Gregory; Lucian; Mr. Gregory"


def test_husband_and_wife_are_two() -> None:
    story = annotate(
        "“My dear,” said Mrs. Bennet.\n\n“Well?” said Mr. Bennet.\n\n“It is let,” said Mrs. Bennet."
    )
    assert [name for name, _ in quotes(story)] == ["Mrs. Bennet", "Mr. Bennet", "Mrs. Bennet"]


def test_pronouns_choose_by_gender() -> None:
    text = "Anna looked at Otto.\n\n“Stay,” he said.\n\n“No,” she said.\n\n“Please,” he said."
    assert [name for name, _ in quotes(annotate(text))] == ["Otto", "Anna", "Otto"]


def test_who_is_addressed_does_not_speak() -> None:
    text = "Jane and Emma sat down.\n\n“Emma, have you heard?”\n\n“Jane, I have not!”"
    assert [name for name, _ in quotes(annotate(text))] == ["Jane", "Emma"]


def test_turns_alternate() -> None:
    text = "“One,” said Anna.\n\n“Two,” said Otto.\n\n“Three.”\n\n“Four.”\n\n“Five.”"
    assert [name for name, _ in quotes(annotate(text))] == ["Anna", "Otto", "Anna", "Otto", "Anna"]


def test_an_action_beside_a_quote_says_who_speaks() -> None:
    text = "“Who?” said Anna.\n\nOtto shut the door. “Nobody.”"
    assert quotes(annotate(text))[1][0] == "Otto"


@pytest.mark.parametrize(("often", "other"), [("Adam", "Mary"), ("Mary", "Adam")])
def test_where_little_else_tells_the_one_the_story_is_about_speaks(often: str, other: str) -> None:
    story = annotate(
        "“Good day,” said Adam.\n\n“Good day,” said Mary.\n\n"
        + f"The sea was near to {often}, and the bell.\n\n" * 9
        + "The sea was quiet.\n\n" * 12
        + f"The sea was near to {often}.\n\nThe bell was near to {other}.\n\n“Who is there?”"
    )
    assert quotes(story)[-1] == (often, "“Who is there?”")


def test_a_tagged_guess_and_speech_without_an_end_are_doubtful() -> None:
    guess, open_end = "“Who are you?”", "“Go home to your mother"
    text = (
        "“Stop!” said Anna.\n\n“Why?” asked Bob.\n\nThe sea was quiet. A man came in, and another."
        f"\n\n{guess}\n\nThen Anna said: {open_end}\n\nThe sea was quiet."
    )
    story = annotate(text)
    assert {told for _, told in quotes(story)} == {"“Stop!”", "“Why?”", guess, open_end}
    assert [text[start:end] for start, end in story.doubtful] == [guess, open_end]


def test_guesses_are_doubtful_and_named_speakers_are_not() -> None:
    text = "“Who knows?”\n\nMuch later “I do,” said Anna."
    story = annotate(text)
    assert story.doubtful[0] == (0, len("“Who knows?”"))
    assert all(text[start:end] != "“I do,”" for start, end in story.doubtful)


def test_given_cast_is_used_and_kept() -> None:
    cook = Person(id="2", name="Otto", details=(("Role", "cook"),))
    cast = (Person(id="1", name="Anna Berg", gender="female"), cook)
    story = annotate("“Yes,” said Anna.\n\n“No,” said Karl.", cast=cast)
    assert [character.name for character in story.cast] == ["Anna Berg", "Otto"]
    assert story.cast[1].details == (("Role", "cook"),)
    assert quotes(story) == [("Anna Berg", "“Yes,”")]


def test_speaker_ids_depend_on_document_and_name_alone() -> None:
    one = annotate("“Yes,” said Anna.").cast[0]
    two = annotate("“So,” said Otto.\n\n“Yes,” said Anna.").cast[1]
    other = Rules().annotate(Document(id="e", text="“Yes,” said Anna.", language="en")).cast[0]
    assert one.speaker_id == two.speaker_id != other.speaker_id


def test_actions_and_sounds() -> None:
    text = "“Well,” said Anna.\n\nAnna nodded. The rain was cold. The bell rang twice. Bang! She rose."
    story = annotate(text)
    assert stretches(story, "action") == ["Anna nodded.", "She rose."]
    assert stretches(story, "sound") == ["The bell rang twice.", "Bang!"]
    plain = annotate(text, actions=False, sounds=False)
    assert stretches(plain, "action") == stretches(plain, "sound") == []


@pytest.mark.parametrize(
    ("language", "text", "action", "sound"),
    [
        (
            "fr",
            "« Oui », dit Anne.\n\nAnne hocha la tête. La cloche sonna.",
            "Anne hocha la tête.",
            "La cloche sonna.",
        ),
        (
            "de",
            "„Ja“, sagte Anna.\n\nAnna nickte. Die Glocke läutete.",
            "Anna nickte.",
            "Die Glocke läutete.",
        ),
        ("nl", "‘Ja,’ zei Anna.\n\nAnna knikte. De klok luidde.", "Anna knikte.", "De klok luidde."),
        ("es", "—Sí —dijo Ana.\n\nAna sonrió. Sonó la campana.", "Ana sonrió.", "Sonó la campana."),
        ("pt", "— Sim — disse Ana.\n\nAna sorriu. Tocou o sino.", "Ana sorriu.", "Tocou o sino."),
        ("it", "«Sì» disse Anna.\n\nAnna sorrise. Suonò la campana.", "Anna sorrise.", "Suonò la campana."),
        ("ar", "قالت ليلى: «نعم».\n\nجلست ليلى. رن الجرس.", "جلست ليلى.", "رن الجرس."),
        ("he", "אמר דוד: ”כן.”\n\nדוד קם. צלצל הפעמון.", "דוד קם.", "צלצל הפעמון."),
    ],
)
def test_actions_and_sounds_of_each_language(language: str, text: str, action: str, sound: str) -> None:
    story = annotate(text, language)
    assert stretches(story, "action") == [action]
    assert stretches(story, "sound") == [sound]


def test_language_is_guessed_where_nobody_says_it() -> None:
    text = "— Oui, dit Anne, je viens avec toi dans la maison, mais il ne faut pas que ce soit trop tard."
    assert annotate(text, "").language == "fr"


@pytest.mark.parametrize(
    "text", ["„Ja“, sagte sie.", "— Ja, sa hon, jag kommer med dig och det är inte långt till huset nu. " * 3]
)
def test_a_language_that_nobody_knows_is_not_made_up(text: str) -> None:
    with pytest.raises(AnnotationRefused, match=r"d: its language is not known; .*--language"):
        annotate(text, "")
    assert Rules(language="de").annotate(Document(id="d", text=text)).language == "de"


def test_chat_messages_have_known_speakers() -> None:
    document = Document(
        id="chat",
        parts=(
            Part(kind="message", text="*She smiles.* Hello there!", speakers=("mara",)),
            Part(kind="message", text='He bows. "Good evening," he says.', speakers=("user",)),
        ),
        cast=(Person(id="mara", name="Mara Voss", gender="female"),),
    )
    story = Rules().annotate(document)
    assert [character.name for character in story.cast] == ["Mara Voss", "user"]
    assert quotes(story) == [("Mara Voss", "Hello there!"), ("user", '"Good evening,"')]
    assert stretches(story, "action") == ["*She smiles.*"]
    assert story.doubtful == ()


def test_plays_are_refused() -> None:
    play = Document(id="play", parts=(Part(kind="speech", text="To be.", speakers=("hamlet",)),))
    with pytest.raises(AnnotationRefused, match=r"play: is a play.*drama"):
        Rules().annotate(play)


def test_a_tenth_language_is_refused() -> None:
    with pytest.raises(AnnotationRefused, match=r"d: language 'xx' has no lexicon; use one of en"):
        annotate("Text.", "xx")
    with pytest.raises(InputError, match="'xx'"):
        Rules(language="xx")


def test_a_cast_with_one_id_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'1' stands there twice"):
        Rules(cast=(Person(id="1", name="A"), Person(id="1", name="B")))


@pytest.mark.parametrize("language", LANGUAGES)
def test_lexicons_are_filled(language: str) -> None:
    known = lexicon(language)
    assert min(len(known.verbs), len(known.nouns), len(known.actions), len(known.first_names)) > 30
    assert not known.verbs & known.determiners
    assert lexicon(f"{language}-XX") is known


GREGORYS = """
from spellbound.data.annotators.rules import Rules
from spellbound.data.documents import Document
names = ["Lucian Gregory", "Mr. Lucian Gregory", "Mr. Gregory", "Tom Gregory", "Mr. Tom Gregory", "Gregory"]
text = "\\n\\n".join(f"“I say that {number},” said {name}." for number, name in enumerate(names))
print([Rules(language="en").annotate(Document(id="d", text=text[cut:])) for cut in range(0, 200, 10)])
"""


def test_every_process_finds_the_same() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", GREGORYS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "0125"
    }
    assert len(told) == 1

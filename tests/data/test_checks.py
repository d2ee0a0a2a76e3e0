"""Checks as tables: what holds, what does not, in nine languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spellbound.data.checks import DESCRIPTIONS, KINDS, PLAIN_KINDS, Check, segments
from spellbound.data.checks.narration import person, tense
from spellbound.directives import StreamParser, parse
from spellbound.errors import InputError

SAID = '<quote speaker="32AN4R">Who is there?</quote> asked Mara.\n\n<action>Mara lit the lantern.</action>'
BELL = f"{SAID}\n\nShe felt hopeful. <sound>Clang! went the bell.</sound>"
TWO = f'{SAID}\n\n<quote speaker="K7Q2ZX">Me.</quote>'


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "expected"),
    [
        ("speaks", ("32AN4R",), SAID, True),
        ("speaks", ("XXXXX1",), SAID, False),
        ("silent", ("32AN4R",), SAID, False),
        ("silent", ("XXXXX1",), SAID, True),
        ("first_speaker", ("32AN4R",), TWO, True),
        ("first_speaker", ("K7Q2ZX",), TWO, False),
        ("first_speaker", ("32AN4R",), "Nobody spoke.", False),
        ("last_speaker", ("K7Q2ZX",), TWO, True),
        ("last_speaker", ("32AN4R",), TWO, False),
        ("only_speaker", ("32AN4R",), SAID, True),
        ("only_speaker", ("32AN4R",), TWO, False),
        ("only_speaker", ("32AN4R",), "Nobody spoke.", False),
        ("asks", ("32AN4R",), SAID, True),
        ("asks", ("32AN4R",), '<quote speaker="32AN4R">Yes.</quote> Who?', False),
        ("asks", ("32AN4R",), '<quote speaker="32AN4R">من هناك؟</quote>', True),
        ("action_by", ("Mara",), SAID, True),
        ("action_by", ("Mar",), SAID, False),
        ("has_action", (), SAID, True),
        ("has_action", (), "Mara lit the lantern.", False),
        ("has_sound", (), BELL, True),
        ("has_sound", (), SAID, False),
        ("sound_of", ("bell",), BELL, True),
        ("sound_of", ("bell",), SAID, False),
        ("no_sound", (), SAID, True),
        ("no_sound", (), BELL, False),
        ("no_quote", (), SAID, False),
        ("no_quote", (), "Nobody spoke.", True),
        ("min_quotes", ("1",), SAID, True),
        ("min_quotes", ("2",), SAID, False),
        ("ends_with", ("sound",), BELL, True),
        ("ends_with", ("sound", "bell|gong"), BELL, True),
        ("ends_with", ("sound", "drum"), BELL, False),
        ("ends_with", ("sound",), f"{BELL} Then silence.", False),
        ("ends_with", ("action",), SAID, True),
        ("ends_with", ("action",), "", False),
        ("ends_with_words", ("bell",), BELL, True),
        ("ends_with_words", ("lantern",), BELL, False),
        ("ends_with_words", ("bell",), f"{BELL}\n", True),
        ("ends_with_quote", (), "He said: “Come.”", True),
        ("ends_with_quote", (), "Er sagte: „Komm.“", True),
        ("ends_with_quote", (), "Il dit : «\u00a0Viens.\u00a0»\n", True),
        ("ends_with_quote", (), "“Come,” he said.", False),
        ("mentions", ("lantern",), SAID, True),
        ("mentions", ("lanternfish",), SAID, False),
        ("mentions", ("light|lantern",), SAID, True),
        ("mentions", ("antern",), SAID, False),
        ("mentions", ("בית",), "הוא הלך והגיע אל הבית.", True),
        ("mentions", ("טוב",), "הוא הלך והגיע אל הבית.", False),
        ("mentions", ("بيت",), "وصل إلى البيت.", True),
        ("avoids", ("lantern",), SAID, False),
        ("avoids", ("gun|pistol",), SAID, True),
        ("avoids", ("בית",), "הוא הלך והגיע אל הבית.", False),
        ("place", ("forest|woods",), "They went into the forests.", True),
        ("place", ("mer",), "Merci, dit-il.", False),
        ("place", ("mer",), "Il regarda la mer.", True),
        ("place", ("بحر",), "نظر إلى البحر.", True),
        ("mood_word", ("joy|delight",), "He was delighted.", True),
        ("mood_word", ("joy|delight",), "He was joyless? No: sad.", False),
        ("happens", ("Mara", "lit|lights", "lantern"), SAID, True),
        ("happens", ("Mara", "lost"), SAID, False),
        ("happens", ("Mara", "bell"), "Mara.\n\n1\n\n2\n\n3\n\nA bell.", True),
        ("happens", ("Mara", "bell"), "Mara.\n\n1\n\n2\n\n3\n\n4\n\nA bell.", False),
        ("mood", ("Mara", "hopeful"), BELL, True),
        ("mood", ("Tom", "hopeful"), BELL, False),
        ("min_words", ("5",), SAID, True),
        ("min_words", ("10",), SAID, False),
        ("max_words", ("5",), SAID, False),
        ("max_words", ("9",), SAID, True),
        ("paragraphs", ("2", "2"), SAID, True),
        ("paragraphs", ("1", "1"), SAID, False),
        ("paragraphs", ("1", "3"), f"{SAID}\n\n \n\n", True),
    ],
)
def test_checks_decide(kind: str, arguments: tuple[str, ...], text: str, expected: bool) -> None:
    assert Check(kind, arguments).holds(parse(text)) is expected


LONG_THIRD = "The rain fell on the roofs and on the street, and the old man went on with his lamp. " * 3
NARRATED = [
    ("en", f"{LONG_THIRD} “I am late,” he said. He was tired and had no coat.", "third", "past"),
    (
        "en",
        "I was late again. My coat was wet, and I had no lamp, so I went home and said nothing.",
        "first",
        "past",
    ),
    (
        "en",
        "She walks to the door and looks out. She sees him. “Go,” she says. He stands there.",
        "unknown",
        "present",
    ),
    ("en", '<quote speaker="32AN4R">I was what I was, and my life was mine.</quote>', "unknown", "unknown"),
    (
        "de",
        "Ich ging nach Hause und sah, daß meine Tür offen war. Da stand er und sagte nichts.",
        "first",
        "past",
    ),
    (
        "de",
        "Sie geht zum Fenster, steht dort und sieht hinaus. Es ist still. „Ich komme“, sagt er.",
        "unknown",
        "present",
    ),
    ("nl", "Ik ging naar huis en zag dat mijn deur open was. Daar stond hij en zei niets.", "first", "past"),
    (
        "nl",
        "Zij gaat naar het raam, staat daar en ziet de tuin. Het is stil. Hij komt niet.",
        "unknown",
        "present",
    ),
    (
        "fr",
        "J'étais las, et mon frère avait peur. Je savais qu'il était malade ; il fit un pas.",
        "first",
        "past",
    ),
    (
        "fr",
        "Elle va à la porte et voit le jardin. Il est tard. «\u00a0J'étais là\u00a0», répond Paul.",
        "unknown",
        "present",
    ),
    ("es", "Yo estaba solo y me miró. Mi padre dijo que no había pan; fue la última vez.", "first", "past"),
    ("es", "Ella está en la puerta y mira. Es tarde. Juan dice que no hay pan y sale.", "unknown", "present"),
    (
        "it",
        "Io era solo e mi guardò. Mio padre disse che non aveva pane; fu un giorno triste.",
        "first",
        "past",
    ),
    (
        "it",
        "Ella è alla porta e guarda. Poi dice che ha fame. Il padre viene e prende il pane.",
        "unknown",
        "present",
    ),
    (
        "pt",
        "Eu estava só e ele olhou para mim. Meu pai disse que não tinha pão; foi um dia triste.",
        "first",
        "past",
    ),
    ("pt", "Ela está à porta e olha. É tarde. O pai diz que não há pão e sai.", "unknown", "present"),
    ("ar", "كان الليل طويلا. قال الرجل شيئا ثم ذهب، وعادت المرأة إلى البيت.", "unknown", "past"),
    ("he", "הוא היה עייף. היא אמרה שלום, והוא הלך הביתה. אחר כך ישבה שם.", "unknown", "past"),
    ("en", "It was late and he said no. Now it is day, he sits and says yes.", "unknown", "unknown"),
    ("xx", LONG_THIRD, "unknown", "unknown"),
]


@pytest.mark.parametrize(("language", "text", "told_by", "told_in"), NARRATED)
def test_who_tells_and_when(language: str, text: str, told_by: str, told_in: str) -> None:
    parts = segments(parse(text))
    assert (person(parts, language), tense(parts, language)) == (told_by, told_in)
    for value in ("first", "third"):
        assert Check("person", (value, language)).holds(parse(text)) is (value == told_by)
    for value in ("past", "present"):
        assert Check("tense", (value, language)).holds(parse(text)) is (value == told_in)


def test_every_kind_is_described_and_in_the_tables() -> None:
    assert set(DESCRIPTIONS) == set(KINDS) >= PLAIN_KINDS
    assert all(text and "\n" not in text for text in DESCRIPTIONS.values())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "speaks"}', '{"kind": "sings", "arguments": []}', "null"]
)
def test_bad_check_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="check"):
        Check.from_json(text)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="sings"):
        Check("sings")


@pytest.mark.parametrize(
    ("kind", "arguments"), [("min_words", ()), ("min_words", ("many",)), ("mood", ("Mara",))]
)
def test_arguments_that_decide_nothing_are_refused(kind: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"check {kind} cannot be decided"):
        Check(kind, arguments).holds(parse(SAID))


@given(st.text(alphabet='a <>/"“”.\nquotesp=actionr?', max_size=80), st.sampled_from(KINDS))
def test_no_text_makes_a_check_fail_to_decide(text: str, kind: str) -> None:
    arguments = {
        "happens": ("a", "b"),
        "mood": ("a", "b"),
        "person": ("first", "en"),
        "tense": ("past", "en"),
    }
    numbers = {"min_words", "max_words", "min_quotes", "paragraphs"}
    given_to = arguments.get(kind, ("1", "2") if kind in numbers else ("a",))
    parser = StreamParser()
    assert Check(kind, given_to).holds([*parser.feed(text), *parser.close()]) in (True, False)
    assert Check.from_json(Check(kind, given_to).to_json()) == Check(kind, given_to)

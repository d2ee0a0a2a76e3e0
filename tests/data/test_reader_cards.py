"""Character cards of three versions, in JSON, PNG and CHARX, and damaged ones."""

import base64
import json
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.readers import CharacterCard, ReaderDefaults, read_card
from spellbound.data.readers.cards import read_cards
from spellbound.data.readers.png import png_texts
from spellbound.directives import StoryPrompt, is_speaker_id
from spellbound.errors import InputError
from tests.data.reader_files import card_chunk, png, text_chunk

V1 = {
    "name": "Mara Voss",
    "description": "{{char}} keeps the light.\r\nShe trusts {{user}}.",
    "personality": "dry, brave",
    "scenario": "A harbour at night.",
    "first_mes": "*She waves.* Hello, {{user}}.",
    "mes_example": "<START>\n{{user}}: Who are you?\n{{char}}: The keeper.\nAnd you?\n<START>\n{{char}}: Go.",
}
V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        **V1,
        "alternate_greetings": ["Oh, {{user}}?", ""],
        "creator": "Ann",
        "creator_notes": "For quiet evenings.",
        "character_version": "3",
        "system_prompt": "You are {{char}}.",
        "tags": ["sea", "night"],
        "character_book": {
            "entries": [
                {"keys": ["bell", "buoy"], "content": "@@depth 4\nThe bell is {{char}}'s.", "enabled": True},
                {"keys": ["off"], "content": "No.", "enabled": False},
            ]
        },
    },
}
V3 = {"spec": "chara_card_v3", "spec_version": "3.0", "data": {**V2["data"], "nickname": "Mar"}}  # type: ignore[dict-item]


def card_file(path: Path, content: object) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def read_json(tmp_path: Path, card: object) -> CharacterCard:
    return read_card(card_file(tmp_path / "mara.json", card), ReaderDefaults(user="Ada"))


def test_version_1(tmp_path: Path) -> None:
    card = read_json(tmp_path, V1)
    assert card.character.name == "Mara Voss"
    assert card.character.details == (
        ("Description", "Mara Voss keeps the light.\nShe trusts Ada."),
        ("Personality", "dry, brave"),
    )
    assert card.first_message == "*She waves.* Hello, Ada."
    assert card.examples == ("Ada: Who are you?\nMara Voss: The keeper.\nAnd you?", "Mara Voss: Go.")


def test_version_2(tmp_path: Path) -> None:
    card = read_json(tmp_path, V2)
    assert card.greetings == ("Oh, Ada?",)
    assert card.lore == (("bell, buoy", "The bell is Mara Voss's."),)
    assert (card.creator, card.version, card.tags) == ("Ann", "3", ("sea", "night"))
    assert (card.creator_notes, card.system_prompt) == ("For quiet evenings.", "You are Mara Voss.")


def test_version_3_calls_the_character_by_its_nickname(tmp_path: Path) -> None:
    card = read_json(tmp_path, V3)
    assert card.character.name == "Mara Voss"
    assert card.lore[0][1] == "The bell is Mar's."


def test_the_speaker_id_depends_on_the_content_alone(tmp_path: Path) -> None:
    one, same = read_json(tmp_path, V2), read_json(tmp_path, json.loads(json.dumps(V2)))
    assert one.character.speaker_id == same.character.speaker_id
    assert is_speaker_id(one.character.speaker_id)
    assert read_json(tmp_path, {**V1, "scenario": "Day."}).character.speaker_id != one.character.speaker_id


def test_the_character_can_stand_in_a_prompt(tmp_path: Path) -> None:
    prompt = StoryPrompt((read_json(tmp_path, V2).character,), "", ("Write.",))
    assert StoryPrompt.parse(prompt.render()) == prompt


def test_documents_of_a_card(tmp_path: Path) -> None:
    documents = list(read_cards(card_file(tmp_path / "mara.json", V2)))
    assert [each.id for each in documents] == [
        "mara/greeting-1",
        "mara/greeting-2",
        "mara/example-1",
        "mara/example-2",
    ]
    example = documents[2]
    assert [(part.speakers, part.text) for part in example.parts] == [
        (("User",), "Who are you?"),
        (("Mara_Voss",), "The keeper.\nAnd you?"),
    ]
    assert example.cast[0].details[-1] == ("Scenario", "A harbour at night.")
    assert [person.id for person in documents[0].cast] == ["Mara_Voss"]


def test_ccv3_wins_in_a_picture(tmp_path: Path) -> None:
    older = {**V2, "data": {**V2["data"], "name": "Old"}}  # type: ignore[dict-item]
    picture = png(card_chunk("chara", older), card_chunk("ccv3", V3))
    assert read_card(card_file(tmp_path / "a.png", picture)).character.name == "Mara Voss"
    assert read_card(card_file(tmp_path / "b.png", png(card_chunk("chara", older)))).character.name == "Old"


def test_a_charx_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.charx", "w") as archive:
        archive.writestr("card.json", json.dumps(V3))
    assert read_card(tmp_path / "a.charx").character.name == "Mara Voss"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200))
def test_every_kind_of_text_chunk(text: str) -> None:
    packed = zlib.compress(text.encode())
    picture = png(
        (b"iTXt", b"plain\0\0\0en\0key\0" + text.encode()),
        (b"iTXt", b"packed\0\1\0\0\0" + packed),
        (b"zTXt", b"latin\0\0" + zlib.compress(text.encode("latin-1", "replace"))),
    )
    latin = text.encode("latin-1", "replace").decode("latin-1")
    assert png_texts(picture, "x") == {"plain": text, "packed": text, "latin": latin}


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_picture_raises_anything_but_input_errors(noise: bytes, at: int) -> None:
    whole = png(card_chunk("chara", V1))
    for content in (
        whole[:at],
        whole[:at] + noise + whole[at:],
        png((b"iTXt", noise)),
        png((b"zTXt", noise)),
    ):
        with suppress(InputError):
            png_texts(content, "x")


def damaged() -> bytes:
    whole = bytearray(png(card_chunk("chara", V1)))
    whole[whole.index(b"chara") + 20] ^= 1
    return bytes(whole)


BOMB = png((b"zTXt", b"chara\0\0" + zlib.compress(bytes(33 << 20))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(), "without a character card"),
        (damaged(), r"text b'chara' is damaged \(checksum\)"),
        (png(card_chunk("chara", V1))[:-30], "cut off"),
        (BOMB, "unpacks to more than"),
        (png(text_chunk("chara", "no base64!")), "no base64"),
        (png(text_chunk("chara", base64.b64encode(b"{").decode())), "the card is no JSON"),
        (b"GIF89a", "no JSON"),
        ({"data": {"name": ""}}, "no character card"),
        ({"name": " ", "first_mes": ""}, "has no name"),
        ({"name": "A", "first_mes": 3}, "first_mes of the card is 3"),
        ({"name": "A", "first_mes": ""}, "says nothing"),
        ([1], "no character card"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = card_file(tmp_path / ("a.png" if isinstance(content, bytes) else "a.json"), content)
    with pytest.raises(InputError, match=said):
        list(read_cards(path))


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("abc{}user", max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["data", *V2["data"]]), inner, max_size=6)
        ),
        max_leaves=12,
    )
)
def test_no_json_raises_anything_but_input_errors(
    tmp_path_factory: pytest.TempPathFactory, card: Any
) -> None:
    path = card_file(tmp_path_factory.getbasetemp() / "any.json", card)
    with suppress(InputError):
        list(read_cards(path))


def test_a_nickname_speaks_for_its_character(tmp_path: Path) -> None:
    path = card_file(tmp_path / "mara.json", V3)
    parts = [part for document in read_cards(path, ReaderDefaults(user="Ada")) for part in document.parts]
    assert [(part.text, part.speakers) for part in parts if part.text in ("Who are you?", "Go.")] == [
        ("Who are you?", ("Ada",)),
        ("Go.", ("Mara_Voss",)),
    ]


def test_a_character_of_the_users_name_is_another_person(tmp_path: Path) -> None:
    path = card_file(tmp_path / "ada.json", {**V1, "name": "Ada"})
    for document in read_cards(path, ReaderDefaults(user="Ada")):
        assert len({person.id for person in document.cast}) == len(document.cast)

"""SillyTavern chats: messages, macros, swipes, system messages, groups."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.documents import Part
from spellbound.data.readers import ReaderDefaults, Siblings, read_chat
from spellbound.data.readers.chat import person_id, read_chats
from spellbound.errors import InputError

HEADER = {"user_name": "Ada", "character_name": "Mara Voss", "create_date": "2024-01-01", "chat_metadata": {}}
MESSAGES: list[dict[str, Any]] = [
    {"name": "Mara Voss", "is_user": False, "mes": "*She waves.* Hello, {{user}}! <BOT> is me.\r\n\r\nCome."},
    {"name": "Ada", "is_user": True, "mes": "Hi {{Char}}{{// secret}}."},
    {"name": "System", "is_system": True, "mes": "The chat was renamed."},
    {
        "name": "Mara Voss",
        "is_user": False,
        "mes": "Then I'll wait.",
        "swipe_id": 1,
        "swipes": ["No.", "Then I'll wait.", "No.", "", "Go, {{user}}."],
    },
    {"name": "", "is_user": False, "mes": "The bell rings.", "extra": {"type": "narrator"}},
    {"name": "Ada", "is_user": True, "mes": "  "},
]


def chat_file(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_messages_with_macros_resolved(tmp_path: Path) -> None:
    chat = read_chat(chat_file(tmp_path / "c.jsonl", HEADER, *MESSAGES))
    assert [(each.speaker, each.text) for each in chat.messages] == [
        ("Mara_Voss", "*She waves.* Hello, Ada! Mara Voss is me.\n\nCome."),
        ("Ada", "Hi Mara Voss."),
        ("Mara_Voss", "Then I'll wait."),
        ("", "The bell rings."),
    ]
    assert [(person.id, person.name) for person in chat.cast] == [("Mara_Voss", "Mara Voss"), ("Ada", "Ada")]
    assert chat.hidden == 1


def test_swipes_are_siblings(tmp_path: Path) -> None:
    chat = read_chat(chat_file(tmp_path / "c.jsonl", HEADER, *MESSAGES))
    assert list(chat.siblings()) == [
        Siblings(
            before=chat.messages[:2],
            chosen="Then I'll wait.",
            rejected=("No.", "Go, Ada."),
            speaker="Mara_Voss",
        )
    ]


def test_a_chat_is_a_document_of_messages(tmp_path: Path) -> None:
    (document,) = read_chats(chat_file(tmp_path / "c.jsonl", HEADER, *MESSAGES), name="chats/c")
    assert document.parts[2] == Part(kind="message", text="Then I'll wait.", speakers=("Mara_Voss",))
    assert (document.id, document.title, document.source) == ("chats/c", "Mara Voss & Ada", "c.jsonl")


def test_a_group_names_its_own_speakers(tmp_path: Path) -> None:
    header = {"user_name": "unused", "character_name": "unused", "chat_metadata": {}}
    rows = [{"name": "Tom", "mes": "I am {{char}}, {{user}}."}, {"name": "Mara", "mes": "{{char}} too."}]
    chat = read_chat(chat_file(tmp_path / "g.jsonl", header, *rows), ReaderDefaults(user="Ada"))
    assert [each.text for each in chat.messages] == ["I am Tom, Ada.", "Mara too."]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "a", "mes": "b"}], "line 1 is no header"),
        ([HEADER, {"name": "a"}], r"line 2: has no mes"),
        ([HEADER, {"name": "a", "mes": "\ud800"}], r"line 2: character 0 is a lone surrogate"),
        ([HEADER, ["a"]], "line 2 is no JSON object"),
        ([HEADER], "has no messages"),
        ([], "line 1 is no header"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, rows: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(read_chats(chat_file(tmp_path / "c.jsonl", *rows)))


@settings(deadline=None)
@given(st.text())
def test_an_id_is_one_word(name: str) -> None:
    assert len(person_id(name).split()) <= 1

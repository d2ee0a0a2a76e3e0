"""Folders walked in order, files told apart by ending and content, and languages guessed."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.readers import ReaderDefaults, guess_language, read, sources
from spellbound.data.readers.extras import needed
from spellbound.data.readers.language import language_code
from spellbound.errors import EnvironmentFault, InputError
from tests.data.reader_files import PLAY, card_chunk, epub, png
from tests.data.test_reader_chat import HEADER, MESSAGES, chat_file

CARD = {"name": "Mara", "description": "d", "first_mes": "Hello there."}
PAGE = "<html><body><p>The bell rings.</p></body></html>"


def shelf(folder: Path) -> Path:
    (folder / "b" / ".hidden").mkdir(parents=True)
    (folder / "a.txt").write_text("The harbour lay still.")
    (folder / "a.md").write_text("# One")
    (folder / "b" / "play.xml").write_text(PLAY, encoding="utf-8")
    (folder / "b" / ".hidden" / "no.txt").write_text("no")
    (folder / "README.md").write_text("About the others.")
    (folder / "LICENSE.txt").write_text("What may be done with them.")
    (folder / "license-mit").write_text("The same.")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.7")
    (folder / "settings.json").write_text('{"theme": "dark"}')
    (folder / "photo.png").write_bytes(png())
    (folder / "card.png").write_bytes(png(card_chunk("chara", CARD)))
    (folder / "card.json").write_text(json.dumps(CARD))
    epub(folder / "C.EPUB", PAGE)
    chat_file(folder / "chat.jsonl", HEADER, *MESSAGES)
    return folder


def test_a_folder_is_read_in_order_with_unique_names(tmp_path: Path) -> None:
    folder = shelf(tmp_path / "shelf")
    assert [document.id for document in read([folder])] == [
        "shelf/C",
        "shelf/a.md",
        "shelf/a.txt",
        "shelf/card.json/greeting-1",
        "shelf/card.png/greeting-1",
        "shelf/chat",
        "shelf/b/play",
    ]


def test_the_same_file_twice_has_two_names(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "x" / "a.txt"):
        path.write_text("One.")
    assert [each.name for each in sources([tmp_path / "a.txt", tmp_path / "x" / "a.txt"])] == [
        "a.txt",
        "a.txt-2",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Just words.", "Just words."),
        (PLAY.encode(), "Erster Akt"),
        (json.dumps(CARD).encode(), "Hello there."),
        (png(card_chunk("ccv3", CARD)), "Hello there."),
        (b'{"text": "A row."}\n', "A row."),
    ],
)
def test_without_an_ending_the_content_tells(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "book").write_bytes(content)
    (document,) = read([tmp_path / "book"])
    assert document.plain.startswith(expected)


def test_an_epub_and_a_table_are_known_by_their_content(tmp_path: Path) -> None:
    from spellbound.data.documents import Document
    from spellbound.data.readers import write_documents

    epub(tmp_path / "book.bin", PAGE)
    write_documents(tmp_path / "t.parquet", [Document(id="a", text="b")])
    (tmp_path / "t.parquet").rename(tmp_path / "table")
    assert [each.plain for each in read([tmp_path / "book.bin", tmp_path / "table"])] == [
        "The bell rings.",
        "b",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"%PDF-1.7", "is PDF, which is not read here"),
        ("a.rtf", b"{\\rtf1", "is RTF"),
        ("a.png", png(), "without a character card"),
    ],
)
def test_kinds_that_nobody_reads_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        list(read([tmp_path / name]))


def test_going_on_after_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    (tmp_path / "b.txt").write_text("Fine.")
    refused: list[InputError] = []
    assert [each.text for each in read([tmp_path], refused=refused.append)] == ["Fine."]
    assert len(refused) == 1
    with pytest.raises(InputError, match=r"a\.txt"):
        list(read([tmp_path]))
    with pytest.raises(InputError, match="is not there"):
        list(read([tmp_path / "none"]))


SAMPLES = {
    "en": (
        "She had been in the house for a long time, and they did not know that he was there with all of them."
    ),
    "fr": (
        "Elle avait été dans la maison depuis longtemps, et ils ne savaient pas qu'il était là avec eux tous."
    ),
    "de": (
        "Sie war seit langer Zeit in dem Haus, und sie wussten "
        "nicht, dass er auch da war mit ihnen und den Leuten."
    ),
    "nl": (
        "Zij was al een lange tijd in het huis, en ze wisten "
        "niet dat hij er ook was met hen en al die mensen."
    ),
    "es": (
        "Ella estaba en la casa desde hacía mucho tiempo, y no "
        "sabían que él también estaba allí con los demás."
    ),
    "pt": (
        "Ela estava em casa há muito tempo, e eles não sabiam que ele também estava lá com todos os outros."
    ),
    "it": (
        "Lei era nella casa da molto tempo, e loro non sapevano "
        "che anche lui era lì con tutti gli altri quella notte."
    ),
    "ar": (
        "كانت في البيت منذ وقت طويل ولم يعرفوا أنه كان هناك معهم "
        "أيضا في تلك الليلة الباردة وقد جاء الرجل من البحر"
    ),
    "he": (
        "היא הייתה בבית כבר זמן רב והם לא ידעו שגם הוא היה שם איתם באותו לילה קר כאשר האיש בא מן הים אל העיר"
    ),
}


@pytest.mark.parametrize("code", SAMPLES)
def test_each_language_is_known_by_one_sentence(code: str) -> None:
    assert guess_language(SAMPLES[code]) == code
    assert guess_language(SAMPLES[code] * 3_000) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mara and Tom and the bell",
        (
            "Hon hade varit i huset under en lång tid, och de visste "
            "inte att han också var där med dem den natten."
        ),
        (
            "در خانه بود و آنها نمی‌دانستند که او هم آنجا بود با آنها "
            "در آن شب سرد که مرد از دریا به شهر آمد و گفت چیزی"
        ),
        SAMPLES["en"] + SAMPLES["he"],
        SAMPLES["en"] + SAMPLES["fr"] + SAMPLES["de"],
        "1 2 3 " * 50,
    ],
    ids=["nothing", "few words", "Swedish", "Persian", "two scripts", "three languages", "numbers"],
)
def test_what_is_unsure_is_not_guessed(text: str) -> None:
    assert guess_language(text) == ""


@settings(deadline=None)
@given(st.text())
def test_guessing_never_raises(text: str) -> None:
    assert guess_language(text) in ("", *SAMPLES)


@pytest.mark.parametrize(
    ("said", "code"),
    [("en-GB", "en"), ("de_AT", "de"), ("eng", "en"), ("French", "fr"), ("und", ""), ("", ""), ("sv", "sv")],
)
def test_languages_of_metadata(said: str, code: str) -> None:
    assert language_code(said) == code


def test_a_missing_library_names_its_extra() -> None:
    with (
        pytest.raises(EnvironmentFault, match=r"no_such_library .*; pip install 'spellbound\[data\]'"),
        needed("data"),
    ):
        import_module("no_such_library")


def test_defaults_fill_only_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: Own\n---\nText")
    (document,) = read([tmp_path / "a.md"], defaults=ReaderDefaults(title="T", author="A", language="fr"))
    assert (document.title, document.author, document.language) == ("Own", "A", "fr")


def test_stories_whose_titles_begin_like_licences_are_read(tmp_path: Path) -> None:
    for name in ("License to Sail.txt", "Notice of Storm.md", "README.de.md", "COPYING", "Copying.txt"):
        (tmp_path / name).write_text("The bell rings.")
    assert [source.path.name for source in sources([tmp_path])] == [
        "License to Sail.txt",
        "Notice of Storm.md",
    ]

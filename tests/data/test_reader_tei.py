"""TEI to plays with a cast, and to novels."""

from pathlib import Path

import pytest

from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers.tei import read_tei
from spellbound.errors import InputError
from tests.data.reader_files import PLAY


def read_one(tmp_path: Path, content: str) -> Document:
    path = tmp_path / "play.xml"
    path.write_text(content, encoding="utf-8")
    (document,) = read_tei(path)
    return document


def test_a_play_in_the_layout_of_dracor(tmp_path: Path) -> None:
    play = read_one(tmp_path, PLAY)
    assert play.parts == (
        Part(kind="head", text="Erster Akt"),
        Part(kind="stage", text="Am Hafen."),
        Part(kind="head", text="1. Szene"),
        Part(kind="stage", text="leise", speakers=("mara",)),
        Part(kind="speech", text="Wer da?", speakers=("mara",)),
        Part(kind="stage", text="Sie hebt die Lampe.", speakers=("mara",)),
        Part(kind="speech", text="Ist jemand hier?\n\nNiemand.", speakers=("mara",)),
        Part(kind="speech", text="Die Glocke ruft,\nsie schweigt.", speakers=("mara", "tom")),
        Part(kind="speech", text="Guten Abend\u00a0& so!", speakers=("der_wirt",)),
        Part(kind="stage", text="Tom geht ab.", speakers=("tom",)),
    )
    assert play.cast == (
        Person(id="mara", name="Mara", gender="female"),
        Person(id="tom", name="Tom", gender="male"),
        Person(id="volk", name="Volk"),
        Person(id="der_wirt", name="Der Wirt"),
    )
    assert (play.title, play.author, play.year) == ("Die Glocke", "Beispiel, Anna von", 1799)
    assert (play.language, play.licence, play.source) == ("de", "CC0 1.0", "play.xml")


def test_a_novel_is_prose(tmp_path: Path) -> None:
    body = """<div type="chapter"><head>I</head><p>Far out<lb/>the <pb n="3"/>bell.</p>
    <quote><lg><l>One</l><l>Two</l></lg></quote><milestone unit="scene"/><p>Then.</p></div>"""
    novel = read_one(tmp_path, f"<TEI><teiHeader/><text><body>{body}</body></text></TEI>")
    assert novel.text == "I\n\nFar out the bell.\n\nOne\nTwo\n\n* * *\n\nThen."
    assert novel.parts == ()


def test_a_corpus_is_many_documents(tmp_path: Path) -> None:
    path = tmp_path / "all.xml"
    one = "<TEI><text><body><p>{}</p></body></text></TEI>"
    path.write_text(f"<teiCorpus>{one.format('A')}{one.format('B')}</teiCorpus>", encoding="utf-8")
    assert [(each.id, each.text) for each in read_tei(path)] == [("all/1", "A"), ("all/2", "B")]


BOMB = (
    '<!DOCTYPE TEI [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><TEI><text><body><p>&b;</p></body></text></TEI>'
)
FILE = (
    '<!DOCTYPE TEI [<!ENTITY x SYSTEM "file:///etc/passwd">]><TEI><text><body><p>&x;</p></body></text></TEI>'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "declares XML entities"),
        (FILE, "declares XML entities"),
        ("<TEI><text>", "not well-formed XML"),
        ("<html/>", r"not TEI \(root html\)"),
        ("<TEI><text><body/></text></TEI>", "has no text"),
        ("", "not well-formed XML"),
    ],
)
def test_what_is_not_safe_or_not_tei_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_one(tmp_path, content)


def test_a_reference_to_nobody_is_none(tmp_path: Path) -> None:
    body = '<sp who="#"><p>Halt!</p></sp><sp who="#mara #"><p>Nein.</p></sp>'
    (tmp_path / "a.xml").write_text(f"<TEI><text><body>{body}</body></text></TEI>")
    (document,) = read_tei(tmp_path / "a.xml")
    assert [part.speakers for part in document.parts] == [(), ("mara",)]
    assert [person.id for person in document.cast] == ["mara"]

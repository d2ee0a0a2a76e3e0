"""Documents in files: what is written is what is read, and faults name file and row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers import ReaderDefaults, read, read_documents, write_documents
from spellbound.data.readers.layout import from_row, to_row
from spellbound.errors import InputError

TEXT = st.text(max_size=30)
IDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
PEOPLE = st.lists(
    st.builds(
        Person,
        id=IDS,
        name=TEXT,
        gender=st.sampled_from(["female", "male", ""]),
        details=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    ),
    max_size=3,
    unique_by=lambda person: person.id,
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    cast = draw(PEOPLE)
    speakers = st.lists(st.sampled_from([each.id for each in cast]), max_size=3) if cast else st.just([])
    parts = st.builds(
        Part,
        kind=st.sampled_from(["speech", "stage", "head", "message"]),
        text=TEXT,
        speakers=speakers.map(tuple),
    )
    is_prose = draw(st.booleans())
    return Document(
        id=draw(TEXT.filter(bool)),
        text=draw(TEXT) if is_prose else "",
        parts=() if is_prose else tuple(draw(st.lists(parts, max_size=4))),
        cast=tuple(cast),
        language=draw(st.sampled_from(["", "en", "he"])),
        year=draw(st.none() | st.integers(-500, 2100)),
        **{key: draw(TEXT) for key in ("title", "author", "source", "licence", "attribution")},
    )


@settings(deadline=None)
@given(documents())
def test_a_row_is_its_document(document: Document) -> None:
    row = to_row(document)
    assert from_row(row, "x") == document
    assert from_row(json.loads(json.dumps(row)), "x") == document


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".jsonl.gz"])
def test_a_file_is_its_documents(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"d{ending}"

    @settings(deadline=None, max_examples=20)
    @given(st.lists(documents(), max_size=4))
    def round_trip(rows: list[Document]) -> None:
        assert write_documents(path, iter(rows)) == len(rows)
        assert list(read_documents([path])) == rows

    round_trip()


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [Document(id="a", text="b")]
    for ending in (".parquet", ".jsonl", ".jsonl.gz"):
        write_documents(tmp_path / f"1{ending}", rows)
        write_documents(tmp_path / f"2{ending}", rows)
        assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()


def corpus_file(path: Path) -> Path:
    """A row in the layout of the corpora, with what only some of them have."""
    person = pa.struct([("id", pa.string()), ("name", pa.string()), ("sex", pa.string())])
    rows = [
        {
            "id": "x/1",
            "source": "owner/name",
            "lang": "de",
            "title": "T",
            "author": "A",
            "year": None,
            "license": "CC0 1.0",
            "text": "",
            "speeches": [
                {"kind": "speech", "speaker": "a b", "name": "Anna, Bert", "text": "Ja."},
                {"kind": "stage", "speaker": "c", "name": "Carl, der Koch", "text": "Ab."},
            ],
            "cast": [{"id": "a", "name": "Anna", "sex": "FEMALE"}],
            "quotes": [],
        }
    ]
    table = pa.Table.from_pylist(rows)
    place = table.schema.get_field_index("cast")
    pq.write_table(table.set_column(place, "cast", table["cast"].cast(pa.list_(person))), path)
    return path


def test_speakers_whom_the_cast_lacks_join_it(tmp_path: Path) -> None:
    path = corpus_file(tmp_path / "drama.parquet")
    (document,) = read_documents([path])
    assert document.parts[0].speakers == ("a", "b")
    assert document.cast == (
        Person(id="a", name="Anna", gender="female"),
        Person(id="b", name="Bert"),
        Person(id="c", name="Carl, der Koch"),
    )
    assert list(read([path])) == [document]


def test_foreign_tables_by_their_text_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"story": "One.\\r\\n\\r\\nTwo.", "title": "T", "language": "en"}\n\n{"story": " "}\n')
    (document,) = read([path], defaults=ReaderDefaults(text_field="story", licence="CC0-1.0"))
    assert document == Document(
        id="rows/00000001",
        text="One.\n\nTwo.",
        title="T",
        language="en",
        source="rows.jsonl",
        licence="CC0-1.0",
    )
    with pytest.raises(InputError, match=r"rows\.jsonl: row 1: has no column 'text'; name one of .*story"):
        list(read([path]))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a"}, "column id is missing"),
        ({"id": "a", "texts": "b"}, "column 'texts' is unknown"),
        ({"id": 3}, "column id is 3, no text"),
        ({"id": "a", "year": "1900"}, "year '1900' is no whole number"),
        ({"id": "a", "text": "b", "speeches": [{"kind": "head", "text": "c"}]}, "both text and speeches"),
        ({"id": "a", "speeches": [{"kind": "song", "text": "c"}]}, "item of kind 'song'"),
        ({"id": "a", "speeches": "b"}, "column speeches is no list"),
        ({"id": "a", "cast": [{"id": "a", "details": 3}]}, "cast.details is no list"),
        ({"id": "a", "text": "\udc80"}, "lone surrogate"),
    ],
)
def test_faults_name_file_row_and_column(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"id": "fine"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"d\.jsonl: row 2.*{said}"):
        list(read_documents([path]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"id": "a"}\n{"id"', "line 2 is no JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", b'{"id": "\xff"}\n', "line 1 is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"id": "a"}\n' * 9)[:-9], "is damaged or cut off"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.parquet", b"PAR1", "no whole Parquet file"),
        ("a.parquet", b"", "no whole Parquet file"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        list(read_documents([tmp_path / name]))


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("none.parquet", "none.jsonl"):
        with pytest.raises(InputError, match=f"{name}: cannot be read: no such file"):
            list(read_documents([tmp_path / name]))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (Document(id=""), "has no id"),
        (Document(id="a", text="b", parts=(Part(kind="head", text="c"),)), "both text and parts"),
        (Document(id="a", cast=(Person(id="a b", name="A"),)), "'a b' is not one word"),
        (Document(id="a", cast=(Person(id="a", name="A"), Person(id="a", name="B"))), "the same id"),
        (Document(id="a", parts=(Part(kind="head", text="c", speakers=("x",)),)), "'x' is not in the cast"),
        (Document(id="a", text="\ud800"), "lone surrogate"),
        (Document(id="a", year=10**9), "none of this world"),
    ],
)
def test_what_no_row_can_hold_is_refused_and_leaves_the_file_alone(
    tmp_path: Path, document: Document, said: str
) -> None:
    path = tmp_path / "d.parquet"
    write_documents(path, [Document(id="before")])
    with pytest.raises(InputError, match=said):
        write_documents(path, [document])
    assert [each.id for each in read_documents([path])] == ["before"]
    assert [each.name for each in tmp_path.iterdir()] == ["d.parquet"]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"d\.csv: is neither \.parquet nor \.jsonl"):
        write_documents(tmp_path / "d.csv", [])


def test_rows_of_several_foreign_tables_keep_apart(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "lang": "en", "text": "One."}\n{"id": "x", "text": "Two."}\n'
    )
    (tmp_path / "b.jsonl").write_text('{"id": 1, "lang": "en", "text": "Three."}\n{"text": ""}\n')
    assert [document.id for document in read([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])] == [
        "a/1",
        "a/x",
        "b/1",
    ]

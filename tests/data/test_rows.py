"""Examples and tagged stories in files: the same rows in either form, and one line for each fault."""

import gzip
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from spellbound.data import arrow
from spellbound.data.checks import Check
from spellbound.data.examples import Example, ExampleRating
from spellbound.data.fields import Provenance
from spellbound.data.rows import (
    ENDINGS,
    read_any,
    read_examples,
    read_rows,
    read_tagged,
    write_examples,
    write_rows,
    write_tagged,
)
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import InputError
from tests.directives.strategies import character, prompt, writable

words = st.one_of(writable, st.text(max_size=8))
language = st.sampled_from(["", "en", "de", "es"])
provenance = st.builds(
    Provenance, annotator=words, model=words, versions=st.dictionaries(words, words, max_size=2)
)
check = st.builds(
    Check, st.sampled_from(["speaks", "mentions", "no_sound"]), st.lists(words, max_size=2).map(tuple)
)
rating = st.builds(
    ExampleRating,
    score=st.floats(0, 1),
    count=st.integers(1, 9),
    consent=words,
)
example = st.builds(
    Example,
    id=st.text(min_size=1, max_size=5),
    prompt=prompt,
    completion=words,
    weight=st.floats(0, exclude_min=True, allow_infinity=False),
    language=language,
    source=words,
    licence=words,
    provenance=provenance,
    checks=st.lists(check, max_size=2).map(tuple),
    rating=st.none() | rating,
)
tagged = st.builds(
    TaggedStory,
    id=words,
    text=words,
    cast=st.lists(character, max_size=2).map(tuple),
    language=language,
    title=words,
    author=words,
    source=words,
    licence=words,
    attribution=words,
    doubtful=st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=2).map(tuple),
    provenance=provenance,
)

MARA = Character("Mara", "32AN4R", (("Mood", "dry"),))
PROMPT = StoryPrompt((MARA,), "It rained.", ("Go on.",))


def make(**changed: Any) -> Example:
    fields = {
        "id": "a/1",
        "prompt": PROMPT,
        "completion": '<quote speaker="32AN4R">“Yes.”</quote>',
        "provenance": Provenance(annotator="rules", versions={"spellbound": "1"}),
        "checks": (Check("speaks", ("32AN4R",)),),
    }
    return Example(**{**fields, **changed})


@pytest.mark.parametrize(("model", "rows"), [(Example, example), (TaggedStory, tagged)])
def test_a_row_is_the_same_row_in_every_form(
    model: type[BaseModel], rows: st.SearchStrategy[BaseModel], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("forms")

    @settings(max_examples=60, deadline=None)
    @given(st.lists(rows, max_size=4))
    def same(given_rows: list[BaseModel]) -> None:
        for ending in ENDINGS:
            file = folder / f"rows{ending}"
            assert write_rows(file, given_rows, model) == len(given_rows)
            assert list(read_rows([file, file], model)) == given_rows * 2

    same()


def test_the_columns_are_plain_and_typed(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.parquet", [make(rating=ExampleRating(score=0.5))])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.equals(arrow.arrow_schema(Example))
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "prompt": "string",
        "completion": "string",
        "weight": "double",
        "language": "string",
        "source": "string",
        "licence": "string",
        "provenance": "struct<annotator: string not null, model: string not null, versions:"
        " list<element: struct<key: string not null, value: string not null>> not null>",
        "checks": "list<element: struct<kind: string not null, arguments: list<element: string> not null>>",
        "rating": "struct<score: double not null, count: int64 not null, consent: string not null>",
    }
    assert [field.name for field in table.schema if field.nullable] == ["rating"]
    assert table["prompt"][0].as_py() == PROMPT.render()


def test_row_groups_end_where_their_texts_grow_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "GROUP_CHARACTERS", 10_000)
    write_examples(tmp_path / "a.parquet", (make(id=str(n), completion="x" * 4_000) for n in range(10)))
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 3, 3, 1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_writing_and_reading_hold_few_rows_in_memory(ending: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(arrow, "GROUP_CHARACTERS", 100_000)
    file, text = tmp_path / f"a{ending}", "wind and rain " * 500

    def rows() -> Iterator[Example]:
        return (make(id=str(number), completion=f"{number} {text}") for number in range(1_500))

    write_examples(file, itertools.islice(rows(), 3))
    assert sum(1 for _ in read_examples([file])) == 3
    tracemalloc.start()
    try:
        write_examples(file, rows())
        assert sum(1 for _ in read_examples([file])) == 1_500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000 < 1_500 * len(text)


STORED = json.loads(make().model_dump_json())

WRONG = [
    ({"id": ""}, "row 1, id: '': string should have at least 1 character"),
    ({"id": None}, "row 1, id: None: input should be a valid string"),
    ({"weight": 0}, "row 1, weight: 0: input should be greater than 0"),
    ({"weight": "1"}, "row 1, weight: '1': input should be a valid number"),
    ({"weight": True}, "row 1, weight: True: input should be a valid number"),
    ({"language": "eng"}, "row 1, language: 'eng' is not of the form"),
    ({"lang": "en"}, "row 1, lang: is an unknown field; take it out, or mend its name"),
    ({"prompt": "<pastStory>"}, "row 1, prompt: line 1, column 1: <pastStory> is never closed"),
    ({"prompt": 3}, "row 1, prompt: 3 is of type int; write the prompt's text"),
    ({"provenance": {}}, "row 1, provenance.annotator: is missing; give it"),
    ({"provenance": {"annotator": "x", "versions": [1]}}, "versions: is no list of structs of key and value"),
    ({"checks": [{"kind": "sings", "arguments": []}]}, "row 1, checks.0: check kind 'sings' is unknown"),
    ({"checks": [{"kind": "speaks"}]}, "row 1, checks.0: field 'arguments' is missing"),
    ({"checks": [{"kind": "speaks", "arguments": "ab"}]}, "row 1, checks.0: arguments 'ab' are no list"),
    ({"checks": [{"kind": "speaks", "arguments": [], "x": 1}]}, "row 1, checks.0: field 'x' is unknown"),
    ({"rating": {"score": 2}}, "row 1, rating.score: 2: input should be less than or equal to 1"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_a_wrong_row_is_one_line_with_its_place(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({**STORED, **changed}), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        list(read_examples([file]))
    assert f"{file}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


CAST = [
    ([{"name": "Mara"}], "cast.0: field 'speaker_id' is missing"),
    ([{"name": "Mara", "speaker_id": "mara"}], "cast.0: Character 'Mara'"),
    (
        [{"name": "Mara", "speaker_id": "32AN4R", "details": [{"key": "a"}]}],
        "cast.0: field 'value' is missing",
    ),
    ([{"name": "Mara", "speaker_id": "32AN4R", "details": {"key": "a"}}], "cast.0: is no list of structs"),
    (["Mara"], "cast.0: 'Mara' is of type str; write a struct of name"),
]


@pytest.mark.parametrize(("cast", "message"), CAST)
def test_a_wrong_cast_is_one_line_with_its_place(cast: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    story = {"id": "a", "text": "", "cast": cast, "language": "en", "provenance": {"annotator": "rules"}}
    file.write_text(json.dumps(story), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(read_tagged([file]))


LINES = [
    (b"{}x\n", "row 2: is not JSON: Extra data at column 3; write one JSON object a line"),
    (b'{"id": "a', "row 2: is not JSON: .* the file ends in the middle of it; write it again"),
    (b'{"id": "\xe9"}\n', "row 2: byte 0xe9 at 9 is not UTF-8; save it as UTF-8"),
    (b'{"id": "\\ud800"}\n', "row 2: holds half a character"),
    (b"[1]\n", "row 2: is a JSON list; write one JSON object a line"),
    (b"[" * 200_000 + b"\n", "row 2: is not usable JSON: maximum recursion depth"),
    (b'{"id": "a", "id": "b"}\n', "row 2: is not usable JSON: an object has a field twice"),
    (b"1" * 5_000 + b"\n", "row 2: is not usable JSON: Exceeds the limit"),
]


@pytest.mark.parametrize(("line", "message"), LINES)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_line_that_is_no_row_says_why(line: bytes, message: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    content = json.dumps(STORED).encode() + b"\n" + line
    file.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    with pytest.raises(InputError, match=message):
        list(read_examples([file]))


def test_a_mark_at_the_beginning_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    line = json.dumps(STORED).encode()
    file.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\n  \n" + line)
    assert list(read_examples([file])) == [make(), make()]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz"])
def test_a_file_that_was_cut_off_is_refused(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    write_examples(file, (make(id=str(number)) for number in range(50)))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"row \d+: .*(write or fetch it again|fetch it again)"):
        list(read_examples([file]))


def test_what_is_no_gzip_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"{}")
    with pytest.raises(InputError, match="is no gzip file"):
        list(read_examples([tmp_path / "a.jsonl.gz"]))
    for ending in ENDINGS:
        with pytest.raises(InputError, match="cannot be read"):
            list(read_examples([tmp_path / f"none{ending}"]))


def test_a_file_of_broken_lines_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id\n{"id\n')
    with pytest.raises(InputError, match=r"a\.jsonl: row 1: is not JSON"):
        list(read_any([tmp_path / "a.jsonl"]))


def test_a_number_that_parquet_has_not_is_refused(tmp_path: Path) -> None:
    row = TaggedStory(
        id="s", text="", cast=(), language="", doubtful=((0, 2**70),), provenance=Provenance(annotator="x")
    )
    with pytest.raises(InputError, match="one of rows 1 to 1 does not fit into Parquet"):
        write_tagged(tmp_path / "a.parquet", [row])
    assert list(tmp_path.iterdir()) == []
    write_tagged(tmp_path / "a.jsonl", [row])
    assert list(read_any([tmp_path / "a.jsonl"])) == [row]


def test_another_ending_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for act in (
        lambda: write_examples(tmp_path / "a.csv", [make()]),
        lambda: list(read_examples([tmp_path / "a.csv"])),
    ):
        with pytest.raises(InputError, match=r"ends in none of \.parquet, \.jsonl, \.jsonl\.gz"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_in_the_middle_leaves_the_old_file(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    write_examples(file, [make()])

    def failing() -> Iterator[Example]:
        yield make(id="other")
        raise InputError("the source broke")

    with pytest.raises(InputError, match="the source broke"):
        write_examples(file, failing())
    half = Example.model_construct(**{**dict(make()), "completion": "\ud800"})
    with pytest.raises(InputError, match="half a character"):
        write_examples(file, [half])
    assert list(read_examples([file])) == [make()]
    assert list(tmp_path.iterdir()) == [file]


def test_tagged_stories_keep_everything(tmp_path: Path) -> None:
    story = TaggedStory(
        id="s",
        text="Hm.",
        cast=(MARA,),
        language="en",
        doubtful=((0, 2), (2, 3)),
        provenance=Provenance(annotator="rules"),
    )
    for ending in ENDINGS:
        assert write_tagged(tmp_path / f"a{ending}", [story]) == 1
        assert list(read_tagged([tmp_path / f"a{ending}"])) == [story]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("none.parquet", "none.jsonl"):
        with pytest.raises(InputError, match=f"{name}: cannot be read: no such file"):
            list(read_examples([tmp_path / name]))

"""`data check`: every fault is found, with its place and remedy, and what is right passes."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from spellbound.data import arrow, jsonl
from spellbound.data.check import CODES, WARNINGS, Fault, Inspection, Limits, near
from spellbound.data.check.markup import Markup
from spellbound.data.check.work import Examiner
from spellbound.data.checks import Check
from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.rows import write_examples, write_tagged
from spellbound.data.stored import StoredRow
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import EnvironmentFault, InputError
from tests.conftest import write_tokenizer
from tests.directives.strategies import markup

MARA, OLD = Character("Mara", "32AN4R"), Character("Old Tom", "7QK2MD")
PAST = 'The harbour lay still. <quote speaker="7QK2MD">“Who is there?”</quote>'
PROMPT = StoryPrompt((MARA, OLD), PAST, ("Mara finds the harbour empty.", "End on the sound of the bell."))
COMPLETION = (
    '<action>Mara lifts her lamp.</action> <quote speaker="32AN4R">“Then I will wait,”</quote> she says'
    " &amp; waits &lt;there&gt;. <sound>Far out, the bell answers.</sound>"
)


def make(number: int = 1, **changed: Any) -> dict[str, Any]:
    """A row without faults, as it is stored."""
    row = Example(
        id=f"story/{number}",
        prompt=PROMPT,
        completion=COMPLETION,
        language="en",
        licence="CC0-1.0",
        provenance=Provenance(annotator="rules"),
        checks=(Check("speaks", ("32AN4R",)),),
    ).model_dump()
    return {**row, **changed}


def write(file: Path, *rows: dict[str, Any] | bytes) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


def check(*files: Path, limits: Limits | None = None) -> list[Fault]:
    return list(Inspection(limits).run(files))


def of(*faults: Fault) -> list[tuple[int | None, str, str, str]]:
    return [(fault.row, fault.field, fault.code, fault.what) for fault in faults]


def with_prompt(**changed: Any) -> dict[str, str]:
    fields = {"characters": PROMPT.characters, "past_story": PAST, "instructions": PROMPT.instructions}
    return {"prompt": StoryPrompt(**{**fields, **changed}).render()}


LONG = " ".join(f"word{number}" for number in range(60))
ASIDE = "So be it."
GIVEN = "Mara lifts her lamp; “Then I will wait”, she says. And waits there... Far out!"

FAULTY: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({}, []),
    (
        {"completion": "   "},
        [("completion", "empty", "says nothing"), ("checks.0", "check", "speaks(32AN4R) does not hold")],
    ),
    ({"completion": "<sound> </sound>", "checks": []}, [("completion", "empty", "says nothing")]),
    (
        {"completion": f'<quote speaker="32AN4R">{ASIDE}\n <quote speaker="ZZZZZZ">No.</QUOTE>'},
        [
            ("completion", "speaker", 'line 2, column 2: <quote speaker="ZZZZZZ"> names a speaker'),
            ("completion", "tags", 'line 2, column 2: <quote speaker="ZZZZZZ"> opens inside another of'),
            ("completion", "tags", "line 2, column 29: </QUOTE> is not the canonical spelling"),
        ],
    ),
    (
        {"completion": f"{ASIDE} a < b\n & c>", "checks": []},
        [
            ("completion", "tags", "line 1, column 13: < stands as text"),
            ("completion", "tags", "line 2, column 5: > stands as text"),
        ],
    ),
    (
        {"completion": "\ufeffSo\x00 be it.", "checks": []},
        [
            ("completion", "characters", "line 1, column 1: U+FEFF is no character of a story"),
            ("completion", "characters", "line 1, column 4: U+0000 is no character of a story"),
        ],
    ),
    (
        with_prompt(past_story="<action>He <quote>goes."),
        [
            ("prompt.past_story", "speaker", "line 1, column 12: <quote> names no speaker"),
            ("prompt.past_story", "tags", "line 1, column 12: <quote> is never closed and was closed for it"),
            ("prompt.past_story", "tags", "line 1, column 1: <action> is never closed and was closed for it"),
        ],
    ),
    (
        with_prompt(tags=False),
        [("completion", "tags", "has tags, though the prompt asks for plain prose")],
    ),
    ({"prompt": "<pastStory>"}, [("prompt", "prompt", "line 1, column 1: <pastStory> is never closed")]),
    (
        {"prompt": "Hello", "completion": "</action>", "weight": -1, "mood": "dry", "rating": {"score": 5}},
        [
            ("prompt", "prompt", "line 1, column 1: "),
            ("weight", "schema", "-1: input should be greater than 0"),
            ("rating.score", "schema", "5: input should be less than or equal to 1"),
            ("mood", "unknown-field", "is an unknown field"),
            ("completion", "tags", "line 1, column 1: </action> closes what is not open and was left out"),
            ("completion", "empty", "says nothing"),
        ],
    ),
    ({"language": "english"}, [("language", "schema", "'english' is not of the form")]),
    ({"weight": float("nan")}, [("weight", "schema", "nan: input should be")]),
    ({"completion": 7}, [("completion", "schema", "7: input should be a valid string")]),
    (
        {
            "checks": [
                {"kind": "ends_with", "arguments": ["quote"]},
                {"kind": "min_words", "arguments": ["a"]},
            ]
        },
        [
            ("checks.0", "check", "ends_with(quote) does not hold"),
            (
                "checks.1",
                "check",
                "check min_words cannot be decided with arguments ['a'] (invalid literal for int",
            ),
        ],
    ),
    (
        {"checks": [{"kind": "speaks", "arguments": []}]},
        [
            (
                "checks.0",
                "check",
                "check speaks cannot be decided with arguments [] (tuple index out of range)",
            )
        ],
    ),
    (
        {**with_prompt(past_story=f"Once: {LONG}!"), "completion": f"<sound>{LONG}</sound>", "checks": []},
        [("prompt.past_story", "leak", "gives the completion away: 60 words in a row, “word0 word1 word2")],
    ),
    (
        {**with_prompt(instructions=("Write:", GIVEN.lower())), "completion": GIVEN, "checks": []},
        [("prompt.instructions", "leak", "gives the completion away: 15 words in a row, “mara lifts her")],
    ),
    (
        {
            **with_prompt(characters=(Character("Mara", "32AN4R", (("Voice", GIVEN),)), OLD)),
            "completion": GIVEN,
            "checks": [],
        },
        [("prompt.characters", "leak", "gives the completion away: 15 words in a row, “mara lifts her")],
    ),
]


@pytest.mark.parametrize(("changed", "expected"), FAULTY)
def test_every_fault_of_a_row_is_said(
    changed: dict[str, Any], expected: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    file = write(tmp_path / "a.jsonl", make(**changed))
    faults = check(file)
    assert len(faults) == len(expected), "\n".join(map(str, faults))
    for fault, (field, code, what) in zip(faults, expected, strict=True):
        assert (fault.row, fault.field, fault.code) == (1, field, code), fault
        assert fault.what.startswith(what), fault
        assert fault.remedy
        assert "\n" not in str(fault)
        assert str(fault).startswith(f"{file}:1: ")


def test_a_parquet_file_has_the_same_faults(tmp_path: Path) -> None:
    fitting = [
        make(number, **changed)
        for number, (changed, expected) in enumerate(FAULTY)
        if not any(code in ("schema", "unknown-field") for _, code, _ in expected)
    ]
    arrow.write_groups(tmp_path / "a.parquet", tmp_path / "a.parquet", fitting, Example)
    write(tmp_path / "a.jsonl", *fitting)
    one, two = (
        check(tmp_path / f"a{ending}", limits=Limits(similarity=0)) for ending in (".parquet", ".jsonl")
    )
    assert of(*one) == of(*two)
    assert len({fault.row for fault in one}) >= len(fitting) - 1


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | markup,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
anything = st.sampled_from([*sorted(Example.model_fields), "text", "cast", "doubtful"])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([Example, TaggedStory]), st.dictionaries(anything, json_value, max_size=4))
def test_no_row_is_too_strange(model: type[BaseModel], changed: dict[str, Any]) -> None:
    row = {**make(), **changed} if model is Example else {**story().model_dump(), **changed}
    examined = Examiner(Limits()).examine(StoredRow(1, row), model)
    assert all(finding.what and finding.remedy for finding in examined.findings)
    try:
        model.model_validate(row)
    except ValidationError:
        assert examined.findings


def test_two_faults_of_one_speaker_are_both_said(tmp_path: Path) -> None:
    row = make(completion="<quote>Who?</quote> <quote>Me.</quote>", checks=[])
    faults = check(write(tmp_path / "a.jsonl", row))
    assert [fault.what for fault in faults] == [
        "line 1, column 1: <quote> names no speaker",
        "line 1, column 21: <quote> names no speaker",
    ]


def test_faulty_rows_do_not_hide_the_next(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b"{", make(1), b'{"id": "\xff"}', b"[]", make(2, weight=0), b'{"id')
    assert of(*check(file, limits=Limits(similarity=0))) == [
        (1, "", "unreadable", "is not JSON: Expecting property name enclosed in double quotes at column 2"),
        (3, "", "unreadable", "byte 0xff at 9 is not UTF-8"),
        (4, "", "unreadable", "is a JSON list"),
        (5, "weight", "schema", "0: input should be greater than 0"),
        (6, "", "unreadable", "is not JSON: Unterminated string starting at at column 2"),
    ]


def test_a_stray_first_row_does_not_hide_what_the_others_are(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {}, b"{", story(text="").model_dump())
    faults = check(file)
    assert {(fault.row, fault.field) for fault in faults if fault.row == 1} == {
        (1, name) for name in ("id", "text", "cast", "language", "provenance")
    }
    assert [(fault.row, fault.code) for fault in faults if fault.row != 1 and not fault.warning] == [
        (2, "unreadable"),
        (3, "empty"),
    ]


def test_a_line_without_end_does_not_hide_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 5000)
    file = write(tmp_path / "a.jsonl", make(1), b"x" * 17_000, make(2, weight=0))
    assert of(*check(file, limits=Limits(similarity=0))) == [
        (2, "", "unreadable", "is longer than 5,000 bytes"),
        (3, "weight", "schema", "0: input should be greater than 0"),
    ]


def test_damaged_packing_is_a_fault(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"".join(json.dumps(make(n)).encode() + b"\n" for n in range(500))))
    packed[40:60] = b"\xff" * 20
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    (fault,) = check(tmp_path / "a.jsonl.gz")
    assert (fault.code, fault.remedy) == ("unreadable", "fetch it again")
    assert fault.what.startswith("row 1: the packing is damaged (Error -3")


@given(st.text("<>\n\x00ab"))
def test_places_are_those_that_counting_finds(text: str) -> None:
    wanted = [
        f"line {before.count(chr(10)) + 1}, column {len(before.rpartition(chr(10))[2]) + 1}"
        for before in (text[:at] for at, sign in enumerate(text) if sign == "\x00")
    ]
    found = Markup.read("text", text, None).findings
    assert [each.what.partition(":")[0] for each in found if each.code == "characters"] == wanted


def test_a_line_cut_off_is_called_so(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(json.dumps(make()).encode()[:-20])
    assert check(file)[0].what.endswith("the file ends in the middle of it")


def test_a_file_that_cannot_be_read_does_not_hide_the_next(tmp_path: Path) -> None:
    good, cut, other = tmp_path / "good.jsonl", tmp_path / "cut.parquet", tmp_path / "other.jsonl"
    write_examples(cut, [Example.model_validate(make())])
    cut.write_bytes(cut.read_bytes()[:-9])
    write(other, {"score": 1, "text": "x"})
    write(good, make(weight=0))
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a"}' * 99)[:-12])
    (tmp_path / "none.jsonl.gz").write_bytes(b"{}")
    (tmp_path / "a.csv").write_bytes(b"")
    names = [
        "cut.parquet",
        "other.jsonl",
        "broken.jsonl.gz",
        "none.jsonl.gz",
        "a.csv",
        "no.jsonl",
        "good.jsonl",
    ]
    inspection = Inspection()
    faults = list(inspection.run([tmp_path / name for name in names]))
    assert [Path(fault.file).name for fault in faults] == names
    assert [fault.code for fault in faults] == ["unreadable"] * 6 + ["schema"]
    assert all(fault.row is None and fault.remedy for fault in faults[:-1])
    assert "holds neither examples nor tagged stories (fields: " in faults[1].what
    assert not inspection.passed


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", make(1), make(2), make(1))
    two = write(tmp_path / "two.jsonl", make(3), make(2, id="story/2\u0000"), make(2))
    assert of(*check(one, two, limits=Limits(similarity=0))) == [
        (3, "id", "duplicate-id", f"'story/1' is also the id of {one}:1"),
        (3, "id", "duplicate-id", f"'story/2' is also the id of {one}:2"),
    ]


def test_a_parquet_file_s_columns_are_said_once(tmp_path: Path) -> None:
    rows = [{**make(number), "provenance": None} for number in range(5)]
    table = pa.Table.from_pylist(rows, schema=arrow.arrow_schema(Example))
    table = table.drop_columns(["provenance"]).append_column("mood", pa.array(["dry"] * 5))
    pq.write_table(table, tmp_path / "a.parquet")
    faults = check(tmp_path / "a.parquet", limits=Limits(similarity=0))
    assert of(*faults) == [
        (None, "mood", "unknown-field", "is an unknown column"),
        (None, "provenance", "schema", "is a missing column"),
    ]


def test_what_may_be_meant_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [json.dumps(make(number, language="", licence="")) for number in range(3)]
    file.write_bytes(b"\xef\xbb\xbf" + "\n".join(rows).encode())
    empty = write(tmp_path / "b.jsonl", b"")
    inspection = Inspection(Limits(similarity=0))
    faults = list(inspection.run([file, empty]))
    assert of(*faults) == [
        (None, "", "mark", "begins with a byte order mark"),
        (None, "language", "language", "is unknown in 3 of 3 rows"),
        (None, "licence", "licence", "is unknown in 3 of 3 rows"),
        (None, "", "no-rows", "holds no rows"),
    ]
    assert all(fault.warning and ": warning: " in str(fault) for fault in faults)
    assert inspection.passed
    assert inspection.rows == 3
    assert set(inspection.counts) <= WARNINGS <= set(CODES)


def test_overlong_completions_are_counted_in_words_and_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "model")
    file = write(tmp_path / "a.jsonl", make(completion="so it went on and on", checks=[]))
    faults = check(file, limits=Limits(max_words=5, max_tokens=19, tokenizer=tmp_path / "model"))
    assert [fault.what for fault in faults] == [
        "has 6 words, more than 5",
        "has 20 tokens, more than 19",
    ]
    assert check(file, limits=Limits(max_words=6, max_tokens=20, tokenizer=tmp_path / "model")) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_words": -1}, "max_words is -1; give 0 for no limit"),
        ({"similarity": 0.2}, "similarity is 0.2; give 0, or a share from 0.5 to 1"),
        ({"max_tokens": 9}, "max_tokens is 9 without a tokenizer; name a model folder"),
    ],
)
def test_limits_refuse_nonsense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Limits(**wrong)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: cannot be read"):
        check(limits=Limits(tokenizer=tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json: is not JSON"):
        check(limits=Limits(tokenizer=tmp_path))


def test_no_room_for_what_is_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    with pytest.raises(EnvironmentFault, match="export TMPDIR=FOLDER"):
        check(write(tmp_path / "a.jsonl", make()))


def story(**changed: Any) -> TaggedStory:
    fields = {
        "id": "s",
        "text": COMPLETION,
        "cast": (MARA,),
        "language": "en",
        "licence": "CC0-1.0",
        "provenance": Provenance(annotator="rules"),
    }
    return TaggedStory(**{**fields, **changed})


STORIES: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    ({}, []),
    ({"text": ""}, [("text", "empty", "says nothing")]),
    (
        {"cast": (OLD,)},
        [("text", "speaker", 'line 1, column 39: <quote speaker="32AN4R"> names a speaker outside the cast')],
    ),
    (
        {"cast": (MARA, Character("Tom", "32AN4R"))},
        [("cast.1", "speaker", "speaker ID 32AN4R belongs to 'Mara' and to 'Tom'")],
    ),
    (
        {"text": "So be it.", "doubtful": ((0, 9), (3, 3), (8, 10))},
        [
            ("doubtful.1", "span", "(3, 3) is no stretch of the plain text of 9 characters"),
            ("doubtful.2", "span", "(8, 10) is no stretch of the plain text of 9 characters"),
        ],
    ),
]


@pytest.mark.parametrize(("changed", "expected"), STORIES)
def test_tagged_stories_are_checked_too(
    changed: dict[str, Any], expected: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    write_tagged(tmp_path / "a.parquet", [story(**changed)])
    faults = check(tmp_path / "a.parquet")
    assert [(fault.field, fault.code, fault.what) for fault in faults] == expected


def test_several_processes_say_the_same_in_the_same_order(tmp_path: Path) -> None:
    rows = [make(number, completion=f"{ASIDE} <" * (number % 3 == 0), checks=[]) for number in range(150)]
    file = write(tmp_path / "a.jsonl", *rows[:70], b"{", *rows)
    alone, together = Inspection(), Inspection(jobs=2)
    assert list(together.run([file, file])) == list(alone.run([file, file]))
    assert (together.rows, together.counts) == (alone.rows, alone.counts) == (442, together.counts)
    with pytest.raises(InputError, match="jobs is 0; give how many"):
        list(Inspection(jobs=0).run([file]))
    with pytest.raises(InputError, match="cannot be read"):
        list(Inspection(Limits(tokenizer=tmp_path), jobs=2).run([file]))


def test_a_check_can_be_left_in_the_middle(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", *(make(number, weight=0) for number in range(300)))
    for jobs in (1, 2):
        faults = Inspection(jobs=jobs).run([file])
        assert next(faults).row == 1
        faults.close()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_BLOCK", 64)
    monkeypatch.setattr(near, "_AT_ONCE", 256)

    def rows(count: int) -> Iterator[Example]:
        for number in range(count):
            told = " ".join(f"w{number}x{place}" for place in range(30))
            yield Example.model_validate(make(number, completion=told, checks=[]))

    def peak(count: int) -> int:
        file = tmp_path / f"{count}.jsonl"
        write_examples(file, rows(count))
        tracemalloc.start()
        try:
            assert check(file) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(50)
    few, many = peak(200), peak(800)
    assert many < few + 200_000

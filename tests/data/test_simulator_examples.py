"""Examples and their checks: true of their own completion, informative about another one."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from spellbound.data.simulator import HELD_OUT_FROM, KINDS, PLAIN_KINDS, Check, Example, examples, measure
from spellbound.data.simulator.__main__ import generate, main
from spellbound.directives import StoryPrompt, parse
from spellbound.errors import InputError


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    return [row for seed in range(250) for row in examples(seed)]


def test_same_seed_same_examples() -> None:
    assert examples(3) == examples(3)


def test_every_check_holds_on_its_own_completion(rows: list[Example]) -> None:
    for row in rows:
        events = parse(row.completion)
        assert all(check.holds(events) for check in row.checks), (row.seed, row.checks)


def test_checks_usually_fail_on_another_passage_of_the_same_story() -> None:
    """Another passage has the same cast and object, so a check that holds there by chance says little."""
    tried = failed = 0
    for seed in range(200):
        tagged = [row for row in examples(seed) if row.prompt.tags and row.checks]
        for row, other in pairwise(tagged):
            events = parse(other.completion)
            tried += 1
            failed += not all(check.holds(events) for check in row.checks)
    assert failed > 0.75 * tried


def test_checks_nearly_always_fail_on_another_story(rows: list[Example]) -> None:
    tagged = [row for row in rows if row.prompt.tags and row.checks]
    pairs = zip(tagged, tagged[10:], strict=False)
    failed = [not all(check.holds(parse(other.completion)) for check in row.checks) for row, other in pairs]
    assert sum(failed) > 0.9 * len(failed)


def test_shares_of_prompts(rows: list[Example]) -> None:
    plain = [row for row in rows if not row.prompt.tags]
    assert 0.08 < len(plain) / len(rows) < 0.16
    assert 0.2 < sum(not row.prompt.past_story for row in rows) / len(rows) < 0.5
    assert all("<" not in row.completion + row.prompt.past_story for row in plain)
    assert all(check.kind in PLAIN_KINDS for row in plain for check in row.checks)
    assert max(len(row.checks) for row in rows) == 4
    assert sum(bool(row.checks) for row in rows) > 0.85 * len(rows)


def test_every_kind_of_check_occurs(rows: list[Example]) -> None:
    assert {check.kind for row in rows for check in row.checks} >= set(KINDS) - {"no_quote"}


def test_instructions_name_nobody_outside_the_cast_and_no_template(rows: list[Example]) -> None:
    for row in rows:
        text = " ".join(row.prompt.instructions)
        assert not re.search(r"[{}\[\]|]", text), text
        assert all(instruction and not instruction[0].islower() for instruction in row.prompt.instructions)


def test_prompts_render_and_parse_back(rows: list[Example]) -> None:
    for row in rows[:200]:
        assert StoryPrompt.parse(row.prompt.render()) == row.prompt


def test_variety(rows: list[Example]) -> None:
    report = measure(rows)
    assert report.distinct_completions > 0.999
    assert report.distinct_sentences > 0.45
    assert report.distinct_n[3] > 0.45
    assert report.vocabulary > 2300
    assert 5 < report.words_per_sentence < 12
    assert 90 < report.words_per_completion < 180
    assert report.tags_per_completion["quote"] > 3
    assert report.tags_per_completion["action"] > 1
    assert report.tags_per_completion["sound"] > 0.5
    assert len(report.lines()) == 11


def test_measuring_nothing_gives_zeros() -> None:
    report = measure([])
    assert report.examples == 0
    assert report.distinct_n == (0.0, 0.0, 0.0, 0.0)


SAID = '<quote speaker="32AN4R">Who is there?</quote> asked Mara.\n\n<action>Mara lit the lantern.</action>'
BELL = f"{SAID}\n\nShe felt hopeful. <sound>Clang! went the bell.</sound>"


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "expected"),
    [
        ("speaks", ("32AN4R",), SAID, True),
        ("speaks", ("XXXXX1",), SAID, False),
        ("silent", ("32AN4R",), SAID, False),
        ("silent", ("XXXXX1",), SAID, True),
        ("first_speaker", ("32AN4R",), SAID, True),
        ("first_speaker", ("32AN4R",), "Nobody spoke.", False),
        ("last_speaker", ("XXXXX1",), SAID, False),
        ("asks", ("32AN4R",), SAID, True),
        ("asks", ("32AN4R",), '<quote speaker="32AN4R">Yes.</quote> Who?', False),
        ("action_by", ("Mara",), SAID, True),
        ("action_by", ("Mar",), SAID, False),
        ("sound_of", ("bell",), BELL, True),
        ("sound_of", ("bell",), SAID, False),
        ("ends_with", ("sound",), BELL, True),
        ("ends_with", ("sound",), f"{BELL} Then silence.", False),
        ("ends_with", ("action",), SAID, True),
        ("ends_with", ("action",), "", False),
        ("no_sound", (), SAID, True),
        ("no_sound", (), BELL, False),
        ("no_quote", (), SAID, False),
        ("min_quotes", ("1",), SAID, True),
        ("min_quotes", ("2",), SAID, False),
        ("mentions", ("lantern",), SAID, True),
        ("mentions", ("lanternfish",), SAID, False),
        ("mentions", ("light|lantern",), SAID, True),
        ("happens", ("Mara", "lit|lights", "lantern"), SAID, True),
        ("happens", ("Mara", "lost"), SAID, False),
        ("mood", ("Mara", "hopeful"), BELL, True),
        ("mood", ("Tom", "hopeful"), BELL, False),
        ("min_words", ("5",), SAID, True),
        ("max_words", ("5",), SAID, False),
        ("ends_with_quote", (), "He said: “Come.”", True),
        ("ends_with_quote", (), "“Come,” he said.", False),
    ],
)
def test_checks_decide(kind: str, arguments: tuple[str, ...], text: str, expected: bool) -> None:
    assert Check(kind, arguments).holds(parse(text)) is expected


def test_check_json_round_trip(rows: list[Example]) -> None:
    for check in {check for row in rows for check in row.checks}:
        assert Check.from_json(check.to_json()) == check


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "speaks"}', '{"kind": "sings", "arguments": []}', "null"]
)
def test_bad_check_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="check"):
        Check.from_json(text)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="sings"):
        Check("sings")


def test_held_out_seeds_give_other_stories() -> None:
    assert examples(HELD_OUT_FROM)[0].completion != examples(0)[0].completion


def test_command_writes_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "rows.jsonl"
    assert main(["--count", "25", "--seed", "5", "-o", str(target), "--report"]) == 0
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 25
    assert lines[0]["seed"] == 5
    assert lines[0] == json.loads(next(generate(5)).to_json())
    assert list(tmp_path.iterdir()) == [target]
    assert "distinct sentences" in capsys.readouterr().out
    for line in lines:
        StoryPrompt.parse(line["prompt"])
        for check in line["checks"]:
            assert Check.from_json(json.dumps(check)).holds(parse(line["completion"]))


def test_command_refuses_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "1", "-o", str(tmp_path / "none" / "rows.jsonl")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_command_refuses_a_held_out_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generating for training must not run into the held-out seeds unnoticed."""
    target = tmp_path / "rows.jsonl"
    assert main(["--count", "50", "--seed", str(HELD_OUT_FROM - 1), "-o", str(target)]) == 2
    assert str(HELD_OUT_FROM) in capsys.readouterr().err
    assert not target.exists()

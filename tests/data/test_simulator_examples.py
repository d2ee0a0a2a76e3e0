"""Examples and their checks: true of their own completion, informative about another one."""

import re
from itertools import pairwise

import pytest

from spellbound.data.simulator import HELD_OUT_FROM, KINDS, PLAIN_KINDS, Check, Example, examples, measure
from spellbound.directives import StoryPrompt, parse

DERIVED_ONLY = {
    "avoids",
    "ends_with_words",
    "has_action",
    "has_sound",
    "mood_word",
    "only_speaker",
    "paragraphs",
    "person",
    "place",
    "tense",
}
"""Kinds that the simulator does not ask for, beside `no_quote`: its people always talk."""


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
    assert {check.kind for row in rows for check in row.checks} == set(KINDS) - DERIVED_ONLY - {"no_quote"}


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


def test_held_out_seeds_give_other_stories() -> None:
    assert examples(HELD_OUT_FROM)[0].completion != examples(0)[0].completion


def test_every_check_survives_json(rows: list[Example]) -> None:
    for check in {check for row in rows for check in row.checks}:
        assert Check.from_json(check.to_json()) == check

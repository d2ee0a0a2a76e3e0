"""Preference pairs from siblings, and thumbs."""

from pathlib import Path
from typing import Any

import pytest

from spellbound.data.ratings import (
    Pair,
    PairRules,
    Rating,
    Reason,
    Report,
    Share,
    Thumb,
    ThumbRules,
    preference_pairs,
    read_pairs,
    read_thumbs,
    thumbs,
    write_pairs,
    write_thumbs,
)
from spellbound.errors import InputError
from tests.data.ratings import GOOD, PROMPT, given, ledger, log, rating

EVERYBODY = [given(user) for user in range(1, 9)]


def sibling(raw: float, output: str, who: int = 1, **changes: Any) -> Rating:
    """A rating of one of several outputs to the same prompt."""
    return rating(who, raw=raw, output=output, **{"passage": f"p-{output}", **changes})


def pairs(*ratings: Rating, **rules: Any) -> tuple[list[Pair], Report]:
    report = Report()
    made = list(preference_pairs(log(*ratings), ledger(EVERYBODY), PairRules(**rules), report))
    assert report.read == len(ratings) == report.used + sum(report.left_out.values())
    assert report.rows == len(made)
    return made, report


def test_the_better_sibling_is_chosen() -> None:
    (made,), report = pairs(sibling(2, "Bad."), sibling(5, "Good."))
    assert (made.chosen, made.rejected, made.margin, made.readers) == ("Good.", "Bad.", 0.75, 1)
    assert made.prompt.render() == PROMPT
    assert (report.used, made.provenance.annotator) == (2, "ratings")


def test_only_siblings_by_the_same_readers_are_compared() -> None:
    assert pairs(sibling(5, "One."), sibling(1, "Two.", who=2))[1].left_out == {Reason.ALONE: 2}
    elsewhere = sibling(1, "Two.", prompt=PROMPT.replace("lay still", "woke"))
    assert pairs(sibling(5, "One."), elsewhere)[1].left_out == {Reason.ALONE: 2}


def test_margins_are_means_over_those_who_read_both() -> None:
    rows = [
        sibling(raw, text, who)
        for who, one, two in ((1, 5, 1), (2, 3, 4))
        for raw, text in ((one, "A."), (two, "B."))
    ]
    (made,), _ = pairs(*rows, sibling(1, "A.", 3), margin=0.3)
    assert (made.chosen, made.readers) == ("A.", 2)
    assert made.margin == pytest.approx(0.375)
    assert pairs(*rows, margin=0.4)[1].left_out == {Reason.MARGIN: 4}


def test_the_better_of_two_bad_ones_is_not_chosen() -> None:
    rows = [sibling(2, "One."), sibling(1, "Two.")]
    assert pairs(*rows)[1].left_out == {Reason.BELOW: 2}
    assert len(pairs(*rows, least_chosen=0.2)[0]) == 1


def test_what_is_flagged_may_be_rejected_only() -> None:
    flagged: dict[str, Any] = {"flags": [{"kind": "wrong speaker", "line": 1}]}
    assert pairs(sibling(5, "One.", **flagged), sibling(1, "Two."))[1].left_out == {Reason.BELOW: 2}
    assert len(pairs(sibling(5, "One."), sibling(1, "Two.", **flagged))[0]) == 1


def test_a_prompt_has_a_share() -> None:
    rows = [sibling(raw, f"Part {raw}.") for raw in (1, 2, 3, 4, 5)]
    made, report = pairs(*rows, per_prompt=2)
    assert {(each.chosen, each.rejected) for each in made} <= {
        ("Part 5.", "Part 1."),
        ("Part 5.", "Part 2."),
        ("Part 4.", "Part 1."),
    }
    assert (len(made), report.left_out[Reason.PROMPT_CAP]) == (2, 5 - report.used)


def test_a_broken_sibling_is_reported_and_those_beside_it_stay() -> None:
    rows = [sibling(1, "<action>Oh"), sibling(5, "Good."), sibling(3, "Fair.")]
    (made,), report = pairs(*rows)
    assert (made.chosen, made.rejected) == ("Good.", "Fair.")
    assert report.left_out == {Reason.MALFORMED: 1}
    assert pairs(*rows[:2])[1].left_out == {Reason.MALFORMED: 1, Reason.ALONE: 1}


def test_the_same_output_twice_is_no_pair() -> None:
    rows = [sibling(5, "One.", passage="a"), sibling(1, "One.", passage="b")]
    assert pairs(*rows)[1].left_out == {Reason.ALONE: 2}


def test_thumbs_and_what_counts_as_one() -> None:
    report = Report()
    rows = [
        sibling(1, "Up.", scale="thumbs"),
        sibling(0, "Down.", scale="thumbs"),
        sibling(5, "Five."),
        sibling(3, "Three."),
        sibling(5, GOOD, flags=[{"kind": "harmful", "line": 1}]),
        sibling(1, "Split.", 1, scale="thumbs"),
        sibling(0, "Split.", 2, scale="thumbs"),
        sibling(1, "<sound>", scale="thumbs"),
    ]
    made = list(thumbs(log(*rows), ledger(EVERYBODY), ThumbRules(), report))
    assert [(each.completion, each.label) for each in made] == [
        ("Up.", True),
        ("Down.", False),
        ("Five.", True),
        (GOOD, False),
    ]
    assert report.left_out == {Reason.UNDECIDED: 3, Reason.MALFORMED: 1}
    assert report.read == report.used + 4


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_rows_are_the_same_after_reading(tmp_path: Path, ending: str) -> None:
    (pair,), _ = pairs(sibling(2, "Bad."), sibling(5, GOOD), share=Share(licence="CC-BY-4.0"))
    thumb = next(thumbs(log(rating()), ledger(EVERYBODY), ThumbRules(), Report()))
    assert write_pairs(tmp_path / f"pairs.{ending}", [pair]) == 1
    assert write_thumbs(tmp_path / f"thumbs.{ending}", [thumb]) == 1
    assert list(read_pairs([tmp_path / f"pairs.{ending}"])) == [pair]
    assert list(read_thumbs([tmp_path / f"thumbs.{ending}"])) == [thumb]
    with pytest.raises(InputError, match="row 1"):
        list(read_thumbs([tmp_path / f"pairs.{ending}"]))
    assert Pair.model_validate(pair.model_dump()) == pair
    assert Thumb.model_validate(thumb.model_dump()) == thumb


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        (PairRules, {"margin": 0}),
        (PairRules, {"per_prompt": 0}),
        (PairRules, {"least_chosen": 2}),
        (ThumbRules, {"good": 0.2, "bad": 0.3}),
    ],
)
def test_settings_that_make_no_sense(rules: Any, settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="; give"):
        rules(**settings)

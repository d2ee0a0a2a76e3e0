"""Ratings as weighted examples: the latest wins, nobody counts twice, weights follow the score."""

from typing import Any

import pytest
from hypothesis import given as example
from hypothesis import strategies as st

from spellbound.data.examples import Example
from spellbound.data.ratings import ExampleRules, Rating, Reason, Report, Share, rated_examples
from spellbound.errors import InputError
from tests.data.ratings import GOOD, PROMPT, day, given, ledger, log, rating

EVERYBODY = [given(user) for user in range(1, 9)]


def build(*ratings: Rating, **rules: Any) -> tuple[list[Example], Report]:
    """Examples of ratings that all have consent."""
    report = Report()
    made = list(rated_examples(log(*ratings), ledger(EVERYBODY), ExampleRules(**rules), report))
    assert report.read == len(ratings) == report.used + sum(report.left_out.values())
    return made, report


def test_an_example_says_where_it_is_from_and_nobody_who_rated_it() -> None:
    (made,), _ = build(rating(adapter="a7"), rating(2, raw=4), rating(2, raw=4, passage="p2"))
    assert made.completion == GOOD
    assert made.prompt.render() == PROMPT
    assert made.weight == pytest.approx(0.25 + 0.75 * (0.875 - 0.6) / 0.4)
    assert made.language == "en"
    assert made.rating is not None
    assert (made.rating.score, made.rating.count, made.rating.consent) == (0.875, 2, "v1")
    assert (made.provenance.model, made.provenance.versions) == ("nano", {"adapter": "a7"})
    assert made.source.startswith("story-")
    assert "s1" not in made.model_dump_json()


def test_the_latest_rating_of_a_passage_wins() -> None:
    rows = [rating(when=5, raw=1), rating(when=7, raw=5), rating(when=6, raw=1)]
    (made,), report = build(*rows)
    assert made.rating is not None
    assert made.rating.score == 1
    assert report.left_out[Reason.SUPERSEDED] == 2
    assert build(rating(raw=5), rating(raw=1))[0] == []  # at the same time: the later in the log


def test_a_reader_has_a_share() -> None:
    rows = [rating(when=number, passage=f"p{number}", output=f"Part {number}.") for number in range(1, 6)]
    made, report = build(*rows, share=Share(per_user=2))
    assert [each.completion for each in made] == ["Part 4.", "Part 5."]
    assert report.left_out == {Reason.USER_CAP: 3}


def test_readers_and_threshold() -> None:
    rows = [rating(1, raw=5), rating(2, raw=1), rating(3, raw=5, passage="q", output="Alone.")]
    made, report = build(*rows, threshold=0.75)
    assert [each.completion for each in made] == ["Alone."]
    assert report.left_out == {Reason.BELOW: 2}
    assert build(*rows, threshold=0.5, readers=2)[1].left_out == {Reason.FEW: 1}


def test_flags() -> None:
    wrong = rating(2, flags=[{"kind": "wrong speaker", "line": 1}])
    made, report = build(rating(), wrong)
    assert (made, report.left_out) == ([], {Reason.VETO: 2})
    dull = rating(2, flags=[{"kind": "dull", "line": 1}])
    assert build(rating(), dull)[0][0].weight == pytest.approx(0.75)
    assert build(rating(), dull, share=Share(veto=frozenset({"dull"})))[0] == []
    assert build(rating(), wrong, share=Share(veto=frozenset()))[0][0].weight == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"prompt": "Write on."}, Reason.PROMPT, "row 1: the prompt cannot be read"),
        ({"output": " \n"}, Reason.EMPTY, "row 1: the output is empty"),
        ({"output": "<action>She runs."}, Reason.MALFORMED, "<action> is never closed"),
        ({"output": '<quote speaker="ZZZZZZ">No.</quote>'}, Reason.MALFORMED, "outside the cast"),
        ({"output": "a < b"}, Reason.MALFORMED, "has a < outside tags; it is written &lt;"),
        ({"output": "<sound>tick</sound> >"}, Reason.MALFORMED, "has a > outside tags"),
        (
            {
                "output": GOOD,
                "prompt": PROMPT.replace("calls.\n", "calls.\n- Write plain prose, without tags.\n"),
            },
            Reason.MALFORMED,
            "has tags, though the prompt asks for none",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_reported(changes: dict[str, Any], reason: Reason, said: str) -> None:
    made, report = build(rating(**changes), rating(2, **changes))
    assert (made, report.left_out) == ([], {reason: 2})
    assert said in report.faults[0]


def test_references_and_unmarked_text_are_well_formed() -> None:
    assert len(build(rating(output="a &lt; b &amp; c"), rating(2, output="Plain.", passage="q"))[0]) == 2


@example(
    st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 0.99), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)
)
def test_weights_are_positive_and_grow_with_the_score(
    threshold: float, least: float, discount: float, one: float, two: float, flagged: float
) -> None:
    rules = ExampleRules(threshold=threshold, least_weight=least, flag_discount=discount)
    low, high = sorted(max(threshold, score) for score in (one, two))
    assert 0 < rules.weight(low, flagged) <= rules.weight(high, flagged) <= 1 + 1e-9
    assert rules.weight(1.0) == pytest.approx(1)
    assert rules.weight(high, flagged) <= rules.weight(high)


@example(st.permutations([rating(user, raw=user % 5 + 1, passage=f"{user % 3}") for user in range(1, 9)]))
def test_the_order_of_the_log_changes_no_row(rows: list[Rating]) -> None:
    made, _ = build(*rows, threshold=0)
    again, _ = build(*sorted(rows, key=lambda row: row.user), threshold=0)
    assert [each.model_dump() for each in made] == [each.model_dump() for each in again]


def test_ids_are_unique_and_the_same_in_every_build() -> None:
    rows = [rating(passage=f"p{number}", output=f"Part {number % 3}.") for number in range(9)]
    made, _ = build(*rows)
    assert len({each.id for each in made}) == len(made) == 3
    assert {each.id for each in made} == {each.id for each in build(*rows[::-1])[0]}


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        (ExampleRules, {"threshold": 1.1}),
        (ExampleRules, {"least_weight": 0}),
        (ExampleRules, {"readers": 0}),
        (ExampleRules, {"flag_discount": 1}),
        (Share, {"per_user": 0}),
        (Share, {"veto": frozenset({"rude"})}),
    ],
)
def test_settings_that_make_no_sense(rules: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"; (give|use)"):
        rules(**settings)


def test_a_log_that_changes_while_it_is_read_is_noticed() -> None:
    class Shrinking:
        def __init__(self) -> None:
            self.rows = log(rating(when=1, passage="q", output="First."), rating())

        def __iter__(self) -> Any:
            rows, self.rows = self.rows, self.rows[1:]
            return iter(rows)

    with pytest.raises(InputError, match="run it again"):
        list(rated_examples(Shrinking(), ledger(EVERYBODY, at=50), ExampleRules(), Report()))


def test_ratings_of_the_future_wait() -> None:
    report = Report()
    made = list(rated_examples(log(rating(time=day(60))), ledger(EVERYBODY, at=50), ExampleRules(), report))
    assert (made, report.left_out) == ([], {Reason.FUTURE: 1})


@pytest.mark.parametrize("score", [0.1, 0.3, 0.6, 0.7, 0.9])
@pytest.mark.parametrize("readers", [3, 6, 7])
def test_scores_at_the_threshold_are_not_lost_by_rounding(score: float, readers: int) -> None:
    rows = [rating(who, raw=score, scale="unit") for who in range(1, readers + 1)]
    consents = ledger([given(who) for who in range(1, readers + 1)])
    (made,) = rated_examples(log(*rows), consents, ExampleRules(threshold=score), Report())
    assert made.rating is not None
    assert made.rating.score == score
    assert made.weight == pytest.approx(0.25)

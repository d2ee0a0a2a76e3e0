"""Only ratings under live consent count, and a withdrawal ends their use in every later build."""

from typing import Any

import pytest
from hypothesis import given as example
from hypothesis import settings
from hypothesis import strategies as st

from spellbound.data.ratings import (
    Consent,
    ExampleRules,
    Rating,
    Reason,
    Report,
    Terms,
    preference_pairs,
    rated_examples,
    thumbs,
)
from spellbound.data.ratings.pairs import PairRules, ThumbRules
from spellbound.errors import InputError
from tests.data.ratings import day, given, ledger, log, rating, reader, withdrawn


@pytest.mark.parametrize(
    ("events", "changes", "reason"),
    [
        ([given()], {}, None),
        ([], {}, Reason.NO_CONSENT),
        ([given(user=2)], {}, Reason.NO_CONSENT),
        ([given(version="v2")], {}, Reason.NO_CONSENT),
        ([given(scopes=["evaluation"])], {}, Reason.NO_CONSENT),
        ([given(when=6)], {}, Reason.PREDATES),
        ([given(when=5)], {}, None),
        ([given(), withdrawn()], {}, Reason.WITHDRAWN),
        ([withdrawn(when=4), given(when=0)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(when=0)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(when=500)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(scopes=["evaluation"])], {}, None),
        ([given(), withdrawn(user=2)], {}, None),
        ([withdrawn(when=1), given(when=2)], {}, None),
        ([given(), withdrawn(), given(when=20)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(), given(when=20)], {"time": day(21)}, None),
        ([given(), withdrawn(), given(when=20, revives=True)], {}, None),
        ([given(), withdrawn(), given(when=20, revives=True), withdrawn(when=30)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(when=4), given(when=20, revives=True)], {}, Reason.WITHDRAWN),
        ([given(), withdrawn(), given(when=20, version="v2", revives=True)], {}, Reason.WITHDRAWN),
        ([given(when=200, revives=True), given(), withdrawn()], {}, Reason.WITHDRAWN),
        ([given(when=6, revives=True)], {}, Reason.PREDATES),
        ([given()], {"consent": "v0"}, Reason.VERSION),
        ([given()], {"scopes": ["evaluation"]}, Reason.SCOPE),
        ([given()], {"scopes": []}, Reason.SCOPE),
        ([given()], {"time": day(101)}, Reason.FUTURE),
    ],
)
def test_which_ratings_may_be_used(
    events: list[Consent], changes: dict[str, Any], reason: Reason | None
) -> None:
    assert ledger(events).refusal(rating(**changes)) is reason


def test_a_newer_version_leaves_the_older_alive() -> None:
    events = [given(), given(when=3, version="v2")]
    both = ledger(events, versions=("v1", "v2"))
    assert both.refusal(rating()) is None
    assert both.refusal(rating(consent="v2")) is None
    assert both.live == 1
    assert ledger(events, versions=("v2",)).refusal(rating()) is Reason.VERSION


def test_terms_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="no version of the consent is accepted"):
        Terms(versions=frozenset(), at=day(0))
    with pytest.raises(InputError, match="without a time zone"):
        Terms(versions=frozenset({"v1"}), at=day(0).replace(tzinfo=None))


def test_the_digest_tells_snapshots_apart_and_not_orders() -> None:
    one, two = ledger([given(), given(2)]), ledger([given(2), given()])
    assert one.digest == two.digest
    assert one.digest != ledger([given(), given(2), withdrawn(2)]).digest
    assert one.events == 2


users = st.integers(1, 3)
days = st.integers(0, 12)
events = st.one_of(
    st.builds(given, users, days, st.sampled_from(["v1", "v2"]), revives=st.booleans()),
    st.builds(given, users, days, scopes=st.sampled_from([["training"], ["evaluation"]])),
    st.builds(withdrawn, users, days),
    st.builds(withdrawn, users, days, scopes=st.sampled_from([["evaluation"], ["training", "publication"]])),
)
ratings = st.builds(
    rating,
    users,
    days,
    st.sampled_from([1, 3, 5]),
    passage=st.sampled_from("pqr"),
    output=st.sampled_from(["One.", "Two.", "Three."]),
    consent=st.sampled_from(["v1", "v2"]),
    scopes=st.sampled_from([["training"], ["training", "evaluation"], ["evaluation"]]),
)


def _all_builds(rows: list[Rating], consents: list[Consent]) -> list[tuple[Report, str]]:
    """Each kind of build with its report and everything that it wrote."""
    made = []
    builds: list[tuple[Any, Any]] = [
        (rated_examples, ExampleRules(threshold=0)),
        (preference_pairs, PairRules(least_chosen=0)),
        (thumbs, ThumbRules(good=0.5, bad=0.4)),
    ]
    for build, rules in builds:
        report = Report()
        written = [row.model_dump_json() for row in build(log(*rows), ledger(consents), rules, report)]
        assert report.rows == len(written)
        made.append((report, "\n".join(written)))
    return made


@example(st.lists(ratings, max_size=12), st.lists(events, max_size=8))
def test_every_rating_has_one_fate_and_no_reader_is_named(
    rows: list[Rating], consents: list[Consent]
) -> None:
    for report, written in _all_builds(rows, consents):
        assert report.read == len(rows) == report.used + sum(report.left_out.values())
        assert not any(reader(user) in written for user in (1, 2, 3))


@example(st.lists(ratings, max_size=12), st.lists(events, max_size=8), users, days)
def test_after_a_withdrawal_builds_are_as_if_the_reader_had_never_rated(
    rows: list[Rating], consents: list[Consent], user: int, when: int
) -> None:
    consents = [each for each in consents if each.user != reader(user) or each.time <= day(when)]
    others = [row for row in rows if row.user != reader(user)]
    after = _all_builds(rows, [*consents, withdrawn(user, when)])
    never = _all_builds(others, consents)
    assert [written for _, written in after] == [written for _, written in never]


def lived_through(rows: list[Rating], consents: list[Consent], until: int) -> list[bool]:
    """Which ratings may be used, told day by day as it happened: no ledger, no looking back."""
    live: set[tuple[str, str | None]] = set()
    rated: list[int] = []
    usable: set[int] = set()
    for now in sorted({*(row.time for row in rows), *(each.time for each in consents)}):
        for each in consents:
            if each.time == now and each.event == "given" and now <= day(until) and "training" in each.scopes:
                live.add((each.user, each.version))
                if each.revives and each.version == "v1":
                    usable |= {number for number in rated if rows[number].user == each.user}
        for each in consents:
            if each.time == now and each.event == "withdrawn" and "training" in each.scopes:
                live = {(user, version) for user, version in live if user != each.user}
                usable -= {number for number in usable if rows[number].user == each.user}
        for number, row in enumerate(rows):
            asked = now <= day(until) and "training" in row.scopes and row.consent == "v1"
            if row.time == now and asked and (row.user, row.consent) in live:
                rated.append(number)
                usable.add(number)
    return [number in usable for number in range(len(rows))]


@settings(max_examples=400)
@example(st.lists(ratings, max_size=8), st.lists(events, max_size=8), st.integers(0, 13))
def test_what_may_be_used_is_what_living_through_it_says(
    rows: list[Rating], consents: list[Consent], until: int
) -> None:
    book = ledger(consents, at=until)
    assert [book.refusal(row) is None for row in rows] == lived_through(rows, consents, until)

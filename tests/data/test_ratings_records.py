"""What a rating may say, and how readers' keys are made."""

from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spellbound.data.ratings import (
    Consent,
    Flag,
    is_user_key,
    normalised,
    require_user_key,
    secret_from_environment,
    user_key,
)
from spellbound.errors import EnvironmentFault, InputError
from tests.data.ratings import SECRET, day, rating, reader


@pytest.mark.parametrize(
    ("raw", "scale", "score"),
    [(0, "thumbs", 0), (1, "thumbs", 1), (0.3, "unit", 0.3), (1, "stars-4", 0), (3.5, "stars-5", 0.625)],
)
def test_scales(raw: float, scale: str, score: float) -> None:
    assert normalised(raw, scale) == score
    assert rating(raw=raw, scale=scale).score == score
    assert rating(raw=raw, scale=scale, score=score).raw == raw


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw": 6}, "raw is 6 of stars-5; give 1 to 5"),
        ({"raw": 0}, "raw is 0 of stars-5"),
        ({"raw": 2.2}, "steps of a half"),
        ({"raw": 0.5, "scale": "thumbs"}, "give 1 for up and 0 for down"),
        ({"raw": -1, "scale": "unit"}, "give 0 to 1"),
        ({"raw": float("nan"), "scale": "unit"}, "give 0 to 1|finite"),
        ({"raw": None}, "raw"),
        ({"raw": 10**400}, "raw"),
        ({"raw": 1, "scale": "stars-1"}, "scale is 'stars-1'; give unit, thumbs or stars-2 to stars-10"),
        ({"scale": "stars-11"}, "scale is 'stars-11'"),
        ({"scale": "foo"}, "scale is 'foo'; give unit, thumbs or stars-2 to stars-10"),
        ({"scale": "stars-x", "score": 1}, "scale is 'stars-x'; give unit, thumbs or"),
        ({"score": 0.2}, "score is 0.2, but 5 of stars-5 is 1; leave score out"),
        ({"user": "mara@example.org"}, "user"),
        ({"user": "u1-" + "A" * 32}, "user"),
        ({"time": day(0).replace(tzinfo=None)}, "time"),
        ({"flags": [{"kind": "wrong speaker"}]}, "has no place; give line or span"),
        ({"flags": [{"kind": "rude", "line": 1}]}, "kind"),
        ({"flags": [{"kind": "dull", "line": 0}]}, "line"),
        ({"flags": [{"kind": "dull", "line": 2}]}, "at line 2 of an output of 1"),
        ({"flags": [{"kind": "dull", "span": [3, 3]}]}, "give a start and a later end"),
        ({"flags": [{"kind": "dull", "span": [0, 900]}]}, "ends at 900 of"),
        ({"passage": ""}, "passage"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_what_is_no_rating(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rating(**changes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"event": "given", "scopes": ["training"]}, "version is missing"),
        ({"event": "given", "version": "v1", "scopes": []}, "scopes is empty"),
        ({"event": "given", "version": "v1", "scopes": ["selling"]}, "scopes"),
        ({"event": "withdrawn", "scopes": ["training"], "revives": True}, "revives is true in a withdrawal"),
    ],
)
def test_what_is_no_consent(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Consent.model_validate({**row, "user": reader(1), "time": day(0)})


def test_times_are_kept_in_utc() -> None:
    abroad = day(5).astimezone(timezone(timedelta(hours=5)))
    assert rating(time=abroad) == rating(time=day(5))
    assert rating(time=abroad).model_dump_json() == rating(time=day(5)).model_dump_json()


def test_flags_have_lines_or_spans() -> None:
    kept = rating(flags=[{"kind": "wrong speaker", "line": 1}, {"kind": "dull", "span": [0, 5]}])
    assert kept.flags == (Flag(kind="wrong speaker", line=1), Flag(kind="dull", span=(0, 5)))


@given(st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable()))
def test_keys_are_stable_and_say_nothing(account: str) -> None:
    key = user_key(account, SECRET)
    assert is_user_key(key)
    assert key == user_key(f" {account}\n", SECRET)
    assert key != user_key(account, SECRET + "2")
    assert not is_user_key(account)


def test_equal_accounts_in_two_forms_have_one_key() -> None:
    assert user_key("Zoë", SECRET) == user_key("Zoe\u0308", SECRET)
    assert user_key("Zoe", SECRET) != user_key("zoe", SECRET)


def test_keys_that_cannot_be_made() -> None:
    with pytest.raises(InputError, match="the account is blank"):
        user_key("  ", SECRET)
    with pytest.raises(InputError, match="the account holds half a character; give it as UTF-8"):
        user_key("zo\udceb", SECRET)
    with pytest.raises(InputError, match="the secret has 5 characters; give at least 32"):
        user_key("mara", "short")
    with pytest.raises(InputError, match="not u1- and 32") as refused:
        require_user_key("mara@example.org")
    assert "mara" not in str(refused.value)


def test_the_secret_is_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_USER_SECRET", SECRET)
    assert secret_from_environment() == SECRET
    monkeypatch.delenv("SPELLBOUND_USER_SECRET")
    with pytest.raises(EnvironmentFault, match="export SPELLBOUND_USER_SECRET="):
        secret_from_environment()

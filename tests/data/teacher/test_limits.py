"""Rates over a simulated hour: what goes through stays under the limit, and is not far from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.teacher.limits import RateLimit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(limit: RateLimit, clock: Clock, tokens: int, until: float) -> list[float]:
    """When requests went through, each as soon as it could."""
    made: list[float] = []
    while clock.now < until:
        if pause := limit.take(tokens):
            clock.now += pause
        else:
            made.append(clock.now)
    return made


def test_requests_per_minute() -> None:
    clock = Clock()
    made = passed(RateLimit(60, 0, clock), clock, 1000, 600)
    assert 600 <= len(made) <= 607


@settings(deadline=None)
@given(st.integers(50, 5000))
def test_tokens_per_minute(tokens: int) -> None:
    clock = Clock()
    made = passed(RateLimit(0, 6000, clock), clock, tokens, 3600)
    total = tokens * len(made)
    assert 6000 * 60 - tokens <= total <= 6000 * 60 + 600 + 2 * tokens


def test_what_was_not_needed_can_be_used() -> None:
    clock = Clock()
    limit = RateLimit(0, 6000, clock)
    count = 0
    while clock.now < 600:
        if pause := limit.take(500):
            clock.now += pause
        else:
            limit.give_back(400)
            count += 1
    assert 560 <= count <= 640


def test_a_request_larger_than_a_minute_goes_through_on_credit() -> None:
    clock = Clock()
    made = passed(RateLimit(0, 600, clock), clock, 1200, 1200)
    assert made[1] - made[0] == pytest.approx(120)


def test_no_limit_never_waits() -> None:
    limit = RateLimit(0, 0, Clock())
    assert [limit.take(10**9) for _ in range(1000)] == [0.0] * 1000


def test_held_for_all() -> None:
    clock = Clock()
    limit = RateLimit(0, 0, clock)
    limit.hold(5)
    limit.hold(2)
    assert limit.take(1) == 5
    clock.now = 5
    assert limit.take(1) == 0

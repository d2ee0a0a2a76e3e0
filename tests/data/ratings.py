"""Ratings and consents for the tests, short to write."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from spellbound.data.ratings import Consent, Ledger, Rating, Terms
from spellbound.directives import Character, StoryPrompt

SECRET = "a secret that is long enough to be one"  # noqa: S105
START = datetime(2026, 1, 1, tzinfo=UTC)
MARA = Character("Mara Voss", "32AN4R", (("Personality", "dry"),))
PROMPT = StoryPrompt((MARA,), "The harbour lay still.", ("Mara calls.",)).render()
GOOD = '<quote speaker="32AN4R">“Hello?”</quote> she calls.'


def reader(number: int) -> str:
    """A key; real ones are made by `user_key`."""
    return f"u1-{number:032x}"


def day(number: float) -> datetime:
    """Days after the start."""
    return START + timedelta(days=number)


def rating(who: int = 1, when: float = 5, raw: float = 5, **changes: Any) -> Rating:
    """A rating of five stars on day five, under consent v1."""
    usual: dict[str, Any] = {
        "story": "s1",
        "branch": "main",
        "passage": "p1",
        "prompt": PROMPT,
        "output": GOOD,
        "language": "en",
        "model": "nano",
        "raw": raw,
        "scale": "stars-5",
        "user": reader(who),
        "consent": "v1",
        "scopes": ["training"],
        "time": day(when),
    }
    return Rating.model_validate({**usual, **changes})


def given(user: int = 1, when: float = 0, version: str = "v1", **changes: Any) -> Consent:
    """Consent to training."""
    usual = {"event": "given", "user": reader(user), "version": version, "scopes": ["training"]}
    return Consent.model_validate({**usual, "time": day(when), **changes})


def withdrawn(user: int = 1, when: float = 10, **changes: Any) -> Consent:
    """Its withdrawal."""
    usual = {"event": "withdrawn", "user": reader(user), "scopes": ["training"], "time": day(when)}
    return Consent.model_validate({**usual, **changes})


def ledger(events: Iterable[Consent], at: float = 100, versions: Iterable[str] = ("v1",)) -> Ledger:
    """The state of consent on a day."""
    return Ledger(events, Terms(versions=frozenset(versions), at=day(at)))


def log(*ratings: Rating) -> list[tuple[str, Rating]]:
    """A log in memory."""
    return [(f"log: row {number}", each) for number, each in enumerate(ratings, start=1)]

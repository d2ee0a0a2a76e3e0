"""The word and phrase banks: the TOML files beside this module, read once."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """Return the content of one bank, for example `load("places")`."""
    return tomllib.loads((files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def words() -> frozenset[str]:
    """Return every word of every bank, names too, in lower case."""
    banks = [each for each in files(__package__).iterdir() if each.name.endswith(".toml")]
    return frozenset(
        word for each in banks for word in re.findall(r"[a-z]+", each.read_text(encoding="utf-8").lower())
    )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that can happen: who takes part, what it needs, what it changes, how it is told."""

    name: str
    roles: str
    stage: str
    needs: tuple[str, ...]
    then: tuple[str, ...]
    fact: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    tell: tuple[str, ...]
    enters: str


@cache
def events(stage: str) -> tuple[Event, ...]:
    """Return every event of a stage, in file order."""
    return tuple(_event(row) for row in load("events")["event"] if row.get("stage", "middle") == stage)


def _event(row: dict[str, Any]) -> Event:
    return Event(
        name=row["name"],
        roles=row["roles"],
        stage=row.get("stage", "middle"),
        needs=tuple(row.get("needs", ())),
        then=tuple(row.get("then", ())),
        fact=tuple(row.get("fact", ())),
        words=tuple(tuple(group) for group in row.get("words", ())),
        tell=tuple(row["tell"]),
        enters=row.get("enters", ""),
    )

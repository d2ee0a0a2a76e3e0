"""A check: one rule with its arguments, which decides whether a completion does what was asked."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from spellbound.data.checks.rules import RULES, Arguments
from spellbound.data.checks.segments import Segment, segments
from spellbound.directives import Event, Text
from spellbound.errors import InputError

KINDS = tuple(sorted(RULES))
"""Every kind of check."""
DESCRIPTIONS = {kind: RULES[kind][1] for kind in KINDS}
"""What each kind asks, in one line, for reports."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule with its arguments; `Check("speaks", ("32AN4R",))` asks that this character speaks.

    In an argument that lists words, they are separated by "|".
    """

    kind: str
    arguments: Arguments = ()

    def __post_init__(self) -> None:
        """Refuse a kind nobody can decide."""
        if self.kind not in RULES:
            raise InputError(f"check kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")

    def holds(self, events: Iterable[Event]) -> bool:
        """Whether a completion, given as its events, does what the check asks.

        InputError if the check lacks an argument or has one that is no number where one is needed.
        """
        events = list(events)
        whole = "".join(event.text for event in events if isinstance(event, Text))
        return self.holds_for(segments(events), whole)

    def holds_for(self, parts: list[Segment], whole: str) -> bool:
        """Like `holds`, for a completion whose segments and whole text are already known."""
        try:
            return RULES[self.kind][0](parts, whole, self.arguments)
        except (IndexError, ValueError) as error:
            raise InputError(
                f"check {self.kind} cannot be decided with arguments {list(self.arguments)} ({error});"
                " write it as the instructors do"
            ) from error

    def to_json(self) -> str:
        """Return the check as one line of JSON."""
        return json.dumps({"kind": self.kind, "arguments": list(self.arguments)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; raises InputError for anything else."""
        try:
            row = json.loads(text)
            return cls(str(row["kind"]), tuple(str(argument) for argument in row["arguments"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"check {text[:60]!r} is not JSON with kind and arguments ({error}); write it with to_json"
            ) from error

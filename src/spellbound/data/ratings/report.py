"""What became of every rating: used, or left out and why."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

_FAULTS_SHOWN = 20


class Reason(StrEnum):
    """Why a rating was left out; each rating has at most one reason, the first that applies."""

    SCOPE = "given for another use"
    VERSION = "consent version not accepted"
    FUTURE = "dated after the build"
    NO_CONSENT = "no consent on record"
    PREDATES = "rated before the consent"
    WITHDRAWN = "consent withdrawn"
    SUPERSEDED = "replaced by a later rating"
    USER_CAP = "beyond the reader's share"
    PROMPT = "prompt cannot be read"
    EMPTY = "output is empty"
    MALFORMED = "output is not well-formed"
    FEW = "too few readers"
    VETO = "flagged"
    BELOW = "below the threshold"
    UNDECIDED = "neither good nor bad"
    ALONE = "no sibling by the same reader"
    MARGIN = "too close to its siblings"
    PROMPT_CAP = "beyond the prompt's share"


@dataclass(slots=True)
class Report:
    """Counts of a build. `read` is always `used` and all of `left_out` together."""

    read: int = 0
    used: int = 0
    rows: int = 0
    """Rows written."""
    left_out: Counter[Reason] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """The first few broken prompts and outputs, each with file and row."""

    def leave_out(self, reason: Reason, count: int = 1) -> None:
        """Count ratings that are not used."""
        self.left_out[reason] += count

    def fault(self, place: str, reason: Reason, what: str, count: int) -> None:
        """Count ratings of a broken row and remember where it is."""
        self.leave_out(reason, count)
        if len(self.faults) < _FAULTS_SHOWN:
            self.faults.append(f"{place}: {what}")

    def lines(self) -> list[str]:
        """Return the report for people, one count a line."""
        counts = [(reason.value, count) for reason, count in self.left_out.items() if count]
        left = [f"  {count:>8,}  {reason}" for reason, count in sorted(counts, key=lambda pair: -pair[1])]
        head = f"ratings: {self.read:,} read, {self.used:,} used; rows made: {self.rows:,}"
        return [head, *(["left out:"] if left else []), *left]

"""Ratings turned into weighted examples for supervised fine-tuning."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from spellbound.data.examples import Example, ExampleRating
from spellbound.data.fields import Provenance
from spellbound.data.ratings.consent import Ledger
from spellbound.data.ratings.opinions import (
    Log,
    Slip,
    admitted,
    by_text,
    fault_of,
    mean_score,
    one_a_reader,
    share_flagged,
    source_of,
    texts,
)
from spellbound.data.ratings.records import FLAGS, FlagKind, Rating
from spellbound.data.ratings.report import Reason, Report
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError

VETO: frozenset[FlagKind] = frozenset({"wrong speaker", "wrong language", "broken tags", "harmful"})
"""Flags that keep an output from being an example; the others make it weigh less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What holds for every use of ratings: how much one reader counts, and what a flag does."""

    per_user: int = 100
    """Ratings of one reader that count; of more, the newest."""
    veto: frozenset[FlagKind] = VETO
    licence: str = ""
    """Licence of the rows made."""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing and flags that nobody can put."""
        if self.per_user < 1:
            raise InputError(f"per_user is {self.per_user}; give at least 1")
        if unknown := self.veto - set(FLAGS):
            raise InputError(f"flag {min(unknown)!r} is unknown; use some of {', '.join(FLAGS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRules:
    """How ratings become weights. The weight is never zero or negative: there is no unlearning here."""

    share: Share = field(default_factory=Share)
    threshold: float = 0.6
    """Least mean score of an example."""
    least_weight: float = 0.25
    """Weight at the threshold; from there it grows in a straight line to 1 at score 1."""
    readers: int = 1
    """Least number of readers of an example."""
    flag_discount: float = 0.5
    """Part of the weight that is lost if every reader put a flag that is no veto."""

    def __post_init__(self) -> None:
        """Refuse settings that make no or no positive weights."""
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold:g}; give 0 to 1")
        if not 0 < self.least_weight <= 1:
            raise InputError(f"least_weight is {self.least_weight:g}; give more than 0, at most 1")
        if self.readers < 1:
            raise InputError(f"readers is {self.readers}; give at least 1")
        if not 0 <= self.flag_discount < 1:
            raise InputError(f"flag_discount is {self.flag_discount:g}; give 0 or more, less than 1")

    def weight(self, score: float, flagged: float = 0.0) -> float:
        """Return the weight of an example with this mean score, of whose readers this part put a flag."""
        height = 1.0 if self.threshold == 1 else (score - self.threshold) / (1 - self.threshold)
        return (self.least_weight + (1 - self.least_weight) * height) * (1 - self.flag_discount * flagged)


def rated_examples(log: Log, ledger: Ledger, rules: ExampleRules, report: Report) -> Iterator[Example]:
    """Yield an example for each good output, in the order of the log; the report says what of the rest."""
    groups = by_text(admitted(log, ledger, rules.share.per_user, report))
    good = {text: slips for text, slips in groups.items() if _is_good(slips, rules, report)}
    for slip, place, rating in texts(log, (slips[0] for slips in good.values())):
        slips = good[slip.text]
        if fault := fault_of(rating):
            report.fault(place, *fault, len(slips))
            continue
        report.used += len(slips)
        report.rows += 1
        yield _example(slips, rating, rules)


def row_id(kind: str, *digests: bytes) -> str:
    """Return an id that is the same in every build."""
    return f"{kind}-{hashlib.blake2b(b''.join(digests), digest_size=12).hexdigest()}"


def provenance(ratings: Iterable[Rating]) -> Provenance:
    """Say which models wrote what was rated."""
    rows = list(ratings)
    adapters = sorted({rating.adapter for rating in rows if rating.adapter})
    return Provenance(
        annotator="ratings",
        model=", ".join(sorted({rating.model for rating in rows})),
        versions={"adapter": ", ".join(adapters)} if adapters else {},
    )


def _is_good(slips: list[Slip], rules: ExampleRules, report: Report) -> bool:
    """Whether an output is good enough; counts its ratings if not."""
    reason = None
    if share_flagged(slips, rules.share.veto):
        reason = Reason.VETO
    elif len(one_a_reader(slips)) < rules.readers:
        reason = Reason.FEW
    elif mean_score(slips) < rules.threshold:
        reason = Reason.BELOW
    if reason is not None:
        report.leave_out(reason, len(slips))
    return reason is None


def _example(slips: list[Slip], rating: Rating, rules: ExampleRules) -> Example:
    score = mean_score(slips)
    flagged = share_flagged(slips, frozenset(FLAGS) - rules.share.veto)
    return Example(
        id=row_id("rated", slips[0].text),
        prompt=StoryPrompt.parse(rating.prompt),
        completion=rating.output,
        weight=rules.weight(score, flagged),
        language=rating.language,
        source=source_of(rating),
        licence=rules.share.licence,
        provenance=provenance([rating]),
        rating=ExampleRating(
            score=score,
            count=len(one_a_reader(slips)),
            consent=", ".join(sorted({slip.consent for slip in slips})),
        ),
    )

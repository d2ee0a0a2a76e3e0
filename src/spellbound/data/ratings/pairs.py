"""Preference rows: chosen and rejected siblings for DPO, thumbs for KTO."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from spellbound.data.fields import Language, Licence, Prompt, Provenance
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
from spellbound.data.ratings.rated import Share, provenance, row_id
from spellbound.data.ratings.records import Rating
from spellbound.data.ratings.report import Reason, Report
from spellbound.data.rows import read_rows, write_rows
from spellbound.directives import StoryPrompt
from spellbound.errors import InputError


class Pair(BaseModel):
    """Two outputs to one prompt, one of which readers liked better."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: Annotated[str, Field(min_length=1)]
    prompt: Prompt
    chosen: str
    rejected: str
    margin: Annotated[float, Field(ge=0, le=1)]
    """By how much the chosen one was liked better, mean over readers of both; 0 where it was picked."""
    readers: Annotated[int, Field(ge=1)] = 1
    implicit: bool = False
    """Picked among swipes and not rated."""
    language: Language = ""
    source: str = ""
    licence: Licence = ""
    provenance: Provenance


class Thumb(BaseModel):
    """An output that readers found good or bad."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: Annotated[str, Field(min_length=1)]
    prompt: Prompt
    completion: str
    label: bool
    """True for good."""
    score: Annotated[float, Field(ge=0, le=1)]
    readers: Annotated[int, Field(ge=1)] = 1
    language: Language = ""
    source: str = ""
    licence: Licence = ""
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRules:
    """Which siblings make a pair: outputs to the same prompt, rated by the same readers."""

    share: Share = field(default_factory=Share)
    margin: float = 0.25
    """Least difference of the scores, mean over the readers who rated both."""
    least_chosen: float = 0.5
    """Least mean score of what is chosen: the better of two bad ones is no model to follow."""
    per_prompt: int = 4
    """Pairs of one prompt; of more, those with the widest margin."""

    def __post_init__(self) -> None:
        """Refuse settings that no pair, or a pair with itself, would meet."""
        if not 0 < self.margin <= 1:
            raise InputError(f"margin is {self.margin:g}; give more than 0, at most 1")
        if not 0 <= self.least_chosen <= 1:
            raise InputError(f"least_chosen is {self.least_chosen:g}; give 0 to 1")
        if self.per_prompt < 1:
            raise InputError(f"per_prompt is {self.per_prompt}; give at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbRules:
    """From which mean score on an output is good, and up to which it is bad."""

    share: Share = field(default_factory=Share)
    good: float = 0.75
    bad: float = 0.25

    def __post_init__(self) -> None:
        """Refuse bounds that overlap."""
        if not 0 <= self.bad < self.good <= 1:
            raise InputError(f"bad is {self.bad:g} and good {self.good:g}; give 0 <= bad < good <= 1")


@dataclass(frozen=True, slots=True)
class _Match:
    """Two siblings, by the digests of their texts."""

    chosen: bytes
    rejected: bytes
    margin: float
    readers: int


def preference_pairs(log: Log, ledger: Ledger, rules: PairRules, report: Report) -> Iterator[Pair]:
    """Yield pairs as soon as both sides were read; the report says what became of every rating."""
    slips = admitted(log, ledger, rules.share.per_user, report)
    groups = by_text(slips)
    siblings: defaultdict[bytes, list[Slip]] = defaultdict(list)
    for slip in slips:
        siblings[slip.prompt].append(slip)
    matches = [match for each in siblings.values() for match in _matches(by_text(each), rules, report)]
    yield from _fetched(log, matches, groups, rules.share.licence, report)


def thumbs(log: Log, ledger: Ledger, rules: ThumbRules, report: Report) -> Iterator[Thumb]:
    """Yield a row for each output found good or bad; one with a flag that is a veto is bad."""
    groups = by_text(admitted(log, ledger, rules.share.per_user, report))
    labels: dict[bytes, bool] = {}
    for text, slips in groups.items():
        score = mean_score(slips)
        bad = score <= rules.bad or share_flagged(slips, rules.share.veto) > 0
        if bad or score >= rules.good:
            labels[text] = not bad
        else:
            report.leave_out(Reason.UNDECIDED, len(slips))
    for slip, place, rating in texts(log, (groups[text][0] for text in labels)):
        slips = groups[slip.text]
        if fault := fault_of(rating):
            report.fault(place, *fault, len(slips))
            continue
        report.used += len(slips)
        report.rows += 1
        yield Thumb(
            id=row_id("thumb", slip.text),
            prompt=StoryPrompt.parse(rating.prompt),
            completion=rating.output,
            label=labels[slip.text],
            score=mean_score(slips),
            readers=len(one_a_reader(slips)),
            language=rating.language,
            source=source_of(rating),
            licence=rules.share.licence,
            provenance=provenance([rating]),
        )


def read_pairs(paths: Iterable[Path]) -> Iterator[Pair]:
    """Read pairs one by one; InputError names the file, the row and the field of the first fault."""
    return read_rows(paths, Pair)


def read_thumbs(paths: Iterable[Path]) -> Iterator[Thumb]:
    """Read thumbs one by one; InputError names the file, the row and the field of the first fault."""
    return read_rows(paths, Thumb)


def write_pairs(path: Path, rows: Iterable[Pair]) -> int:
    """Write pairs as they come; the file is there when all are. Return how many."""
    return write_rows(path, rows, Pair)


def write_thumbs(path: Path, rows: Iterable[Thumb]) -> int:
    """Write thumbs as they come; the file is there when all are. Return how many."""
    return write_rows(path, rows, Thumb)


def _matches(siblings: dict[bytes, list[Slip]], rules: PairRules, report: Report) -> list[_Match]:
    """Return the pairs of one prompt; ratings that are in none are counted."""
    scores = {text: one_a_reader(slips) for text, slips in siblings.items()}
    read: defaultdict[str, list[bytes]] = defaultdict(list)
    for text in sorted(scores):
        for user in scores[text]:
            read[user].append(text)
    both_read = sorted({pair for texts_read in read.values() for pair in combinations(texts_read, 2)})
    compared = [_compare(*pair, scores) for pair in both_read]
    wide = [match for match in compared if match.margin >= rules.margin - 1e-9]
    allowed = [match for match in wide if _may_be_chosen(siblings[match.chosen], rules)]
    allowed.sort(key=lambda match: (-match.margin, match.chosen, match.rejected))
    kept = allowed[: rules.per_prompt]
    stages = (
        (compared, Reason.ALONE),
        (wide, Reason.MARGIN),
        (allowed, Reason.BELOW),
        (kept, Reason.PROMPT_CAP),
    )
    for text, slips in siblings.items():
        for matches, reason in stages:
            if all(text not in (match.chosen, match.rejected) for match in matches):
                report.leave_out(reason, len(slips))
                break
    return kept


def _compare(one: bytes, two: bytes, scores: dict[bytes, dict[str, float]]) -> _Match:
    """Return which of two outputs the readers of both liked better."""
    ours, theirs = scores[one], scores[two]
    both = sorted(ours.keys() & theirs.keys())
    lead = sum(ours[user] - theirs[user] for user in both) / len(both)
    chosen, rejected = (one, two) if lead > 0 else (two, one)
    return _Match(chosen, rejected, min(1.0, abs(lead)), len(both))


def _may_be_chosen(slips: list[Slip], rules: PairRules) -> bool:
    return not share_flagged(slips, rules.share.veto) and mean_score(slips) >= rules.least_chosen


def _fetched(
    log: Log, matches: list[_Match], groups: dict[bytes, list[Slip]], licence: str, report: Report
) -> Iterator[Pair]:
    """Yield the pairs with their texts; each text is held only until its last pair."""
    waiting: defaultdict[bytes, list[_Match]] = defaultdict(list)
    for match in matches:
        waiting[match.chosen].append(match)
        waiting[match.rejected].append(match)
    held: dict[bytes, Rating] = {}
    used: set[bytes] = set()
    for slip, place, rating in texts(log, (groups[text][0] for text in waiting)):
        if fault := fault_of(rating):
            report.fault(place, *fault, len(groups[slip.text]))
            for match in waiting.pop(slip.text):
                other = match.rejected if match.chosen == slip.text else match.chosen
                if other in waiting:
                    waiting[other].remove(match)
            continue
        held[slip.text] = rating
        for match in list(waiting[slip.text]):
            if match.chosen in held and match.rejected in held:
                report.rows += 1
                used |= {match.chosen, match.rejected}
                yield _pair(match, held[match.chosen], held[match.rejected], licence)
                waiting[match.chosen].remove(match)
                waiting[match.rejected].remove(match)
                for text in (match.chosen, match.rejected):
                    if not waiting[text]:
                        del held[text]
    for text in waiting:
        if text in used:
            report.used += len(groups[text])
        else:  # what it was compared with is broken
            report.leave_out(Reason.ALONE, len(groups[text]))


def _pair(match: _Match, chosen: Rating, rejected: Rating, licence: str) -> Pair:
    return Pair(
        id=row_id("pair", match.chosen, match.rejected),
        prompt=StoryPrompt.parse(chosen.prompt),
        chosen=chosen.output,
        rejected=rejected.output,
        margin=match.margin,
        readers=match.readers,
        language=chosen.language,
        source=source_of(chosen),
        licence=licence,
        provenance=provenance([chosen, rejected]),
    )

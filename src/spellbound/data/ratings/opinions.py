"""From the log to what counts: ratings under live consent, the latest of each reader and passage, a fair
share each.

The log is gone through twice, so that only a few numbers of each rating are held in memory: here the ratings
that count are found, and `texts` later fetches the prompts and outputs of those that are used.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spellbound.data.ratings.consent import Ledger
from spellbound.data.ratings.records import FlagKind, Rating
from spellbound.data.ratings.report import Reason, Report
from spellbound.directives import Close, Open, StoryPrompt, StreamParser
from spellbound.errors import DirectiveError, InputError


class Log(Protocol):
    """Ratings with the places they stand at; can be gone through again."""

    def __iter__(self) -> Iterator[tuple[str, Rating]]:
        """Yield (place, rating)."""


@dataclass(frozen=True, slots=True)
class Slip:
    """What is remembered of one rating."""

    number: int
    """Place in the log, from 0."""
    user: str
    passage: bytes
    """Digest of the ids of story and passage."""
    time: datetime
    score: float
    flags: frozenset[FlagKind]
    prompt: bytes
    """Digest of the prompt. It holds all that came before, so passages with the same one are siblings."""
    text: bytes
    """Digest of prompt and output."""
    consent: str


def admitted(log: Log, ledger: Ledger, per_user: int, report: Report) -> list[Slip]:
    """Return the ratings that count, in the order of the log; the others are counted in the report.

    The latest of a reader's ratings of one passage wins, and of two at the same time the later in the log. Of
    a reader with more than `per_user` ratings the newest count.
    """
    latest: dict[tuple[str, bytes], Slip] = {}
    for number, (_, rating) in enumerate(log):
        report.read += 1
        if reason := ledger.refusal(rating):
            report.leave_out(reason)
            continue
        slip = _slip(number, rating)
        other = latest.get((slip.user, slip.passage))
        if other is not None:
            report.leave_out(Reason.SUPERSEDED)
        if other is None or slip.time >= other.time:
            latest[slip.user, slip.passage] = slip
    by_user: defaultdict[str, list[Slip]] = defaultdict(list)
    for slip in latest.values():
        by_user[slip.user].append(slip)
    shares = [_newest(slips, per_user, report) for slips in by_user.values()]
    return sorted((slip for share in shares for slip in share), key=lambda slip: slip.number)


def by_text(slips: Iterable[Slip]) -> dict[bytes, list[Slip]]:
    """Put together the ratings of the same output to the same prompt."""
    groups: defaultdict[bytes, list[Slip]] = defaultdict(list)
    for slip in slips:
        groups[slip.text].append(slip)
    return groups


def one_a_reader(slips: Sequence[Slip]) -> dict[str, float]:
    """Return each reader's mean score, so that nobody counts twice."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for slip in slips:
        scores[slip.user].append(slip.score)
    return {user: sum(each) / len(each) for user, each in scores.items()}


def mean_score(slips: Sequence[Slip]) -> float:
    """Return the mean over readers, to nine digits: three times 0.7 is 0.7, and not a hair less."""
    scores = one_a_reader(slips)
    return min(1.0, round(sum(sorted(scores.values())) / len(scores), 9))


def share_flagged(slips: Sequence[Slip], kinds: frozenset[FlagKind]) -> float:
    """Return which part of the readers put one of these flags."""
    users = {slip.user for slip in slips}
    return len({slip.user for slip in slips if slip.flags & kinds}) / len(users)


def texts(log: Log, wanted: Iterable[Slip]) -> Iterator[tuple[Slip, str, Rating]]:
    """Yield (slip, place, rating) of the ratings wanted, in the order of the log.

    InputError if the log is another one than when it was first read.
    """
    slips = {slip.number: slip for slip in wanted}
    for number, (place, rating) in enumerate(log):
        slip = slips.pop(number, None)
        if slip is not None:
            if _slip(number, rating) != slip:
                raise InputError(f"{place}: the log was rewritten while it was read; run it again")
            yield slip, place, rating
    if slips:
        raise InputError("the log became shorter while it was read; run it again")


def fault_of(rating: Rating) -> tuple[Reason, str] | None:
    """Return what is wrong with a prompt or output, None if they can be trained on."""
    try:
        prompt = StoryPrompt.parse(rating.prompt)
    except DirectiveError as error:
        return Reason.PROMPT, f"the prompt cannot be read: {error}"
    if not rating.output.strip():
        return Reason.EMPTY, "the output is empty"
    parser = StreamParser(prompt.characters)
    events = [*parser.feed(rating.output), *parser.close()]
    if parser.repairs:
        return Reason.MALFORMED, f"output: {parser.repairs[0].message}"
    tags = sum(isinstance(event, Open | Close) for event in events)
    if tags and not prompt.tags:
        return Reason.MALFORMED, "the output has tags, though the prompt asks for none"
    # No tag holds one of these between its ends, so what is more than the tags is text.
    for sign, reference in (("<", "&lt;"), (">", "&gt;")):
        if rating.output.count(sign) != tags:
            return Reason.MALFORMED, f"the output has a {sign} outside tags; it is written {reference}"
    return None


def source_of(rating: Rating) -> str:
    """Return a name for the story that does not tell which one it is."""
    return f"story-{hashlib.blake2b(rating.story.encode(), digest_size=8).hexdigest()}"


def _newest(slips: list[Slip], share: int, report: Report) -> list[Slip]:
    newest = sorted(slips, key=lambda slip: (slip.time, slip.number), reverse=True)
    if len(newest) > share:
        report.leave_out(Reason.USER_CAP, len(newest) - share)
    return newest[:share]


def _slip(number: int, rating: Rating) -> Slip:
    return Slip(
        number=number,
        user=sys.intern(rating.user),
        passage=_digest(rating.story, rating.passage),
        time=rating.time,
        score=rating.score,
        flags=frozenset(flag.kind for flag in rating.flags),
        prompt=_digest(rating.prompt),
        text=_digest(rating.prompt, rating.output),
        consent=sys.intern(rating.consent),
    )


def _digest(*parts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()

"""Which ratings may be used: the consent events of every reader, looked at from the moment of a build.

A rating may be used if its reader gave the consent of the rating's own version, for the scope asked for,
before the rating, and has not withdrawn that scope since. A withdrawal ends every version, for ratings before
and after it. A consent given anew counts from then on; only if it says `revives` does it bring back what was
rated under an earlier one. Where two events have the same time, the withdrawal is the later. A withdrawal
counts even if it is dated in the future: a wrong clock must not keep it from being heard.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from spellbound.data.ratings.records import Consent, Rating, Scope
from spellbound.data.ratings.report import Reason
from spellbound.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What consent a build asks for."""

    versions: frozenset[str]
    """Versions of the consent text under which ratings are accepted."""
    at: datetime
    """The moment of the build; what is dated later does not count yet."""
    scope: Scope = "training"

    def __post_init__(self) -> None:
        """Refuse terms that no rating or every rating would meet."""
        if not self.versions:
            raise InputError("no version of the consent is accepted; name those that are")
        if self.at.tzinfo is None:
            raise InputError(f"at is {self.at}, without a time zone; add one, for instance +00:00")


class Ledger:
    """The consent of every reader at the moment of a build."""

    def __init__(self, events: Iterable[Consent], terms: Terms) -> None:
        """Sort out the events; `digest` tells one snapshot of them from another."""
        self.terms = terms
        self._given: defaultdict[str, list[Consent]] = defaultdict(list)
        self._withdrawn: defaultdict[str, list[datetime]] = defaultdict(list)
        lines: list[str] = []
        for event in events:
            lines.append(json.dumps(event.model_dump(mode="json"), sort_keys=True))
            if terms.scope not in event.scopes:
                continue
            if event.event == "withdrawn":
                self._withdrawn[event.user].append(event.time)
            elif event.time <= terms.at:
                self._given[event.user].append(event)
        self.events = len(lines)
        self.digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    @property
    def live(self) -> int:
        """Readers whose consent of an accepted version is live."""
        return sum(
            any(given.version in self.terms.versions and self._stands(given) for given in events)
            for events in self._given.values()
        )

    def refusal(self, rating: Rating) -> Reason | None:
        """Return why a rating may not be used, None if it may."""
        if self.terms.scope not in rating.scopes:
            return Reason.SCOPE
        if rating.consent not in self.terms.versions:
            return Reason.VERSION
        if rating.time > self.terms.at:
            return Reason.FUTURE
        events = self._given.get(rating.user, [])
        own = [given for given in events if given.version == rating.consent]
        covering = [given for given in own if given.time <= rating.time]
        if any(self._stands(given) for given in covering):
            return None
        if not own:
            return Reason.WITHDRAWN if self._withdrawn.get(rating.user) else Reason.NO_CONSENT
        if not covering:
            return Reason.PREDATES
        was_live = any(self._stands(given, until=rating.time) for given in covering)
        return None if was_live and any(map(self._revives, events)) else Reason.WITHDRAWN

    def _stands(self, given: Consent, until: datetime | None = None) -> bool:
        """Whether no withdrawal followed a consent, up to a time or at all."""
        return not any(
            given.time <= time and (until is None or time <= until)
            for time in self._withdrawn.get(given.user, [])
        )

    def _revives(self, given: Consent) -> bool:
        return given.revives and given.version in self.terms.versions and self._stands(given)

"""Requests and tokens per minute, kept by waiting before a request rather than by being refused after it."""

import threading
from collections.abc import Callable


class RateLimit:
    """One bucket for requests and one for tokens; each fills in a minute and lets its rate through.

    A request takes what it may need at most, if need be on credit; what it did not need comes back with its
    answer. A full bucket holds a tenth of a minute, so that a start is no burst.
    """

    def __init__(
        self, requests_per_minute: float, tokens_per_minute: float, clock: Callable[[], float]
    ) -> None:
        """Start with full buckets; a rate of 0 is no limit. `clock` gives seconds."""
        self._rates = (requests_per_minute / 60, tokens_per_minute / 60)
        self._full = (max(1.0, requests_per_minute / 10), tokens_per_minute / 10)
        self._held = list(self._full)
        self._clock = clock
        self._at = clock()
        self._closed_until = self._at
        self._lock = threading.Lock()

    def take(self, tokens: int) -> float:
        """Take a request of so many tokens and return 0, or take nothing and return the seconds to wait."""
        with self._lock:
            now = self._clock()
            self._fill(now)
            wanted = (1.0, float(tokens))
            waits = [self._closed_until - now]
            for rate, full, held, want in zip(self._rates, self._full, self._held, wanted, strict=True):
                waits.append((min(want, full) - held) / rate if rate else 0.0)
            # A wait this short is an error of rounding and would be taken again without end.
            if max(waits) > 1e-6:
                return max(waits)
            self._held = [held - want for held, want in zip(self._held, wanted, strict=True)]
            return 0.0

    def give_back(self, tokens: int) -> None:
        """Return tokens that were taken and not needed."""
        with self._lock:
            self._held[1] = min(self._full[1], self._held[1] + tokens)

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long: the server has asked for it."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _fill(self, now: float) -> None:
        passed, self._at = now - self._at, now
        for index, rate in enumerate(self._rates):
            self._held[index] = min(self._full[index], self._held[index] + passed * rate)

"""Strings that end a text: nothing of them is ever shown, however the text is cut into pieces."""

from collections.abc import Sequence

from spellbound.errors import InputError


class StopStrings:
    """Takes a text in pieces, gives back what is certain; what may become a stop string is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop at the first of these that is whole."""
        if isinstance(stops, str):
            raise InputError(f"stop is {stops!r:.40}, one string; give a list of strings")
        if any(not stop for stop in stops):
            raise InputError("a stop string is empty; leave it out, or give at least one character")
        self._stops = tuple(dict.fromkeys(stops))
        self._held = ""
        self.found: str | None = None
        """The one that was met; what is fed after it is ignored."""

    def feed(self, text: str) -> str:
        """Take some more; return what can be shown."""
        if self.found is not None:
            return ""
        self._held += text
        places = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            _, at, self.found = min(places)
            shown, self._held = self._held[:at], ""
            return shown
        keep = self._possible()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """Return what was held back, now that nothing follows."""
        shown, self._held = self._held, ""
        return shown

    def _possible(self) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        longest = min(len(self._held), max((len(stop) - 1 for stop in self._stops), default=0))
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

"""Which tag may stand in which: any in any other, but none in one of its own kind.

So at most three are open at once, whatever the input.
"""

from spellbound.directives.events import Close, Event, Kind, Open, Text
from spellbound.directives.positions import Position
from spellbound.directives.repairs import Repair, RepairCode

_NOWHERE = Position(0, 1, 1)


class Nesting:
    """The stack of what is open; mends what does not nest and keeps the record of it in `repairs`."""

    def __init__(self) -> None:
        """Start with nothing open."""
        self.repairs: list[Repair] = []
        self._open: list[tuple[Kind, str, Position]] = []

    def take(self, event: Event) -> list[Event]:
        """One event that comes from no text, mended as its tag would be."""
        match event:
            case Open():
                return self.open(event, "", _NOWHERE)
            case Close(kind):
                return self.close(kind, "", _NOWHERE)
            case Text():
                return [event]

    def open(self, event: Open, tag: str, at: Position) -> list[Event]:
        """Open it, after closing one of the same kind that is still open, with all that is in that one."""
        events: list[Event] = []
        if self._is_open(event.kind):
            events = self._close_down_to(event.kind)
            self.mend("nested", tag, at)
        self._open.append((event.kind, tag, at))
        return [*events, event]

    def close(self, kind: Kind, tag: str, at: Position) -> list[Event]:
        """Close it with all that is still open in it; nothing happens if it is not open."""
        if not self._is_open(kind):
            self.mend("unopened", tag, at)
            return []
        return self._close_down_to(kind)

    def finish(self) -> list[Event]:
        """Close whatever is open at the end of the text."""
        events: list[Event] = []
        while self._open:
            events.append(self._close_innermost_unclosed())
        return events

    def mend(self, code: RepairCode, tag: str, at: Position) -> None:
        """Put one repair on record."""
        self.repairs.append(Repair(code, tag, at.offset, at.line, at.column))

    def _is_open(self, kind: Kind) -> bool:
        return any(open_kind == kind for open_kind, _, _ in self._open)

    def _close_down_to(self, kind: Kind) -> list[Event]:
        events: list[Event] = []
        while self._open[-1][0] != kind:
            events.append(self._close_innermost_unclosed())
        self._open.pop()
        return [*events, Close(kind)]

    def _close_innermost_unclosed(self) -> Close:
        kind, tag, at = self._open.pop()
        self.mend("unclosed", tag, at)
        return Close(kind)

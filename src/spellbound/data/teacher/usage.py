"""What a run asked and what it cost, counted as it goes."""

import threading
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Usage:
    """Counters of one run; safe between threads through `add`."""

    calls: int = 0
    """Requests the server answered."""
    cached: int = 0
    """Requests answered from disk, or by the same request under way."""
    retried: int = 0
    """Tries after a failure of the server."""
    explained: int = 0
    """Answers that were wrong and asked for again with the faults explained."""
    refused: int = 0
    """Questions without a right answer after all attempts."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    perhaps_paid: int = 0
    """Calls that were cut off and count at their highest price."""
    notices: list[str] = field(default_factory=list)
    """What had to be done differently from what was asked."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **amounts: float) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def notice(self, text: str) -> None:
        """Put a notice on record, once."""
        with self._lock:
            if text not in self.notices:
                self.notices.append(text)

    def to_dict(self) -> dict[str, object]:
        """Return the counters for a report file."""
        names = [each.name for each in fields(self) if not each.name.startswith("_")]
        return {name: getattr(self, name) for name in names}

    def report(self) -> str:
        """Return one line for people, and one for each notice."""
        line = (
            f"teacher: {self.calls:,} calls, {self.cached:,} from the cache, {self.retried:,} retried, "
            f"{self.explained:,} asked again, {self.refused:,} refused; "
            f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out, cost {self.cost:.4f}"
        )
        if self.perhaps_paid:
            line += f", of it {self.perhaps_paid} calls cut off, at their highest price"
        return "\n".join([line, *(f"teacher: {text}" for text in self.notices)])

"""Counts of examples and tagged stories; memory does not grow with their number."""

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

from spellbound.data.checks import segments
from spellbound.data.examples import Example
from spellbound.data.tagged import TaggedStory
from spellbound.directives import KINDS, Event, Open, Text, parse

_MOST_NAMES = 20_000
_LARGEST = 1e100  # greater ones would make the arithmetic of the pictures overflow
_QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99}


class Spread:
    """How numbers are spread; they are kept to three digits, their sum, least and largest exactly."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counts: Counter[float] = Counter()
        self.total = 0.0
        self.least, self.largest = inf, -inf
        self.whole = True

    def add(self, value: float) -> None:
        """Count a number, 0 or more."""
        value = min(value, _LARGEST)
        self.counts[float(f"{value:.3g}")] += 1
        self.total += value
        self.whole = self.whole and float(value).is_integer()
        self.least, self.largest = min(self.least, value), max(self.largest, value)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self.counts.total()

    def quantile(self, share: float) -> float:
        """The number that this share of them does not exceed, to three digits."""
        wanted, seen = share * self.count, 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= wanted:
                break
        return min(max(value, self.least), self.largest)

    def to_row(self) -> dict[str, float]:
        """Return count, mean, quantiles, least and largest, and of whole numbers the sum."""
        return {
            "count": self.count,
            "mean": self.total / self.count,
            "min": self.least,
            **{name: self.quantile(share) for name, share in _QUANTILES.items()},
            "max": self.largest,
            **({"sum": self.total} if self.whole else {}),
        }


class Names:
    """How often names occur; the first 20,000 are told apart, those that come later are counted as others."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counts: Counter[str] = Counter()
        self.others = 0

    def add(self, name: str, count: int = 1) -> None:
        """Count a name."""
        if name in self.counts or len(self.counts) < _MOST_NAMES:
            self.counts[name] += count
        else:
            self.others += count

    def most(self, number: int) -> list[tuple[str, int]]:
        """The most frequent names, then all that are left as one."""
        chosen = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        rest = self.others + sum(count for _, count in chosen[number:])
        left = len(chosen) - number
        # Of those that came too late nobody knows how many different ones there are.
        others = "others" if self.others else f"{left:,} others"
        return chosen[:number] + ([(others, rest)] if rest else [])

    def to_row(self) -> dict[str, int]:
        """Return the counts, the most frequent first."""
        return dict(self.most(_MOST_NAMES))


class Tally:
    """What is counted of examples and tagged stories."""

    def __init__(self, tokens: Callable[[str], int] | None = None) -> None:
        """Begin with none; `tokens` counts the tokens of a text."""
        self.rows = {"examples": 0, "tagged stories": 0}
        self.spreads: dict[str, Spread] = {}
        self.names: dict[str, Names] = {}
        self._tokens = tokens

    def add(self, row: Example | TaggedStory) -> None:
        """Count a row."""
        if isinstance(row, Example):
            self._example(row)
        else:
            self._tagged(row)
        self._name("language", row.language)
        self._name("collection", row.source.rpartition("/")[0] or row.source)
        self._name("source", row.source)
        self._name("licence", row.licence)
        self._name("annotator", row.provenance.annotator)
        if row.provenance.model:
            self._name("model", row.provenance.model)

    def to_row(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        return {
            "rows": self.rows,
            "numbers": {name: spread.to_row() for name, spread in self.spreads.items()},
            "names": {name: names.to_row() for name, names in self.names.items()},
        }

    def _example(self, row: Example) -> None:
        self.rows["examples"] += 1
        prompt = row.prompt
        self._length("prompt", prompt.render())
        self._length("past story", prompt.past_story, _plain(parse(prompt.past_story)))
        self._markup("completion", row.completion)
        self._spread("characters in the cast", len(prompt.characters))
        self._spread("instructions", len(prompt.instructions))
        self._spread("weight", row.weight)
        self._name("form", "tagged" if prompt.tags else "plain prose")
        for check in row.checks:
            self._name("instruction kind", check.kind)
        if row.rating is not None:
            self._spread("rating", row.rating.score)

    def _tagged(self, row: TaggedStory) -> None:
        self.rows["tagged stories"] += 1
        length = self._markup("story", row.text)
        self._spread("characters in the cast", len(row.cast))
        if length:
            doubtful = sum(max(0, end - start) for start, end in row.doubtful)
            self._spread("share in doubt", min(1.0, doubtful / length))

    def _markup(self, name: str, text: str) -> int:
        """Count the tags and speakers of a text; return its length without tags."""
        events = parse(text)
        plain = _plain(events)
        words = self._length(name, text, plain)
        opened = [event for event in events if isinstance(event, Open)]
        for kind in KINDS:
            count = sum(event.kind == kind for event in opened)
            self._spread(f"{kind}s a row", count)
            self._name("tag", kind, count)
        self._spread("speakers", len({event.speaker for event in opened if event.kind == "quote"}))
        if words:
            said = sum(len(part.text.split()) for part in segments(events) if part.kind == "quote")
            self._spread("share of speech", min(1.0, said / words))
        return len(plain)

    def _length(self, name: str, text: str, plain: str | None = None) -> int:
        """Count the words, tags left out if that is given, and the tokens of a text."""
        words = len((text if plain is None else plain).split())
        self._spread(f"{name}, words", words)
        if self._tokens is not None:
            self._spread(f"{name}, tokens", self._tokens(text))
        return words

    def _spread(self, name: str, value: float) -> None:
        self.spreads.setdefault(name, Spread()).add(value)

    def _name(self, group: str, name: str, count: int = 1) -> None:
        self.names.setdefault(group, Names()).add(name or "unknown", count)


def _plain(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))

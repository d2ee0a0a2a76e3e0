"""What a build has counted: by task while it runs, together in its report."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spellbound.data.pipeline.lines import read_lines, write_lines, written

UNKNOWN = "unknown"
"""Stands for a language that nobody knows."""


class Counts:
    """Counters by what is counted (`documents`, `refused: leak`, ...) and language."""

    def __init__(self, rows: Iterable[tuple[str, str, int]] = ()) -> None:
        """Begin with what was counted elsewhere."""
        self._counter: Counter[tuple[str, str]] = Counter()
        for what, language, count in rows:
            self._counter[what, language] += count

    def add(self, what: str, language: str, count: int = 1) -> None:
        """Count."""
        self._counter[what, language or UNKNOWN] += count

    def write(self, path: Path) -> None:
        """Keep the counts in a file."""
        rows = sorted((*key, count) for key, count in self._counter.items())
        write_lines(path, map(written, rows))

    @classmethod
    def together(cls, paths: Iterable[Path]) -> "Counts":
        """The sum of the counts in files."""
        return cls((what, language, count) for path in paths for what, language, count in read_lines(path))

    def total(self, what: str) -> int:
        """Of all languages."""
        return sum(count for (name, _), count in self._counter.items() if name == what)

    def by_language(self, what: str) -> dict[str, int]:
        """Of each language, in alphabetical order."""
        found = {code: count for (name, code), count in self._counter.items() if name == what}
        return dict(sorted(found.items()))

    def reasons(self, prefix: str) -> dict[str, int]:
        """Totals of everything whose name begins so, under the rest of its name."""
        names = sorted({name for name, _ in self._counter if name.startswith(prefix)})
        return {name.removeprefix(prefix): self.total(name) for name in names}


def report_of(counts: Counts, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a finished build, the same however it was run."""
    return {
        "files": {"read": counts.total("files"), "refused": counts.total("files refused")},
        "documents": {
            "read": counts.total("documents"),
            "repeated": counts.total("documents repeated"),
            "refused": counts.total("documents refused"),
        },
        "stories": {
            "tagged": counts.total("stories"),
            "without_examples": counts.total("stories without examples"),
        },
        "examples": {
            "made": counts.total("examples made"),
            "refused": counts.reasons("refused: "),
            "duplicates": counts.total("duplicates"),
            "near_duplicates": counts.total("near-duplicates"),
            "kept": counts.total("examples"),
        },
        "languages": {
            code: {
                what: counts.by_language(what).get(code, 0) for what in ("documents", "stories", "examples")
            }
            for code in counts.by_language("documents")
        },
        "built_with": {
            key: plan[key] for key in ("annotators", "instructor", "settings", "limits", "spellbound")
        },
    }

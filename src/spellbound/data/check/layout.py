"""Which rows a file holds, and what is wrong with the file as a whole."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from spellbound.data.check.faults import Finding
from spellbound.data.examples import Example
from spellbound.data.jsonl import begins_with_mark
from spellbound.data.rows import kind_in, kind_of
from spellbound.data.stored import StoredRow


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is wrong with a Parquet file's columns: said once, and not of every row again."""

    unknown: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, names: Iterable[str], model: type[BaseModel]) -> "Columns":
        """Compare names with the fields of a schema."""
        unknown = frozenset(names) - model.model_fields.keys()
        needed = {name for name, each in model.model_fields.items() if each.is_required()}
        missing = frozenset(needed.difference(names))
        findings = [
            *(
                Finding(name, "unknown-field", "is an unknown column", "take it out")
                for name in sorted(unknown)
            ),
            *(Finding(name, "schema", "is a missing column", "add it") for name in sorted(missing)),
        ]
        return cls(unknown=unknown, missing=missing, findings=findings)

    def known(self, row: StoredRow) -> StoredRow:
        """A row without the unknown columns."""
        if not self.unknown or row.value is None:
            return row
        value = {name: each for name, each in row.value.items() if name not in self.unknown}
        return StoredRow(row.number, value)

    def said(self, finding: Finding) -> bool:
        """Whether a finding only says once more that a column is missing."""
        return finding.field in self.missing and finding.what == "is missing"


def layout(path: Path) -> tuple[type[BaseModel], Columns]:
    """Which rows a file holds, by its columns or its rows. InputError if it is neither kind."""
    if path.suffix == ".parquet":
        from spellbound.data.arrow import column_names

        names = column_names(path)
        model = kind_of(path, names)
        return model, Columns.of(names, model)
    return kind_in(path) or Example, Columns(findings=list(_mark(path)))


def _mark(path: Path) -> Iterator[Finding]:
    with suppress(OSError, EOFError):  # reading the rows says what is wrong
        if begins_with_mark(path):
            yield Finding("", "mark", "begins with a byte order mark", "save it without one")

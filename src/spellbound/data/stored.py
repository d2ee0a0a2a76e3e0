"""A row as it is stored, before anybody has asked whether it is an example."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row of a file; `value` is None where `fault` says why it could not be read, and the remedy."""

    number: int
    """From 1."""
    value: dict[str, Any] | None
    fault: str = ""

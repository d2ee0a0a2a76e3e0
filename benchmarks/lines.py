"""One measurement as one line of JSON: what every benchmark prints and every report reads."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

Who = Literal["ours", "peer", "floor"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured, how disturbed it was, and what it gave. None: not measured, or without meaning."""

    theme: str  # model, train or scan
    what: str
    config: str
    who: Who
    name: str  # which of ours, which peer, which floor
    version: str = ""
    tokens: int | None = None
    batch: int = 1
    threads: int | None = None
    unit: str = ""
    value: float | None = None
    median_s: float | None = None  # over the quiet runs, or over all where none was quiet
    min_s: float | None = None
    max_s: float | None = None
    reps: int = 0
    quiet_reps: int = 0
    load: float | None = None  # one-minute load of the machine before the measurement
    other_cpu: float | None = None  # processors in use by anybody else meanwhile, median
    memory_mb: float | None = None  # growth of the peak resident memory, MiB
    note: str = ""
    error: str = ""

    @property
    def quiet(self) -> bool:
        """Whether at least one run was undisturbed."""
        return self.quiet_reps > 0

    def to_json(self) -> str:
        """Return one line; what is empty is left out, numbers keep six digits."""
        filled = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        return json.dumps({key: _short(value) for key, value in filled.items()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how a file of results was made: the first line of it. Never a host name or a path."""

    hardware: str  # short, for file names
    processor: str
    instructions: str
    cores: int
    memory_gib: float
    system: str
    versions: dict[str, str]
    date: str
    command: str

    def to_json(self) -> str:
        """Return one line of JSON, told from measurements by its key ``machine``."""
        return json.dumps({"machine": asdict(self)}, ensure_ascii=False)


def read_lines(text: str | Iterable[str]) -> tuple[Machine, list[Line]]:
    """Read a file of results: the machine first, then the measurements."""
    first, *others = [line for line in (text.splitlines() if isinstance(text, str) else text) if line.strip()]
    return Machine(**json.loads(first)["machine"]), [Line.from_json(line) for line in others]


def read_file(path: Path) -> tuple[Machine, list[Line]]:
    """Read the file of results at ``path``."""
    return read_lines(path.read_text(encoding="utf-8"))


def _short(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value

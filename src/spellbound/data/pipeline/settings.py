"""What a build is made of and with, and how it is known again after a kill."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from spellbound.data.annotators import ANNOTATORS
from spellbound.data.check import Limits
from spellbound.data.instructions import INSTRUCTORS
from spellbound.data.readers import NO_DEFAULTS, ReaderDefaults, Source, sources
from spellbound.data.versions import program_version
from spellbound.errors import InputError

ExecutorName = Literal["local", "ray", "slurm"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)
MOST_TASKS = 500
"""Files of all tasks are open at once when their rows are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build of examples from sources. Raises InputError for what cannot be built."""

    sources: tuple[Path, ...]
    """Files and folders, as `readers.read` takes them."""
    output: Path
    """Folder of the result and, while it is made, of the work."""
    annotators: tuple[str, ...] = ("rules",)
    """Names; a document goes to the first that does not refuse it."""
    instructor: str = "derive"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of annotators and instructor, by name."""
    defaults: ReaderDefaults = NO_DEFAULTS
    limits: Limits = field(default_factory=Limits)
    """What an example may be, and from which similarity on it repeats another."""
    tasks: int = 8
    """Parts the work is cut into; a part that a kill interrupts is done again from its beginning."""

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible numbers."""
        if not self.sources:
            raise InputError("a build needs sources; give files or folders")
        for source in self.sources:
            if source.is_dir() and self.output.resolve().is_relative_to(source.resolve()):
                raise InputError(
                    f"{self.output}: lies in the source {source}, and would be read by the next build;"
                    " give a folder outside of it"
                )
        if not 1 <= self.tasks <= MOST_TASKS:
            raise InputError(f"tasks {self.tasks} is not from 1 to {MOST_TASKS}; give a number in between")
        for name in self.annotators or ("none",):
            if name not in ANNOTATORS:
                raise InputError(f"annotator {name!r} is unknown; use one of {', '.join(ANNOTATORS)}")
        if self.instructor not in INSTRUCTORS:
            raise InputError(
                f"instructor {self.instructor!r} is unknown; use one of {', '.join(INSTRUCTORS)}"
            )
        for name in self.settings:
            if name not in (*self.annotators, self.instructor):
                raise InputError(f"settings of {name!r}, which the build does not use; take them out")

    @property
    def work(self) -> Path:
        """Folder of what is needed until the build is done."""
        return self.output / "work"

    @property
    def report(self) -> Path:
        """Written last: where it is, the build is done."""
        return self.output / "report.json"

    def plan(self) -> dict[str, Any]:
        """Everything the result depends on, as JSON, the sources' sizes and times included."""
        found = [
            {
                "path": str(each.path.resolve()),
                "name": each.name,
                "size": stat.st_size,
                "time": stat.st_mtime_ns,
            }
            for each in sources(self.sources)
            for stat in [each.path.stat()]
        ]
        if not found:
            raise InputError(f"{self.sources[0]}: has no files that can be read; give a folder that has")
        limits = asdict(self.limits)
        return {
            "sources": found,
            "annotators": list(self.annotators),
            "instructor": self.instructor,
            "settings": {name: dict(given) for name, given in sorted(self.settings.items())},
            "defaults": asdict(self.defaults),
            "limits": {**limits, "tokenizer": str(limits["tokenizer"] or "")},
            "tasks": self.tasks,
            "spellbound": program_version(),
        }


def planned_sources(plan: Mapping[str, Any]) -> list[Source]:
    """The files of a plan, with the names their documents' ids begin with."""
    return [Source(path=Path(each["path"]), name=each["name"]) for each in plan["sources"]]


def fingerprint(plan: Mapping[str, Any]) -> str:
    """Sixteen characters that differ for plans that differ."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The name of a setting in which two plans differ."""
    return next((key for key in new if old.get(key) != new[key]), "spellbound")

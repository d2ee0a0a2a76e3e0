"""The stages of a build in order, each a step that datatrove runs as so many tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.data.pipeline.finishing import Finish
from spellbound.data.pipeline.making import MakeExamples
from spellbound.data.pipeline.reading import FindRepeated, ReadFiles

Step = Callable[[object, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step over all of the data. It begins when every task of the one before has ended."""

    name: str
    step: Step
    tasks: int

    def done(self, work: Path) -> int:
        """How many of its tasks have ended."""
        return sum(1 for _ in (self.logs(work) / "completions").glob("*"))

    def logs(self, work: Path) -> Path:
        """Folder in which datatrove keeps what ended, and its logs."""
        return work / "runs" / self.name


def stages(output: Path, work: Path, plan: dict[str, Any]) -> tuple[Stage, ...]:
    """The stages of a plan."""
    tasks = int(plan["tasks"])
    return (
        Stage(name="read", step=ReadFiles(work, plan), tasks=min(tasks, len(plan["sources"]))),
        Stage(name="compare", step=FindRepeated(work), tasks=1),
        Stage(name="make", step=MakeExamples(work, plan), tasks=tasks),
        Stage(name="finish", step=Finish(output, work, plan), tasks=1),
    )

"""The first two stages: files to documents, spread over the tasks, and which of them repeat others."""

import hashlib
import heapq
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.data.check.ids import Ids
from spellbound.data.documents import Document
from spellbound.data.pipeline.counts import Counts
from spellbound.data.pipeline.lines import Spread, read_lines, write_lines, written
from spellbound.data.pipeline.settings import planned_sources
from spellbound.data.readers import ReaderDefaults, Source, read_source
from spellbound.data.readers.layout import from_row, to_row
from spellbound.errors import InputError


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """Task r of n reads every n-th file and puts each document with those of the task that will tag it."""

    work: Path
    plan: dict[str, Any]

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Do one task."""
        found = list(enumerate(planned_sources(self.plan)))[rank::world_size]
        tasks = range(self.plan["tasks"])
        counts = Counts()
        index: list[str] = []
        refused: list[str] = []
        with Spread(
            [self.work / "documents" / f"{task:05d}" / f"{rank:05d}.jsonl" for task in tasks]
        ) as spread:
            for number, source in found:
                try:
                    for row, document in enumerate(self._read(source)):
                        value = to_row(document)
                        spread.add(task_of(document.id, len(tasks)), written([[number, row], value]))
                        index.append(written([[number, row], document.id, _content(value)]))
                        counts.add("documents", document.language)
                    counts.add("files", "")
                except InputError as error:
                    counts.add("files refused", "")
                    refused.append(
                        written({"id": source.name, "step": "read", "why": _without(error, source)})
                    )
        write_lines(self.work / "index" / f"{rank:05d}.jsonl", index)
        write_lines(self.work / "refused" / f"read-{rank:05d}.jsonl", refused)
        counts.write(self.work / "counts" / f"read-{rank:05d}.jsonl")

    def _read(self, source: Source) -> Iterator[Document]:
        return read_source(source, ReaderDefaults(**self.plan["defaults"]))


@dataclass(frozen=True, slots=True)
class FindRepeated:
    """One task: of documents with the same id or the same text, the first is kept."""

    work: Path

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Do it."""
        paths = sorted((self.work / "index").iterdir())
        repeated: list[str] = []
        refused: list[str] = []
        with tempfile.TemporaryDirectory(prefix="spellbound-") as name, closing(Ids(Path(name))) as met:
            for place, identity, content in heapq.merge(*map(read_lines, paths)):
                if same := _same_as_before(met, identity, content):
                    repeated.append(written(place))
                    why = f"a document before it has the same {same}"
                    refused.append(written({"id": identity, "step": "compare", "why": why}))
        write_lines(self.work / "refused" / "compare.jsonl", refused)
        write_lines(self.work / "repeated.jsonl", repeated)


def documents_of(work: Path, task: int) -> Iterator[Document | None]:
    """The documents of a task; None for one that repeats another."""
    repeated = {tuple(place) for place in read_lines(work / "repeated.jsonl")}
    for path in sorted((work / "documents" / f"{task:05d}").iterdir()):
        for place, row in read_lines(path):
            yield None if tuple(place) in repeated else from_row(row, str(path))


def task_of(identity: str, tasks: int) -> int:
    """Which of so many tasks a document belongs to."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) % tasks


def _same_as_before(met: Ids, identity: str, content: str) -> str:
    """What of a document was met before, nothing if it is new; from now on it was."""
    keys = {"id": identity, "text": content}
    return next((kind for kind, key in keys.items() if met.first(f"{kind} {key}", 0, 0) is not None), "")


def _content(row: dict[str, Any]) -> str:
    """A number for what a document says and who says it."""
    said = written([row["text"], row["speeches"], [person["name"] for person in row["cast"]]])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _without(error: InputError, source: Source) -> str:
    """A message that is the same wherever the file lies."""
    return str(error).removeprefix(f"{source.path}: ")

"""The last stage: rows of all tasks in the order of their ids, without duplicates, and the report."""

import hashlib
import heapq
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spellbound.data.check.ids import Ids
from spellbound.data.check.markup import Markup
from spellbound.data.check.near import NearDuplicates, signature
from spellbound.data.examples import Example
from spellbound.data.pipeline.counts import Counts, report_of
from spellbound.data.pipeline.lines import read_lines, write_lines, written
from spellbound.data.rows import write_examples, write_tagged
from spellbound.data.tagged import TaggedStory
from spellbound.files import replacing


@dataclass(frozen=True, slots=True)
class Finish:
    """One task: merge, drop what repeats, write. The report comes last, then the work is cleared away."""

    output: Path
    work: Path
    plan: dict[str, Any]

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Do it; nothing if the report is there."""
        report = self.output / "report.json"
        if not report.exists():
            counts = Counts.together(sorted((self.work / "counts").iterdir()))
            stories = (TaggedStory.model_validate(row) for row in self._merged("stories"))
            write_tagged(self.output / "tagged.parquet", stories)
            repeated = self._repeated(counts)
            write_examples(self.output / "examples.parquet", self._kept(repeated, counts))
            refused = heapq.merge(self._merged("refused"), self._left_out(repeated), key=_id)
            write_lines(self.output / "refused.jsonl", map(written, refused))
            with replacing(report) as draft:
                told = json.dumps(report_of(counts, self.plan), ensure_ascii=False, indent=2)
                draft.write_text(f"{told}\n", encoding="utf-8")
        for folder in ("documents", "index", "stories", "examples", "refused", "scratch"):
            shutil.rmtree(self.work / folder, ignore_errors=True)

    def _merged(self, folder: str) -> Iterator[dict[str, Any]]:
        """Rows of all tasks in the order of their ids."""
        paths = sorted((self.work / folder).iterdir())
        rows = [
            sorted(read_lines(path), key=_id) if folder == "refused" else read_lines(path) for path in paths
        ]
        return heapq.merge(*rows, key=_id)

    def _kept(self, repeated: dict[int, str], counts: Counts) -> Iterator[Example]:
        """Examples that repeat no earlier one."""
        for number, row in enumerate(self._merged("examples")):
            if number not in repeated:
                counts.add("examples", row["language"])
                yield Example.model_validate(row)

    def _left_out(self, repeated: dict[int, str]) -> Iterator[dict[str, Any]]:
        """Those that do, as rows of what was refused."""
        for number, row in enumerate(self._merged("examples")):
            if number in repeated:
                yield {"id": row["id"], "step": "finish", "why": repeated[number]}

    def _repeated(self, counts: Counts) -> dict[int, str]:
        """Numbers of the examples that repeat earlier ones, exactly or nearly, and how."""
        similarity = self.plan["limits"]["similarity"]
        dropped: dict[int, str] = {}
        with (
            tempfile.TemporaryDirectory(prefix="spellbound-") as name,
            closing(Ids(Path(name))) as met,
            closing(NearDuplicates(Path(name), similarity)) as near,
        ):
            for number, row in enumerate(self._merged("examples")):
                keys = (f"id {row['id']}", f"row {_content(row)}")
                if any(met.first(key, 0, number) is not None for key in keys):
                    dropped[number] = "repeats an earlier example"
                elif similarity and (text := _signature(row)) is not None:
                    near.add(0, number, text)
            counts.add("duplicates", "", len(dropped))
            alike = [each.place[1] for each in near.found()] if similarity else []
        counts.add("near-duplicates", "", len(alike))
        return dropped | dict.fromkeys(alike, "nearly repeats an earlier example")


def _id(row: dict[str, Any]) -> str:
    return str(row["id"])


def _signature(row: dict[str, Any]) -> NDArray[np.uint32] | None:
    return signature(Markup.read("completion", row["completion"], None).hashes)


def _content(row: dict[str, Any]) -> str:
    return hashlib.sha256(written([row["prompt"], row["completion"]]).encode()).hexdigest()

"""Goes through files row by row and reports what is wrong, in the end also what rows repeat of each other."""

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from spellbound.data.check.examine import UNNAMED, Examined
from spellbound.data.check.faults import WARNINGS, Code, Fault, Finding
from spellbound.data.check.ids import Ids
from spellbound.data.check.layout import layout
from spellbound.data.check.limits import Limits
from spellbound.data.check.near import NearDuplicates
from spellbound.data.check.work import Work
from spellbound.data.rows import read_stored
from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import words_of

_EVERY = 100


class Inspection:
    """One check of some files. `rows` and `counts` grow while `run` goes on."""

    def __init__(self, limits: Limits | None = None, jobs: int = 1) -> None:
        """Prepare a check by so many processes."""
        self.limits, self.jobs = limits or Limits(), jobs
        self.rows = 0
        self.counts: Counter[Code] = Counter()

    @property
    def passed(self) -> bool:
        """Whether nothing was found so far but warnings."""
        return self.counts.keys() <= WARNINGS

    def run(
        self, paths: Sequence[Path], each_row: Callable[[int], None] = lambda rows: None
    ) -> Generator[Fault, None, None]:
        """Yield every fault; near-duplicates come last. `each_row` is told of rows now and then.

        Raises InputError for a tokenizer that cannot be read, and EnvironmentFault if there is no room for
        what is kept on disk: about 400 bytes a row.
        """
        try:
            with (
                closing(Work(self.limits, self.jobs)) as work,
                tempfile.TemporaryDirectory(prefix="spellbound-") as name,
                closing(Ids(Path(name))) as ids,
                closing(NearDuplicates(Path(name), self.limits.similarity)) as near,
            ):
                for fault in self._all(paths, work, ids, near, each_row):
                    self.counts[fault.code] += 1
                    yield fault
        except sqlite3.OperationalError as error:
            raise _no_room(str(error)) from error
        except OSError as error:
            raise _no_room(words_of(error)) from error

    def _all(
        self,
        paths: Sequence[Path],
        work: Work,
        ids: Ids,
        near: NearDuplicates,
        each_row: Callable[[int], None],
    ) -> Iterator[Fault]:
        for number, path in enumerate(paths):
            for row, examined in self._examined(path, work):
                yield from (_fault(path, row, finding) for finding in examined.findings)
                if row is None:
                    continue
                if examined.id is not None and (first := ids.first(examined.id, number, row)):
                    what = f"{examined.id!r:.60} is also the id of {paths[first[0]]}:{first[1]}"
                    yield _fault(path, row, Finding("id", "duplicate-id", what, "give each row its own"))
                if examined.signature is not None:
                    near.add(number, row, examined.signature)
                if self.rows % _EVERY == 0:
                    each_row(self.rows)
        each_row(self.rows)
        for place, first, share in near.found():
            what = (
                f"nearly repeats {paths[first[0]]}:{first[1]} (about {share:.0%} of its runs of five words)"
            )
            remedy = "keep one of the two, unless both are meant"
            yield _fault(paths[place[0]], place[1], Finding("", "near-duplicate", what, remedy))

    def _examined(self, path: Path, work: Work) -> Iterator[tuple[int | None, Examined]]:
        """The rows of a file with what was found in each; None for the file as a whole."""
        before = self.rows
        unnamed: Counter[Code] = Counter()
        try:
            model, columns = layout(path)
            yield None, Examined(findings=columns.findings)
            stored = (columns.known(row) for row in read_stored(path))
            for row, examined in work.examined(stored, model):
                self.rows += 1
                examined.findings = [each for each in examined.findings if not columns.said(each)]
                unnamed.update(examined.unnamed)
                yield row.number, examined
        except InputError as error:
            what, _, remedy = str(error).removeprefix(f"{path}: ").rpartition("; ")
            yield None, Examined(findings=[Finding("", "unreadable", what, remedy)])
        else:
            yield None, Examined(findings=_whole(self.rows - before, unnamed))


def _whole(rows: int, unnamed: Counter[Code]) -> list[Finding]:
    """What is wrong with a file that was read to its end."""
    if not rows:
        return [Finding("", "no-rows", "holds no rows", "leave the file out")]
    return [
        Finding(code, code, f"is unknown in {unnamed[code]:,} of {rows:,} rows", remedy)
        for code, remedy in UNNAMED.items()
        if unnamed[code]
    ]


def _fault(path: Path, row: int | None, finding: Finding) -> Fault:
    return Fault(
        file=str(path),
        row=row,
        field=finding.field,
        code=finding.code,
        what=finding.what,
        remedy=finding.remedy,
    )


def _no_room(reason: str) -> EnvironmentFault:
    folder = tempfile.gettempdir()
    return EnvironmentFault(
        f"{folder}: what rows are compared by cannot be kept there: {reason};"
        " make room, or give another folder: export TMPDIR=FOLDER"
    )

"""Rows examined in this process or in several, in their order either way."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context

from pydantic import BaseModel

from spellbound.data.check.examine import Examined, examine
from spellbound.data.check.faults import Finding
from spellbound.data.check.limits import Limits
from spellbound.data.stored import StoredRow
from spellbound.data.tokens import token_counter
from spellbound.errors import EnvironmentFault, InputError

_CHUNK = 32
_AHEAD = 3  # chunks that wait for each process


class Examiner:
    """Examines single rows."""

    def __init__(self, limits: Limits) -> None:
        """Prepare; raises InputError for a tokenizer that cannot be read."""
        self._limits = limits
        self._tokens = None if limits.tokenizer is None else token_counter(limits.tokenizer)

    def examine(self, row: StoredRow, model: type[BaseModel]) -> Examined:
        """Examine a row, which may be one that could not be read."""
        if row.value is not None:
            return examine(row.value, model, self._limits, self._tokens)
        what, _, remedy = row.fault.rpartition("; ")
        return Examined(findings=[Finding("", "unreadable", what, remedy)])


class Work:
    """Examines many rows; `close` ends its processes."""

    def __init__(self, limits: Limits, jobs: int) -> None:
        """Prepare; raises InputError for fewer than one process."""
        if jobs < 1:
            raise InputError(f"jobs is {jobs}; give how many processes are to work, 1 or more")
        self._own = Examiner(limits)
        self._jobs = jobs
        # Not forked: the libraries that we use have threads.
        self._pool = (
            ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin, initargs=(limits,))
            if jobs > 1
            else None
        )

    def close(self) -> None:
        """End the processes; what they have not begun is left."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def examined(
        self, rows: Iterable[StoredRow], model: type[BaseModel]
    ) -> Iterator[tuple[StoredRow, Examined]]:
        """Give back each row with what was found. EnvironmentFault if a process was killed."""
        if self._pool is None:
            for row in rows:
                yield row, self._own.examine(row, model)
            return
        try:
            yield from self._shared(self._pool, iter(rows), model)
        except BrokenProcessPool as error:
            raise EnvironmentFault(
                f"one of {self._jobs} processes was killed, perhaps for its memory; give fewer: --jobs 1"
            ) from error

    def _shared(
        self, pool: ProcessPoolExecutor, rows: Iterator[StoredRow], model: type[BaseModel]
    ) -> Iterator[tuple[StoredRow, Examined]]:
        """Keep some chunks ahead, so that no process waits and few rows are in memory."""
        waiting: deque[tuple[list[StoredRow], Future[list[Examined]]]] = deque()
        while chunk := list(islice(rows, _CHUNK)):
            waiting.append((chunk, pool.submit(_examine, chunk, model)))
            if len(waiting) >= _AHEAD * self._jobs:
                yield from _result(*waiting.popleft())
        for each in waiting:
            yield from _result(*each)


def _result(rows: list[StoredRow], future: Future[list[Examined]]) -> Iterator[tuple[StoredRow, Examined]]:
    return zip(rows, future.result(), strict=True)


_examiner: Examiner | None = None
"""Of a worker process."""


def _begin(limits: Limits) -> None:
    """Prepare a worker process."""
    global _examiner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gives the work ends them
    _examiner = Examiner(limits)


def _examine(rows: list[StoredRow], model: type[BaseModel]) -> list[Examined]:
    assert _examiner is not None  # noqa: S101
    return [_examiner.examine(row, model) for row in rows]

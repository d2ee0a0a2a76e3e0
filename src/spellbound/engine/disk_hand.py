"""Writes the files of the story cache on a thread of its own, and says what goes wrong."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING

from torch import Tensor

from spellbound.engine.disk_files import write
from spellbound.files import unwritable, words_of

if TYPE_CHECKING:
    from spellbound.engine.cache import Snapshot
    from spellbound.jamba.sequence import Page

_LOG = logging.getLogger("spellbound.engine")


class Notices:
    """Says in the log what goes wrong in a folder, each kind of trouble once. For any thread."""

    def __init__(self, folder: Path) -> None:
        """Nothing was said yet."""
        self._folder = folder
        self._said: set[tuple[object, ...]] = set()

    def unwritten(self, error: BaseException) -> None:
        """Say that a file could not be written."""
        # What `replacing` raises says the same of one file.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if isinstance(cause, OSError):
            self._say("write", cause, f"{unwritable(self._folder, cause)}; until then nothing new is kept")
        else:
            self._say("write", cause, f"{self._folder}: nothing new is kept: {_line(cause)}; free memory")

    def unread(self, error: OSError | RuntimeError | MemoryError) -> None:
        """Say that a file could not be read, and may be later."""
        why = words_of(error) if isinstance(error, OSError) else _line(error)
        self._say("read", error, f"{self._folder}: cannot be read: {why}; until then prompts are read anew")

    def damaged(self, name: str) -> None:
        """Say that a file was removed."""
        self._say("damaged", None, f"{self._folder / name}: damaged, and removed; check the disk")

    def _say(self, what: str, error: BaseException | None, message: str) -> None:
        kind = (what, type(error), getattr(error, "errno", None))
        if kind not in self._said:
            self._said.add(kind)
            _LOG.warning("story cache: %s", message)


def _line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Job:
    """A file to write, and what it is made of."""

    path: Path
    tensors: dict[str, Tensor]
    told: dict[str, str]
    what: Snapshot | Page

    @property
    def nbytes(self) -> int:
        """Of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class Hand:
    """Writes files one by one on a thread of its own. It knows no model, so it holds none in memory."""

    def __init__(self, notices: Notices) -> None:
        """Begin with nothing to write."""
        self.failed = 0
        """Files that could not be written so far."""
        self.waiting_bytes = 0
        self._notices = notices
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: dict[Path, Job] = {}
        self._failures: dict[str, int] = {}
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="spellbound-disk", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Have a file written; one of that name that waits is written in its newer form alone."""
        with self._changed:
            self._waiting[job.path] = job
            self._failures.pop(job.path.name, None)
            self.waiting_bytes += job.nbytes
        self._jobs.put(job)

    def drop(self, path: Path) -> None:
        """Have no such file, or none any more."""
        with self._changed:
            self._waiting.pop(path, None)
            self._failures.pop(path.name, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def waiting(self, path: Path) -> Snapshot | Page | None:
        """Return what is not written yet."""
        with self._changed:
            job = self._waiting.get(path)
        return None if job is None else job.what

    @property
    def lost_bytes(self) -> int:
        """Bytes of the files of :meth:`failures`."""
        with self._changed:
            return sum(self._failures.values())

    def failures(self) -> list[str]:
        """Return the names of the files that could not be written, until they are dropped or put again."""
        with self._changed:
            return list(self._failures)

    def flush(self) -> None:
        """Wait until nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or not self._thread.is_alive())

    def finish(self) -> None:
        """Write what waits, and end."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._write_next():  # a call of its own, which keeps nothing of it in memory afterwards
            pass

    def _write_next(self) -> bool:
        job, failed = self._jobs.get(), False
        if job is None:
            return False
        try:
            if self._is_wanted(job):
                write(job.path, job.tensors, job.told)
        except Exception as error:  # noqa: BLE001 (a full disk, no memory: costs this file and no other)
            self._notices.unwritten(error)
            failed = True
        with self._changed:
            self.waiting_bytes -= job.nbytes
            wanted = self._waiting.get(job.path) is job
            if wanted:
                del self._waiting[job.path]
                if failed:
                    self.failed += 1
                    self._failures[job.path.name] = job.nbytes
            dropped = not wanted and job.path not in self._waiting
            self._changed.notify_all()
        if dropped:
            with suppress(OSError):
                job.path.unlink(missing_ok=True)
        return True

    def _is_wanted(self, job: Job) -> bool:
        with self._changed:
            return self._waiting.get(job.path) is job

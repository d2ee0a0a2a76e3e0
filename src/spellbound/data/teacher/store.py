"""What the teacher has answered and what it has cost, on disk: SQLite, so that a kill loses nothing.

An answer and its price are written in one transaction, before anybody uses the answer. A call is entered
before it is made: one that was under way at a kill stays entered, as perhaps paid, at its highest price.
Several processes may share a file.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from spellbound.data.teacher.replies import Reply
from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import unwritable

FILE = "teacher.sqlite"
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS under_way (id INTEGER PRIMARY KEY AUTOINCREMENT, cost REAL NOT NULL);
CREATE TABLE IF NOT EXISTS settled (id INTEGER PRIMARY KEY, cost REAL NOT NULL, calls INTEGER NOT NULL);
INSERT OR IGNORE INTO settled VALUES (1, 0, 0);
PRAGMA user_version = 1;
"""


class Store:
    """The answers and the ledger of one folder; safe between threads and processes."""

    def __init__(self, folder: Path) -> None:
        """Open or make the file; InputError if it cannot be, or belongs to another version."""
        self.path = folder / FILE
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        with self._said():
            self._base = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._prepare()

    def _prepare(self) -> None:
        version = self._base.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            self._base.close()
            raise InputError(
                f"{self.path}: is of version {version}, not {_VERSION}; give another cache folder"
            )
        self._base.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            for statement in filter(str.strip, _TABLES.split(";")):
                self._base.execute(statement)

    def find(self, key: str) -> Reply | None:
        """Return the answer under a key."""
        with self._said(), self._lock:
            row = self._base.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply.model_validate_json(row[0])

    def reserve(self, cost: float, limit: float) -> int | None:
        """Enter a call at its highest price and return its number; None if it passes the limit (0: none)."""
        with self._said(), self._lock, self._transaction():
            if limit and self._sum() + cost > limit:
                return None
            return int(self._base.execute("INSERT INTO under_way (cost) VALUES (?)", (cost,)).lastrowid or 0)

    def settle(self, call: int, cost: float, key: str = "", reply: Reply | None = None) -> None:
        """Write what a call really cost, and with it its answer if there was one."""
        with self._said(), self._lock, self._transaction():
            self._base.execute("DELETE FROM under_way WHERE id = ?", (call,))
            self._base.execute("UPDATE settled SET cost = cost + ?, calls = calls + 1", (cost,))
            if reply is not None:
                row = (key, reply.model_dump_json())
                self._base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)

    def release(self, call: int) -> None:
        """Strike a call that cost nothing."""
        with self._said(), self._lock:
            self._base.execute("DELETE FROM under_way WHERE id = ?", (call,))

    def spent(self) -> float:
        """Return what all calls of this file have cost, those under way or cut off at their highest price."""
        with self._said(), self._lock:
            return self._sum()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _sum(self) -> float:
        both = "SELECT (SELECT cost FROM settled) + (SELECT COALESCE(SUM(cost), 0) FROM under_way)"
        return float(self._base.execute(both).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise EnvironmentFault(
                f"{self.path}: cannot be used: {error}; make room there, end what uses it, "
                "or give another cache"
            ) from None
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path}: is no store of answers: {error}; give another cache folder"
            ) from None

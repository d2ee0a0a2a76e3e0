"""Which ids were met before, and where. On disk, so that any number of them fits; exact."""

import sqlite3
from pathlib import Path

_CACHE_KIB = 32 * 1024


class Ids:
    """Ids of rows that were met."""

    def __init__(self, folder: Path) -> None:
        """Begin with none, in a folder for what does not fit into memory."""
        self._base = sqlite3.connect(folder / "ids.sqlite", isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE met (id BLOB PRIMARY KEY, file INT, row INT) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def first(self, name: str, file: int, row: int) -> tuple[int, int] | None:
        """Where the id was met first; None, and it is kept, if this is the first time."""
        key = name.encode("utf-8", "surrogatepass")
        if self._base.execute("INSERT OR IGNORE INTO met VALUES (?, ?, ?)", (key, file, row)).rowcount:
            return None
        found: tuple[int, int] = self._base.execute(
            "SELECT file, row FROM met WHERE id = ?", (key,)
        ).fetchone()
        return found

    def close(self) -> None:
        """End; the file can go."""
        self._base.close()

"""The logs of ratings and of consent: rows are added at the end and never changed, but for a reader's
erasure.

A log is one file or several, as lines of JSON or as Parquet; rows are added to lines of JSON only.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from spellbound.data.ratings.keys import require_user_key
from spellbound.data.ratings.records import Consent, Rating, Scope, now
from spellbound.data.rows import read_stored, said
from spellbound.errors import InputError
from spellbound.files import replacing, resolved, unwritable, words_of

Model = TypeVar("Model", bound=BaseModel)


class RatingLog:
    """Ratings with their places, read anew each time it is gone through."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Take the files of a log, in order."""
        self.paths = tuple(paths)

    def __iter__(self) -> Iterator[tuple[str, Rating]]:
        """Yield (file and row, rating); InputError at the first row that is none."""
        for path in self.paths:
            yield from _rows(path, Rating)


def read_consents(paths: Iterable[Path]) -> Iterator[Consent]:
    """Read consent events; InputError at the first row that is none, for it may be a withdrawal."""
    for path in paths:
        for _, event in _rows(path, Consent):
            yield event


def append(path: Path, rows: Iterable[Rating | Consent]) -> int:
    """Add rows to a log of JSON lines, all or none; the file is made if it is not there. Return how many.

    InputError if the file is no such log, or its last line was cut off.
    """
    if path.suffix != ".jsonl":
        raise InputError(
            f"{path}: rows can be added to .jsonl logs only; give one, Parquet can stand beside it"
        )
    lines = [row.model_dump_json(exclude_none=True).encode() + b"\n" for row in rows]
    with _alone(path):
        try:
            with path.open("a+b", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    raise InputError(f"{path}: the last line is cut off; mend or remove it, then try again")
                try:
                    _write_whole(file.fileno(), b"".join(lines))
                except OSError:
                    os.ftruncate(file.fileno(), end)
                    raise
        except OSError as error:
            raise unwritable(path, error) from error
    return len(lines)


def withdraw(path: Path, user: str, scopes: Sequence[Scope]) -> bool:
    """Note in a log of consent that a reader takes it back; return whether the log has a consent of theirs.

    The withdrawal is dated after all that the log has of them: a clock that is slow must not keep it from
    being heard.
    """
    own = [event for event in read_consents([path]) if event.user == user]
    time = max([now(), *(event.time for event in own)])
    append(path, [Consent(event="withdrawn", user=user, scopes=tuple(scopes), time=time)])
    return any(event.event == "given" for event in own)


def purge(path: Path, user: str) -> int:
    """Rewrite a log without a reader's rows; the others keep every byte in JSON lines. Return how many went.

    Withdrawals stay, or a consent of theirs in another file would live again. The new file takes the old
    one's place in one step. InputError for a row that cannot be read, for it may be theirs.
    """
    require_user_key(user)
    if path.name.endswith(".gz"):
        raise InputError(f"{path}: a packed log cannot be purged; unpack it with gunzip first")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give the files of the log")
    with _alone(path), replacing(path) as draft:
        return (_purge_parquet if path.suffix == ".parquet" else _purge_lines)(path, draft, user)


def _purge_lines(path: Path, draft: Path, user: str) -> int:
    gone = 0
    with path.open("rb") as source, draft.open("wb") as kept:
        for number, line in enumerate(source, start=1):
            if not line.strip():
                kept.write(line)
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
                theirs = row["user"] == user and row.get("event") != "withdrawn"
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}: row {number}: names no user, so it may be theirs; mend or remove it first"
                ) from error
            if theirs:
                gone += 1
            else:
                kept.write(line)
    return gone


def _purge_parquet(path: Path, draft: Path, user: str) -> int:
    from spellbound.data.arrow import column_names

    columns = column_names(path)
    if "user" not in columns:
        raise InputError(f"{path}: has no column user; give a log of ratings or consent")
    import pyarrow.parquet as pq  # if it were missing, the line above would have said what to install

    gone = 0
    with (
        pq.ParquetFile(path) as source,
        pq.ParquetWriter(draft, source.schema_arrow, compression="zstd") as kept,
    ):
        for batch in source.iter_batches():
            users = batch.column("user").to_pylist()
            events = batch.column("event").to_pylist() if "event" in columns else [""] * len(users)
            stays = [
                place
                for place, (owner, event) in enumerate(zip(users, events, strict=True))
                if owner != user or event == "withdrawn"
            ]
            gone += len(users) - len(stays)
            kept.write_batch(batch.take(stays))
    return gone


def _rows(path: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    for row in read_stored(path):
        place = f"{path}: row {row.number}"
        if row.value is None:
            raise InputError(f"{place}: {row.fault}")
        try:
            yield place, model.model_validate(row.value)
        except ValidationError as error:
            field, what = said(error)[0]
            # A user that is no key may be somebody's name: it is not repeated.
            what = (
                "is not u1- and 32 hexadecimal digits; make keys with user_key" if field == "user" else what
            )
            raise InputError(f"{place}, {field}: {what}") from error


def _write_whole(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
    os.fsync(handle)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes of ours waiting; the lock is on the folder, for a purged file is another file."""
    try:
        folder = os.open(resolved(target).parent, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{target}: its folder cannot be opened: {words_of(error)}; create it") from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)

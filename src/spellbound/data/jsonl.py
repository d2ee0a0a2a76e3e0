"""Rows as lines of JSON: `.jsonl`, or packed, `.jsonl.gz`.

They are read one by one, and what cannot be read is said of its line.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

from spellbound.data.stored import StoredRow
from spellbound.errors import InputError
from spellbound.files import words_of

MAX_LINE = 256 * 2**20
"""Longest line, in bytes: so much memory a row may take."""

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_lines(path: Path) -> Iterator[StoredRow]:
    """Read the lines of a file; row numbers are line numbers from 1, empty lines are passed over.

    InputError if the file cannot be opened, or its packing is damaged.
    """
    number = 0
    try:
        with _opened(path, "rb") as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    yield StoredRow(number, None, f"is longer than {MAX_LINE:,} bytes; split it")
                    while line and not line.endswith(b"\n"):
                        line = file.readline(MAX_LINE)
                    continue
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield _row(number, line)
    except EOFError as error:
        raise InputError(f"{path}: row {number + 1}: the file ends too early; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        if number or isinstance(error, zlib.error):
            what = f"row {number + 1}: the packing is damaged ({error}); fetch it again"
            raise InputError(f"{path}: {what}") from error
        raise InputError(f"{path}: is no gzip file ({error}); pack it with gzip") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file of JSON lines") from error


def write_lines(draft: Path, target: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as lines into a draft of the target; return how many."""
    count = 0
    with _opened(target, "wb", draft) as file:
        for row in rows:
            count += 1
            try:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{target}: row {count} holds half a character ({error.object[error.start]!r});"
                    " write the whole character"
                ) from error
    return count


def begins_with_mark(path: Path) -> bool:
    """Whether a file begins with a byte order mark."""
    with _opened(path, "rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


@contextmanager
def _opened(path: Path, mode: Literal["rb", "wb"], draft: Path | None = None) -> Iterator[IO[bytes]]:
    with (draft or path).open(mode) as file:
        if path.suffix != ".gz":
            yield file
            return
        # Neither name nor time in its head: the same rows are the same bytes.
        with gzip.GzipFile(filename="", mode=mode, fileobj=file, mtime=0) as packed:
            yield cast("IO[bytes]", packed)


def _row(number: int, line: bytes) -> StoredRow:
    try:
        value = json.loads(line.rstrip().decode("utf-8"), object_pairs_hook=_object)
        if _ESCAPED_SURROGATE.search(line):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        return StoredRow(
            number, None, f"byte {byte:#04x} at {error.start + 1} is not UTF-8; save it as UTF-8"
        )
    except UnicodeEncodeError:
        return StoredRow(number, None, "holds half a character (a lone surrogate); write the whole character")
    except json.JSONDecodeError as error:
        cut = not line.endswith(b"\n")
        remedy = (
            "the file ends in the middle of it; write it again" if cut else "write one JSON object a line"
        )
        return StoredRow(number, None, f"is not JSON: {error.msg} at column {error.colno}; {remedy}")
    except (ValueError, RecursionError) as error:
        return StoredRow(number, None, f"is not usable JSON: {error}; write one JSON object a line")
    if not isinstance(value, dict):
        return StoredRow(number, None, f"is a JSON {type(value).__name__}; write one JSON object a line")
    return StoredRow(number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a field twice")
    return found

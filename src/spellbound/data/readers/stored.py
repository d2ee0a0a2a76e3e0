"""Documents in Parquet and JSONL: our own files, the corpora, and any file with a column of text."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from spellbound.data.documents import Document
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.encoding import one_kind_of_line_end
from spellbound.data.readers.extras import needed
from spellbound.data.readers.layout import COLUMNS, from_row, to_row
from spellbound.data.readers.prose import joined, paragraphs
from spellbound.errors import InputError
from spellbound.files import replacing, words_of

JSONL_ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
ENDINGS = (".parquet", *JSONL_ENDINGS)
GROUP_CHARACTERS = 16_000_000
"""Text in a row group of Parquet, so that reading one takes little memory."""
LONGEST_LINE = 1 << 29
"""Bytes of one line of JSON."""


def read_documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Read documents files, as `write_documents` writes them, row by row.

    Raises InputError with file and row for anything else.
    """
    for path in paths:
        for number, row in numbered_rows(path):
            place = f"{path}: row {number}"
            unknown = sorted(set(row) - set(COLUMNS) - {"quotes"})
            if unknown or "id" not in row:
                what = f"column {unknown[0]!r} is unknown" if unknown else "column id is missing"
                raise InputError(f"{place}: {what}; make documents of it with spellbound data read")
            yield from_row(row, place)


def write_documents(path: Path, rows: Iterable[Document]) -> int:
    """Write a documents file, Parquet or JSONL by its ending, and return how many rows it has.

    The file is whole or not there. Raises InputError for another ending, and for a document no row can hold.
    """
    written = _write_parquet if path.name.endswith(".parquet") else _write_lines
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path}: is neither .parquet nor .jsonl; give the file one of these endings")
    with replacing(path) as draft:
        return written(draft, path, rows)


def read_rows(path: Path, defaults: ReaderDefaults = NO_DEFAULTS, name: str = "") -> Iterator[Document]:
    """Read documents from Parquet or JSONL of the corpora's layout, or with one column of text.

    Text in the corpora's layout is taken as it is; other text is parted into paragraphs as plain text is,
    and its ids are the file's name and the row's id or number. Rows without text are passed over.
    """
    field = defaults.text_field or "text"
    for number, row in numbered_rows(path):
        place = f"{path}: row {number}"
        if field not in row and not (row.get("speeches") and not defaults.text_field):
            has = ", ".join(sorted(row)[:12])
            raise InputError(f"{place}: has no column {field!r}; name one of {has} with --text-field")
        own = not defaults.text_field and isinstance(row.get("id"), str) and "lang" in row
        document = from_row(row if own else _renamed(row, field), place)
        if not own:
            text = joined(paragraphs(one_kind_of_line_end(document.text)))
            # Other tables count their rows from 1 as well: the file's name keeps them apart.
            identity = f"{name or path.stem}/{document.id or f'{number:08d}'}"
            document = replace(document, id=identity, text=text)
        if document.plain.strip():
            yield defaults.complete(document, path.name)


def _renamed(row: dict[str, Any], field: str) -> dict[str, Any]:
    """Take what a foreign row says under the names that others use."""
    year = row.get("year")
    identity = row.get("id")
    return {
        "id": str(identity) if isinstance(identity, (str, int)) else "",
        "text": row.get(field, ""),
        "lang": row.get("lang") or row.get("language"),
        "license": row.get("license") or row.get("licence"),
        "year": year if isinstance(year, int) and not isinstance(year, bool) else None,
        **{key: _said(row.get(key)) for key in ("title", "author", "source", "attribution")},
    }


def _said(value: object) -> str:
    return value if isinstance(value, str) else ""


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a Parquet or JSONL file with their numbers, from 1 (lines in JSONL)."""
    is_table = path.name.endswith(".parquet") or _begins(path) == b"PAR1"
    yield from _table_rows(path) if is_table else _line_rows(path)


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file that can be") from error


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with needed("data"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except FileNotFoundError as error:
        raise InputError(f"{path}: cannot be read: no such file; give one that is there") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(
            f"{path}: is no whole Parquet file after row {number} ({reason:.120}); write it again"
        ) from error


def _line_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: line {number} is no JSON ({str(error)[:80]}); mend or remove that line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} is no JSON object; write one a line")
        yield number, row


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file, packed with gzip or not, with their numbers, in bounded memory."""
    number = 0
    try:
        with _opened(path) as file:
            while raw := file.readline(LONGEST_LINE):
                number += 1
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number} is not UTF-8; save the file as UTF-8") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: is damaged or cut off after line {number}; pack it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {words_of(error)}; give a file that can be") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("rb") as raw:
        if path.name.endswith(".gz"):
            with gzip.open(raw) as unpacked:
                yield unpacked
        else:
            yield raw


def _write_lines(draft: Path, path: Path, rows: Iterable[Document]) -> int:
    count = 0
    with draft.open("wb") as raw:
        # No time and no name in the packed file: the same rows give the same bytes.
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.name.endswith(".gz") else None
        file: Any = packed or raw
        for document in rows:
            line = json.dumps(to_row(document), ensure_ascii=False, separators=(",", ":"))
            file.write(line.encode() + b"\n")
            count += 1
        if packed:
            packed.close()
    return count


def _write_parquet(draft: Path, path: Path, rows: Iterable[Document]) -> int:
    with needed("data"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    schema = _schema()
    count = waiting = 0
    group: list[dict[str, Any]] = []
    with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        for document in rows:
            group.append(to_row(document))
            count += 1
            waiting += len(document.text) + sum(len(part.text) for part in document.parts)
            if waiting >= GROUP_CHARACTERS or len(group) >= 10_000:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, waiting = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))
    return count


def _schema() -> Any:
    with needed("data"):
        import pyarrow as pa
    text = pa.string()
    speech = pa.struct([(name, text) for name in ("kind", "speaker", "name", "text")])
    pair = pa.struct([("key", text), ("value", text)])
    person = pa.struct([("id", text), ("name", text), ("sex", text), ("details", pa.list_(pair))])
    types = {"year": pa.int32(), "speeches": pa.list_(speech), "cast": pa.list_(person)}
    return pa.schema([(column, types.get(column, text)) for column in COLUMNS])

"""Rows as Parquet: the columns of a schema, row groups of bounded size, zstd."""

import types
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from spellbound.data.checks import Check
from spellbound.data.stored import StoredRow
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import words_of

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise EnvironmentFault(
        "Parquet files need pyarrow, which is not installed; pip install 'spellbound[data]'"
    ) from error

GROUP_CHARACTERS = 8_000_000
"""A row group ends after the row with which its texts reach this length: what a reader holds in memory."""
GROUP_ROWS = 50_000
_BATCH_ROWS = 64

_PAIR = pa.struct([pa.field("key", pa.string(), False), pa.field("value", pa.string(), False)])
_LEAVES = {
    str: pa.string(),
    float: pa.float64(),
    int: pa.int64(),
    bool: pa.bool_(),
    datetime: pa.string(),  # as in JSON: ISO 8601
    StoryPrompt: pa.string(),
    Check: pa.struct(
        [pa.field("kind", pa.string(), False), pa.field("arguments", pa.list_(pa.string()), False)]
    ),
    Character: pa.struct(
        [
            pa.field("name", pa.string(), False),
            pa.field("speaker_id", pa.string(), False),
            pa.field("details", pa.list_(_PAIR), False),
        ]
    ),
}


@cache
def arrow_schema(model: type[BaseModel]) -> Any:
    """Return the `pyarrow.Schema` of a row schema."""
    return pa.schema([_field(name, each.annotation) for name, each in model.model_fields.items()])


def read_groups(path: Path) -> Iterator[StoredRow]:
    """Read the rows of a Parquet file, a few at a time; row numbers from 1. InputError if it is broken."""
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for value in batch.to_pylist():
                    number += 1
                    yield StoredRow(number, value)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, number + 1, error) from error


def column_names(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns. InputError if it is broken."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, 1, error) from error


def write_groups(draft: Path, target: Path, rows: Iterable[dict[str, Any]], model: type[BaseModel]) -> int:
    """Write rows into a draft of the target; return how many."""
    schema, count = arrow_schema(model), 0
    with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        for group in _groups(rows):
            try:
                batch = pa.RecordBatch.from_pylist([_packed(row, schema) for row in group], schema=schema)
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{target}: one of rows {count + 1} to {count + len(group)} holds half a character"
                    f" ({error.object[error.start]!r}); write the whole character"
                ) from error
            except (pa.ArrowException, OverflowError) as error:
                raise InputError(
                    f"{target}: one of rows {count + 1} to {count + len(group)} does not fit into Parquet:"
                    f" {error}; mend it, or write .jsonl"
                ) from error
            writer.write_batch(batch, row_group_size=len(group))
            count += len(group)
    return count


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if size >= GROUP_CHARACTERS or len(group) >= GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _packed(row: dict[str, Any], schema: Any) -> dict[str, Any]:
    return {name: _pack(value, schema.field(name).type) for name, value in row.items()}


def _pack(value: Any, kind: Any) -> Any:
    """Mappings become lists of keys and values, for Parquet's readers differ on maps."""
    if not isinstance(value, dict):
        return value
    if pa.types.is_list(kind):
        return [{"key": key, "value": each} for key, each in value.items()]
    return {name: _pack(each, kind.field(name).type) for name, each in value.items()}


def _field(name: str, annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        inner = next(each for each in get_args(annotation) if each is not type(None))
        return pa.field(name, _type(inner), nullable=True)
    return pa.field(name, _type(annotation), nullable=False)


def _type(annotation: Any) -> Any:
    """The Arrow type of a field's annotation."""
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if get_origin(annotation) is Literal:
        return pa.string()
    if get_origin(annotation) is dict:
        return pa.list_(_PAIR)
    if get_origin(annotation) is tuple:
        inner, *more = get_args(annotation)
        return pa.list_(_type(inner)) if more == [...] else pa.list_(_type(inner), 1 + len(more))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct([_field(name, each.annotation) for name, each in annotation.model_fields.items()])
    return _LEAVES[annotation]


def _unreadable(path: Path, row: int, error: Exception) -> InputError:
    if not path.exists():
        return InputError(f"{path}: cannot be read: no such file; give a Parquet file")
    said = words_of(error) if isinstance(error, OSError) else str(error).splitlines()[0]
    return InputError(f"{path}: row {row}: the Parquet file cannot be read: {said}; write or fetch it again")

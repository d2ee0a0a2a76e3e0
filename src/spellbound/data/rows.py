"""Rows in files: examples and tagged stories as Parquet or lines of JSON, by the file's ending.

They are read and written one by one, so millions of rows need little memory. A file is there whole
or not at all, and a row is the same row in either form.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from spellbound.data.examples import Example
from spellbound.data.jsonl import read_lines, write_lines
from spellbound.data.stored import StoredRow
from spellbound.data.tagged import TaggedStory
from spellbound.errors import InputError
from spellbound.files import replacing

Model = TypeVar("Model", bound=BaseModel)

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz")
"""What the name of a file of rows may end in."""


def read_examples(paths: Iterable[Path]) -> Iterator[Example]:
    """Read examples one by one; InputError names the file, the row and the field of the first fault."""
    return read_rows(paths, Example)


def write_examples(path: Path, rows: Iterable[Example]) -> int:
    """Write examples as they come; the file is there when all are. Return how many."""
    return write_rows(path, rows, Example)


def read_tagged(paths: Iterable[Path]) -> Iterator[TaggedStory]:
    """Read tagged stories one by one; InputError names the file, the row and the field of the first fault."""
    return read_rows(paths, TaggedStory)


def write_tagged(path: Path, rows: Iterable[TaggedStory]) -> int:
    """Write tagged stories as they come; the file is there when all are. Return how many."""
    return write_rows(path, rows, TaggedStory)


def read_rows(paths: Iterable[Path], model: type[Model]) -> Iterator[Model]:
    """Read rows of any schema, one file after the other."""
    for path in paths:
        for row in read_stored(path):
            if row.value is None:
                raise InputError(f"{path}: row {row.number}: {row.fault}")
            try:
                yield model.model_validate(row.value)
            except ValidationError as error:
                field, what = said(error)[0]
                raise InputError(f"{path}: row {row.number}, {field}: {what}") from error


def read_any(paths: Iterable[Path]) -> Iterator[Example | TaggedStory]:
    """Read files of examples or of tagged stories, whichever each of them holds."""
    for path in paths:
        yield from read_rows([path], kind_in(path) or Example)


def kind_in(path: Path) -> type[Example] | type[TaggedStory] | None:
    """What a file's first row that shows it is; None if no row can be read, InputError if none shows it."""
    first: dict[str, Any] | None = None
    for row in read_stored(path):
        if row.value is not None:
            if (kind := _kind(row.value)) is not None:
                return kind
            first = row.value if first is None else first
    return None if first is None else kind_of(path, first)


def kind_of(path: Path, names: Iterable[str]) -> type[Example] | type[TaggedStory]:
    """Whether rows with these fields are examples or tagged stories; InputError if neither."""
    if (kind := _kind(names)) is not None:
        return kind
    told = ", ".join(map(str, names)) or "none"
    raise InputError(
        f"{path}: holds neither examples nor tagged stories (fields: {told:.100});"
        " give what `data annotate` or `data instruct` writes"
    )


def _kind(names: Iterable[str]) -> type[Example] | type[TaggedStory] | None:
    fields = set(names)
    if fields & {"prompt", "completion"}:
        return Example
    return TaggedStory if "text" in fields and fields & {"provenance", "doubtful"} else None


def write_rows(path: Path, rows: Iterable[Model], model: type[Model]) -> int:
    """Write rows of any schema; return how many."""
    parquet = _ending(path) == ".parquet"
    dumped = _dumped(path, rows)
    with replacing(path) as draft:
        if parquet:
            from spellbound.data.arrow import write_groups

            return write_groups(draft, path, dumped, model)
        return write_lines(draft, path, dumped)


def read_stored(path: Path) -> Iterator[StoredRow]:
    """Read rows as they are stored, good or bad; InputError only for what makes the rest unreadable."""
    if _ending(path) == ".parquet":
        from spellbound.data.arrow import read_groups

        return read_groups(path)
    return read_lines(path)


def said(error: ValidationError) -> list[tuple[str, str]]:
    """All that is wrong with a row as (field, what and remedy)."""
    found = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(each) for each in fault["loc"]) or "row"
        found.append((field, _WORDS.get(fault["type"], _other)(fault)))
    return found


_WORDS: dict[str, Any] = {
    "missing": lambda fault: "is missing; give it",
    "extra_forbidden": lambda fault: "is an unknown field; take it out, or mend its name",
    "value_error": lambda fault: str(fault["ctx"]["error"]),
    "string_pattern_mismatch": lambda fault: (
        f"{fault['input']!r:.40} is not of the form {fault['ctx']['pattern']}; mend it"
    ),
}


def _other(fault: Any) -> str:
    return f"{fault['input']!r:.40}: {fault['msg'][0].lower()}{fault['msg'][1:]}; mend it"


def _dumped(path: Path, rows: Iterable[Model]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        try:
            yield row.model_dump()
        except PydanticSerializationError as error:
            raise InputError(f"{path}: row {number}: cannot be written: {error}") from error


def _ending(path: Path) -> str:
    for ending in ENDINGS:
        if path.name.endswith(ending):
            return ending
    raise InputError(f"{path}: the name ends in none of {', '.join(ENDINGS)}; give it one of these endings")

"""Settings of annotators and instructors from a file and from `--set`."""

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spellbound.data.named import UnknownSetting
from spellbound.errors import InputError


def gathered(name: str, file: Path | None, changes: Sequence[str]) -> dict[str, Any]:
    """Values by name, those of `--set` over those of the file; InputError says what cannot be read.

    The teacher reads its file itself, since places in it count from there.
    """
    changed = dict(_pair(change) for change in changes)
    if file is None:
        return changed
    return {"settings": file, **changed} if name == "teacher" else {**_table(file), **changed}


@contextmanager
def placed(file: Path | None, changes: Sequence[str], *, tables: bool = False) -> Iterator[None]:
    """Say of a setting that nobody knows where it was given: by `--set`, or in the file or its tables."""
    try:
        yield
    except UnknownSetting as error:
        key = f"{error.owner}.{error.setting}" if tables else error.setting
        given = {change.partition("=")[0].strip() for change in changes}
        within = f"{file}: [{error.owner}]" if tables else str(file)
        raise InputError(f"{f'--set {key}' if key in given else within}: {error}") from error


def _table(file: Path) -> dict[str, Any]:
    from spellbound.cli.files import read_text

    try:
        return tomllib.loads(read_text(str(file)))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: is no TOML: {error}; write a line as seed = 7") from error


def _pair(change: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, or else taken as it stands."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {change}: write it as key=value, for example seed=7")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()

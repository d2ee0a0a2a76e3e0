"""Rows without which no file is written."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from spellbound.errors import InputError

T = TypeVar("T")


def required(rows: Iterable[T], why: Callable[[], str]) -> Iterator[T]:
    """Pass rows on; InputError with `why` if there are none, so that the file they go to is not written."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise InputError(why())

"""Makes annotators and instructors by their names, with settings as a file or the terminal gives them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from spellbound.errors import InputError

T = TypeVar("T")


def made(
    what: str, makers: Mapping[str, Callable[[dict[str, Any]], T]], name: str, settings: dict[str, Any]
) -> T:
    """Make what has this name, with its settings; `what` is the word for it in messages.

    Raises InputError for an unknown name, or for a setting that it does not have.
    """
    make = makers.get(name)
    if make is None:
        raise InputError(f"{what} {name!r} is unknown; use one of {', '.join(makers)}")
    try:
        return make(settings)
    except TypeError as error:
        raise InputError(
            f"{what} {name}: {error}; leave the setting out or spell it as the page says"
        ) from error


def typed(values: Mapping[str, Any], *owners: Any) -> dict[str, Any]:
    """The values as the fields of these dataclasses have them: a list becomes a tuple, `no` False.

    Names that are no field pass. Raises InputError for a value that a field cannot have.
    """
    kinds = {each.name: get_type_hints(owner)[each.name] for owner in owners for each in fields(owner)}
    return {
        name: _typed(name, kinds[name], value) if name in kinds else value for name, value in values.items()
    }


def _typed(name: str, kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        place = ".".join(map(str, (name, *wrong["loc"])))
        raise InputError(f"{place} {wrong['input']!r:.40}: {wrong['msg']}; give another value") from error

"""Makes annotators and instructors by their names, with settings as a file or the terminal gives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from spellbound.errors import InputError

T = TypeVar("T")


class UnknownSetting(InputError):
    """A setting that what was asked for does not have; who knows where it was given says so."""

    def __init__(self, message: str, owner: str = "", setting: str = "") -> None:
        """Keep whose setting it would be, and its name."""
        super().__init__(message)
        self.owner, self.setting = owner, setting


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
        raise InputError(f"{what} {name}: {error}; leave the setting out") from error


def require_known(what: str, name: str, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """UnknownSetting for the first setting whose name is none of these."""
    for setting in settings:
        if setting not in names:
            other, valid = ("", f", or use one of {', '.join(names)}") if names else (", nor any other", "")
            raise UnknownSetting(
                f"{what} {name} has no setting {setting!r}{other}; leave the setting out{valid}",
                name,
                setting,
            )


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
        if get_origin(kind) is tuple and get_args(kind) == (int, int):
            shown = f"{name} {value!r:.40}"
            raise InputError(f"{shown}: is no pair; give two numbers, the smaller one first") from error
        place = ".".join(map(str, (name, *wrong["loc"])))
        raise InputError(f"{place} {wrong['input']!r:.40}: {wrong['msg']}; give another value") from error

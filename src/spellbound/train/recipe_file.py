"""Recipes as TOML: read, refused with the nearest known key, written out with every default."""

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from spellbound.errors import InputError
from spellbound.files import words_of
from spellbound.train.recipe import Recipe

T = TypeVar("T")
Values = dict[str, Any]


def read_recipe(file: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read the recipe of `spellbound train`; see `read_settings`."""
    return read_settings(Recipe, file, settings)


def read_settings(kind: type[T], file: Path, settings: Sequence[str] = ()) -> T:
    """Read a recipe of any kind, with `key=value` settings from the command line over it.

    Paths in the file are relative to its folder, those in settings to the working directory.
    Raises InputError for whatever cannot be used.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {words_of(error)}; give a recipe.toml") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise InputError(f"{file}: is not TOML: {error}; mend that line") from error
    values = _absolute(kind, values, file.absolute().parent)
    for setting in settings:
        _override(kind, values, setting)
    changed = " ".join(" ".join(settings).split())
    place = f"{file} with --set {changed}" if changed else str(file)
    return settings_from(kind, values, place)


def recipe_from(values: Values, place: str) -> Recipe:
    """Check plain values and make a recipe of them; InputError names the place and the key."""
    return settings_from(Recipe, values, place)


def settings_from(kind: type[T], values: Values, place: str) -> T:
    """Check plain values and make a recipe of any kind of them; InputError names the place and the key."""
    try:
        made = _build(kind, values, place, "")
    except InputError as error:
        raise error if str(error).startswith(place) else InputError(f"{place}: {error}") from error
    if kind is Recipe and "adapter" in values and "method" not in values:
        raise InputError(
            f'{place}: method is missing beside the table adapter; give method = "lora",'
            ' or method = "full" to train every weight'
        )
    return made


def as_values(recipe: Any) -> Values:
    """Return plain values that `recipe_from` takes."""
    return {
        one.name: _plain(getattr(recipe, one.name))
        for one in dataclasses.fields(recipe)
        if getattr(recipe, one.name) is not None
    }


def as_toml(recipe: Any) -> str:
    """Write a recipe with every default."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in as_values(recipe).items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *_table(key, value)]
        else:
            lines.append(f"{key} = {_written(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def differences(before: Values, now: Values, prefix: str = "") -> list[str]:
    """Say what differs between two recipes as values: `schedule.rate was 0.001 and is 0.01`."""
    told: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            told += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            told.append(f"{prefix}{key} was {_written(one)} and is {_written(other)}")
    return told


def _table(name: str, values: Values) -> list[str]:
    lists = {key: value for key, value in values.items() if value and _is_list_of_tables(value)}
    lines = [f"{key} = {_written(value)}" for key, value in values.items() if key not in lists]
    for key, entries in lists.items():
        for entry in entries:
            lines += ["", f"[[{name}.{key}]]", *_table(f"{name}.{key}", entry)]
    return lines


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and isinstance(value[0], dict)


def _written(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_written(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_written(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_values(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _override(kind: Any, values: Values, setting: str) -> None:
    """Put one `key=value` of the command line into the values."""
    name, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: has no '='; write for example schedule.rate=1e-4")
    try:
        told = tomllib.loads(f"value = {text}")
    except ValueError:  # words need no quotation marks here
        told = {}
    value = told["value"] if len(told) == 1 else text
    *tables, key = name.strip().split(".")
    for number, table in reversed(list(enumerate(tables))):
        key, value = table, {tables[number + 1] if number + 1 < len(tables) else key: value}
    _merge(values, _absolute(kind, {key: value}, Path.cwd()))


def _merge(values: Values, others: Values) -> None:
    for key, value in others.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _absolute(kind: Any, value: Any, folder: Path) -> Any:
    """Make relative paths absolute: in fields that are paths, and in `base` where such a folder exists."""
    kind = _without_none(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        made = {key: _absolute(hints.get(key), each, folder) for key, each in value.items()}
        base = made.get("base")
        if "base" in hints and isinstance(base, str) and base and (there := _existing(folder, base)):
            made["base"] = str(there)
        return made
    if get_origin(kind) is tuple and isinstance(value, list):
        return [_absolute(get_args(kind)[0], each, folder) for each in value]
    return str(_normal(folder, value)) if kind is Path and isinstance(value, str) and value else value


def _existing(folder: Path, name: str) -> Path | None:
    """Return where something of this name is, None for what may be the name of something elsewhere."""
    try:
        there = _normal(folder, name)
    except InputError:
        return None
    return there if there.exists() else None


def _normal(folder: Path, name: str) -> Path:
    try:
        return (folder / Path(name).expanduser()).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a circle of links, nobody's home
        raise InputError(f"{name!r} cannot be a path: {error}; give another") from error


def _build(kind: type[T], values: Any, place: str, prefix: str) -> T:
    """Make a settings class of a table."""
    if not isinstance(values, dict):
        raise InputError(f"{place}: {prefix.rstrip('.')} is {values!r}; make it a table")
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, 0.5)
            remedy = f"did you mean '{prefix}{near[0]}'?" if near else f"known are {', '.join(hints)}"
            raise InputError(f"{place}: unknown key '{prefix}{key}'; {remedy}")
    for one in dataclasses.fields(typing.cast(Any, kind)):
        needed = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if needed and one.name not in values:
            raise InputError(f"{place}: '{prefix}{one.name}' is missing; give it")
    made = {key: _value(hints[key], value, place, f"{prefix}{key}") for key, value in values.items()}
    return kind(**made)


def _value(kind: Any, value: Any, place: str, name: str) -> Any:
    """Check one value against its type."""
    kind = _without_none(kind)
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type[Any], kind), value, place, f"{name}.")
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(
            _value(get_args(kind)[0], each, place, f"{name}[{number}]") for number, each in enumerate(value)
        )
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(f"{place}: {name} is {value!r}; give one of {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if type(value) is kind and kind is not float:
        return value
    raise InputError(f"{place}: {name} is {value!r}; give {_WORDS.get(kind, 'a list')}")


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind

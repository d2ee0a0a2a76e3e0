"""Field types that the schemas of this room share: how a prompt, a cast and an origin stand in a row."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, StringConstraints

from spellbound.data.checks import Check
from spellbound.directives import Character, StoryPrompt

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$|^$")]
"""ISO 639-1, or empty where unknown."""
Licence = str
"""SPDX identifier where there is one, else the licence's own words; empty where unknown."""


def _of(wanted: type, value: Any, form: str) -> Any:
    if isinstance(value, wanted):
        return value
    raise ValueError(f"{value!r:.40} is of type {type(value).__name__}; write {form}")


def _fields(value: dict[str, Any], *names: str) -> list[Any]:
    """The values of exactly these fields, in order; ValueError names one that is unknown or missing."""
    if unknown := value.keys() - set(names):
        raise ValueError(f"field {min(unknown)!r} is unknown; use {', '.join(names)}")
    if missing := set(names) - value.keys():
        raise ValueError(f"field {min(missing)!r} is missing; give it")
    return [value[name] for name in names]


def _pairs(value: Any) -> list[tuple[str, str]]:
    """The (key, value) pairs of a list of structs; ValueError for anything else."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, dict) for each in value):
        raise ValueError("is no list of structs of key and value; write it so")
    pairs = [tuple(_fields(each, "key", "value")) for each in value]
    if not all(isinstance(word, str) for pair in pairs for word in pair):
        raise ValueError("has a key or a value that is no string; write both as strings")
    return pairs


def _versions(value: Any) -> Any:
    return dict(_pairs(value)) if isinstance(value, list | tuple) else value


class Provenance(BaseModel):
    """Who made the tags and instructions, and with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    annotator: str
    """Name of the annotator, and of the instructor after a `+`: `rules+derive`."""
    model: str = ""
    """The language model that was asked, if one was."""
    versions: Annotated[dict[str, str], BeforeValidator(_versions)] = {}
    """Versions of whatever may change the result: spellbound, lexicons, prompts.

    In Parquet, which knows no free names, they are structs of key and value.
    """


def _prompt(value: Any) -> Any:
    if isinstance(value, str):
        return StoryPrompt.parse(value)
    return _of(StoryPrompt, value, "the prompt's text")


Prompt = Annotated[
    StoryPrompt, BeforeValidator(_prompt), PlainSerializer(StoryPrompt.render, return_type=str)
]
"""A story prompt; in a row, its text."""


def _character(value: Any) -> Any:
    if not isinstance(value, dict):
        return _of(Character, value, "a struct of name, speaker_id and details")
    name, speaker_id, details = _fields({"details": (), **value}, "name", "speaker_id", "details")
    return Character(name, speaker_id, tuple(_pairs(details)))


def _character_row(character: Character) -> dict[str, Any]:
    details = [{"key": key, "value": value} for key, value in character.details]
    return {"name": character.name, "speaker_id": character.speaker_id, "details": details}


Cast = tuple[
    Annotated[
        Character, BeforeValidator(_character), PlainSerializer(_character_row, return_type=dict[str, Any])
    ],
    ...,
]
"""Characters; in a row, structs of name, speaker_id and details (key, value)."""


def _check(value: Any) -> Any:
    if not isinstance(value, dict):
        return _of(Check, value, "a struct of kind and arguments")
    kind, arguments = _fields(value, "kind", "arguments")
    if not isinstance(arguments, list | tuple) or not all(isinstance(each, str) for each in arguments):
        raise ValueError(f"arguments {arguments!r:.60} are no list of strings; give one")
    return Check(str(kind), tuple(arguments))


def _check_row(check: Check) -> dict[str, Any]:
    return {"kind": check.kind, "arguments": list(check.arguments)}


Checks = tuple[
    Annotated[Check, BeforeValidator(_check), PlainSerializer(_check_row, return_type=dict[str, Any])], ...
]
"""Checks of the instructions; in a row, structs of kind and arguments."""

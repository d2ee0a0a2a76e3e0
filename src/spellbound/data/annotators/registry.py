"""Annotators by name: from a document to a tagged story."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from spellbound.data.named import made, require_known, typed
from spellbound.data.tagged import Annotator


def annotator(name: str, /, **settings: Any) -> Annotator:
    """Return the annotator of this name, made with its settings.

    Raises InputError for an unknown name, or for a setting that the annotator does not have
    or that cannot have this value.
    """
    return made("annotator", _MAKERS, name, settings)


# Imported when asked for: only the teacher needs the openai client.
def _rules(settings: dict[str, Any]) -> Annotator:
    from spellbound.data.annotators.rules import Rules

    require_known("annotator", "rules", settings, [each.name for each in fields(Rules)])
    return Rules(**typed(settings, Rules))


def _drama(settings: dict[str, Any]) -> Annotator:
    from spellbound.data.annotators.drama import Drama

    require_known("annotator", "drama", settings, ())
    return Drama()


def _teacher(settings: dict[str, Any]) -> Annotator:
    from spellbound.data.teacher import TeacherAnnotator

    return TeacherAnnotator(**settings)


_MAKERS: dict[str, Callable[[dict[str, Any]], Annotator]] = {
    "rules": _rules,
    "drama": _drama,
    "teacher": _teacher,
}

ANNOTATORS = tuple(_MAKERS)
"""The names that `annotator` knows."""

"""Instructors by name: from a tagged story to training examples with writing instructions."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from spellbound.data.examples import Example
from spellbound.data.named import made, require_known
from spellbound.data.tagged import TaggedStory


class Instructor(Protocol):
    """Cuts a tagged story into examples and says what each asks for. Deterministic, or so after a cache."""

    @property
    def name(self) -> str:
        """What `Provenance.annotator` says after the `+`."""

    def instruct(self, story: TaggedStory) -> Iterator[Example]:
        """Yield the examples of a story in its order; InputError if it cannot be read."""


def instructor(name: str, /, **settings: Any) -> Instructor:
    """Return the instructor of this name, made with its settings.

    Raises InputError for an unknown name, or for a setting that the instructor does not have
    or that cannot have this value.
    """
    return made("instructor", _MAKERS, name, settings)


# Imported when asked for: only the teacher needs the openai client.
def _derive(settings: dict[str, Any]) -> Instructor:
    from spellbound.data.instructions.derive import Derive

    require_known("instructor", "derive", settings, Derive.settings())
    return Derive.of(**settings)


def _teacher(settings: dict[str, Any]) -> Instructor:
    from spellbound.data.teacher import TeacherInstructor

    return TeacherInstructor(**settings)


_MAKERS: dict[str, Callable[[dict[str, Any]], Instructor]] = {"derive": _derive, "teacher": _teacher}

INSTRUCTORS = tuple(_MAKERS)
"""The names that `instructor` knows."""

"""A teacher and other settings out of names and values, as a file and the command line give them.

The file has the teacher's settings, and a table for each of its tasks, so that one file serves them all.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from spellbound.data.teacher.client import Teacher
from spellbound.data.teacher.settings import TeacherSettings, read_table
from spellbound.errors import InputError

TASKS = ("annotate", "instruct")


def teacher_and_rest(
    teacher: Teacher | None, file: Path | None, task: str, values: dict[str, Any], *kinds: type[Any]
) -> tuple[Teacher, tuple[Any, ...]]:
    """Give each kind of settings its fields, and what is left to the teacher, unless one is given.

    `values` win over the file, the task's table over what stands before it. A field of several kinds goes to
    all of them. InputError for a name that none has.
    """
    place = "teacher" if file is None else str(file)
    values = {**({} if file is None else _of_task(Path(file), task)), **values}
    owned = {kind: {field.name for field in fields(kind)} for kind in kinds}
    rest = tuple(
        kind(**{name: _frozen(value) for name, value in values.items() if name in names})
        for kind, names in owned.items()
    )
    elsewhere = set().union(*owned.values()) - {field.name for field in fields(TeacherSettings)}
    left = {name: value for name, value in values.items() if name not in elsewhere}
    if teacher is None:
        return Teacher(TeacherSettings.of(left, place)), rest
    if unknown := sorted(set(left) - set().union(*owned.values())):
        raise InputError(
            f"{place}: setting {unknown[0]!r} is unknown beside a teacher that is given; leave it out"
        )
    return teacher, rest


def _of_task(file: Path, task: str) -> dict[str, Any]:
    """Return the file's values for one task: those for all, and those of its own table."""
    table = read_table(file)
    own = {name: table.pop(name, {}) for name in TASKS}[task]
    if not isinstance(own, dict):
        raise InputError(f"{file}: {task} is {own!r}, not a table; write [{task}] and its settings below it")
    return {**table, **own}


def _frozen(value: Any) -> Any:
    """Return lists, which is what TOML has, as tuples."""
    return tuple(value) if isinstance(value, list) else value

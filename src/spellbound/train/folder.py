"""The run's folder: what is where, and what may begin or go on in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spellbound.errors import InputError
from spellbound.files import replacing, unwritable
from spellbound.train import checkpoints
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import as_toml, as_values, differences

RECIPE, TOKENS, CHECKPOINTS, LOCK = "recipe.toml", "tokens", "checkpoints", ".lock"
MODEL, ADAPTER, REPORT, PLAN = "model", "adapter", "report.html", "plan.json"
BEFOREHAND = frozenset({TOKENS, LOCK, PLAN})
"""What may be in the folder of a run that has not begun."""
FREE = frozenset({"run"})
"""Tables of a recipe that may change when a run goes on, for they do not change what is learnt."""


@contextmanager
def claimed(folder: Path, *, resume: bool) -> Iterator[None]:
    """Hold the run's folder for this process alone.

    Raises InputError if another process trains there, or if there is a run already and `resume` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another process trains here; wait for it, or stop it") from error
        _clear(folder)
        there = sorted(each.name for each in folder.iterdir() if each.name not in BEFOREHAND)
        if there and not resume:
            raise InputError(
                f"{folder}: is not empty ({there[0]!r} is there); go on with --resume,"
                " or give another run.folder"
            )
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    """Remove what killed runs left half written; as large as data or model, and of no use to anybody."""
    for place in (folder, folder / TOKENS, folder / CHECKPOINTS):
        for draft in place.glob(".spellbound.*.tmp"):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
    checkpoints.remove_remains(folder / CHECKPOINTS)


def require_same(checkpoint: Path, recipe: Recipe, digests: dict[str, str]) -> None:
    """Refuse to go on with another recipe or other data; InputError says what differs."""
    state = checkpoints.read_state(checkpoint)
    before, now = (without_free(values) for values in (state["recipe"], as_values(recipe)))
    told = differences(before, now)
    if told:
        raise InputError(
            f"{checkpoint}: was made with another recipe: {'; '.join(told[:5])};"
            " give the same one to go on, or another run.folder"
        )
    was: dict[str, str] = state["digests"]
    odd = sorted(key for key in was.keys() | digests.keys() if was.get(key) != digests.get(key))
    if odd:
        raise InputError(
            f"{checkpoint}: was made with other data: {', '.join(odd)} changed;"
            " bring back what was there, or give another run.folder"
        )


def require_same_base(checkpoint: Path, base: str) -> None:
    """Refuse to go on over another config, or over other frozen weights; `base` is `start.base_of`."""
    if checkpoints.read_state(checkpoint).get("base", base) != base:
        raise InputError(
            f"{checkpoint}: was made with another model under the same name: its config or its frozen weights"
            " changed; bring back what was there, or give another run.folder"
        )


def without_free(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values without the tables that may change."""
    return {key: value for key, value in values.items() if key not in FREE}


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Leave the whole recipe, defaults included, in the run's folder."""
    with replacing(folder / RECIPE) as draft:
        draft.write_text(as_toml(recipe), encoding="utf-8")

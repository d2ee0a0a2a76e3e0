"""The recipes of the plan's benchmark are recipes."""

from pathlib import Path

import pytest

from benchmarks.bench_plan import CASES, NANO, Case, recipe
from spellbound.train.recipe_file import read_recipe


@pytest.mark.parametrize("case", CASES, ids=Case.name)
def test_every_case_is_a_recipe(case: Case, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe(case, NANO, tmp_path, 5), encoding="utf-8")
    read = read_recipe(tmp_path / "recipe.toml")
    assert (read.method, read.schedule.batch, read.data.length) == (case.method, case.batch, case.length)
    assert read.compute.gradient_checkpointing == case.checkpointing
    assert read.model.base == str(NANO.resolve())

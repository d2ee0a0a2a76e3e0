"""`spellbound prefer` from the outside: a recipe and a file of pairs in, an adapter that writes out."""

from pathlib import Path

from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.ratings import write_pairs
from tests.train.test_preferences import pairs

RECIPE = """
method = "dpo"

[model]
base = "{model}"

[adapter]
targets = ["q_proj", "in_proj"]

[data]
pairs = ["pairs.jsonl"]

[schedule]
batch = 3
rate = 1e-3

[run]
folder = "run"
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_from_pairs_to_an_adapter_that_writes(tmp_path: Path, tiny_folder: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", pairs())
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model=tiny_folder), encoding="utf-8")
    result = run("prefer", recipe, "--set", "preference.beta=0.2", "--set", "schedule.steps=2")
    assert result.exit_code == 0, result.output
    assert "beta = 0.2" in result.stdout
    assert "pairs.jsonl: 6 rows" in result.stdout
    assert "adapter: 2 updates; loss 0.6931 to" in result.stdout
    assert "{'loss'" not in result.stdout
    story = tmp_path / "a.story.md"
    story.write_text(pairs()[0].prompt.render(), encoding="utf-8")
    adapter = tmp_path / "run" / "adapter"
    written = run(
        "write", story, "--model", tiny_folder, "--adapter", adapter, "--max-tokens", 8, "--seed", 1
    )
    assert written.exit_code == 0, written.output
    again = run("prefer", recipe)
    assert again.exit_code == 2
    assert "is not empty" in again.stderr


def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("method = 'dpo'\n[modle]\nbase = 'x'\n", encoding="utf-8")
    result = run("prefer", recipe)
    assert (result.exit_code, "did you mean 'model'?" in result.stderr) == (2, True)
    assert run("prefer", tmp_path / "none.toml").exit_code == 2

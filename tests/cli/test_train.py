"""`spellbound train` as it is typed."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.documents import Document
from spellbound.data.readers import write_documents

RECIPE = """
[model]
base = "{base}"
[data]
text = [{{ path = "documents.jsonl" }}]
length = 64
[schedule]
steps = 2
[run]
folder = "run"
samples = 0
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Path) -> Path:
    write_documents(tmp_path / "documents.jsonl", [Document(id="a", text="Once there was a bell. " * 20)])
    file = tmp_path / "a.toml"
    file.write_text(RECIPE.format(base=tiny_folder), encoding="utf-8")
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_it_trains_and_says_all_defaults_and_where_things_are(recipe: Path) -> None:
    result = run(recipe, "--set", "schedule.steps=3")
    assert result.exit_code == 0, result.output
    assert "steps = 3" in result.stdout
    assert "beta2 = 0.999" in result.stdout
    assert f"{recipe.parent}/run/model: 3 steps" in result.stdout
    assert (recipe.parent / "run" / "report.html").is_file()


def test_a_second_time_needs_resume_and_the_same_recipe(recipe: Path) -> None:
    assert run(recipe).exit_code == 0
    again = run(recipe)
    assert again.exit_code == 2
    assert "go on with --resume" in again.stderr
    other = run(recipe, "--resume", "--set", "schedule.steps=5")
    assert other.exit_code == 2
    assert "schedule.steps was 2 and is 5" in other.stderr
    assert run(recipe, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [("schedule.rat=1", "did you mean 'schedule.rate'"), ("data.text=[]", "are both empty")],
)
def test_a_mistake_is_one_line(recipe: Path, setting: str, message: str) -> None:
    result = run(recipe, "--set", setting)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_module_can_be_started_and_help_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['spellbound', 'train', '--help']\n"
    code += (
        "from spellbound.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--resume" in told.stdout
    started = [sys.executable, "-m", "spellbound", "--version"]
    assert subprocess.run(started, capture_output=True, text=True, check=True).stdout.startswith(
        "spellbound "
    )

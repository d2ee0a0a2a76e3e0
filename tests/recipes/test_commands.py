"""The recipe's commands when something is missing, and what is written by one process or several."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from recipes.nano import console, data, tokenizer, writers
from spellbound.errors import EnvironmentFault, ModelError
from spellbound.train.preferences.settings import PreferenceRecipe
from spellbound.train.recipe_file import read_recipe, read_settings
from tests.recipes.conftest import RECIPES, ROOT, micro, recipe_command


def test_missing_corpora_are_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.nano.tokenizer", "--corpora", "nowhere", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    remedy = "name one with --corpora FOLDER"
    assert done.stderr == f"error: corpora folder 'nowhere' does not exist; {remedy}\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tokenizer", ("--corpora", "nowhere")),
        ("drills", ()),
        ("data", ("--stories", "0")),
        ("evaluate", ("sft", "--corpora", "nowhere")),
        ("evaluate", ("sft", "--bytes", "0", "--examples", "nowhere.jsonl")),
        ("rate", ("--model", "nowhere", "--prompts", "1")),
        ("export", ()),
        ("card", ()),
    ],
)
def test_what_is_missing_is_one_line_and_status_2(
    name: str,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe_command(monkeypatch, name, *arguments, "--out", "runs") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not list(tmp_path.rglob("*.*"))


def test_faults_of_the_machine_are_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Namespace) -> None:
        raise EnvironmentFault("no compiler; install one")

    assert console.run(main, Namespace()) == 1
    assert capsys.readouterr().err == "error: no compiler; install one\n"


def test_a_full_disk_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Namespace) -> None:
        raise OSError(28, "No space left on device", "runs/nano/data/stories.parquet")

    assert console.run(main, Namespace()) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: [Errno 28] No space left on device: 'runs/nano/data/stories.parquet'")
    assert printed.count("\n") == 1


def test_ctrl_c_is_a_word_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Namespace) -> None:
        raise KeyboardInterrupt

    assert console.run(main, Namespace()) == 130
    assert capsys.readouterr().err.startswith("stopped: ")


@pytest.fixture(scope="module")
def model(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer") / "model"
    micro().save_pretrained(folder)
    tokenizer.save(bpe, folder)
    return folder


def tasks(count: int) -> list[writers.Task]:
    return [
        writers.Task(prompt=example.prompt, seed=seed, constrained=constrained, temperature=0.8, max_tokens=6)
        for seed, example in enumerate(data.unseen(count))
        for constrained in (True, False)
    ]


def test_several_processes_write_what_one_writes_and_passages_at_once_what_they_are_alone(
    model: Path,
) -> None:
    alone = list(writers.write_all(tasks(4), model, None, processes=1, together=1))
    assert len(alone) == 8
    assert alone == list(writers.write_all(tasks(4), model, None, processes=1))
    assert alone == list(writers.write_all(tasks(4), model, None, processes=2, together=3))


def test_a_model_that_cannot_write_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        next(writers.write_all(tasks(1), tmp_path / "none", None, processes=2))


def test_recipes_follow_one_another() -> None:
    """Each begins with the model that the one before leaves, at the rate at which that one ended."""
    stages = [read_recipe(RECIPES / f"{name}.toml") for name in ("language", "stories", "sft")]
    adapter = read_settings(PreferenceRecipe, RECIPES / "ratings.toml")
    bases = [*(recipe.model.base for recipe in stages[1:]), adapter.model.base]
    for before, base in zip(stages, bases, strict=True):
        assert (RECIPES / base).resolve() == before.run.folder / "model"
    assert [recipe.schedule.shape for recipe in stages] == ["constant", "constant", "cosine"]
    assert [recipe.method for recipe in stages] == ["full", "full", "full"]
    assert adapter.method == "dpo"
    assert {recipe.data.batching for recipe in stages} == {"packed"}
    assert not {source.path for source in stages[2].data.validation} & {
        source.path for recipe in stages for source in (*recipe.data.examples, *recipe.data.text)
    }

"""Recipes: what is read, what is refused and how, and that what is written out is the same recipe."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spellbound.errors import InputError
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import as_toml, as_values, differences, read_recipe, recipe_from

SHORT = """
[model]
base = "mine"
[data]
examples = [{path = "a.parquet"}, {path = "b.parquet", repeats = 2}]
[run]
folder = "../out"
"""


def written(folder: Path, text: str = SHORT) -> Path:
    file = folder / "recipes" / "a.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    recipe = read_recipe(written(tmp_path))
    assert recipe.model.base == str(tmp_path / "recipes" / "mine")
    assert [source.path for source in recipe.data.examples] == [
        tmp_path / "recipes" / name for name in ("a.parquet", "b.parquet")
    ]
    assert recipe.run.folder == tmp_path / "out"


def test_home_and_byte_order_mark_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    recipe = read_recipe(written(tmp_path, "\ufeff" + SHORT), ["run.folder=~/here", "model.base=~/mine"])
    assert recipe.run.folder == tmp_path / "here"
    assert recipe.model.base == str(tmp_path / "mine")


def test_a_base_that_is_no_folder_is_a_name_on_the_hub(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path)).model.base == "mine"


def test_settings_of_the_command_line_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        "schedule.rate=1e-3",
        "method=lora",
        "run.folder=here",
        'adapter.targets=["q_proj"]',
        'data.text=[{path="c.parquet"}]',
    ]
    recipe = read_recipe(written(tmp_path), settings)
    assert recipe.schedule.rate == 1e-3
    assert recipe.method == "lora"
    assert recipe.run.folder == tmp_path / "here"
    assert recipe.adapter.targets == ("q_proj",)
    assert recipe.data.text[0].path == tmp_path / "c.parquet"
    assert len(recipe.data.examples) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.rat=1", "unknown key 'schedule.rat'; did you mean 'schedule.rate'?"),
        ("shedule.rate=1", "unknown key 'shedule'; did you mean 'schedule'?"),
        ("run.xyzzy=1", "unknown key 'run.xyzzy'; known are folder, processes"),
        ("schedule.rate=fast", "schedule.rate is 'fast'; give a number"),
        ("schedule.rate=true", "schedule.rate is True; give a number"),
        ("schedule.rate=nan", "schedule.rate is nan; give a number"),
        ("schedule.batch=2.5", "schedule.batch is 2.5; give a whole number"),
        ("schedule.batch=0", "schedule.batch is 0; give 1 or more"),
        ("schedule.shape=round", "schedule.shape is 'round'; give one of cosine, linear, constant"),
        ("schedule=1", "schedule is 1; make it a table"),
        ("adapter.targets=[1]", "adapter.targets[0] is 1; give a text"),
        ("adapter.targets=q_proj", "adapter.targets is 'q_proj'; give a list"),
        ("adapter.rank=0", "adapter.rank is 0; give 1 to 4,096"),
        ("adapter.rank=100000", "adapter.rank is 100000; give 1 to 4,096"),
        ("data.examples=[]", "data.examples and data.text are both empty"),
        ("data.examples=[{path='a', repeats=0}]", "repeats of"),
        ("data.examples=[{repeats=2}]", "'data.examples[0].path' is missing; give it"),
        ("data.held_out=1", "data.held_out is 1; give 0, 2 or more"),
        ("model.config=c.json", "give exactly one of them"),
        ("model.base=", "give exactly one of them"),
        ("run.keep=0", "run.keep is 0; give 1 or more"),
        ("data.examples=[{path='a', repeats=inf}]", "data.examples[0].repeats is inf; give a number"),
        ("optimizer.decay=inf", "optimizer.decay is inf; give a number"),
        ("data.length=99999999999999", "data.length is 99999999999999; give 8 to 16777216 tokens"),
        ('run.folder=""', "run.folder is ''; give a path"),
        ('run.folder="a\\u0000b"', "'a\\x00b' cannot be a path: embedded null byte; give another"),
        ("run.folder=~nobody.at.all/x", "cannot be a path: Could not determine home directory"),
        ("schedule.rate=1e-3\nbatch=4", "schedule.rate is '1e-3\\nbatch=4'; give a number"),
        ("schedule.seed=-1", "schedule.seed is -1; give a whole number from 0"),
        ("model.seed=99999999999999999999", "model.seed is 99999999999999999999; give a whole number"),
        ("nonsense", "--set nonsense: has no '='"),
    ],
)
def test_what_no_run_can_have_is_refused_in_one_line(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_recipe(written(tmp_path), [setting])
    assert "\n" not in str(caught.value)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, SHORT + "keeep = 3\n")
    with pytest.raises(
        InputError, match=re.escape(f"{file}: unknown key 'run.keeep'; did you mean 'run.keep'")
    ):
        read_recipe(file)


@pytest.mark.parametrize(("text", "message"), [("a = ", "is not TOML"), ("[run]", "'model' is missing")])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(written(tmp_path, text))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "nowhere.toml")


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(
    base=names,
    folder=names,
    sources=st.lists(st.tuples(names, st.floats(0.1, 9)), min_size=1, max_size=3),
    rate=st.floats(1e-7, 0.5),
    targets=st.lists(names, min_size=1, max_size=3),
)
def test_what_is_written_out_is_the_same_recipe(
    tmp_path_factory: pytest.TempPathFactory,
    base: str,
    folder: str,
    sources: list[tuple[str, float]],
    rate: float,
    targets: list[str],
) -> None:
    values = {
        "method": "lora",
        "model": {"base": base},
        "data": {"text": [{"path": f"/{path}", "repeats": often} for path, often in sources]},
        "schedule": {"rate": rate},
        "adapter": {"targets": targets},
        "run": {"folder": f"/{folder}"},
    }
    recipe = recipe_from(values, "test")
    assert recipe_from(as_values(recipe), "test") == recipe
    file = tmp_path_factory.getbasetemp() / "written.toml"
    file.write_text(as_toml(recipe), encoding="utf-8")
    again = read_recipe(file)
    # Paths are made absolute once more, and '/..' is not the same text as '/'.
    assert as_values(again.schedule) == as_values(recipe.schedule)
    assert again.adapter == recipe.adapter
    assert [source.repeats for source in again.data.text] == [often for _, often in sources]


def test_differences_name_the_key(recipe: Recipe, values: dict[str, Any]) -> None:
    values["schedule"]["rate"] = 0.25
    values["data"]["examples"][0]["repeats"] = 3
    told = differences(as_values(recipe), as_values(recipe_from(values, "test")))
    assert any(line.startswith("data.examples was") for line in told)
    assert "schedule.rate was 0.001 and is 0.25" in told
    assert len(told) == 2


def test_a_table_for_an_adapter_without_a_method_does_not_train_every_weight(tmp_path: Path) -> None:
    file = written(tmp_path, SHORT + "[adapter]\nrank = 4\n")
    with pytest.raises(
        InputError, match=r'a\.toml: method is missing beside the table adapter; give method = "lora"'
    ):
        read_recipe(file)
    chosen = written(tmp_path, 'method = "lora"\n' + SHORT + "[adapter]\nrank = 4\n")
    assert read_recipe(chosen).method == "lora"

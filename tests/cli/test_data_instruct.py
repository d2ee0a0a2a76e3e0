"""`spellbound data instruct` and `spellbound data simulate` as their user sees them."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.rows import read_examples, write_tagged
from spellbound.data.simulator import HELD_OUT_FROM, to_examples
from spellbound.directives import parse
from tests.data.tagged_stories import drama, story


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    write_tagged(tmp_path / "tagged.parquet", [drama("de"), drama("es")])
    return tmp_path / "tagged.parquet"


def test_derives_examples(tmp_path: Path, tagged: Path) -> None:
    target = tmp_path / "examples.jsonl"
    result = run("instruct", tagged, "-o", target, "--set", "completion_words=[20,80]", "--set", "seed=3")
    assert result.exit_code == 0
    rows = list(read_examples([target]))
    assert len(rows) > 10
    assert result.stdout.startswith(f"{target}: {len(rows)} examples of 2 stories, ")
    assert "  checks: " in result.stdout
    assert all(check.holds(parse(row.completion)) for row in rows for check in row.checks)


def test_settings_from_a_file_and_changes_over_them(tmp_path: Path, tagged: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        'completion_words = [20, 80]\nmost = 3\nmarks = "strip"\n', encoding="utf-8"
    )
    options = ("--settings", tmp_path / "settings.toml")
    assert run("instruct", tagged, "-o", tmp_path / "a.jsonl", *options).exit_code == 0
    assert (
        run(
            "instruct", tagged, "-o", tmp_path / "b.jsonl", *options, "--set", "most=1", "--set", "marks=keep"
        ).exit_code
        == 0
    )
    assert len(list(read_examples([tmp_path / "a.jsonl"]))) == 6
    assert len(list(read_examples([tmp_path / "b.jsonl"]))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--with", "deriv"), "use one of derive, teacher"),
        (("--set", "plain=3"), "give a number from 0 to 1"),
        (
            ("--set", "speed=3"),
            "--set speed: instructor derive has no setting 'speed'; leave the setting out",
        ),
        (("--set", "speed=3"), "or use one of completion_words, past_words, without_past, "),
        (("--set", "past_words=[1]"), "past_words [1]: is no pair; give two numbers, the smaller one first"),
        (("--set", "completion_words=[5000,9000]"), "0 examples of 2 stories: no passage is long enough"),
        (("--settings", "none.toml"), "none.toml: cannot be read"),
    ],
)
def test_wrong_settings_are_one_line(
    tmp_path: Path, tagged: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("instruct", tagged, "-o", tmp_path / "x.jsonl", *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert not (tmp_path / "x.jsonl").exists()


def test_a_settings_file_that_is_no_toml(tmp_path: Path, tagged: Path) -> None:
    (tmp_path / "settings.toml").write_text("seed: 7\n", encoding="utf-8")
    result = run("instruct", tagged, "-o", tmp_path / "x.jsonl", "--settings", tmp_path / "settings.toml")
    assert result.exit_code == 2
    assert "is no TOML" in result.stderr


def test_an_unknown_setting_of_a_file_is_placed_there(tmp_path: Path, tagged: Path) -> None:
    (tmp_path / "settings.toml").write_text("speed = 3\n", encoding="utf-8")
    result = run("instruct", tagged, "-o", tmp_path / "x.jsonl", "--settings", tmp_path / "settings.toml")
    assert result.exit_code == 2
    assert f"{tmp_path / 'settings.toml'}: instructor derive has no setting 'speed'" in result.stderr


REFRAIN = " ".join(f"word{number}" for number in range(50)) + "."


def test_what_the_check_would_refuse_is_left_out_and_counted(tmp_path: Path) -> None:
    others = [" ".join(f"{name}{number}" for number in range(50)) + "." for name in ("sea", "hill", "fog")]
    write_tagged(tmp_path / "tagged.jsonl", [story(REFRAIN, others[0], REFRAIN, others[1], others[2])])
    target = tmp_path / "examples.jsonl"
    options = ("completion_words=[40,60]", "past_words=[500,500]", "without_past=0", "instructions=0")
    changes = [each for option in options for each in ("--set", option)]
    result = run("instruct", tmp_path / "tagged.jsonl", "-o", target, *changes)
    assert result.exit_code == 0
    assert "\n  1 left out that `data check` would refuse: leak 1\n" in result.stdout
    assert result.stdout.startswith(f"{target}: 4 examples of 1 story")
    checked = run("check", target)
    assert (checked.exit_code, "leak" in checked.stdout) == (0, False)


def test_nothing_but_refused_examples_leaves_no_file(tmp_path: Path) -> None:
    broken = story(REFRAIN.replace("word1 ", '<quote speaker="ZZZZZZ">word1</quote> '))
    write_tagged(tmp_path / "tagged.jsonl", [broken])
    target = tmp_path / "examples.jsonl"
    result = run(
        "instruct",
        tmp_path / "tagged.jsonl",
        "-o",
        target,
        "--set",
        "completion_words=[40,60]",
        "--set",
        "redraw_ids=false",
        "--set",
        "plain=0",
    )
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "0 examples of 1 story, 1 left out that `data check` would refuse: speaker 1;" in result.stderr
    assert not target.exists()


def test_a_file_without_stories_leaves_no_file(tmp_path: Path) -> None:
    write_tagged(tmp_path / "tagged.parquet", [])
    result = run("instruct", tmp_path / "tagged.parquet", "-o", tmp_path / "x.jsonl")
    assert result.exit_code == 2
    assert "0 examples of 0 stories; give what `data annotate` wrote" in result.stderr
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_simulates(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    result = run("simulate", "--count", 25, "--seed", 5, "-o", target, "--report")
    assert result.exit_code == 0
    assert result.stdout.endswith(f"{target}: 25 examples from seed 5 on\n")
    assert "distinct sentences" in result.stdout
    rows = list(read_examples([target]))
    assert len(rows) == 25
    assert rows[: len(to_examples(5))] == to_examples(5)


def test_simulates_with_invented_names(tmp_path: Path) -> None:
    run("simulate", "--count", 20, "-o", tmp_path / "a.jsonl")
    run("simulate", "--count", 20, "-o", tmp_path / "b.jsonl", "--invented-names", 1.0)
    known = {one.name for row in read_examples([tmp_path / "a.jsonl"]) for one in row.prompt.characters}
    new = {one.name for row in read_examples([tmp_path / "b.jsonl"]) for one in row.prompt.characters}
    assert not known & new


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", HELD_OUT_FROM - 1, "--count", 50), str(HELD_OUT_FROM)),
        (("--invented-names", 2), "give a share from 0 to 1"),
    ],
)
def test_nothing_is_left_when_simulating_fails(
    tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = run("simulate", "-o", tmp_path / "rows.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    result = run("simulate", "--count", 1, "-o", tmp_path / "none" / "rows.jsonl")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_the_room_needs_no_torch() -> None:
    program = (
        "import sys, spellbound.data.simulator, spellbound.data.instructions.derive;"
        "import spellbound.data.annotators.drama;"
        "raise SystemExit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

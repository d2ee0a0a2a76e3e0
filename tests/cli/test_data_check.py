"""`spellbound data check` as its user sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.examples import Example
from spellbound.data.fields import Provenance
from spellbound.data.rows import write_examples
from spellbound.directives import Character, StoryPrompt

PROMPT = StoryPrompt((Character("Mara", "32AN4R"),), "It rained.", ("Go on.",))
TOLD = "and then the rain came down on the roofs of the harbour town once more"


def example(name: str, completion: str) -> Example:
    return Example(
        id=name,
        prompt=PROMPT,
        completion=completion,
        language="en",
        licence="CC0-1.0",
        provenance=Provenance(annotator="rules"),
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write_examples(tmp_path / "good.parquet", [example("a", TOLD), example("b", f"Soon, {TOLD}")])
    return tmp_path / "good.parquet"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    write_examples(
        tmp_path / "bad.jsonl", [example("a\x1b", '<quote speaker="ZZZZZZ">No.'), example("b", "")]
    )
    return tmp_path / "bad.jsonl"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_warnings_pass_unless_they_may_not(good: Path) -> None:
    result = run(good)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{good}:2: warning: nearly repeats {good}:1 (about ")
    assert lines[1:] == ["           1  near-duplicate (warning)", "1 file, 2 rows: 0 faults, 1 warning"]
    assert run(good, "--strict").exit_code == 2
    assert run(good, "--similarity", 0).stdout == "1 file, 2 rows: no faults\n"


def test_faults_are_said_one_a_line_and_counted(good: Path, bad: Path) -> None:
    result = run(good, bad, "--similarity", 0)
    assert result.exit_code == 2
    tag = '<quote speaker="ZZZZZZ">'
    begin = f"{bad}:1: completion: line 1, column 1: {tag}"
    assert result.stdout.splitlines() == [
        f"{begin} names a speaker outside the cast; add a sheet for it or mend the ID",
        f"{begin} is never closed and was closed for it; write its closing tag",
        f"{bad}:2: completion: says nothing; leave the row out, or write its completion",
        f"{bad}:2: id: 'b' is also the id of {good}:2; give each row its own",
        "           1  tags",
        "           1  speaker",
        "           1  empty",
        "           1  duplicate-id",
        "2 files, 4 rows: 4 faults, 0 warnings",
    ]


def test_machines_read_json(good: Path, bad: Path) -> None:
    result = run("--json", good, bad)
    assert result.exit_code == 2
    *faults, counts = [json.loads(line) for line in result.stdout.splitlines()]
    assert counts == {
        "rows": 4,
        "passed": False,
        "counts": {"near-duplicate": 1, "tags": 1, "speaker": 1, "empty": 1, "duplicate-id": 1},
    }
    assert faults[2] == {
        "file": str(bad),
        "row": 2,
        "field": "completion",
        "code": "empty",
        "warning": False,
        "what": "says nothing",
        "remedy": "leave the row out, or write its completion",
    }


def test_wrong_settings_are_one_line(good: Path) -> None:
    result = run(good, "--max-tokens", 5)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "spellbound: max_tokens is 5 without a tokenizer; name a model folder\n"


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys; from spellbound.cli import app; from typer.testing import CliRunner;"
        "[CliRunner().invoke(app, [*words, '--help']) for words in ([], ['data'], ['data', 'check'])];"
        "sys.exit(' '.join({'torch', 'pyarrow', 'numpy', 'matplotlib'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

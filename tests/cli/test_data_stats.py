"""`spellbound data stats` as its user sees it."""

from pathlib import Path

from typer.testing import CliRunner

from spellbound.cli import app
from spellbound.data.rows import write_examples
from tests.conftest import write_tokenizer
from tests.data.test_stats import EXAMPLE


def test_it_prints_and_writes(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "model")
    write_examples(tmp_path / "a.parquet", [EXAMPLE, EXAMPLE.model_copy(update={"language": "de"})])
    command = ["data", "stats", tmp_path / "a.parquet", "-o", tmp_path / "out" / "s", "--tokenizer"]
    result = CliRunner().invoke(app, [*map(str, command), str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines()}
    assert lines["completion, words"][2:] == ["11"] * 5 + ["22"]
    assert lines["completion, tokens"][2] == lines["completion, tokens"][4]
    assert lines["language (2)"][2:] == ["de", "1,", "en", "1"]
    assert result.stdout.splitlines()[-1] == f"2 examples; {tmp_path / 'out' / 's' / 'stats.html'} shows more"
    assert len(list((tmp_path / "out" / "s").iterdir())) == 6


def test_a_wrong_file_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": 1}')
    result = CliRunner().invoke(app, ["data", "stats", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "s")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"spellbound: {tmp_path}/a.jsonl: row 1, id: is missing")
    assert not (tmp_path / "s").exists()
    result = CliRunner().invoke(
        app, ["data", "stats", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "a.jsonl")]
    )
    assert result.stderr == f"spellbound: -o {tmp_path}/a.jsonl: is a file; name a folder\n"

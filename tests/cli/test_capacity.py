"""`spellbound capacity` as people meet it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli.app import app

CONFIG = str(Path(__file__).parents[2] / "recipes" / "jamba-mini.config.json")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["capacity", *arguments])


def test_it_prints_bytes_tokens_users_and_assumptions() -> None:
    done = run(CONFIG, "--card", "h100", "--cards", "2", "--story", "8192", "--minutes", "5")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("model: 51.6 B parameters, 11.8 B for each token\n")
    for words in ("96.1 GiB", "16.0 KiB  a token", "15.3 MiB", "2 x h100", "every 5 minutes", "assumed:"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CONFIG, "--card", "abacus"], "card 'abacus' is not known"),
        (["nowhere.json"], "nowhere.json: cannot be used"),
        ([CONFIG, "--story", "1000000"], "story is 1,000,000 tokens and the model's context 262,144"),
        ([CONFIG, "--cards", "many"], "Invalid value for '--cards'"),
    ],
)
def test_wrong_words_end_with_status_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"spellbound: {message}")
    assert done.stderr.count("\n") == 1

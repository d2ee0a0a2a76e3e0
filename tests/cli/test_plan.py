"""`spellbound plan` as people meet it."""

from pathlib import Path

from typer.testing import CliRunner

from spellbound.cli.app import app

ROOT = Path(__file__).parents[2]
RECIPE, CONFIG = (
    str(ROOT / "recipes" / name) for name in ("spellbound-jamba-mini.toml", "jamba-mini.config.json")
)


def test_it_prints_terms_time_and_whether_it_fits() -> None:
    given = ["plan", RECIPE, "--config", CONFIG, "--device", "h200", "--length", "32768"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0
    for word in ("weights", "layer inputs", "at most, on each", "it fits", "tokens/s", "experts"):
        assert word in done.output
    smaller = CliRunner().invoke(app, [*given, "--memory", "100"])
    assert "too little" in smaller.output


def test_wrong_words_end_with_status_2() -> None:
    done = CliRunner().invoke(
        app, ["plan", RECIPE, "--config", CONFIG, "--device", "abacus", "--length", "64"]
    )
    assert done.exit_code == 2
    done = CliRunner().invoke(app, ["plan", RECIPE, "--config", "nowhere.json", "--length", "64"])
    assert done.exit_code == 2

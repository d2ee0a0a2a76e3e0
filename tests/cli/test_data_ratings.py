"""`spellbound data ratings` from the outside: from logs to rows, and what a withdrawal does then."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.ratings import append, read_pairs, read_thumbs, user_key
from spellbound.data.rows import read_examples
from tests.data.ratings import GOOD, SECRET, given, rating, reader

CHAT = [
    {"user_name": "Ann", "character_name": "Mara Voss", "chat_metadata": {}},
    {"name": "Mara Voss", "is_user": False, "mes": "Hello.", "swipes": ["Hello.", "Hi."]},
    {"name": "Ann", "is_user": True, "mes": "Are you <there>?"},
    {"name": "Mara Voss", "mes": "*nods* Yes, Ann.", "swipes": ["No.", "*nods* Yes, Ann.", "What?"]},
]


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["data", "ratings", *map(str, arguments)], input=stdin)


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """Ratings of two readers who agreed and of one who was never asked."""
    ratings, consent = tmp_path / "ratings.jsonl", tmp_path / "consent.jsonl"
    second: dict[str, Any] = {"passage": "p2", "output": "She waits.", "raw": 1}
    broken: dict[str, Any] = {"passage": "p3", "output": "<action>She runs"}
    append(
        ratings,
        [rating(1), rating(1, **second), rating(2), rating(2, **second), rating(2, **broken), rating(3)],
    )
    append(consent, [given(1), given(2)])
    return ratings, consent


def test_from_logs_to_examples_and_back_out_again(tmp_path: Path, logs: tuple[Path, Path]) -> None:
    ratings, consent = logs
    output = tmp_path / "examples.parquet"
    build = (
        "examples",
        ratings,
        "--consent",
        consent,
        "--accept",
        "v1",
        "-o",
        output,
        "--licence",
        "CC0-1.0",
    )
    result = run(*build)
    assert result.exit_code == 0, result.output
    assert "ratings: 6 read, 2 used; rows made: 1" in result.stdout
    assert "row 5: output: <action> is never closed" in result.stderr
    (made,) = read_examples([output])
    assert (made.completion, made.licence, made.rating and made.rating.count) == (GOOD, "CC0-1.0", 2)
    manifest = json.loads((tmp_path / "examples.parquet.manifest.json").read_text(encoding="utf-8"))
    assert manifest["ratings"]["left_out"] == {
        "below the threshold": 2,
        "no consent on record": 1,
        "output is not well-formed": 1,
    }
    assert manifest["consent"]["live_readers"] == 2
    written = output.read_bytes() + json.dumps(manifest).encode()
    assert not any(reader(who).encode() in written for who in (1, 2, 3))

    for who in (1, 2):
        assert run("withdraw", reader(who), "--consent", consent).stderr == ""
    stranger = run("withdraw", reader(99), "--consent", consent)
    assert (stranger.exit_code, "has no consent of this reader" in stranger.stderr) == (0, True)
    result = run(*build)
    assert result.exit_code == 0, result.output
    assert "5  consent withdrawn" in result.stdout
    assert list(read_examples([output])) == []
    later = json.loads((tmp_path / "examples.parquet.manifest.json").read_text(encoding="utf-8"))
    assert later["consent"]["snapshot"] != manifest["consent"]["snapshot"]
    assert (later["rows"], later["consent"]["live_readers"]) == (0, 0)


def test_pairs_and_thumbs(tmp_path: Path, logs: tuple[Path, Path]) -> None:
    ratings, consent = logs
    usual = (ratings, "--consent", consent, "--accept", "v1", "-o")
    result = run("pairs", *usual, tmp_path / "pairs.jsonl", "--margin", "0.5")
    assert result.exit_code == 0, result.output
    (pair,) = read_pairs([tmp_path / "pairs.jsonl"])
    assert (pair.chosen, pair.rejected, pair.readers) == (GOOD, "She waits.", 2)
    assert run("thumbs", *usual, tmp_path / "thumbs.parquet").exit_code == 0
    labels = {row.completion: row.label for row in read_thumbs([tmp_path / "thumbs.parquet"])}
    assert labels == {GOOD: True, "She waits.": False}


def test_swipes_are_implicit_pairs(tmp_path: Path) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text("\n".join(json.dumps(row) for row in CHAT), encoding="utf-8")
    result = run("swipes", chat, "-o", tmp_path / "pairs.parquet", "--language", "en")
    assert result.exit_code == 0, result.output
    rows = list(read_pairs([tmp_path / "pairs.parquet"]))
    assert [(row.chosen, row.rejected) for row in rows] == [
        ("*nods* Yes, Ann.", "No."),
        ("*nods* Yes, Ann.", "What?"),
    ]
    assert all(row.implicit and row.margin == 0 and not row.prompt.tags for row in rows)
    assert rows[0].prompt.past_story == "Mara Voss: Hello.\n\nAnn: Are you &lt;there&gt;?"
    assert rows[0].prompt.instructions == ("Write what Mara Voss says and does next.",)
    assert [person.name for person in rows[0].prompt.characters] == ["Mara Voss", "Ann"]


def test_a_purge_and_a_key(tmp_path: Path, logs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ratings, _ = logs
    result = run("purge", ratings, "--user", reader(2))
    assert (result.exit_code, result.stdout) == (0, f"{ratings}: rows erased: 3\n")
    assert reader(2) not in ratings.read_text(encoding="utf-8")
    monkeypatch.setenv("SPELLBOUND_USER_SECRET", SECRET)
    assert run("key", "ann").stdout == user_key("ann", SECRET) + "\n"
    assert run("key", stdin="ann\nbob\n").stdout.split() == [
        user_key(each, SECRET) for each in ("ann", "bob")
    ]
    assert run("key", stdin="ann\u2028smith\r\n").stdout.split() == [user_key("ann\u2028smith", SECRET)]
    monkeypatch.delenv("SPELLBOUND_USER_SECRET")
    assert run("key", "ann").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "2"), "threshold is 2; give 0 to 1"),
        (("--veto", "rude"), "--veto rude: is no flag"),
        (("--consent", "none.jsonl"), "none.jsonl: cannot be read"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, logs: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    ratings, consent = logs
    usual = ("examples", ratings, "--consent", consent, "--accept", "v1", "-o", tmp_path / "x.parquet")
    result = run(*usual, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_no_log_is_lost(tmp_path: Path, logs: tuple[Path, Path]) -> None:
    ratings, consent = logs
    usual = ("examples", ratings, "--consent", consent, "--accept", "v1", "-o")
    for log in logs:
        before = log.read_bytes()
        assert run(*usual, log).exit_code == 2
        assert log.read_bytes() == before
    assert run("withdraw", "ann@example.org", "--consent", consent).exit_code == 2
    assert run("withdraw", reader(1), "--consent", consent, "--scope", "selling").exit_code == 2
    result = run("withdraw", reader(1), "--consent", tmp_path / "consnet.jsonl")
    assert (result.exit_code, "there is no such file" in result.stderr) == (2, True)
    assert "withdrawn" not in consent.read_text(encoding="utf-8")

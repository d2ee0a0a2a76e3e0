"""`spellbound data annotate` as its user sees it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spellbound.cli import app
from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers import write_documents
from spellbound.data.rows import read_tagged
from spellbound.directives import Text, parse

PLAY = Document(
    id="plays/one",
    parts=(
        Part(kind="stage", text="Anna lacht."),
        Part(kind="speech", text="Wer da?", speakers=("a",)),
    ),
    cast=(Person(id="a", name="Anna"),),
    language="de",
)
PROSE = Document(id="novels/one", text="Es war einmal.", language="de")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "annotate", *map(str, arguments)])


@pytest.fixture
def plays(tmp_path: Path) -> Path:
    write_documents(tmp_path / "plays.parquet", [PLAY])
    return tmp_path / "plays.parquet"


@pytest.mark.parametrize("name", ["tagged.parquet", "tagged.jsonl"])
def test_tags_plays(tmp_path: Path, plays: Path, name: str) -> None:
    target = tmp_path / name
    result = run(plays, "-o", target, "--with", "drama")
    assert (result.exit_code, result.stdout) == (0, f"{target}: 1 tagged story\n")
    [story] = read_tagged([target])
    assert "".join(event.text for event in parse(story.text) if isinstance(event, Text)) == PLAY.plain
    assert story.text.startswith("<action>Anna lacht.</action>")


def test_what_cannot_be_tagged_is_left_out_and_named(tmp_path: Path) -> None:
    write_documents(tmp_path / "both.jsonl", [PROSE, PLAY])
    result = run(tmp_path / "both.jsonl", "-o", tmp_path / "tagged.jsonl", "--with", "drama")
    assert result.exit_code == 0
    assert result.stdout.endswith("1 tagged story; 1 left out\n")
    assert result.stderr.startswith("spellbound: novels/one: is prose")


def test_nothing_but_refused_documents_leaves_no_file(tmp_path: Path) -> None:
    write_documents(tmp_path / "prose.jsonl", [PROSE])
    result = run(tmp_path / "prose.jsonl", "-o", tmp_path / "tagged.jsonl", "--with", "drama")
    assert result.exit_code == 2
    assert "choose another annotator" in result.stderr
    assert not (tmp_path / "tagged.jsonl").exists()


def test_nothing_to_tag_leaves_no_file(tmp_path: Path) -> None:
    write_documents(tmp_path / "none.jsonl", [])
    result = run(tmp_path / "none.jsonl", "-o", tmp_path / "tagged.jsonl")
    assert result.exit_code == 2
    assert "there was nothing to tag" in result.stderr
    assert not (tmp_path / "tagged.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--with", "dram"), "use one of rules, drama, teacher"),
        (("--with", "drama", "--set", "speed"), "write it as key=value"),
        (
            ("--with", "drama", "--set", "speed=3"),
            "--set speed: annotator drama has no setting 'speed', nor any other; leave",
        ),
        (("--set", "speed=3"), "or use one of language, actions, sounds, cast"),
    ],
)
def test_wrong_settings_are_one_line(
    tmp_path: Path, plays: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(plays, "-o", tmp_path / "tagged.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "tagged.jsonl").exists()


def test_the_source_is_never_overwritten(plays: Path) -> None:
    before = plays.read_bytes()
    assert run(plays, "-o", plays, "--with", "drama").exit_code == 2
    assert plays.read_bytes() == before

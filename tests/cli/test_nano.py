"""The bundled model writes the first example: the one end-to-end test that needs models/nano."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from spellbound.cli import app
from spellbound.cli.story_file import read_story
from spellbound.directives import Open, Text, parse
from spellbound.story.models import models_folder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.skipif(
    not (models_folder() / "nano" / "model.safetensors").is_file(),
    reason="models/nano/model.safetensors is missing; get it with: git checkout models/nano",
)


def write(example: str, *options: str) -> str:
    result = CliRunner().invoke(
        app, ["write", str(EXAMPLES / example), "--to", "tagged", "--seed", "7", *options]
    )
    assert result.exit_code == 0, result.stderr
    assert "no repairs" in result.stderr
    return result.stdout


def test_the_first_story() -> None:
    text = write("harbour.story.md", "--words", "150")
    cast = {
        character.speaker_id for character in read_story(str(EXAMPLES / "harbour.story.md")).prompt.characters
    }
    events = parse(text)
    speakers = {event.speaker for event in events if isinstance(event, Open) and event.kind == "quote"}
    assert len("".join(event.text for event in events if isinstance(event, Text)).split()) >= 150
    assert len(speakers) >= 2
    assert speakers <= cast
    assert write("harbour.story.md", "--words", "150") == text


def test_a_long_past_is_continued() -> None:
    assert len(write("salt-road.story.md", "--words", "30").split()) >= 30


def test_without_tags_there_are_none() -> None:
    assert all(isinstance(event, Text) for event in parse(write("orchard.story.md", "--words", "30")))

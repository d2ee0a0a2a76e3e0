"""Settings: what they refuse, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spellbound.data.teacher import TeacherSettings
from spellbound.data.teacher.settings import read_table
from spellbound.errors import EnvironmentFault, InputError

BAD: dict[str, dict[str, Any]] = {
    "model is empty": {"model": ""},
    "no address of a server": {"base_url": "localhost:8000"},
    "'http://localhost' is no address": {"base_url": "http://localhost:99999/v1"},
    "holds a name, a password or a query": {"base_url": "https://me:secret@example.org/v1"},
    "put the key into the environment": {"base_url": "https://example.org/v1?key=secret"},
    "concurrency is 0": {"concurrency": 0},
    "retries is -1": {"retries": -1},
    "attempts is 0": {"attempts": 0},
    "answer_tokens is 3": {"answer_tokens": 3},
    "timeout_s is 0": {"timeout_s": 0},
    "cost_limit is nan": {"cost_limit": float("nan")},
    "longest_wait_s is inf": {"longest_wait_s": float("inf")},
    "temperature is 9": {"temperature": 9},
    "answer_format 'xml' is unknown": {"answer_format": "xml"},
    "limit_field 'tokens' is unknown": {"limit_field": "tokens"},
    "no price is known": {"cost_limit": 5},
}


@pytest.mark.parametrize("message", BAD)
def test_nonsense_is_refused(message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TeacherSettings(**{"model": "m", "cache": tmp_path, **BAD[message]})
    assert "secret" not in str(caught.value)


def test_a_file_is_read_and_changed(tmp_path: Path) -> None:
    file = tmp_path / "teacher.toml"
    file.write_text('model = "m"\ncache = "kept"\nconcurrency = 3\ntemperature = 1\n')
    settings = TeacherSettings.of({**read_table(file), "concurrency": "4", "retries": 2})
    assert (settings.model, settings.cache, settings.concurrency) == ("m", tmp_path / "kept", 4)
    assert (settings.temperature, settings.retries) == (1.0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 'm'\ncache = 'k'\nspeed = 3", "setting 'speed' is unknown"),
        ("model = 'm'\ncache = 'k'\nretries = 'many'", "retries is 'many'"),
        ("model = 'm'\ncache = 'k'\nanswer_format = 'xml'", "answer_format is 'xml'"),
        ("model = 'm'", "setting 'cache' is missing"),
        ("model = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "teacher.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        TeacherSettings.of(read_table(file), str(file))
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "no.toml")


def test_the_key_comes_from_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TeacherSettings(model="m", cache=tmp_path, key_variable="TEACHER_KEY")
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(EnvironmentFault, match="export TEACHER_KEY="):
        settings.key()
    monkeypatch.setenv("TEACHER_KEY", "bad\x07key")
    with pytest.raises(EnvironmentFault, match="holds characters") as caught:
        settings.key()
    assert "bad" not in str(caught.value)
    monkeypatch.setenv("TEACHER_KEY", " good \n")
    assert settings.key() == "good"
    assert "good" not in repr(settings)
    assert TeacherSettings(model="m", cache=tmp_path, key_variable="").key() == "none"

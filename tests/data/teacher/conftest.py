"""A misbehaving server, and teachers that ask it without ever sleeping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spellbound.data.teacher import Teacher, TeacherSettings
from tests.data.teacher.loopback import Loopback

KEY = "sk-test-0123456789abcdef"
MakeTeacher = Callable[..., Teacher]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that teachers wanted to sleep."""
    return []


@pytest.fixture
def make_teacher(server: Loopback, tmp_path: Path, pauses: list[float]) -> Iterator[MakeTeacher]:
    made: list[Teacher] = []

    def make(**values: Any) -> Teacher:
        given = {"model": "m", "cache": tmp_path / "cache", "base_url": server.url, "timeout_s": 20, **values}
        made.append(Teacher(TeacherSettings(**given), sleep=pauses.append, clock=lambda: sum(pauses)))
        return made[-1]

    yield make
    for teacher in made:
        teacher.close()

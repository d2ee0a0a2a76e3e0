"""Servers that answer without end, elsewhere, packed, cut, or with more than was asked for."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from spellbound.data.teacher import Teacher, TeacherSettings, TeacherStopped, transport
from spellbound.errors import InputError
from tests.data.teacher.conftest import KEY, MakeTeacher
from tests.data.teacher.loopback import Behaviour, Body, Handler, Loopback, completion, fails, sends
from tests.data.teacher.test_client import Word, question

YES = Word(word="yes")


def streams(parts: Iterable[bytes], whole: bool = True, **headers: str) -> Behaviour:
    """Answer 200 in chunks."""

    def answer(handler: Handler, _: Body) -> bool:
        handler.send_response(200)
        for name, value in {"Transfer-Encoding": "chunked", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        try:
            for part in parts:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            if whole:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:  # whoever asked has gone
            whole_now = False
        else:
            whole_now = whole
        handler.close_connection = True
        return whole_now

    return answer


def dripping(loopback: Loopback) -> Iterable[bytes]:
    """A byte now and then, for as long as the test lasts."""
    while not loopback.over.wait(0.05):
        yield b" "


def test_an_answer_that_drips_is_cut(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(streams(dripping(server)))
    teacher = make_teacher(timeout_s=0.5, retries=0)
    with pytest.raises(TeacherStopped, match="an answer that had no end after 2 s"):
        teacher.ask(question())
    assert teacher.usage.perhaps_paid == 1
    assert teacher.ask(question()).value == YES


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_size_is_cut(
    status: int, server: Loopback, make_teacher: MakeTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 100_000)
    server.script.append(lambda handler, _: handler.send(status, b" " * 100_001))
    teacher = make_teacher(retries=0)
    with pytest.raises(TeacherStopped, match="an answer of more than 100,000 bytes"):
        teacher.ask(question())
    assert teacher.ask(question()).value == YES


def test_what_is_packed_is_measured_unpacked(
    server: Loopback, make_teacher: MakeTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 100_000)
    body = completion('{"word": "yes"}')
    server.script.append(streams([gzip.compress(body)], Content_Encoding="gzip"))
    assert make_teacher().ask(question()).value == YES
    server.script.append(streams([gzip.compress(b" " * 10**7)], Content_Encoding="gzip"))
    with pytest.raises(TeacherStopped, match="more than 100,000 bytes"):
        make_teacher(retries=0).ask(question("bomb"))
    server.script.append(streams([b"no gzip"], Content_Encoding="gzip"))
    assert make_teacher().ask(question("damaged")).value == YES


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_goes_to_where_a_server_sends_us(
    status: int, server: Loopback, make_teacher: MakeTeacher
) -> None:
    with Loopback() as other:
        server.script.append(fails(status, Location=f"{other.url}/chat/completions?key={KEY}"))
        with pytest.raises(
            InputError, match=rf"status {status}: it sends us on to 127\.0\.0\.1; give its own"
        ):
            make_teacher().ask(question())
        assert other.requests == []
    server.script.append(fails(status, Location="http://[broken"))
    with pytest.raises(InputError, match="another address"):
        make_teacher().ask(question())


WHOLE = completion('{"word": "yes"}')
CUT: dict[str, Behaviour] = {
    "chunks": streams([WHOLE[:40]], whole=False),
    "events": sends(b'data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream"),
    "surrogate": sends(WHOLE.replace(b"yes", b"\\ud800")),
    "no UTF-8": sends(WHOLE.replace(b"yes", b"\xff\xfe"), "application/json; charset=utf-16"),
    "deep": sends(b"[" * 100_000),
    "nothing": sends(b""),
}


@pytest.mark.parametrize("behaviour", CUT.values(), ids=CUT)
def test_what_is_no_answer_may_have_been_paid(
    behaviour: Behaviour, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.append(behaviour)
    teacher = make_teacher(input_price=1.0)
    assert teacher.ask(question()).value == YES
    assert teacher.usage.perhaps_paid == 1


def test_the_first_of_several_answers_counts_whatever_its_type_is_called(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    body: dict[str, Any] = json.loads(WHOLE)
    other = json.loads(completion('{"word": "no"}'))["choices"][0]
    body["choices"].append(other)
    server.script.append(sends(json.dumps(body).encode(), "text/html"))
    teacher = make_teacher()
    assert teacher.ask(question()).value == YES
    assert teacher.usage.perhaps_paid == 0


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"completion_tokens": -5}, None])
def test_tokens_that_are_not_said_cost_the_most(
    usage: dict[str, Any] | None, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.append(sends(json.dumps({**json.loads(WHOLE), "usage": usage}).encode()))
    teacher = make_teacher(output_price=1e6, answer_tokens=99)
    assert teacher.ask(question()).value == YES
    assert teacher.spent() == 99


def test_tokens_that_cannot_be_are_not_waited_for(
    server: Loopback, make_teacher: MakeTeacher, pauses: list[float]
) -> None:
    usage = {"prompt_tokens": 10**15, "completion_tokens": 1}
    server.script.append(sends(json.dumps({**json.loads(WHOLE), "usage": usage}).encode()))
    teacher = make_teacher(tokens_per_minute=10_000, answer_tokens=500)
    teacher.ask(question())
    teacher.ask(question("Again."))
    assert sum(pauses) < 60


def test_an_answer_that_came_too_late_may_have_been_paid(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(504))
    teacher = make_teacher()
    teacher.ask(question())
    assert teacher.usage.perhaps_paid == 1


@pytest.mark.parametrize("place", range(270, 310, 4))
def test_not_even_half_a_key_is_told(place: int, server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(400, f"{'x' * place} {KEY} and so on"))
    with pytest.raises(InputError) as refused:
        make_teacher().ask(question())
    assert KEY[:8] not in str(refused.value)


def test_without_a_key_words_stay_as_they_are(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(400, "none of these"))
    with pytest.raises(InputError, match="none of these"):
        make_teacher(key_variable="").ask(question())


def test_what_was_really_paid_never_passes_the_limit(server: Loopback, tmp_path: Path) -> None:
    """Counted by the server: each answer costs what it says, several teachers share a cache."""
    paid: list[float] = []

    def answer(handler: Handler, body: Body) -> bool:
        tokens = 20 + crc32(json.dumps(body).encode()) % 80
        paid.append(tokens * 0.001)
        reply = {**json.loads(WHOLE), "usage": {"prompt_tokens": tokens, "completion_tokens": 16}}
        time.sleep(0.001 * (tokens % 7))
        if tokens % 9 == 0:  # paid, and cut on the way
            return streams([b"{"], whole=False)(handler, body)
        return handler.send(200, json.dumps(reply).encode())

    server.answer = answer
    usual: dict[str, Any] = {"model": "m", "cache": tmp_path, "base_url": server.url, "retries": 2}
    settings = TeacherSettings(**usual, cost_limit=6.0, input_price=1000.0, answer_tokens=16, concurrency=6)
    for number in range(3):
        with Teacher(settings, sleep=lambda _: None) as teacher, pytest.raises(TeacherStopped):
            teacher.ask_all([question(f"{number} {each}") for each in range(60)])
    assert 1.0 < sum(paid) <= 6.0

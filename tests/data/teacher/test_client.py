"""Retries, faults explained, cache, limits and secrets, against a real server that misbehaves."""

from __future__ import annotations

import json
import logging
import traceback
from email.utils import formatdate
from pathlib import Path

import pytest

from spellbound.data.teacher import Form, Question, Teacher, TeacherStopped
from spellbound.errors import EnvironmentFault, InputError
from tests.data.teacher.conftest import KEY, MakeTeacher
from tests.data.teacher.loopback import Behaviour, Loopback, completion, cuts, fails, hangs, says, sends


class Word(Form):
    word: str


def question(text: str = "Say yes.") -> Question[Word]:
    def verify(answer: Word) -> list[str]:
        return [] if answer.word == "yes" else [f"The word {answer.word!r} is not yes."]

    return Question("word", (("system", "Answer."), ("user", text)), Word, verify)


BUSY: dict[str, Behaviour] = {
    "429": fails(429),
    "500": fails(500),
    "502": fails(502),
    "503": fails(503),
    "504": fails(504),
    "408": fails(408),
    "cut": cuts,
    "no JSON": sends(b"<html>busy</html>", "text/html"),
    "broken JSON": sends(b'{"choices": [{"mess'),
    "no choices": sends(b'{"choices": []}'),
    "other JSON": sends(b"[1, 2]"),
}


@pytest.mark.parametrize("behaviour", BUSY.values(), ids=BUSY)
def test_a_busy_server_is_asked_again(
    behaviour: Behaviour, server: Loopback, make_teacher: MakeTeacher, pauses: list[float]
) -> None:
    server.script.extend([behaviour] * 3)
    teacher = make_teacher()
    assert teacher.ask(question()).value == Word(word="yes")
    assert len(server.requests) == 4
    assert all(request == server.requests[0] for request in server.requests)
    assert teacher.usage.calls == 1
    assert teacher.usage.retried == 3
    # Twice as long each time, between half and all of it.
    assert [pause // (0.25 * 2**number) for number, pause in enumerate(pauses)] == [1, 1, 1]


def test_a_server_that_says_nothing_is_asked_again(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(hangs)
    teacher = make_teacher(timeout_s=0.3)
    assert teacher.ask(question()).value == Word(word="yes")
    assert teacher.usage.perhaps_paid == 1


def test_the_pauses_are_the_same_in_every_run(
    server: Loopback, make_teacher: MakeTeacher, tmp_path: Path, pauses: list[float]
) -> None:
    for folder in ("one", "two"):
        server.script.extend([fails(503)] * 3)
        make_teacher(cache=tmp_path / folder).ask(question())
    assert pauses[:3] == pauses[3:]


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0.5", 0.5), (formatdate(2_000_000_009, usegmt=True), 9), ("0", 0)]
)
def test_retry_after_is_kept(
    value: str, seconds: float, server: Loopback, make_teacher: MakeTeacher, pauses: list[float]
) -> None:
    now = formatdate(2_000_000_000, usegmt=True)
    server.script.append(fails(429, Retry_After=value, Date=now))
    make_teacher().ask(question())
    assert pauses[0] == seconds


def test_nobody_asks_while_the_server_wants_to_be_left_alone(server: Loopback, tmp_path: Path) -> None:
    from spellbound.data.teacher import TeacherSettings

    now = [0.0]
    settings = TeacherSettings(model="m", cache=tmp_path, base_url=server.url)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    server.script.append(fails(503, Retry_After="9"))
    with Teacher(settings, sleep=sleep, clock=lambda: now[0]) as teacher:
        teacher.ask(question())
    assert now[0] == 9


def test_a_wait_of_hours_ends_the_run(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(429, Retry_After="7200"))
    with pytest.raises(TeacherStopped, match="asks to wait 7200 s"):
        make_teacher().ask(question())


def test_a_server_that_stays_away_ends_the_run(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.extend([fails(503)] * 3)
    with pytest.raises(
        TeacherStopped, match="gave no answer in 3 tries, the last time: status 503"
    ) as stopped:
        make_teacher(retries=2).ask(question())
    assert "run the same command again" in str(stopped.value)


def test_nobody_is_at_home(make_teacher: MakeTeacher, pauses: list[float]) -> None:
    teacher = make_teacher(base_url="http://127.0.0.1:9/v1", retries=2)
    with pytest.raises(TeacherStopped, match="no connection"):
        teacher.ask(question())
    assert len(pauses) == 2
    assert teacher.usage.perhaps_paid == 0


REFUSED = {400: InputError, 401: EnvironmentFault, 403: EnvironmentFault, 404: InputError, 422: InputError}


@pytest.mark.parametrize("status", REFUSED)
def test_what_will_never_work_is_not_tried_again(
    status: int, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.append(fails(status, "that will not do"))
    with pytest.raises(REFUSED[status], match=f"status {status}") as caught:
        make_teacher().ask(question())
    assert len(server.requests) == 1
    assert "\n" not in str(caught.value)


def test_an_empty_account_is_not_waited_for(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(429, "You exceeded your quota", "insufficient_quota"))
    with pytest.raises(TeacherStopped, match="add credit"):
        make_teacher().ask(question())
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_the_key_is_nowhere_but_in_the_request(
    status: int,
    server: Loopback,
    make_teacher: MakeTeacher,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script.extend([says({"word": "no"}), fails(status, f"wrong key {KEY}, sorry")])
    teacher = make_teacher(retries=0)
    with pytest.raises((InputError, EnvironmentFault)) as caught:
        teacher.ask(question())
    assert set(server.keys) == {f"Bearer {KEY}"}
    told = "".join(traceback.format_exception(caught.value)) + teacher.usage.report() + caplog.text
    assert KEY not in told + repr(teacher.settings) + json.dumps(server.requests)
    assert caught.value.__context__ is None
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert KEY.encode() not in kept


WRONG: dict[str, tuple[Behaviour, str]] = {
    "wrong": (says({"word": "no"}), "The word 'no' is not yes."),
    "no JSON": (says("Yes, gladly!"), "Invalid JSON"),
    "no schema": (says({"ward": "yes"}), "word: Field required"),
    "surplus": (says({"word": "yes", "why": "so"}), "why: Extra inputs"),
    "empty": (says(""), "was empty"),
    "nothing": (says(None), "was empty"),
    "cut off": (says('{"word": "ye', finish="length"), "cut off"),
    "refusal": (says(None, refusal="I cannot help with that."), "You declined"),
    "filter": (says("", finish="content_filter"), "You declined"),
}


@pytest.mark.parametrize(("behaviour", "fault"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_explained(
    behaviour: Behaviour, fault: str, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.append(behaviour)
    teacher = make_teacher()
    answer = teacher.ask(question())
    assert answer.value == Word(word="yes")
    assert not answer.faults
    asked = server.requests[1]["messages"]
    assert fault in asked[-1]["content"]
    assert [message["role"] for message in asked] in (
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    )
    assert teacher.usage.explained == 1
    assert teacher.usage.calls == 2


@pytest.mark.parametrize(
    "text", ['```json\n{"word": "yes"}\n```', '<think>Hm {"word"</think>\n{"word": "yes"}']
)
def test_what_models_write_round_json_is_taken_off(
    text: str, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.append(says(text))
    assert make_teacher().ask(question()).value == Word(word="yes")


def test_after_all_attempts_the_best_answer_is_given_with_its_faults(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.extend([says("?"), says({"word": "no"}), says("??")])
    teacher = make_teacher(attempts=3)
    answer = teacher.ask(question())
    assert answer.value == Word(word="no")
    assert answer.faults == ("The word 'no' is not yes.",)
    assert teacher.usage.refused == 1
    assert teacher.usage.explained == 2


def test_a_passage_the_server_will_not_have_is_refused_alone(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.extend([fails(400, "filtered", "content_filter")] * 2)
    teacher = make_teacher(attempts=2)
    assert teacher.ask(question("blood")).value is None
    assert teacher.ask(question("tea")).value == Word(word="yes")


def test_every_answer_is_kept_also_wrong_ones(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(says({"word": "no"}))
    first = make_teacher()
    first.ask(question())
    first.ask(question("Once more."))
    second = make_teacher()
    assert second.ask(question()) == first.ask(question())
    assert len(server.requests) == 3
    assert second.usage.calls == 0
    assert second.usage.cached == 2
    assert second.usage.cost == 0
    assert second.usage.explained == 1


def test_the_same_answers_serve_another_address_but_no_other_model(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    make_teacher().ask(question())
    with Loopback() as other:
        make_teacher(base_url=other.url, answer_format="json_object").ask(question())
        assert not other.requests
        make_teacher(base_url=other.url, model="n").ask(question())
        make_teacher(base_url=other.url, temperature=0.5).ask(question())
        assert len(other.requests) == 2


def test_equal_questions_under_way_are_asked_once(server: Loopback, make_teacher: MakeTeacher) -> None:
    teacher = make_teacher(concurrency=8)
    answers = teacher.ask_all([question("same") for _ in range(20)])
    assert all(answer.value == Word(word="yes") for answer in answers)
    assert len(server.requests) == 1
    assert teacher.usage.calls == 1
    assert teacher.usage.cached == 19


def test_answers_come_in_the_order_of_the_questions(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.answer = lambda handler, body: handler.send(
        200, completion(json.dumps({"word": body["messages"][1]["content"]}))
    )
    asked = [question(f"word {number}") for number in range(30)]
    answers = make_teacher(concurrency=5, attempts=1).ask_all(asked)
    assert [answer.value and answer.value.word for answer in answers] == [f"word {n}" for n in range(30)]
    assert server.most_at_once <= 5


def test_the_first_error_ends_a_batch_and_keeps_what_was_answered(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.extend([says({"word": "yes"})] * 3 + [fails(404, "no such model")] * 100)
    teacher = make_teacher(concurrency=2)
    with pytest.raises(InputError, match="no such model"):
        teacher.ask_all([question(str(number)) for number in range(50)])
    assert len(server.requests) < 10
    server.script.clear()
    teacher.ask_all([question(str(number)) for number in range(50)])
    assert max(server.paid.values()) == 1
    assert len(server.paid) == 50


def test_a_server_without_schemas_is_asked_otherwise_and_it_is_said(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.script.extend([fails(400, "response_format json_schema is unsupported")])
    server.script.extend([fails(400, "'response_format.type' must be text, not json_object")])
    teacher = make_teacher()
    teacher.ask(question())
    teacher.ask(question("And again."))
    formats = [request.get("response_format", {}).get("type") for request in server.requests]
    assert formats == ["json_schema", "json_object", None, None]
    assert '"word"' in server.requests[2]["messages"][0]["content"]
    assert "refuses answers as json_schema" in teacher.usage.report()


def test_a_format_that_was_chosen_is_not_changed(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(fails(400, "response_format json_schema is unsupported"))
    with pytest.raises(InputError, match="response_format"):
        make_teacher(answer_format="json_schema").ask(question())


def test_the_request_is_what_openai_documents(server: Loopback, make_teacher: MakeTeacher) -> None:
    make_teacher(temperature=0.3, seed=7, answer_tokens=99).ask(question())
    body = server.requests[0]
    assert body["max_completion_tokens"] == 99
    assert body["temperature"] == 0.3
    assert body["seed"] == 7
    described = body["response_format"]["json_schema"]
    assert described["strict"] is True
    assert described["schema"]["additionalProperties"] is False
    assert described["schema"]["required"] == ["word"]


def test_a_server_without_seeds_gets_none(server: Loopback, make_teacher: MakeTeacher) -> None:
    make_teacher(send_seed=False, limit_field="max_tokens").ask(question())
    assert "seed" not in server.requests[0]
    assert server.requests[0]["max_tokens"] == 4096


def test_a_run_stops_before_its_cost_limit(server: Loopback, make_teacher: MakeTeacher) -> None:
    prices = {"input_price": 1000.0, "output_price": 5000.0, "answer_tokens": 16}
    teacher = make_teacher(cost_limit=2.0, concurrency=1, **prices)
    with pytest.raises(TeacherStopped, match="stopped before the cost limit of 2") as stopped:
        teacher.ask_all([question(str(number)) for number in range(100)])
    asked = len(server.requests)
    assert 1 < asked < 100
    assert teacher.spent() == pytest.approx(asked * (100 * 1000 + 10 * 5000) / 1e6)
    assert teacher.spent() <= 2.0
    assert f"after {asked} calls and 0 answers from the cache" in str(stopped.value)
    assert "raise cost_limit" in str(stopped.value)
    assert teacher.usage.cost == pytest.approx(teacher.spent())
    # What is kept costs nothing, and another run of the same cache has no new money.
    again = make_teacher(cost_limit=2.0, **prices)
    again.ask(question("0"))
    with pytest.raises(TeacherStopped):
        again.ask(question("new"))
    assert len(server.requests) == asked


def test_several_at_once_do_not_pass_the_cost_limit_together(
    server: Loopback, make_teacher: MakeTeacher
) -> None:
    teacher = make_teacher(concurrency=8, cost_limit=1.0, input_price=1000.0, answer_tokens=16)
    with pytest.raises(TeacherStopped):
        teacher.ask_all([question(str(number)) for number in range(60)])
    assert 0 < teacher.spent() <= 1.0


def test_a_cut_connection_counts_at_its_highest_price(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.append(cuts)
    teacher = make_teacher(input_price=1.0)
    teacher.ask(question())
    assert teacher.usage.perhaps_paid == 1
    assert teacher.spent() > 2 * 100 / 1e6
    assert "cut off" in teacher.usage.report()


def test_failures_cost_nothing(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.extend([fails(503), fails(429)])
    teacher = make_teacher(input_price=1.0)
    teacher.ask(question())
    assert teacher.spent() == pytest.approx(100 / 1e6)


def test_the_report_counts(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.script.extend([fails(503), says({"word": "no"})])
    teacher = make_teacher(input_price=2.0, output_price=10.0)
    teacher.ask(question())
    teacher.ask(question())
    assert teacher.usage.report() == (
        "teacher: 2 calls, 2 from the cache, 1 retried, 2 asked again, 0 refused; "
        "200 tokens in, 20 out, cost 0.0006"
    )
    assert teacher.usage.to_dict()["input_tokens"] == 200

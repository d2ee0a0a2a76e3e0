"""Our server before another one: a real one of ours with a tiny model, and one that misbehaves."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from spellbound.directives import parse, render
from spellbound.errors import EnvironmentFault, InputError
from spellbound.server.settings import ServeSettings
from spellbound.story import ServerRefused, ServerSettings, ServerStopped, Upstream, WriteOptions, collect
from spellbound.story import upstream as upstream_module
from spellbound.story.completion import CompletionOptions, Failed, Message
from spellbound.story.local import LocalGenerator
from tests.server.running import HELLO, PROMPT, STORY, Site, idle, running, text_of, until
from tests.server.test_completions import SCHEMA
from tests.server.test_stories import events_of
from tests.story.loopback import (
    Behaviour,
    Loopback,
    chat,
    cuts,
    cuts_its_error,
    fails,
    hangs,
    plain,
    streams,
    then_hangs,
)

CHAT, TEXT, WRITE = "/v1/chat/completions", "/v1/completions", "/v1/stories/write"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    TEXT: {"prompt": "The fog"},
    WRITE: {"prompt": STORY},
}
NOISE: dict[str, Any] = {"temperature": 2.0, "seed": 7, "max_tokens": 40}
VLLM_TOO_LONG = "This model's maximum context length is 64 tokens. However, you requested 80 tokens."
KEY = "sk-test-0123456789abcdef"
SETTINGS = ServeSettings(port=0, grace_s=5)


@contextmanager
def before(url: str, **changes: Any) -> Iterator[Site]:
    """Our server before the one at this address."""
    given: dict[str, Any] = {"url": url, "retries": 1, "backoff_s": 0.01, "longest_wait_s": 1.0} | changes
    ours = {name: given.pop(name) for name in ("tokenizer", "max_streams", "max_waiting") if name in given}
    made = Upstream(ServerSettings(**given), **ours)
    try:
        with running({"front": made}, SETTINGS) as site:
            yield site
    finally:
        made.close()


@pytest.fixture(scope="module")
def front(site: Site, tiny_folder: Any) -> Iterator[Site]:
    """Before the server with the tiny model."""
    with before(f"{site.url}/v1", model="tiny", tokenizer=tiny_folder) as front:
        yield front


@pytest.fixture(scope="module")
def client(front: Site) -> Iterator[Any]:
    with front.openai() as client:
        yield client


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("SPELLBOUND_API_KEY", KEY)
    with Loopback() as loopback:
        yield loopback


def error_of(answer: Any) -> dict[str, Any]:
    """The error object of an answer, whole or streamed."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = [
            line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")
        ]
        found: dict[str, Any] = json.loads(lines[-1])["error"]
    else:
        found = answer.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


class TestBeforeOurOwn:
    def test_what_there_is(self, front: Site) -> None:
        listed = front.shared.get("/v1/models").json()["data"]
        assert [each["id"] for each in listed] == ["front", "front-plain"]
        assert {each["max_model_len"] for each in listed} == {8192}
        assert front.shared.get("/health").json() == {"status": "ok"}

    @pytest.mark.parametrize("streams", [False, True])
    def test_a_chat(self, client: Any, generator: LocalGenerator, streams: bool) -> None:
        expected, ending = text_of(generator, (Message("user", HELLO[0]["content"]),), **NOISE)
        asked = {"model": "front", "messages": HELLO, **NOISE}
        if streams:
            options = {"include_usage": True}
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options=options))
            text = "".join(each.choices[0].delta.content or "" for each in chunks[:-1])
            usage = chunks[-1].usage
            assert chunks[-2].choices[0].finish_reason == "length"
        else:
            answer = client.chat.completions.create(**asked)
            text, usage = answer.choices[0].message.content, answer.usage
            assert answer.choices[0].finish_reason == "length"
        assert text == expected
        assert (usage.completion_tokens, usage.prompt_tokens) == (40, ending.usage.prompt_tokens)
        assert usage.prompt_tokens_details.cached_tokens > 0

    def test_several_texts(self, client: Any, generator: LocalGenerator) -> None:
        answer = client.chat.completions.create(model="front", messages=HELLO, **NOISE, n=3)
        messages = (Message("user", HELLO[0]["content"]),)
        expected = [text_of(generator, messages, **(NOISE | {"seed": seed}))[0] for seed in (7, 8, 9)]
        assert [choice.message.content for choice in answer.choices] == expected
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 120)

    def test_text_and_tokens(self, client: Any, front: Site, generator: LocalGenerator) -> None:
        expected, _ = text_of(generator, "The bell", **NOISE)
        tokens = front.post("/tokenize", {"prompt": "The bell"}).json()["tokens"]
        assert tokens == generator.tokenize("The bell")
        assert front.post("/detokenize", {"tokens": tokens[1:]}).json()["prompt"] == "The bell"
        for prompt in ("The bell", tokens):
            answer = client.completions.create(model="front", prompt=prompt, **NOISE)
            assert answer.choices[0].text == expected

    def test_scores(self, site: Site, front: Site) -> None:
        for path, scores in ((CHAT, {"logprobs": True, "top_logprobs": 3}), (TEXT, {"logprobs": 3})):
            asked = BODIES[path] | NOISE | scores
            near, far = (each.post(path, asked).json()["choices"][0]["logprobs"] for each in (front, site))
            assert near == far

    def test_what_constrains(self, client: Any, generator: LocalGenerator) -> None:
        asked = {"model": "front", "messages": HELLO, "temperature": 1.5, "seed": 3}
        form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}}
        found = client.chat.completions.create(**asked, response_format=form).choices[0].message.content
        assert json.loads(found).keys() == {"mood", "bells"}
        rules = {"structured_outputs": {"grammar": 'start: "The bell " ("rang" | "was silent") "."'}}
        found = client.chat.completions.create(**asked, extra_body=rules).choices[0].message.content
        assert found in ("The bell rang.", "The bell was silent.")
        token = str(generator.tokenize("q", start=False)[0])
        found = client.chat.completions.create(**asked, logit_bias={token: 100}, max_tokens=5)
        assert found.choices[0].message.content == "qqqqq"

    def test_a_stop_string_ends_it_here(self, client: Any, generator: LocalGenerator) -> None:
        text, _ = text_of(generator, "The bell", **NOISE)
        stop = text[20:23]
        answer = client.completions.create(model="front", prompt="The bell", **NOISE, stop=[stop])
        assert answer.choices[0].text == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"

    def test_the_plain_model(self, client: Any) -> None:
        rules = {
            "structured_outputs": {"grammar": 'start: "Fog. <quote speaker=\\"32AN4R\\">Who?</quote> Rain"'}
        }
        asked = {"prompt": "x", "max_tokens": 200, "extra_body": rules}
        assert client.completions.create(model="front-plain", **asked).choices[0].text == "Fog. “Who?” Rain"
        stopped = client.completions.create(model="front-plain", **asked, stop="“Who")
        assert stopped.choices[0].text == "Fog. "

    @pytest.mark.parametrize("streams", [False, True])
    def test_a_story(self, front: Site, generator: LocalGenerator, streams: bool) -> None:
        options: dict[str, Any] = {
            "temperature": 2.0,
            "min_p": 0.0,
            "seed": 3,
            "max_tokens": 120,
            "repetition_penalty": 1.0,
            "never_speak_as": ["32AN4R"],
        }
        answer = front.post(WRITE, {"prompt": STORY, "stream": streams, **options})
        if streams:
            data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
            typed = [json.loads(each) for each in data]
        else:
            typed = answer.json()["events"]
        given = WriteOptions(**(options | {"never_speak_as": ("32AN4R",)}))
        text, ending = collect(generator.write(PROMPT, given))
        assert render(events_of(typed)) == render(parse(text))
        assert "32AN4R" not in text
        assert [each["type"] for each in typed[-2:]] == ["usage", "done"]
        assert typed[-1]["reason"] == ending.reason
        assert typed[-2]["completion_tokens"] == ending.usage.written_tokens
        assert typed[-2]["prompt_tokens_details"]["cached_tokens"] >= 0

    @pytest.mark.parametrize("path", [CHAT, WRITE])
    def test_a_salt_goes_along(self, front: Site, path: str) -> None:
        asked = BODIES[path] | {"max_tokens": 1, "stream": False}
        cached = []
        mine = {"cache_salt": f"mine {path}"}
        for salt in ({}, {}, mine, mine):
            answer = front.post(path, asked | salt).json()
            usage = answer["usage"] if path == CHAT else answer["events"][-2]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"])
        assert cached[2] == 0
        assert cached[1] == cached[3] == usage["prompt_tokens"]

    @pytest.mark.parametrize("streams", [False, True])
    @pytest.mark.parametrize("path", [CHAT, TEXT, WRITE])
    def test_a_prompt_that_is_too_long(self, front: Site, path: str, streams: bool) -> None:
        long = "fog " * 2100
        bodies: dict[str, dict[str, Any]] = {
            CHAT: {"messages": [{"role": "user", "content": long}]},
            TEXT: {"prompt": long},
            WRITE: {"prompt": STORY | {"past_story": long}},
        }
        answer = front.post(path, bodies[path] | {"stream": streams})
        assert answer.status_code == 400
        assert error_of(answer)["code"] == "context_length_exceeded"
        assert "at most 8191 are read" in error_of(answer)["message"]

    @pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
    @pytest.mark.parametrize("path", [CHAT, TEXT, WRITE])
    def test_a_client_that_goes_frees_both(
        self, site: Site, front: Site, generator: LocalGenerator, path: str, streams: bool
    ) -> None:
        until(lambda: idle(generator))
        endless = dict.fromkeys(["words"] if path == WRITE else ["max_tokens", "min_tokens"], 100_000)
        host, port = front.url.removeprefix("http://").split(":")
        content = json.dumps(BODIES[path] | endless | {"stream": streams, "temperature": 2.0}).encode()
        with socket.create_connection((host, int(port)), timeout=20) as line:
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            until(lambda: generator.load.running > 0)
            until(lambda: front.metric('spellbound_streams{model="front"}') == 1)
        steps = generator.engine.steps
        until(lambda: idle(generator), 10)
        assert generator.engine.steps - steps < 2000  # the end would be 8,000 away
        until(lambda: not len(front.service.gate) and not len(site.service.gate))
        until(lambda: front.metric('spellbound_streams{model="front"}') == 0)

    def test_numbers_for_prometheus(self, site: Site) -> None:
        with before(f"{site.url}/v1", model="tiny") as front:
            for _ in range(2):
                front.post(TEXT, {"prompt": "What is counted?", "max_tokens": 5, "temperature": 0})
            model = '{model="front"}'
            assert front.metric(f"spellbound_written_tokens_total{model}") == 10
            assert front.metric(f"spellbound_prompt_tokens_total{model}") == 34
            assert 17 <= front.metric(f"spellbound_cached_prompt_tokens_total{model}") <= 34
            assert front.metric(f"spellbound_time_to_first_token_seconds_count{model}") == 2
            assert front.metric(f"spellbound_queue_seconds_count{model}") == 0  # nobody says
            assert front.metric('spellbound_requests_total{path="/v1/completions",status="200"}') == 2

    def test_nothing_is_left_behind(self, site: Site, front: Site, generator: LocalGenerator) -> None:
        until(lambda: idle(generator) and not len(site.service.gate) and not len(front.service.gate))


class TestOfOneThatMisbehaves:
    @pytest.mark.parametrize(
        ("path", "streamed"), [(CHAT, False), (WRITE, True)], ids=["a whole chat", "a streamed story"]
    )
    @pytest.mark.parametrize(
        ("behaviour", "status", "code", "retry"),
        [
            (fails(429, Retry_After="120"), 503, "upstream_busy", "120"),
            (fails(429), 503, "upstream_busy", "2"),
            (fails(503, Retry_After="7.2"), 503, "upstream_busy", "8"),
            (fails(503, Retry_After="inf"), 503, "upstream_busy", "86400"),
            (fails(500, "a secret of the server"), 502, "upstream_failed", None),
            (fails(502, Retry_After="30"), 502, "upstream_failed", "30"),
            (fails(504), 504, "upstream_timeout", None),
            (cuts, 502, "upstream_failed", None),
            (cuts_its_error(500), 502, "upstream_failed", None),
            (hangs, 504, "upstream_timeout", None),
            (streams(["{no"]), 502, "upstream_failed", None),
            (fails(401, f"not {KEY[:9]}"), 502, "upstream_refused", None),
            (fails(403), 502, "upstream_refused", None),
            (fails(404), 502, "upstream_refused", None),
            (fails(307, Location="http://127.0.0.1:1/v1"), 502, "upstream_refused", None),
            (fails(429, "pay", code="insufficient_quota"), 502, "upstream_refused", None),
            (fails(400, "n is\nwrong"), 400, "invalid_value", None),
            (fails(400, "long", code="context_length_exceeded"), 400, "context_length_exceeded", None),
            (fails(400, "long", kind="exceed_context_size_error"), 400, "context_length_exceeded", None),
            (fails(400, VLLM_TOO_LONG), 400, "context_length_exceeded", None),
        ],
    )
    def test_what_a_client_is_told(
        self,
        loopback: Loopback,
        caplog: pytest.LogCaptureFixture,
        behaviour: Behaviour,
        status: int,
        code: str,
        retry: str | None,
        path: str,
        streamed: bool,
    ) -> None:
        loopback.answer = behaviour
        patience = 0.5 if behaviour is hangs else 60.0
        with before(loopback.url, first_token_s=patience) as front, caplog.at_level(logging.DEBUG):
            answer = front.post(path, BODIES[path] | {"stream": streamed})
            until(lambda: not len(front.service.gate))
        error = error_of(answer)
        assert error["code"] == code
        assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
        # What comes after a 200 of the other server can be told in the stream alone.
        begun = (
            streamed and code == "upstream_failed" and error["message"].endswith("failed; try again later")
        )
        assert answer.status_code == status or (begun and answer.status_code == 200)
        assert answer.headers.get("retry-after") == retry
        assert "secret" not in error["message"]
        for record in caplog.records:
            assert KEY[:9] not in record.getMessage()
        ours = [record.getMessage() for record in caplog.records if record.name == "spellbound.story"]
        assert bool(ours) == (status >= 500)
        assert not any("secret" in each or HELLO[0]["content"] in each for each in ours)
        assert not [record for record in caplog.records if record.name == "spellbound.server"]

    def test_openais_client_reads_the_errors(self, loopback: Loopback) -> None:
        loopback.answer = fails(429, Retry_After="9")
        with (
            before(loopback.url) as front,
            front.openai() as client,
            pytest.raises(openai.InternalServerError) as caught,
        ):
            client.chat.completions.create(model="front", messages=HELLO, stream=True)
        assert (caught.value.status_code, caught.value.code) == (503, "upstream_busy")
        assert caught.value.response.headers["retry-after"] == "9"

    @pytest.mark.parametrize("behaviour", [fails(500), cuts_its_error(500)], ids=["whole", "cut"])
    def test_another_try(self, loopback: Loopback, behaviour: Behaviour) -> None:
        loopback.script.append(behaviour)
        with before(loopback.url) as front:
            answer = front.post(CHAT, BODIES[CHAT]).json()
        assert answer["choices"][0]["message"]["content"] == "The bell."
        assert answer["usage"] == {
            "prompt_tokens": 100,
            "completion_tokens": 7,
            "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
        assert len(loopback.requests) == 2
        assert {headers["authorization"] for headers in loopback.headers} == {f"Bearer {KEY}"}

    def test_of_cached_tokens_nothing_is_said_where_nobody_knows(self, loopback: Loopback) -> None:
        loopback.answer = streams([chat("Fog."), chat("", "stop"), "[DONE]"])
        with before(loopback.url) as front:
            assert front.post(CHAT, BODIES[CHAT]).json()["usage"] == {
                "prompt_tokens": 0,
                "completion_tokens": 1,
                "total_tokens": 1,
            }
            assert front.metric('spellbound_cache_lookups_total{found="miss",model="front"}') == 0
            assert "max_model_len" not in front.shared.get("/v1/models/front").json()

    @pytest.mark.parametrize("path", [CHAT, TEXT, WRITE])
    def test_what_breaks_off_is_told_in_its_midst(self, loopback: Loopback, path: str) -> None:
        loopback.answer = streams([(plain if path == TEXT else chat)("Fog and ")], cut=True)
        with before(loopback.url) as front:
            streamed = front.post(path, BODIES[path] | {"stream": True})
            at_once = front.post(path, BODIES[path] | {"stream": False})
        assert (streamed.status_code, at_once.status_code) == (200, 502)
        assert "Fog and" in streamed.text
        for answer in (streamed, at_once):
            assert error_of(answer)["code"] == "upstream_failed"
        assert streamed.text.rstrip().endswith("}" if path == WRITE else "data: [DONE]")

    @pytest.mark.parametrize("path", [CHAT, TEXT, WRITE])
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("behaviour", [hangs, then_hangs(chat("Fog"))], ids=["no status", "no more"])
    def test_who_goes_closes_that_connection_too(
        self, loopback: Loopback, path: str, stream: bool, behaviour: Behaviour
    ) -> None:
        loopback.answer = behaviour
        with before(loopback.url) as front:
            host, port = front.url.removeprefix("http://").split(":")
            content = json.dumps(BODIES[path] | {"stream": stream}).encode()
            with socket.create_connection((host, int(port)), timeout=20) as line:
                head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
                assert loopback.asked.wait(10)
            assert loopback.gone.wait(5)
            until(lambda: not len(front.service.gate))

    def test_an_end_in_good_order_tells_who_is_still_waiting(self, loopback: Loopback) -> None:
        loopback.answer = then_hangs(chat("Fog"))
        made = Upstream(ServerSettings(url=loopback.url))
        settings = ServeSettings(port=0, grace_s=0.2)
        with running({"front": made}, settings) as front, front.http() as client:
            with client.stream("POST", CHAT, json=BODIES[CHAT] | {"stream": True}) as answer:
                lines = answer.iter_lines()
                next(lines)
                front.server.should_exit = True
                rest = [line for line in lines if line]
            assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert loopback.gone.wait(5)
        made.close()

    @pytest.mark.parametrize(
        ("dialect", "path", "fields", "words"),
        [
            ("openai", WRITE, {"never_speak_as": ["32AN4R"]}, "OpenAI's API takes no constraint"),
            ("openai", CHAT, {"min_p": 0.1}, "min_p: the server that writes (openai) knows none"),
            ("llama.cpp", CHAT, {"cache_salt": "x"}, "cache_salt: the server that writes (llama.cpp)"),
            ("openai", WRITE, {"cache_salt": "x"}, "cache_salt: the server that writes (openai)"),
            ("vllm", "/tokenize", {"prompt": "x"}, "has no tokenizer; start it with --upstream-tokenizer"),
            ("vllm", "/detokenize", {"tokens": [1]}, "has no tokenizer; start it with --upstream-tokenizer"),
        ],
    )
    def test_what_it_cannot_do_is_refused(
        self, loopback: Loopback, dialect: str, path: str, fields: dict[str, Any], words: str
    ) -> None:
        with before(loopback.url, dialect=dialect) as front:
            answer = front.post(path, BODIES.get(path, {}) | fields)
        assert answer.status_code == 400
        assert words in error_of(answer)["message"]
        assert loopback.requests == []

    @pytest.mark.parametrize("value", ['"\\ud83d"', "1e999", "NaN"])
    def test_what_no_json_can_hold_is_not_sent(self, loopback: Loopback, value: str) -> None:
        form = {"type": "json_schema", "json_schema": {"schema": {"const": "VALUE"}}}
        content = json.dumps(BODIES[CHAT] | {"response_format": form}).replace('"VALUE"', value)
        with before(loopback.url) as front:
            headers = {"Content-Type": "application/json"}
            answer = front.shared.post(CHAT, content=content, headers=headers)
            with pytest.raises(InputError, match="the request cannot be sent on: it holds half a character"):
                front.service.offers.find("front").completer.start("\ud83d", CompletionOptions(), print)
        assert answer.status_code == 400
        assert "the request cannot be sent on" in error_of(answer)["message"]
        assert loopback.requests == []

    def test_so_many_are_asked_for_at_once(self, loopback: Loopback) -> None:
        loopback.answer = then_hangs(plain("Fog"))
        options = CompletionOptions()
        with before(loopback.url, max_streams=2, max_waiting=3) as front:
            upstream = front.service.offers.find("front").completer
            works = [upstream.start("x", options, lambda _: None) for _ in range(5)]
            until(lambda: len(loopback.requests) == 2)
            assert (upstream.load.running, upstream.load.waiting) == (2, 3)
            assert front.metric('spellbound_queue{model="front"}') == 3
            refused = front.post(TEXT, BODIES[TEXT])
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert error_of(refused)["code"] == "engine_busy"
            assert len(loopback.requests) == 2
            works[4].cancel()  # one that waits
            works[0].cancel()  # one that is written
            until(lambda: len(loopback.requests) == 3)
            until(lambda: (upstream.load.running, upstream.load.waiting) == (2, 1))
            for work in works:
                work.cancel()
            until(lambda: upstream.load.running == 0)

    def test_many_prompts_take_turns(self, loopback: Loopback) -> None:
        loopback.answer = streams([0.01, plain("Fog"), plain("", "stop"), "[DONE]"])
        with before(loopback.url, max_streams=3) as front:
            answer = front.post(TEXT, {"prompt": ["The fog"] * 30})
        assert [each["text"] for each in answer.json()["choices"]] == ["Fog"] * 30
        assert len(loopback.requests) == 30

    def test_scores_without_text_are_not_told_twice(self, loopback: Loopback) -> None:
        scores = {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [{}]}
        scored = {"choices": [{"index": 0, "text": "", "logprobs": scores, "finish_reason": None}]}
        loopback.answer = streams([scored], cut=True)
        with before(loopback.url) as front:
            answer = front.post(TEXT, BODIES[TEXT] | {"logprobs": 0})
        assert answer.status_code == 502
        assert len(loopback.requests) == 1

    def test_a_long_token_is_no_fault(self, loopback: Loopback) -> None:
        blanks = " " * 100
        loopback.answer = streams([plain(blanks), plain("", "length"), "[DONE]"])
        with before(loopback.url) as front:
            answer = front.post(TEXT, BODIES[TEXT] | {"max_tokens": 1})
        assert answer.json()["choices"][0]["text"] == blanks

    def test_health_follows_the_model(
        self, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(upstream_module, "_LOOK_S", 0.05)
        with before(loopback.url) as front:
            assert front.shared.get("/health").status_code == 200
            loopback.models = ["another"]
            until(lambda: front.shared.get("/health").status_code == 503)
            loopback.models = ["another", "jamba"]
            until(lambda: front.shared.get("/health").status_code == 200)
        assert [each.getMessage() for each in caplog.records if each.name == "spellbound.story"] == [
            f"server {loopback.host}: it no longer has the model 'jamba'"
        ]

    def test_health_follows_the_other_server(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(upstream_module, "_LOOK_S", 0.05)
        with Loopback() as other:
            made = Upstream(ServerSettings(url=other.url, retries=0))
        with running({"front": made}, SETTINGS) as front:
            until(lambda: front.shared.get("/health").status_code == 503)
            answer = front.shared.get("/health")
            assert error_of(answer)["code"] == "not_ready"
            assert error_of(front.post(CHAT, BODIES[CHAT]))["code"] == "upstream_failed"
        made.close()
        assert next(each.getMessage() for each in caplog.records if each.name == "spellbound.story") == (
            f"server {other.host}: no answer"
        )


class TestTheStart:
    def make(self, loopback: Loopback, **changes: Any) -> Upstream:
        return Upstream(ServerSettings(url=loopback.url, **changes))

    def test_the_only_model_is_found(self, loopback: Loopback) -> None:
        made = self.make(loopback)
        assert (made.model, made.context, made.fault, made.adapters) == ("jamba", None, "", [])
        made.close()

    def test_of_several_one_must_be_named(self, loopback: Loopback) -> None:
        loopback.models = ["jamba", "gothic"]
        with pytest.raises(ServerRefused, match=r"it has jamba, gothic; .*--upstream-model"):
            self.make(loopback)
        with pytest.raises(
            InputError, match=r"no model 'noir'; give --upstream-model, one of: jamba, gothic"
        ):
            self.make(loopback, model="noir")
        made = self.make(loopback, model="gothic")
        made.close()

    def test_nobody_there(self) -> None:
        with Loopback() as other:
            url = other.url
        with pytest.raises(ServerStopped, match="no connection; look whether it runs"):
            Upstream(ServerSettings(url=url))

    def test_after_its_end_nothing_is_left(self, loopback: Loopback) -> None:
        loopback.answer = then_hangs(chat("A"))
        made = self.make(loopback)
        told: list[object] = []
        work = made.start("x", CompletionOptions(), told.append)
        assert loopback.asked.wait(5)
        assert work.taken.result(5) is None
        made.close()
        work.cancel()
        assert loopback.gone.wait(5)
        assert not isinstance(told[-1], Failed)
        assert made.load.running == 0
        with pytest.raises(EnvironmentFault, match="closed"):
            made.start("x", CompletionOptions(), told.append)
        assert made.load.running == 0

    def test_a_server_that_lists_no_models_is_a_word_in_the_log(
        self, loopback: Loopback, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = Upstream(ServerSettings(url=loopback.url.removesuffix("/v1") + "/v2", model="jamba"))
        made.close()
        (told,) = [each.getMessage() for each in caplog.records if each.name == "spellbound.story"]
        assert told.startswith(f"server {loopback.host}: it does not list its models, status 404; ")
        assert told.endswith("mostly in /v1")


def test_who_ended_a_passage_is_logged_without_words(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    loopback.answer = streams([plain("A"), plain("", "content_filter"), "[DONE]"])
    with before(loopback.url) as front:
        assert front.post(TEXT, BODIES[TEXT]).status_code == 502
    logged = [each.getMessage() for each in caplog.records if each.name == "spellbound.story"]
    assert logged == [f"server {loopback.host}: failed, ended by content_filter"]

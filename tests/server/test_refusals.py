"""What is wrong is refused in OpenAI's shape, and says what to do."""

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from spellbound.story.local import LocalGenerator
from tests.server.running import HELLO, STORY, Site, idle, until

CHAT, TEXT, WRITE = "/v1/chat/completions", "/v1/completions", "/v1/stories/write"
TOLD = "the heron's true name"


def asked(path: str, **fields: object) -> dict[str, Any]:
    base: dict[str, Any] = {
        CHAT: {"messages": HELLO, "max_tokens": 2},
        TEXT: {"prompt": "Fog", "max_tokens": 2},
        WRITE: {"prompt": STORY, "max_tokens": 2},
    }.get(path, {})
    return base | fields


@pytest.mark.parametrize(
    ("path", "fields", "param", "words"),
    [
        (CHAT, {"temperature": "hot"}, "temperature", "valid number"),
        (CHAT, {"temperature": -1}, "temperature", "greater than or equal to 0"),
        (CHAT, {"top_p": 0}, "top_p", "greater than 0"),
        (CHAT, {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (CHAT, {"max_tokens": True}, "max_tokens", "valid integer"),
        (CHAT, {"messages": []}, "messages", "at least 1"),
        (CHAT, {"messages": None}, "messages", "valid list"),
        (CHAT, {"messages": [{"role": "king", "content": "x"}]}, "messages", "'system', "),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "only text"),
        (CHAT, {"n": 1000}, "n", "less than or equal to 16"),
        (CHAT, {"stop": ""}, "stop", "at least 1 character"),
        (CHAT, {"stop": ["a"] * 17}, "stop", "stop: List should have at most 16 items"),
        (CHAT, {"stop": ["a", 5]}, "stop", "stop.1: Input should be a valid string"),
        (CHAT, {"stop": 5}, "stop", "stop: Input should be a text or a list of texts"),
        (WRITE, {"stop": ["a"] * 17}, "stop", "stop: List should have at most 16 items"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages", "content: Input should be a text"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": 5}]}]}, "messages", "content.0.type"),
        (CHAT, {"logit_bias": {"99999999": 5}}, "logit_bias", "99999999, which is not in the vocabulary"),
        (TEXT, {"logit_bias": {"5": 1, "512": 5}}, "logit_bias", "512, which is not in the vocabulary"),
        (CHAT, {"messages": [{"role": "user", "content": "fog " * 2100}]}, "messages", "at most 8191"),
        (WRITE, {"prompt": STORY | {"past_story": "fog " * 2100}}, "prompt", "at most 8191"),
        (CHAT, {"logit_bias": {"bell": 1}}, "logit_bias", "'bell', which is no token"),
        (CHAT, {"logit_bias": {"9" * 5000: 1}}, "logit_bias", "9', which is no token"),
        (CHAT, {"logit_bias": {"5": 101}}, "logit_bias", "less than or equal to 100"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format", "'json_schema'"),
        (CHAT, {"response_format": {"type": "json_schema"}}, "response_format", "no json_schema"),
        (
            CHAT,
            {"structured_outputs": {"grammar": "start: ("}},
            "structured_outputs",
            "the grammar cannot be used",
        ),
        (
            CHAT,
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "bell"}}}},
            "response_format",
            "the grammar cannot be used",
        ),
        (
            CHAT,
            {"response_format": {"type": "json_object"}, "structured_outputs": {"json": {}}},
            "response_format",
            "leave one of them out",
        ),
        (
            CHAT,
            {"response_format": {"type": "json_object"}, "structured_outputs": {"grammar": 'start: "a"'}},
            "structured_outputs",
            "leave one of them out",
        ),
        (CHAT, {"model": "other"}, "model", "choose one of: tiny, tiny-plain"),
        (CHAT, {"model": "../tiny"}, "model", "'../tiny' is not here"),
        (TEXT, {"prompt": []}, "prompt", "empty list"),
        (TEXT, {"prompt": [5, 999]}, "prompt", "token 999"),
        (TEXT, {"prompt": [5, -1]}, "prompt", "prompt.1: Input should be greater than or equal to 0"),
        (TEXT, {"prompt": ["a", 5]}, "prompt", "prompt.1: Input should be a valid string"),
        (TEXT, {"prompt": [[5], "a"]}, "prompt", "prompt.1: Input should be a valid list"),
        (TEXT, {"prompt": {}}, "prompt", "a text, a list of tokens, or a list of either"),
        (TEXT, {"prompt": "fog " * 2100}, "prompt", "at most 8191"),
        (TEXT, {"echo": True}, "echo", "not offered"),
        (TEXT, {"suffix": "end"}, "suffix", "not offered"),
        (TEXT, {"best_of": 2}, "best_of", "not offered"),
        (TEXT, {"prompt": ["a"] * 100, "n": 2}, "n", "more than 128 texts"),
        (WRITE, {"prompt": STORY | {"past_story": 5}}, "prompt", "past_story"),
        (
            WRITE,
            {"prompt": STORY | {"characters": [{"name": "M", "speaker_id": "x"}]}},
            "prompt",
            "speaker ID",
        ),
        (WRITE, {"prompt": STORY | {"characters": STORY["characters"] * 2}}, "prompt", "belongs to"),
        (
            WRITE,
            {"prompt": STORY | {"characters": [{"name": "M", "speaker_id": "32AN4R", "details": 5}]}},
            "prompt",
            "details: Input should be an object or a list of pairs",
        ),
        (WRITE, {"never_speak_as": ["ZZZZZZ"]}, "never_speak_as", "not in the cast; give of: 32AN4R, K7Q2ZX"),
        (
            WRITE,
            {"never_speak_as": ["K7Q2ZX"], "constrain": False},
            "never_speak_as",
            "kept by the constraint",
        ),
        (WRITE, {"words": 0}, "words", "greater than or equal to 1"),
        ("/tokenize", {}, "prompt", "give either"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, "prompt", "give either"),
        ("/detokenize", {"tokens": [1, 5000]}, "tokens", "token 5000 at place 1"),
        ("/detokenize", {"tokens": "x"}, "tokens", "valid list"),
    ],
)
def test_a_wrong_field_is_named(
    site: Site, path: str, fields: dict[str, object], param: str | None, words: str
) -> None:
    answer = site.post(path, asked(path, **fields))
    assert answer.status_code == (404 if param == "model" else 400)
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_a_whole_number_may_have_a_point(site: Site) -> None:
    answer = site.post(TEXT, asked(TEXT, max_tokens=2.0, n=2.0, seed=5.0, prompt=[1.0, 40.0]))
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 4)
    assert site.post(TEXT, asked(TEXT, max_tokens=2.5)).status_code == 400


@pytest.mark.parametrize("path", [CHAT, TEXT, WRITE])
def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(site: Site, path: str) -> None:
    long = "fog " * 2100
    story = asked(WRITE, prompt=STORY | {"past_story": long})
    body = story if path == WRITE else asked(path, prompt=long, messages=[{"role": "user", "content": long}])
    error = site.post(path, body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "at most 8191 are read" in error["message"]
    assert int(error["message"].split()[3]) >= 8401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"", "invalid_value"),
        (b"[]", "invalid_value"),
        (b'"x"', "invalid_value"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "invalid_json"),
        (b'{"prompt": "\\ud800"}', "invalid_value"),
        (b'{"prompt": "x", "temperature": NaN}', "invalid_value"),
        (b'{"prompt": "x", "seed": 1e400}', "invalid_value"),
        (b'{"prompt": "x", "model": "\\udfff"}', "invalid_value"),
        (b'{"prompt": "x", "stop": ["\\udfff"]}', "invalid_value"),
        (b'{"prompt": "x", "cache_salt": "\\udfff"}', "invalid_value"),
        (b'{"prompt": "x", "structured_outputs": {"grammar": "start: \\udfff"}}', "invalid_value"),
        (
            b'{"prompt": "x", "structured_outputs": {"json": {"enum": ["\\ud800"]}}}',
            "invalid_value",
        ),
    ],
)
def test_bytes_that_are_no_request(site: Site, body: bytes, code: str) -> None:
    with site.http() as client:
        answer = client.post(TEXT, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_form_of_a_foreign_page_is_no_request(site: Site, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    with site.http() as client:
        answer = client.post(TEXT, content=json.dumps(asked(TEXT)).encode(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_content_type"
    assert "send application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"'])
def test_a_body_that_is_no_object_is_not_called_a_field(site: Site, body: bytes) -> None:
    with site.http() as client:
        answer = client.post(TEXT, content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.json()["error"]["message"].startswith("the body is no JSON object; send one")


def test_an_error_in_the_midst_of_a_stream_names_its_field(site: Site) -> None:
    rules = {"grammar": 'start: "a" DEAD\nDEAD: /b/ & /c/'}
    answer = site.post(TEXT, asked(TEXT, structured_outputs=rules, max_tokens=50, stream=True))
    told = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    error = (told[-1] if answer.status_code == 200 else answer.json())["error"]
    assert error["param"] == "structured_outputs"


def test_a_body_that_is_too_large(site: Site) -> None:
    most = site.service.settings.max_body_bytes
    with site.http() as client:
        answer = client.post(TEXT, json=asked(TEXT, prompt="x" * most))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert str(most) in answer.json()["error"]["message"]

        def pieces() -> Iterator[bytes]:  # without a length
            yield from (b" " * 2**20 for _ in range(most // 2**20 + 1))

        answer = client.post(TEXT, content=pieces(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", CHAT, 405)])
def test_what_is_not_there(site: Site, method: str, path: str, status: int) -> None:
    with site.http() as client:
        answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == f"http_{status}"


def test_openais_client_reads_the_errors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)
    assert (caught.value.param, caught.value.code, caught.value.type) == (
        "temperature",
        "invalid_value",
        "invalid_request_error",
    )


def test_a_grammar_that_leads_nowhere_is_an_event_of_the_stream(site: Site) -> None:
    rules = {"grammar": 'start: "a" DEAD\nDEAD: /b/ & /c/'}
    whole = site.post(TEXT, asked(TEXT, structured_outputs=rules, max_tokens=50))
    assert whole.status_code == 400
    assert "constraint" in whole.json()["error"]["message"] or "grammar" in whole.json()["error"]["message"]


def test_the_log_knows_no_story(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for path in (CHAT, TEXT, WRITE):
            site.post(path, asked(path, prompt=TOLD, messages=[{"role": "user", "content": TOLD}]))
            site.post(path, asked(path, prompt=TOLD, temperature=TOLD, model=TOLD))
            site.post(path, asked(path, prompt={"past_story": TOLD, "characters": [TOLD]}))
        site.post("/tokenize", {"prompt": TOLD})
    ours = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "openai"))
    ]
    assert not any(TOLD in record.getMessage() for record in ours)


def test_a_line_that_is_no_http(site: Site, generator: LocalGenerator) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    for garbage in (b"\x00" * 100, b"GET / HTTP/9\r\n\r\n", b"POST " + b"a" * 100_000):
        with socket.create_connection((host, int(port)), timeout=10) as line:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            while line.recv(1000):
                pass
    assert site.post(TEXT, asked(TEXT)).status_code == 200
    until(lambda: idle(generator))

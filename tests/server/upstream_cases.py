"""Our server before a real vLLM or llama.cpp, which nothing here can start: run by hand, with one that runs.

    UPSTREAM=http://127.0.0.1:8080/v1 DIALECT=llama.cpp pytest tests/server/upstream_cases.py

Any model will do, also one of random weights, for what is asked here is how the two speak to each other.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any, get_args

import openai
import pytest

from spellbound.server.settings import ServeSettings
from spellbound.story import ServerSettings, Upstream, WriteOptions, collect
from spellbound.story.openai import OpenAIGenerator
from spellbound.story.server import Dialect
from tests.server.running import CAST, HELLO, PROMPT, STORY, Site, running, until

SERVER = ServerSettings(
    url=os.environ["UPSTREAM"],
    dialect=next(each for each in get_args(Dialect) if each == os.environ["DIALECT"]),
)
TEXT, CHAT, WRITE = "/v1/completions", "/v1/chat/completions", "/v1/stories/write"
LONG = "The fog came in over the harbour wall. " * 40
VLLM = SERVER.dialect.startswith("vllm")


@pytest.fixture(scope="module")
def front() -> Iterator[Site]:
    made = Upstream(SERVER)
    with running({"front": made}, ServeSettings(port=0, grace_s=5)) as site:
        yield site
    made.close()


def answer(front: Site, path: str, **fields: Any) -> dict[str, Any]:
    found = front.post(path, fields)
    assert found.status_code == 200, found.text
    body: dict[str, Any] = found.json()
    return body


def test_texts_and_what_they_cost(front: Site) -> None:
    for fields in ({"prompt": "The fog"}, {"prompt": [5, 6, 7]}):
        body = answer(front, TEXT, **fields, max_tokens=6, logprobs=1)
        assert len(body["choices"][0]["logprobs"]["tokens"]) == 6
        assert body["usage"]["completion_tokens"] == 6
        assert body["usage"]["prompt_tokens"] > 0
    body = answer(front, CHAT, messages=HELLO, max_tokens=4, n=3, logprobs=True, top_logprobs=2)
    assert [len(each["logprobs"]["content"]) for each in body["choices"]] == [4, 4, 4]


def test_what_was_read_is_known(front: Site) -> None:
    asked = {"prompt": LONG, "max_tokens": 2}
    answer(front, TEXT, **asked)
    assert answer(front, TEXT, **asked)["usage"]["prompt_tokens_details"]["cached_tokens"] > 200


@pytest.mark.skipif(not VLLM, reason="llama.cpp has one cache for all")
def test_another_salt_is_another_cache(front: Site) -> None:
    anna, bert = secrets.token_hex(), secrets.token_hex()  # of no run before
    asked = {"prompt": "Nobody knew. " + LONG, "max_tokens": 2}
    answer(front, TEXT, **asked, cache_salt=anna)
    for salt, known in ((anna, True), (bert, False)):
        used = answer(front, TEXT, **asked, cache_salt=salt)["usage"]["prompt_tokens_details"]
        assert (used["cached_tokens"] > 0) is known


def test_a_text_that_we_end_has_its_cost(front: Site) -> None:
    body = answer(front, TEXT, prompt="The fog", max_tokens=200, stop=["e", "a"], seed=3)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert not {"e", "a"} & set(body["choices"][0]["text"])
    assert body["usage"]["prompt_tokens"] > 0


def test_a_schema(front: Site) -> None:
    schema = {"type": "object", "properties": {"calm": {"type": "boolean"}}, "required": ["calm"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = answer(front, CHAT, messages=HELLO, max_tokens=400, response_format=form)["choices"][0]
    assert text["message"]["content"].lstrip().startswith("{")


def test_the_prompt_is_too_long(front: Site) -> None:
    found = front.post(TEXT, {"prompt": LONG * 500, "max_tokens": 2})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_stories(front: Site) -> None:
    for seed in range(4):
        found = front.post(WRITE, {"prompt": STORY, "words": 30, "seed": seed, "temperature": 1.5})
        lines = [line for line in found.text.splitlines() if line.startswith("data: ")]
        events = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert [each["type"] for each in events[-2:]] == ["usage", "done"]
        assert events[-2]["prompt_tokens"] > 0
        known = {each.speaker_id for each in CAST}
        assert {
            each["speaker"] for each in events if each["type"] == "open" and each["kind"] == "quote"
        } <= known
        assert not [each for each in events if each["type"] == "repair"]


def test_a_stream_that_is_left_frees_its_place(front: Site) -> None:
    client = openai.OpenAI(base_url=f"{front.url}/v1", api_key="x", max_retries=0)
    with client.completions.create(model="front", prompt="The fog", max_tokens=2000, stream=True) as stream:
        next(iter(stream))
    until(lambda: front.service.offers.find("front").completer.load.running == 0)


def test_passages_without_our_server() -> None:
    text, ending = collect(OpenAIGenerator(SERVER).write(PROMPT, WriteOptions(words=30, seed=1)))
    assert text
    assert ending.usage.prompt_tokens > 0
    assert ending.repairs == ()

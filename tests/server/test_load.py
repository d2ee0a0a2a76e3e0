"""Clients that go away, read slowly or send nonsense: nothing is left of them."""

import asyncio
import json
import os
import random
import socket
import threading
from typing import Any

import httpx2
import pytest

from spellbound.server.gate import Gate
from spellbound.server.metrics import Metrics
from spellbound.server.offers import Offers
from spellbound.server.settings import ServeSettings
from spellbound.server.stories import Passage
from spellbound.server.writing import Job, Writing
from spellbound.story import WriteOptions
from spellbound.story.completion import CompletionOptions, EngineSettings
from spellbound.story.local import LocalGenerator
from tests.server.running import HELLO, PROMPT, STORY, Site, idle, running, until

CHAT, TEXT, WRITE = "/v1/chat/completions", "/v1/completions", "/v1/stories/write"
ENDLESS: dict[str, Any] = {"max_tokens": 100_000, "min_tokens": 100_000, "temperature": 2.0}


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HELLO, **ENDLESS}),
        (CHAT, {"messages": HELLO, **ENDLESS, "n": 3}),
        (TEXT, {"prompt": ["a", "b"], **ENDLESS}),
        (WRITE, {"prompt": STORY, "words": 100_000}),
    ],
    ids=["chat", "three texts", "two prompts", "story"],
)
def test_a_client_that_goes_frees_its_slots(
    site: Site, generator: LocalGenerator, path: str, body: dict[str, Any], streams: bool
) -> None:
    until(lambda: idle(generator))
    host, port = site.url.removeprefix("http://").split(":")
    content = json.dumps(body | {"stream": streams}).encode()
    with socket.create_connection((host, int(port)), timeout=20) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        until(lambda: generator.load.running > 0)
        if streams:
            assert line.recv(100).startswith(b"HTTP/1.1 200")
    steps = generator.engine.steps
    until(lambda: idle(generator), 10)
    assert generator.engine.steps - steps < 2000  # the end would be 8,000 away
    until(lambda: not len(site.service.gate))


def test_many_at_once_with_aborts_slow_readers_and_nonsense(site: Site, generator: LocalGenerator) -> None:
    draw = random.Random(5)
    until(lambda: idle(generator))
    threads, before = threading.active_count(), handles()
    finished = []

    async def one(client: httpx2.AsyncClient, number: int) -> None:
        kind = number % 4
        if kind == 0:
            answer = await client.post(TEXT, content=b'{"prompt": ' * number)
            assert answer.status_code == 400
            return
        body = {
            "prompt": f"Text {number}",
            "stream": True,
            "max_tokens": 30,
            "temperature": 2.0,
            "seed": number,
        }
        async with client.stream("POST", TEXT, json=body) as answer:
            assert answer.status_code == 200
            seen, stop_at = 0, draw.randrange(1, 12)
            async for line in answer.aiter_lines():
                seen += line.startswith("data: ")
                if kind == 1 and seen == stop_at:
                    return
                if kind == 2:
                    await asyncio.sleep(0.01)
            assert line == ""
            finished.append(number)

    async def everybody() -> None:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=site.url, timeout=60, limits=limits) as client:
            await asyncio.gather(*(one(client, number) for number in range(1, 49)))

    asyncio.run(everybody())
    until(lambda: idle(generator) and not len(site.service.gate))
    assert len(finished) >= 24
    until(lambda: handles() <= before + 2)
    until(lambda: threading.active_count() <= threads + 8)  # the pools' own


def test_a_slow_reader_holds_nobody_up(site: Site, generator: LocalGenerator) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    asked = {"prompt": "x", "stream": True, **ENDLESS, "max_tokens": 2000, "logprobs": 20}
    body = json.dumps(asked)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(30)
        line.connect((host, int(port)))
        head = f"POST {TEXT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        until(lambda: len(site.service.gate) == 1)
        until(lambda: idle(generator), 60)  # written, though hardly anything was read
        assert site.post(TEXT, {"prompt": "y", "max_tokens": 2}).status_code == 200
        received = b""
        while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            received += line.recv(65536)
    assert received.count(b'"finish_reason": "length"') == 1
    assert len(received) > 1_500_000


def test_numbers_for_prometheus(generator: LocalGenerator) -> None:
    with running({"tiny": generator}) as site:
        for _ in range(2):
            site.post(TEXT, {"prompt": "What is counted?", "max_tokens": 5, "temperature": 0})
        site.post(TEXT, {"prompt": 5})
        site.post("/nowhere/a-secret", {})
        model = '{model="tiny"}'
        assert site.metric(f"spellbound_written_tokens_total{model}") == 10
        assert site.metric(f"spellbound_prompt_tokens_total{model}") == 34
        assert 17 <= site.metric(f"spellbound_cached_prompt_tokens_total{model}") <= 34
        assert site.metric('spellbound_cache_lookups_total{found="hit",model="tiny"}') >= 1
        assert site.metric(f"spellbound_time_to_first_token_seconds_count{model}") == 2
        assert site.metric(f"spellbound_tokens_per_second_count{model}") == 2
        assert site.metric(f"spellbound_queue_seconds_count{model}") == 2
        assert site.metric(f"spellbound_queue{model}") == site.metric(f"spellbound_streams{model}") == 0
        assert site.metric('spellbound_cache_bytes{model="tiny",place="memory"}') > 0
        assert site.metric('spellbound_requests_total{path="/v1/completions",status="200"}') == 2
        assert site.metric('spellbound_requests_total{path="/v1/completions",status="400"}') == 1
        assert site.metric('spellbound_requests_total{path="other",status="404"}') == 1
        with site.http() as client:
            assert "secret" not in client.get("/metrics").text


@pytest.mark.parametrize("path", [TEXT, WRITE])
def test_what_nobody_reads_to_its_end_counts(generator: LocalGenerator, path: str) -> None:
    body = {"prompt": STORY, "words": 100_000} if path == WRITE else {"prompt": "x", **ENDLESS}
    with running({"tiny": generator}) as site, site.http() as client:
        with client.stream("POST", path, json=body | {"stream": True}) as answer:
            next(answer.iter_lines())
        until(lambda: site.metric('spellbound_written_tokens_total{model="tiny"}') > 0)
        assert site.metric('spellbound_prompt_tokens_total{model="tiny"}') > 0
        assert site.metric('spellbound_queue_seconds_count{model="tiny"}') == 1
        found = [f'spellbound_cache_lookups_total{{found="{each}",model="tiny"}}' for each in ("hit", "miss")]
        assert sum(map(site.metric, found)) == 1
    until(lambda: idle(generator))


def test_whoever_gave_up_before_the_turn_came_is_no_number(tiny_folder: Any) -> None:
    generator = LocalGenerator(tiny_folder, settings=EngineSettings(max_streams=1))
    with running({"tiny": generator}) as site, site.http() as client:
        with client.stream("POST", TEXT, json={"prompt": "x", "stream": True, **ENDLESS}):
            until(lambda: generator.load.running == 1)
            with client.stream("POST", TEXT, json={"prompt": "y", "stream": True, **ENDLESS}):
                until(lambda: generator.load.waiting == 1)
            until(lambda: generator.load.waiting == 0)
        until(lambda: idle(generator))
        until(lambda: site.metric('spellbound_queue_seconds_count{model="tiny"}') == 1)
    generator.close()


def test_the_engine_outlives_the_loop_that_it_tells(generator: LocalGenerator) -> None:
    (offer, *_) = Offers({"tiny": generator})
    metrics, settings = Metrics({}), CompletionOptions(max_tokens=200, min_tokens=200)

    async def begin() -> None:
        permit = Gate(1).enter("somebody")
        writing = Writing(offer, [Job("x", settings, 1)], permit, metrics, 0.0)
        passage = Passage(offer, permit, metrics, 0.0)
        await writing.begin()
        await passage.begin(PROMPT, WriteOptions(max_tokens=200, words=200))

    asyncio.run(begin())  # the loop is closed by now, and nobody has cancelled anything
    until(lambda: idle(generator), 60)
    assert generator.fault == ""
    assert b'spellbound_queue_seconds_count{model="tiny"} 2.0' in metrics.text()


def test_an_end_in_good_order_tells_who_is_still_writing(generator: LocalGenerator) -> None:
    with running({"tiny": generator}, ServeSettings(port=0, grace_s=0.5)) as site, site.http() as client:
        with client.stream("POST", TEXT, json={"prompt": "x", "stream": True, **ENDLESS}) as answer:
            lines = answer.iter_lines()
            next(lines)
            site.server.should_exit = True
            rest = [line for line in lines if line]
        assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert rest[-1] == "data: [DONE]"
        site.thread.join(10)
        assert not site.thread.is_alive()
    until(lambda: idle(generator))

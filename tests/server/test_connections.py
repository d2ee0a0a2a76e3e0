"""Connections that ask for nothing, ask slowly, or ask for more before they have their answer."""

import json
import socket
import time
from typing import Any

import pytest

from spellbound.server import connections
from spellbound.server.connections import most_connections
from spellbound.story.local import LocalGenerator
from tests.server.running import Site, idle, until

TEXT = "/v1/completions"
ENDLESS: dict[str, Any] = {"prompt": "x", "max_tokens": 100_000, "min_tokens": 100_000, "temperature": 2.0}
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connected(site: Site) -> socket.socket:
    host, port = site.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def posted(body: object, more: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def closed(line: socket.socket) -> bool:
    """Whether the server has ended it, after whatever it still sent."""
    try:
        while line.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def refuses(line: socket.socket, data: bytes, *, pause: float = 0.0) -> bool:
    """Whether the server ends it before everything is sent; with a pause it is sent byte by byte."""
    size = 1 if pause else 65536
    try:
        for start in range(0, len(data), size):
            line.sendall(data[start : start + size])
            time.sleep(pause)
    except OSError:
        return True
    return False


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "REST_S", 0.3)
    monkeypatch.setattr(connections, "UNREAD_S", 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("before", [b"", b"GET /hea", HEALTH + b"GET"], ids=["nothing", "a part", "a second"])
def test_who_sends_no_request_is_let_go(site: Site, before: bytes) -> None:
    with connected(site) as line:
        line.settimeout(5)
        line.sendall(before)
        assert closed(line)


@pytest.mark.usefixtures("hasty")
def test_who_sends_it_letter_by_letter_has_no_more_time(site: Site) -> None:
    with connected(site) as line:
        assert refuses(line, (HEALTH * 10)[:-3], pause=0.05)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("asked", [1, 200])
def test_who_does_not_read_is_let_go_too(site: Site, asked: int) -> None:
    def is_held() -> bool:
        return any(getattr(each, "client", None) == mine for each in site.server.server_state.connections)

    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = site.url.removeprefix("http://").split(":")
        line.connect((host, int(port)))
        line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked + b"GET")
        mine = line.getsockname()
        until(is_held)
        until(lambda: not is_held())


@pytest.mark.usefixtures("hasty")
def test_who_asks_in_time_keeps_the_connection(site: Site) -> None:
    with connected(site) as line:
        for _ in range(3):
            line.sendall(HEALTH[:20])
            time.sleep(0.1)
            line.sendall(HEALTH[20:])
            received = b""
            while not received.endswith(b"}"):
                received += line.recv(4096)
            assert received.startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # between two requests it may rest


@pytest.mark.usefixtures("hasty")
def test_who_leaves_the_rest_of_a_body_is_let_go(site: Site) -> None:
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with connected(site) as line:
        line.settimeout(5)
        line.sendall(head.encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 413")
        line.sendall(b"x")
        assert closed(line)


def test_there_are_only_so_many(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    already = len(site.server.server_state.connections)
    monkeypatch.setattr(connections, "most_connections", lambda: already + 3)
    lines = [connected(site) for _ in range(12)]
    for line in lines:
        line.settimeout(0.5)
    assert [closed(line) for line in lines] == [False] * 3 + [True] * 9
    for line in lines:
        line.close()
    until(lambda: len(site.server.server_state.connections) == already)
    with connected(site) as line:
        line.sendall(HEALTH)
        assert line.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("files", "most"), [(200, 100), (1024, 512), (2**20, 4096), (-1, 4096), (1, 1)])
def test_half_of_the_files_may_be_connections(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    assert most_connections() == most


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("more", ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["", "upgrade"])
def test_who_asks_again_too_early_and_goes_frees_the_slot(
    site: Site, generator: LocalGenerator, stream: bool, together: bool, more: str
) -> None:
    until(lambda: idle(generator))
    with connected(site) as line:
        first = posted(ENDLESS | {"stream": stream}, more)
        line.sendall(first + HEALTH if together else first)
        until(lambda: generator.load.running == 1)
        if not together:
            line.sendall(HEALTH)
            time.sleep(0.1)
    steps = generator.engine.steps
    until(lambda: idle(generator), 10)
    assert generator.engine.steps - steps < 2000  # the end would be 8,000 away


def test_who_asks_again_too_early_is_answered_in_turn(site: Site) -> None:
    with connected(site) as line:
        line.sendall(posted({"prompt": "x", "max_tokens": 20, "stream": True}) + HEALTH + HEALTH)
        line.settimeout(20)
        received = b""
        while received.count(b'{"status":"ok"}') < 2:
            received += line.recv(4096)
    assert received.index(b"[DONE]") < received.index(b'{"status":"ok"}')
    assert received.count(b"HTTP/1.1 200") == 3


def test_who_sends_much_too_early_is_let_go(site: Site, generator: LocalGenerator) -> None:
    until(lambda: idle(generator))
    with connected(site) as line:
        line.sendall(posted(ENDLESS | {"stream": True}))
        until(lambda: generator.load.running == 1)
        assert refuses(line, b"x" * 10_000_000)
        until(lambda: idle(generator), 10)


def test_what_follows_a_last_request_is_not_read(
    site: Site, generator: LocalGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    until(lambda: idle(generator))
    with connected(site) as line:
        asked = posted(ENDLESS | {"max_tokens": 400, "min_tokens": 400})
        line.sendall(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        until(lambda: generator.load.running == 1)
        line.sendall(b"no HTTP at all")
        received = line.recv(65536)
    assert received.startswith(b"HTTP/1.1 200")
    assert not [record for record in caplog.records if record.name == "uvicorn.error"]

"""A real uvicorn on loopback, in a thread of the tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from spellbound.directives import Character, StoryPrompt
from spellbound.server.app import Service, create_app
from spellbound.server.run import DrainingServer, listen
from spellbound.server.settings import ServeSettings
from spellbound.story.completion import Completed, Completer, CompletionOptions, Prompt, completed
from spellbound.story.local import LocalGenerator

CAST = (Character("Mara Voss", "32AN4R"), Character("Tom", "K7Q2ZX"))
PROMPT = StoryPrompt(CAST, "The fog came in. Nobody spoke a word.", ("Let Tom speak.",))
STORY: dict[str, Any] = {
    "characters": [{"name": each.name, "speaker_id": each.speaker_id} for each in CAST],
    "past_story": PROMPT.past_story,
    "instructions": list(PROMPT.instructions),
}
HELLO: Any = [{"role": "user", "content": "Who rang the bell?"}]


@dataclass
class Site:
    """A server that runs."""

    url: str
    service: Service
    server: DrainingServer
    thread: threading.Thread
    shared: httpx2.Client
    """For single requests: making one takes longer than most of them."""

    def openai(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)

    def http(self, **headers: str) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)

    def post(self, path: str, body: object, **headers: str) -> httpx2.Response:
        return self.shared.post(path, json=body, headers=headers)

    def metric(self, line: str) -> float:
        """A number of /metrics, by the beginning of its line; 0 if it is not there."""
        lines = self.shared.get("/metrics").text.splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(f"{line} ")), 0.0)


@contextmanager
def running(
    models: Mapping[str, Completer],
    settings: ServeSettings | None = None,
    refresh: Callable[[], list[str]] | None = None,
) -> Iterator[Site]:
    settings = settings or ServeSettings(port=0, grace_s=5)
    app = create_app(models, settings, refresh)
    sock = listen(settings)
    server = DrainingServer(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    host, port = sock.getsockname()[:2]
    url = f"http://{host}:{port}"
    try:
        with httpx2.Client(base_url=url, timeout=60) as shared:
            yield Site(url, app.state.service, server, thread, shared)
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()
    assert not thread.is_alive()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def idle(generator: LocalGenerator) -> bool:
    return (generator.load.running, generator.load.waiting) == (0, 0)


def text_of(generator: LocalGenerator, prompt: Prompt, **options: object) -> tuple[str, Completed]:
    """What the generator writes without a server."""
    *pieces, last = completed(generator, prompt, CompletionOptions(**options))  # type: ignore[arg-type]
    assert isinstance(last, Completed)
    return "".join(piece.text for piece in pieces if not isinstance(piece, Completed)), last

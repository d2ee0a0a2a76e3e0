"""A real server on loopback that streams completions as it is told, and misbehaves as it is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]
Behaviour = Callable[["Handler", Body], None]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 64},
}


def chat(text: str, finish: str | None = None) -> Body:
    """An event of a chat completion."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def plain(text: str, finish: str | None = None) -> Body:
    """An event of a completion."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}


def whole(pieces: Sequence[str], finish: str = "stop", event: Callable[..., Body] = chat) -> list[object]:
    """Every event of a passage, usage and end included."""
    return [
        *(
            [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
            if event is chat
            else []
        ),
        *(event(piece) for piece in pieces),
        event("", finish),
        {"choices": [], "usage": USAGE},
        "[DONE]",
    ]


def says(*pieces: str, finish: str = "stop") -> Behaviour:
    """Stream a passage in these pieces."""
    return streams(whole(pieces, finish))


def streams(events: Iterable[object], *, cut: bool = False) -> Behaviour:
    """Stream events: values as JSON, text and bytes as they are. `cut`: then close without an end."""

    def answer(handler: Handler, _: Body) -> None:
        handler.begin()
        for event in events:
            if not handler.event(event):
                return
        handler.end(cut=cut)

    return answer


def fails(status: int, message: str = "no", code: str = "", *, kind: str = "x", **headers: str) -> Behaviour:
    """Answer with an error, as OpenAI writes it."""
    body = json.dumps({"error": {"message": message, "code": code, "type": kind}}).encode()
    return lambda handler, _: handler.whole(status, body, headers)


def cuts_its_error(status: int) -> Behaviour:
    """Close the connection in the midst of an error's body."""

    def answer(handler: Handler, _: Body) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"error":')
        handler.close_connection = True

    return answer


def cuts(handler: Handler, _: Body) -> None:
    """Close the connection before a status."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def hangs(handler: Handler, _: Body) -> None:
    """Say nothing until whoever asked has gone, or the test is over."""
    handler.wait()


def then_hangs(*events: object) -> Behaviour:
    """Stream events, then say nothing until whoever asked has gone."""

    def answer(handler: Handler, _: Body) -> None:
        handler.begin()
        for event in events:
            handler.event(event)
        handler.wait()

    return answer


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    loopback: Loopback

    def do_POST(self) -> None:
        """Record a request and answer it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.loopback.take(self, body)

    def do_GET(self) -> None:
        """Name the models."""
        self.loopback.paths.append(self.path)
        if self.path != "/v1/models":
            self.whole(404, b"", {})
            return
        names = [{"id": name, "object": "model"} for name in self.loopback.models]
        self.whole(200, json.dumps({"object": "list", "data": names}).encode(), {})

    def begin(self) -> None:
        """Begin a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, event: object) -> bool:
        """Send an event; whether it could be sent."""
        if isinstance(event, float):
            time.sleep(event)
            return True
        data = event if isinstance(event, bytes) else event.encode() if isinstance(event, str) else None
        line = b"data: %b\n\n" % (json.dumps(event).encode() if data is None else data)
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.flush()
        except OSError:
            self.loopback.gone.set()
            self.close_connection = True
            return False
        return True

    def end(self, *, cut: bool) -> None:
        """End a stream, in good order or not."""
        if cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send an answer that is no stream."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def wait(self) -> None:
        """Wait until whoever asked has closed the connection, which is noted, or the test is over."""
        self.close_connection = True
        self.connection.settimeout(0.02)
        while not self.loopback.over.is_set():
            try:
                left = self.connection.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                left = True
            if left:
                self.loopback.gone.set()
                return

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no error here."""


class Loopback:
    """The server; what is in `script` happens first, then `answer`."""

    def __init__(self) -> None:
        self.answer: Behaviour = says("The ", "bell.")
        self.script: deque[Behaviour] = deque()
        self.models = ["jamba"]
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.asked = threading.Event()
        self.gone = threading.Event()
        """Somebody closed the connection before the answer was whole."""
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._listener = _Listener(("127.0.0.1", 0), type("Handler", (Handler,), {"loopback": self}))
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
        self.host = f"127.0.0.1:{self._listener.server_address[1]}"
        self.url = f"http://{self.host}/v1"

    def take(self, handler: Handler, body: Body) -> None:
        """Answer a request by the script."""
        with self._lock:
            self.requests.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.paths.append(handler.path)
            self.times.append(time.monotonic())
            behaviour = self.script.popleft() if self.script else self.answer
        self.asked.set()
        behaviour(handler, body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

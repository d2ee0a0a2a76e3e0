"""A real OpenAI-compatible server on loopback that answers as it is told, and misbehaves as it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]
Behaviour = Callable[["Handler", Body], bool]
"""Answers one request; whether the answer was whole and of status 200."""


def completion(content: str | None, finish: str = "stop", refusal: str | None = None) -> bytes:
    """The body of a chat completion of 100 tokens in and 10 out."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    ).encode()


def says(content: object, finish: str = "stop", refusal: str | None = None) -> Behaviour:
    """Answer with a text, or with a value as JSON."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    return lambda handler, _: handler.send(200, completion(text, finish, refusal))


def fails(status: int, message: str = "no", code: str = "", **headers: str) -> Behaviour:
    """Answer with an error, as OpenAI writes it."""
    body = json.dumps({"error": {"message": message, "code": code, "type": "x"}}).encode()
    return lambda handler, _: handler.send(status, body, headers)


def sends(body: bytes, content_type: str = "application/json") -> Behaviour:
    """Answer 200 with anything at all."""
    return lambda handler, _: handler.send(200, body, {"Content-Type": content_type})


def cuts(handler: Handler, _: Body) -> bool:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return False


def hangs(handler: Handler, _: Body) -> bool:
    """Say nothing until the test is over."""
    handler.loopback.over.wait(30)
    handler.close_connection = True
    return False


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    loopback: Loopback
    date = ""

    def do_POST(self) -> None:
        """Record a request and answer it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.loopback.handle(self, body)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> bool:
        """Send a whole answer; whether it was a success that arrived."""
        if self.gone():
            self.close_connection = True
            return False
        headers = dict(headers or {})
        self.date = headers.pop("Date", "")
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return status == 200

    def gone(self) -> bool:
        """Whether whoever asked has closed the connection."""
        self.connection.setblocking(False)
        try:
            return len(self.connection.recv(1, socket.MSG_PEEK)) == 0
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.connection.setblocking(True)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """What the server takes for the time."""
        return self.date or super().date_time_string(timestamp)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


class Server(ThreadingHTTPServer):
    """Threads that wait are no reason to wait for them."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error here."""


class Loopback:
    """The server; what is in `script` happens first, then `answer` is asked."""

    def __init__(self, answer: Behaviour | None = None) -> None:
        self.answer: Behaviour = answer or says({"word": "yes"})
        self.script: deque[Behaviour] = deque()
        self.requests: list[Body] = []
        self.keys: list[str] = []
        self.paid: Counter[str] = Counter()
        """How often each request was answered with status 200."""
        self.most_at_once = 0
        self.over = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._gate: threading.Semaphore | None = None
        self.waiting = 0
        """Requests that stand before the gate."""
        handler = type("Handler", (Handler,), {"loopback": self})
        self._server = Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def let_through(self, count: int | None) -> None:
        """Answer so many requests and let the others wait; None: answer all."""
        self._gate = None if count is None else threading.Semaphore(count)

    def handle(self, handler: Handler, body: Body) -> None:
        """Answer a request by the script."""
        with self._lock:
            self.requests.append(body)
            self.keys.append(str(handler.headers["Authorization"]))
            behaviour = self.script.popleft() if self.script else self.answer
            gate = self._gate
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if gate is not None and not gate.acquire(blocking=False):
                with self._lock:
                    self.waiting += 1
                hangs(handler, body)
            elif behaviour(handler, body):
                with self._lock:
                    self.paid[json.dumps(body, sort_keys=True)] += 1
        finally:
            with self._lock:
                self._at_once -= 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""`spellbound serve` under load: many streams at once, some slow, some broken off, some nonsense.

Starts a server on loopback and asks it as so many clients at once. Of eight, one reads slowly, one goes at a
random place, one sends what is no request. Prints a JSON line a measurement: milliseconds to the first token
and between tokens of those that read on (percentiles), tokens a second of all together, and what the server
holds before and after: memory, file handles, threads, streams. Not part of `make bench`:

    python -m benchmarks.bench_server --streams 1 16 64 256
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil

from benchmarks import machine

READS, SLOW, GOES, NONSENSE = "reads", "slow", "goes", "nonsense"
KINDS = (READS, SLOW, READS, GOES, READS, NONSENSE, READS, READS)
MIB = 2**20
_SLOWLY = 0.05  # seconds between two lines


@dataclass
class Seen:
    """What the clients of one measurement saw."""

    first: list[float] = field(default_factory=list)
    """Seconds to the first token, of those that read on."""
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    unfinished: int = 0
    """Streams that should have come to their end and did not."""


@contextmanager
def serving(model: str, most: int) -> Iterator[tuple[psutil.Process, str]]:
    """Start a server for so many at once; yield it and its address."""
    options = ["--model", model, "--port", "0", "--max-per-client", str(most + 8), "--max-waiting", str(most)]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "spellbound", "serve", *options], stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        found = re.search(r" at (http://\S+)/v1, ", process.stdout.readline() if process.stdout else "")
        if found is None:
            raise SystemExit("the server did not start; its error is above")
        yield psutil.Process(process.pid), found[1]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.communicate()


async def client(http: httpx2.AsyncClient, number: int, tokens: int, seen: Seen) -> None:
    """One client, of the kind that its number says."""
    kind, draw = KINDS[number % len(KINDS)], random.Random(number)
    if kind == NONSENSE:
        answer = await http.post("/v1/completions", content=b'{"prompt": ' * (1 + number))
        seen.statuses[answer.status_code] = seen.statuses.get(answer.status_code, 0) + 1
        return
    asked = {
        "prompt": f"Story {number}. The fog came in over the harbour, and nobody spoke a word.",
        "stream": True,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "seed": number,
    }
    begin = last = time.perf_counter()
    leaves_at = draw.randrange(1, tokens) if kind == GOES else None
    pieces, whole = 0, False
    async with http.stream("POST", "/v1/completions", json=asked) as answer:
        seen.statuses[answer.status_code] = seen.statuses.get(answer.status_code, 0) + 1
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            whole = '"finish_reason": "length"' in line
            now = time.perf_counter()
            if kind == READS:
                (seen.between if pieces else seen.first).append(now - (last if pieces else begin))
            pieces, last = pieces + 1, now
            if pieces == leaves_at:
                return
            if kind == SLOW:
                await asyncio.sleep(_SLOWLY)
    seen.tokens += tokens
    seen.unfinished += not whole


async def ask(url: str, streams: int, tokens: int) -> Seen:
    """Ask as so many at once."""
    seen = Seen()
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        await asyncio.gather(*(client(http, number, tokens, seen) for number in range(streams)))
    return seen


def holds(process: psutil.Process, url: str) -> dict[str, Any]:
    """Say what the server holds, once it has nothing to do."""
    end = time.monotonic() + 30
    busy = True
    while busy and time.monotonic() < end:
        text = httpx2.get(f"{url}/metrics").text
        busy = any(
            not line.endswith(" 0.0")
            for line in text.splitlines()
            if line.startswith(("spellbound_streams{", "spellbound_queue{"))
        )
        time.sleep(0.05)
    return {
        "rss_mib": round(process.memory_info().rss / MIB, 1),
        "handles": process.num_fds() if os.name == "posix" else process.num_handles(),
        "threads": process.num_threads(),
        "idle": not busy,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median, the 95th and the 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return {"p50": round(1000 * sum(seconds), 2)}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{place}": round(1000 * cuts[place - 1], 2) for place in (50, 95, 99)}


def main(arguments: list[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="The server under load.")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--tokens", type=int, default=64, help="of each text")
    options = parser.parse_args(arguments)
    about = machine.describe("cpu", "python -m benchmarks.bench_server")
    print(
        json.dumps({"theme": "server", "hardware": about.hardware, "processor": about.processor}), flush=True
    )
    with serving(options.model, max(options.streams)) as (process, url):
        asyncio.run(ask(url, 8, 4))  # the first requests also load what is loaded late
        for streams in options.streams:
            before, begin = holds(process, url), time.perf_counter()
            seen = asyncio.run(ask(url, streams, options.tokens))
            seconds = time.perf_counter() - begin
            line = {
                "theme": "server",
                "streams": streams,
                "tokens": options.tokens,
                "seconds": round(seconds, 2),
                "tokens_per_second": round(seen.tokens / seconds, 1),
                "first_token_ms": percentiles(seen.first),
                "between_tokens_ms": percentiles(seen.between),
                "statuses": {str(status): count for status, count in sorted(seen.statuses.items())},
                "unfinished": seen.unfinished,
                "load": os.getloadavg()[0],
                "before": before,
                "after": holds(process, url),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

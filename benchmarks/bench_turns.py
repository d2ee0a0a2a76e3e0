"""Turns of long stories on a Jamba of true size with random weights, on one GPU, through the engine.

A story of so many tokens has been read; then the time to the first token of a turn of 1,000 tokens more, of
the same prompt again, and of a turn that goes on at the story's middle; and tokens a second of several texts
written at once. Not part of `make bench`: all of Jamba Mini needs a card of 141 GB. Prints a JSON line a
measurement, at once:

    python -m benchmarks.bench_turns --lengths 2048 32768 131072 260000 --streams 1 16 64
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import JambaConfig

from spellbound.engine import Engine, Request, SamplingParams, StoryCache
from spellbound.jamba import JambaForCausalLM
from spellbound.train.start import fresh_model

CONFIG = Path("recipes/jamba-mini.config.json")
TURN, TIMES = 1000, 3
PROMPT, WRITTEN = 128, 48  # tokens of each of many
GIB = 2**30


def say(**line: Any) -> None:
    """One measurement."""
    print(json.dumps({"theme": "turns", **line}), flush=True)


class Reader:
    """An engine and how long it takes to a first token."""

    def __init__(self, model: JambaForCausalLM) -> None:
        self.model, self.engine = model, Engine(model, cache=StoryCache(max_bytes=1 << 40))
        self._draw, self._spaces = np.random.default_rng(7), count()

    def tokens(self, length: int) -> np.ndarray:
        """Random tokens, never the same."""
        return self._draw.integers(3, self.model.config.vocab_size, length).astype(np.int32)

    def seconds(self, prompt: np.ndarray, space: str = "") -> tuple[float, int]:
        """Time to the first token behind a prompt, and how much of it was known."""
        params = SamplingParams(temperature=0.0, max_tokens=1)
        generation = self.engine.generate(Request(prompt_ids=prompt, params=params, space=space))
        begin = time.perf_counter()
        list(generation)
        return time.perf_counter() - begin, generation.stats.reused_tokens

    def cold(self, prompt: np.ndarray) -> float:
        """Time without anything known."""
        return self.seconds(prompt, f"cold {next(self._spaces)}")[0]


def turns(reader: Reader, lengths: list[int], cold_below: int, begun: float, limit: float) -> None:
    """Each story is the beginning of the next, longer one, so what is read once is read."""
    story = reader.tokens(max(lengths))
    reader.cold(story[:TURN])  # kernels are made
    for length in lengths:
        if time.monotonic() - begun > limit:
            say(what="turn", tokens=length, error="no time left")
            continue
        past, half = story[:length], story[: length // 2]
        read, known = reader.seconds(past)
        next_turn = [reader.seconds(np.concatenate([past, reader.tokens(TURN)])) for _ in range(TIMES)]
        again = np.concatenate([past, reader.tokens(TURN)])
        reader.seconds(again)
        regenerate = [reader.seconds(again) for _ in range(TIMES)]
        forks = [reader.seconds(np.concatenate([half, reader.tokens(TURN)])) for _ in range(TIMES)]
        for what, found in (("next turn", next_turn), ("regenerate", regenerate), ("fork", forks)):
            seconds, reused = zip(*found, strict=True)
            say(
                what=what,
                tokens=length,
                value=1e3 * statistics.median(seconds),
                unit="ms",
                reused=min(reused),
            )
        say(what="reading on", tokens=length, value=(length - known) / read, unit="tokens/s", known=known)
        say(
            what="memory",
            tokens=length,
            value=torch.cuda.memory_allocated() / GIB if torch.cuda.is_available() else None,
            unit="GiB",
            snapshots_gib=reader.engine.cache.nbytes / GIB,
        )
        if length <= cold_below:
            whole = np.concatenate([past, reader.tokens(TURN)])
            say(what="cold", tokens=length, value=1e3 * reader.cold(whole), unit="ms")


def streams(reader: Reader, number: int) -> None:
    """So many texts written at once."""
    params = SamplingParams(temperature=0.0, max_tokens=WRITTEN)

    def write(prompt: np.ndarray) -> float:
        generation = reader.engine.generate(Request(prompt_ids=prompt, params=params))
        list(generation)
        return generation.stats.decode_seconds

    with ThreadPoolExecutor(number) as pool:
        for _ in range(2):  # the first makes kernels
            seconds = max(pool.map(write, [reader.tokens(PROMPT) for _ in range(number)]))
    say(what="writing", streams=number, value=number * WRITTEN / seconds, unit="tokens/s")


def main(arguments: argparse.Namespace) -> None:
    """Makes the model once and measures on it."""
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    config = JambaConfig.from_dict(json.loads(arguments.config.read_text()))
    model = fresh_model(config, 0, torch.bfloat16 if device.type == "cuda" else torch.float32, device).eval()
    parameters = sum(weight.numel() for weight in model.parameters())
    say(what="model made", value=time.monotonic() - begun, unit="s", parameters=parameters, device=name)
    reader = Reader(model)
    turns(reader, sorted(arguments.lengths), arguments.cold_below, begun, arguments.seconds)
    for number in arguments.streams:
        if time.monotonic() - begun > arguments.seconds:
            say(what="writing", streams=number, error="no time left")
        else:
            streams(reader, number)
    reader.engine.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--config", type=Path, default=CONFIG)
    options.add_argument("--lengths", nargs="+", type=int, default=[2048, 32768, 131072, 260000])
    options.add_argument("--cold-below", type=int, default=32768, help="longest story that is read anew, too")
    options.add_argument("--streams", nargs="*", type=int, default=[1, 16, 64])
    options.add_argument("--seconds", type=float, default=1e9, help="no measurement begins later")
    main(options.parse_args())

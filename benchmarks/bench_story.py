"""What a turn of a long story costs until its first token, and many stories at once.

A story of so many tokens has been read; then a turn of 1,000 tokens more (never the same twice), the same
prompt again, a fork at the middle, and a turn after a restart that finds the story on disk. The narrow model
does little work a token, so what grows with the story shows. Attention over what was read grows by its
nature, so it is timed apart; and the same turn is timed with attention left out, since what it reads drives
everything else out of the processor's caches. Prompts are handed over as arrays: making one of a list of
262,144 numbers takes longer than anything else that the engine does to them.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Self
from unittest.mock import patch

import numpy as np

from benchmarks import command
from benchmarks.configs import config_of, our_model, token_ids
from benchmarks.jobs import Job
from benchmarks.lines import Line, Who
from benchmarks.machine import named
from benchmarks.measure import Settings, timed
from benchmarks.readers import open_reader
from spellbound.engine import Disk, Engine, Request, SamplingParams, StoryCache
from spellbound.engine.cache import Ids
from spellbound.jamba import together

THEME, MILLISECONDS, SPEED, MIB = "story", "ms", "tokens/s", "MiB a stream"
NEXT, AGAIN, FORK, RESTART = "next turn", "regenerate", "fork at the middle", "next turn after a restart"
OUTSIDE, ATTENTION = "next turn outside attention", "next turn, attention alone"
LEFT_OUT = "next turn, attention left out"
STREAMS, MEMORY = "many at once", "memory of many at once"
TURN = 1000
PROMPT, WRITTEN = 128, 64  # tokens of each of many
_ROOM = 1 << 36  # of the cache: whatever there is


class Told:
    """A model and a story that its engine has read; turns are never the same."""

    def __init__(self, job: Job, folder: Path | None = None) -> None:
        self.model = our_model(job.config)
        self.past = token_ids(self.model.config, job.tokens or 1).numpy().astype(np.int32)
        self.engine = self.new_engine(folder)
        self.first_token(self.past)
        self._numbers = count()

    def new_engine(self, folder: Path | None = None) -> Engine:
        """Return one that remembers nothing but what is on disk."""
        disk = None if folder is None else Disk(folder, self.model, max_bytes=_ROOM)
        return Engine(self.model, cache=StoryCache(max_bytes=_ROOM, disk=disk))

    def first_token(self, prompt: Ids, engine: Engine | None = None) -> int:
        """Have one token written; return how much of the prompt was known."""
        request = Request(prompt_ids=prompt, params=SamplingParams(temperature=0.0, max_tokens=1))
        generation = (engine or self.engine).generate(request)
        list(generation)
        return generation.stats.reused_tokens

    def turn(self, past: int) -> Ids:
        """Return a prompt that begins with so much of the story and has a new turn behind it."""
        number, size = next(self._numbers), self.model.config.vocab_size - 3
        place = past if past < len(self.past) else 0
        first = (self.past[place] - 3 + 1 + number % (size - 1)) % size + 3  # not as the story goes on
        begin = np.array([first, 3 + number // size % size], np.int32)
        return np.concatenate([self.past[:past], begin, self.past[2:TURN]])


def cold(job: Job, settings: Settings) -> Iterator[Line]:
    """Read story and turn from nothing, as if nothing had been kept."""
    told = Told(job)

    def work() -> None:
        told.first_token(told.turn(len(told.past)), told.new_engine())

    yield _line(job, settings, timed(settings, work))


def next_turn(job: Job, settings: Settings) -> Iterator[Line]:
    """A turn behind the story: whole, the attention in it, and the rest, each turn timed in these parts."""
    told, prompts, attention, outside = Told(job), list[Ids](), list[float](), list[float]()

    def prepare() -> None:
        prompts.append(told.turn(len(told.past)))

    def work() -> None:
        prompt, begin = prompts.pop(), perf_counter()
        with _Spent() as spent:
            told.first_token(prompt)
        attention.append(spent.seconds)
        outside.append(perf_counter() - begin - spent.seconds)

    timing = timed(settings, work, prepare=prepare)
    yield _line(job, settings, timing)
    for what, seconds in ((ATTENTION, attention), (OUTSIDE, outside)):
        counted = seconds[-timing.reps :]  # the first run is to warm up
        yield _line(job, settings, timing, what=what, value=1e3 * median(counted), memory_mb=None)


def left_out(job: Job, settings: Settings) -> Iterator[Line]:
    """A turn behind the story, of which attention reads nothing: everything else that a turn costs."""
    with patch.object(together, "_attend", lambda queries, *_: queries):
        told, prompts = Told(job), list[Ids]()

        def prepare() -> None:
            prompts.append(told.turn(len(told.past)))

        yield _line(job, settings, timed(settings, lambda: told.first_token(prompts.pop()), prepare=prepare))


def regenerate(job: Job, settings: Settings) -> Iterator[Line]:
    """The same prompt again."""
    told = Told(job)
    prompt = told.turn(len(told.past))
    told.first_token(prompt)
    yield _line(job, settings, timed(settings, lambda: told.first_token(prompt)))


def fork(job: Job, settings: Settings) -> Iterator[Line]:
    """Another turn in the midst of the story, where nobody had stopped before."""
    told = Told(job)
    middle = len(told.past) // 2
    yield _line(job, settings, timed(settings, lambda: told.first_token(told.turn(middle))))


def restart(job: Job, settings: Settings) -> Iterator[Line]:
    """A new engine that finds the story on disk: looking through the folder, then a turn."""
    with tempfile.TemporaryDirectory() as folder:
        told = Told(job, Path(folder))
        told.engine.close()
        known = []

        def work() -> None:
            engine = told.new_engine(Path(folder))
            known.append(told.first_token(told.turn(len(told.past)), engine))
            engine.close()

        timing = timed(settings, work)
        missing = "" if min(known) >= len(told.past) - 1 else f"only {min(known)} tokens were found on disk"
        yield _line(job, settings, timing, error=missing)


def peer_turn(job: Job, settings: Settings) -> Iterator[Line]:
    """A peer's first token of the same turn, by the best way it has."""
    room = replace(settings, context=(job.tokens or 1) + 2 * TURN)
    reader = open_reader(job.name, job.config, room)
    past: list[int] = token_ids(config_of(job.config), job.tokens or 1).tolist()
    turn = past[:TURN]
    goes_on = job.options["goes_on"]

    def prepare() -> None:
        reader.restart()
        if goes_on:
            reader.read(past)

    def work() -> None:
        whole = [*past[: len(past) // 2], *turn] if job.what == FORK else [*past, *turn]
        reader.read(turn if goes_on else whole)

    timing = timed(settings, work, prepare=prepare)
    yield _line(job, settings, timing, version=reader.version, note=job.options["note"])


def streams(job: Job, settings: Settings) -> Iterator[Line]:
    """So many texts written at once: tokens a second of all together, and memory of each."""
    model = our_model(job.config)
    engine = Engine(model, cache=StoryCache(max_bytes=0), max_streams=job.batch)
    prompts = token_ids(model.config, job.batch, PROMPT).tolist()

    def write(prompt: list[int]) -> float:
        request = Request(prompt_ids=prompt, params=SamplingParams(temperature=0.0, max_tokens=WRITTEN))
        generation = engine.generate(request)
        list(generation)
        return generation.stats.decode_seconds

    spent: list[float] = []
    with ThreadPoolExecutor(job.batch) as pool:

        def work() -> None:
            spent.append(max(pool.map(write, prompts)))

        timing = timed(settings, work)
    # Of the writing alone: reading the prompts is another measurement.
    seconds = sorted(spent)[len(spent) // 2]
    version = named("spellbound")
    yield job.line(timing, settings, value=job.batch * WRITTEN / seconds, unit=SPEED, version=version)
    used = None if timing.memory_mb is None else timing.memory_mb / job.batch
    yield job.line(timing, settings, what=MEMORY, value=used, unit=MIB, version=version)


class _Spent:
    """Seconds spent in attention while this is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before = {name: getattr(together, name) for name in ("_attend", "_attend_one_each")}
        for name, function in self._before.items():
            setattr(together, name, partial(self._timed, function))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._before.items():
            setattr(together, name, function)

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds += perf_counter() - begin


def plan(options: command.Options) -> list[Job]:
    """Return the measurements in order."""
    lengths = [2048, 4096] if options.quick else [2048, 8192, 32768, 131072, 262144 - 2 * TURN]
    jobs = []
    for tokens in lengths:
        ours = partial(_job, config="narrow", name="ours fp32", tokens=tokens)
        jobs.append(ours(NEXT, measure=next_turn))
        jobs.append(ours(LEFT_OUT, measure=left_out))
        jobs.append(ours(AGAIN, measure=regenerate))
        jobs.append(ours(FORK, measure=fork))
        jobs.append(ours(RESTART, measure=restart))
        if tokens <= 32768:
            jobs.append(_job(NEXT, "narrow", "ours fp32, cold", cold, tokens=tokens))
            jobs += _peers(tokens)
    for batch in (1, 4) if options.quick else (1, 4, 16, 64):
        jobs.append(_job(STREAMS, "bench", "ours fp32", streams, tokens=WRITTEN, batch=batch))
    return jobs


def _peers(tokens: int) -> list[Job]:
    peer = partial(_job, config="narrow", measure=peer_turn, tokens=tokens)
    anew = {"goes_on": False, "note": "reads everything again"}
    jobs = [peer(NEXT, name="transformers", options=anew)] if tokens <= 8192 else []
    for what in (NEXT, AGAIN, FORK):
        goes_on = {"goes_on": True, "note": "its context goes on"} if what == NEXT else anew
        jobs.append(peer(what, name="llama.cpp F32", options=goes_on))
    return jobs


def _job(what: str, config: str, name: str, measure: Any, **changes: Any) -> Job:
    who: Who = "ours" if name.startswith("ours") else "peer"
    settings = {"theme": THEME, "who": who, "timeout": 400.0, **changes}
    return Job(what=what, config=config, name=name, measure=measure, **settings)


def _line(job: Job, settings: Settings, timing: Any, **changes: Any) -> Line:
    figures = {"value": 1e3 * timing.median_s, "unit": MILLISECONDS, "version": named("spellbound")}
    return job.line(timing, settings, **{**figures, **changes})


def main() -> None:
    """Run this benchmark alone."""
    command.main([THEME, *sys.argv[1:]])


if __name__ == "__main__":
    main()

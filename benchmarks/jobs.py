"""A measurement to make, and its making: each in a child process of its own.

So a peak of memory is its own, and a crash or a peer without end costs one line. The children are forked from
a server that has imported torch once; nothing has been computed in it.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from benchmarks.lines import Line, Who
from benchmarks.measure import Settings, Timing

_PRELOAD = ["torch", "transformers.models.jamba.modeling_jamba", "spellbound.jamba", "benchmarks.readers"]
_LAST_WORDS = 10.0  # seconds for a child to end by itself after its last line


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure; ``measure(job, settings)`` yields its lines."""

    theme: str
    what: str
    config: str
    who: Who
    name: str
    measure: Callable[["Job", Settings], Iterator[Line]]
    tokens: int | None = None
    batch: int = 1
    timeout: float = 240.0  # seconds
    kernels: str = ""  # SPELLBOUND_KERNELS for the child
    options: dict[str, Any] = field(default_factory=dict)  # for measure alone

    @property
    def group(self) -> tuple[object, ...]:
        """What is compared with one another, and so has to run on as many threads."""
        return (self.theme, self.what, self.config)

    def line(self, timing: Timing | None, settings: Settings, **changes: Any) -> Line:
        """Return a line of this job with the figures of ``timing``."""
        figures = {} if timing is None else vars(timing)
        said = {
            "theme": self.theme,
            "what": self.what,
            "config": self.config,
            "who": self.who,
            "name": self.name,
            "tokens": self.tokens,
            "batch": self.batch,
            "threads": settings.threads,
        }
        return Line(**{**said, **figures, **changes})


def run_all(
    jobs: Iterable[Job], settings: Settings, deadline: float, *, repeat: bool = True
) -> Iterator[Line]:
    """Run jobs one after another; to ``repeat`` is to run disturbed groups on one thread afterwards.

    ``deadline`` is a time of :func:`time.perf_counter`: what has not begun by then is left out, and said so.
    """
    jobs = list(jobs)
    disturbed = set()
    for job in jobs:
        for line in _run_before(deadline, job, settings):
            if line.median_s is not None and not line.quiet:
                disturbed.add(job.group)
            yield line
    if settings.threads == 1 or not repeat:
        return
    single = replace(settings, threads=1)
    for job in jobs:
        if job.group in disturbed and perf_counter() < deadline:
            yield from run(job, single)


def _run_before(deadline: float, job: Job, settings: Settings) -> list[Line]:
    if perf_counter() < deadline:
        return run(job, settings)
    return [job.line(None, settings, error="left out: the time for the whole run was used up (--minutes)")]


def run(job: Job, settings: Settings) -> list[Line]:
    """Measure one job in a child process; what goes wrong there becomes a line with an error."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    context = _context()
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sending, job, settings))
    process.start()
    sending.close()
    try:
        found = receiving.recv() if receiving.poll(job.timeout) else f"no end after {job.timeout:g} s"
    except EOFError:
        found = ""
    process.join(_LAST_WORDS if isinstance(found, list) else 1)
    if process.is_alive():
        process.kill()
        process.join()
    receiving.close()
    if isinstance(found, list):
        return [replace(line, load=load) for line in found]
    return [job.line(None, settings, load=load, error=found or f"died with exit code {process.exitcode}")]


def _context() -> "multiprocessing.context.ForkServerContext | multiprocessing.context.SpawnContext":
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _child(sending: Connection, job: Job, settings: Settings) -> None:
    os.dup2(sys.stderr.fileno(), 1)  # the standard output is for lines of JSON, and peers like to talk
    os.environ["HF_HUB_OFFLINE"] = "1"
    if job.kernels:
        os.environ["SPELLBOUND_KERNELS"] = job.kernels
    try:
        import torch

        torch.set_num_threads(settings.threads)
        sending.send(list(job.measure(job, settings)))
    except BaseException as error:
        sending.send("".join(traceback.format_exception_only(error)).strip()[:600])
        raise

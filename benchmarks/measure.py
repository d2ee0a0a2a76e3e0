"""Time and memory of one piece of work, and how much of the machine somebody else was using meanwhile.

A busy neighbour on one of two cores cuts a two-thread product five-fold, so a run counts only if the others
left us our cores; where none did, the line says so (``quiet_reps`` 0).
"""

import ctypes
import ctypes.util
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import psutil
import torch

_OTHERS = (
    0.15  # processors that others may use, beyond the cores we leave free, in a run that counts as quiet
)
_TICK = 0.02  # seconds of processor time by which the system's own counters may be wrong
_SHORTEST = 0.25  # seconds a run lasts at least, by repeating: the system counts processor time in 10 ms
_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure. Seconds are those of one measurement, not of one run."""

    threads: int = 1
    reps: int = 5
    seconds: float = 20.0
    quiet_wait: float = 15.0
    device: str = "cpu"
    work: Path = Path()  # folder for files that the peers read
    context: int = 16384  # tokens for which peers make room

    @property
    def others_allowed(self) -> float:
        """Processors that others may use in a quiet run."""
        return _OTHERS + max(0, (os.cpu_count() or 1) - self.threads)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What :func:`timed` found; seconds of one call of the work."""

    median_s: float
    min_s: float
    max_s: float
    reps: int
    quiet_reps: int
    other_cpu: float
    memory_mb: float | None


def timed(
    settings: Settings,
    work: Callable[[], object],
    *,
    prepare: Callable[[], object] | None = None,
    warm: bool = True,
) -> Timing:
    """Repeat ``work`` until ``settings.reps`` quiet runs are there or ``settings.seconds`` are used up.

    Args:
        settings: how often and how long.
        work: what is timed. Without ``prepare`` it is repeated inside a run until the run is long enough.
        prepare: called before each run, not timed.
        warm: call the work once before, uncounted; left out by itself where that call would use up the time.
    """
    wait_quiet(settings)
    memory = PeakMemory(settings.device)
    begin = perf_counter()
    runs: list[tuple[float, float]] = []
    inner = 1
    if warm:
        first = _run(settings, work, prepare, 1)
        if first[0] > settings.seconds / 2:
            runs.append(first)
        elif prepare is None:
            inner = max(1, round(_SHORTEST / first[0]))
    while not runs or (_quiet(runs, settings) < settings.reps and perf_counter() - begin < settings.seconds):
        runs.append(_run(settings, work, prepare, inner))
    return summary(runs, settings.others_allowed, memory.growth_mb())


def summary(runs: list[tuple[float, float]], others_allowed: float, memory_mb: float | None) -> Timing:
    """Sum up runs of (seconds, processors others used): the quiet ones, or all where none was quiet."""
    quiet = [seconds for seconds, others in runs if others < others_allowed]
    counted = quiet or [seconds for seconds, _ in runs]
    return Timing(
        median_s=median(counted),
        min_s=min(counted),
        max_s=max(counted),
        reps=len(runs),
        quiet_reps=len(quiet),
        other_cpu=round(median(others for _, others in runs), 2),
        memory_mb=memory_mb,
    )


def wait_quiet(settings: Settings) -> None:
    """Wait until nobody else has needed our processors for half a second, or ``quiet_wait`` is over."""
    begin, good = perf_counter(), 0
    while good < 2 and perf_counter() - begin < settings.quiet_wait:
        busy, own, start = _busy(), _own(), perf_counter()
        sleep(0.25)
        others = (_busy() - busy - _own() + own) / (perf_counter() - start)
        good = good + 1 if others < settings.others_allowed else 0


class PeakMemory:
    """Growth of the peak resident memory from here on; on a card, of what torch has allocated there."""

    def __init__(self, device: str) -> None:
        gc.collect()
        self.device = device
        self.before: float | None
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
        else:
            _give_back()
            self.before = _status_mb("VmRSS") if _forget_peak() else None

    def growth_mb(self) -> float | None:
        """MiB, or None where the system does not let a process reset its peak (anything but Linux)."""
        if self.before is None:
            return None
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.device == "cuda" else _status_mb("VmHWM")
        return round(max(0.0, peak - self.before), 1)


def _quiet(runs: list[tuple[float, float]], settings: Settings) -> int:
    return sum(others < settings.others_allowed for _, others in runs)


def _run(
    settings: Settings, work: Callable[[], object], prepare: Callable[[], object] | None, inner: int
) -> tuple[float, float]:
    """Seconds of one call, and the processors others used during the run."""
    if prepare is not None:
        prepare()
    _synchronize(settings.device)
    busy, own, start = _busy(), _own(), perf_counter()
    for _ in range(inner):
        work()
    _synchronize(settings.device)
    seconds = perf_counter() - start
    others = (_busy() - busy - _own() + own - _TICK) / seconds
    return seconds / inner, max(0.0, others)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _busy() -> float:
    """Processor seconds everybody has used since the machine started."""
    times = psutil.cpu_times()
    waiting = ("idle", "iowait", "guest", "guest_nice")  # guests are counted in user and nice already
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in waiting))


def _own() -> float:
    times = os.times()
    return times.user + times.system


def _give_back() -> None:
    """Return freed memory to the system, so that the work has to ask for what it needs."""
    name = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if trim is not None:
        trim(0)


def _forget_peak() -> bool:
    try:
        _FORGET_PEAK.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status_mb(key: str) -> float:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)

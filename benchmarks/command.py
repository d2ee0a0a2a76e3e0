"""The command line: which benchmarks, how long, where results go. ``python -m benchmarks --help``."""

import argparse
import importlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from benchmarks import machine, page, report
from benchmarks.jobs import Job, run_all
from benchmarks.lines import Line, Machine
from benchmarks.measure import Settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
THEMES = ("story", "train", "scan", "model")  # the longest last, so that the time runs out there if anywhere


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    themes: Sequence[str] = field(default=THEMES)
    quick: bool = False
    slow: bool = False
    device: str = "cpu"
    threads: int = 1
    reps: int = 5
    minutes: float = 20.0
    out: Path = RESULTS
    only: str = ""  # run the jobs alone whose name or subject contains this

    def settings(self, work: Path) -> Settings:
        """Return how to measure; ``work`` is a folder for what the peers read."""
        return Settings(
            threads=self.threads,
            reps=1 if self.quick else self.reps,
            seconds=1.0 if self.quick else 20.0,
            quiet_wait=1.0 if self.quick else 15.0,
            device=self.device,
            work=work,
        )


def parse(arguments: Sequence[str]) -> tuple[Options, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ours, the peers and the floors: JSON lines, then a report and a plot.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(THEMES)}; all by default")
    add("--quick", action="store_true", help="short lengths, one run each: does it all work?")
    add("--slow", action="store_true", help="also what takes minutes for one run")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the scan alone")
    add("--threads", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
    add("--reps", type=int, default=5, help="undisturbed runs of each, at most; default: %(default)s")
    add("--minutes", type=float, default=20.0, help="begin nothing after so long; default: %(default)s")
    add("--out", type=Path, help="folder for results; default: benchmarks/results, with --quick runs/")
    add("--only", default="", metavar="TEXT", help="only measurements with TEXT in their names")
    add("--report", nargs="+", type=Path, metavar="JSONL", help="write the reports of these anew, and end")
    add("--page", action="store_true", help="write docs/performance.md from the newest results, and end")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in THEMES:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(THEMES)}")
    if given.threads < 1 or given.reps < 1:
        parser.error(f"--threads is {given.threads} and --reps {given.reps}; give at least 1 of each")
    themes = [theme for theme in THEMES if theme in given.names] or list(THEMES)
    if given.device == "cuda":
        others = [name for name in given.names if name != "scan"]
        if others:
            parser.error(f"--device cuda measures the scan alone; leave out {', '.join(others)}")
        themes = ["scan"]
    default = ROOT / "runs" / "benchmarks" if given.quick or given.only else RESULTS
    options = Options(
        themes=themes,
        quick=given.quick,
        slow=given.slow,
        device=given.device,
        threads=given.threads,
        reps=given.reps,
        minutes=given.minutes,
        out=given.out or default,
        only=given.only,
    )
    return options, given


def main(arguments: Sequence[str]) -> None:
    """Run the benchmarks, or only write from their results."""
    options, given = parse(arguments)
    if given.report:
        for path in given.report:
            report.write(path)
    elif given.page:
        page.write()
    else:
        measure(options, command_line(arguments))


def command_line(arguments: Sequence[str]) -> str:
    """Return the command that repeats a run, without the folder of results: that is a path of one machine."""
    kept, words = [], iter(arguments)
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return f"make bench ARGS={shlex.quote(shlex.join(kept))}" if kept else "make bench"


def measure(options: Options, command: str) -> None:
    """Run every theme: lines to the standard output and to a file; the report beside the file."""
    plans = {theme: jobs for theme in options.themes if (jobs := jobs_of(theme, options))}
    if not plans:
        sys.exit(
            f"no measurement has {options.only!r} in its name; a name is like 'prefill, bench, ours fp32'"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    here = machine.describe(options.device, command)
    deadline = perf_counter() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as work:
        for theme, jobs in plans.items():
            path = new_file(options.out, theme, here)
            settings = options.settings(Path(work))
            _keep(path, here, run_all(jobs, settings, deadline, repeat=not options.quick))
            report.write(path)
            print(f"{path.stem}: report and plot written", file=sys.stderr)


def jobs_of(theme: str, options: Options) -> list[Job]:
    """Return the plan of a theme; its module is imported only here, for it imports torch and more."""
    plan: list[Job] = importlib.import_module(f"benchmarks.bench_{theme}").plan(options)
    return [job for job in plan if options.only in f"{job.what}, {job.config}, {job.name}"]


def new_file(folder: Path, theme: str, here: Machine) -> Path:
    """Return ``theme_hardware_date.jsonl``, numbered where the day has one: no result is overwritten."""
    stem = f"{theme}_{here.hardware}_{here.date}"
    path = folder / f"{stem}.jsonl"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.jsonl"
    return path


def _keep(path: Path, here: Machine, lines: Iterator[Line]) -> None:
    print(here.to_json(), flush=True)
    with path.open("w", encoding="utf-8") as kept:
        kept.write(here.to_json() + "\n")
        for line in lines:
            print(line.to_json(), flush=True)
            kept.write(line.to_json() + "\n")
            kept.flush()

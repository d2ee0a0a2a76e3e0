"""Lines as a run would print them."""

from typing import Any

from benchmarks.lines import Line, Machine

MACHINE = Machine(
    hardware="cpu-2core-avx512",
    processor="A processor",
    instructions="avx512",
    cores=2,
    memory_gib=23.5,
    system="Linux x86_64, Python 3.11.7",
    versions={"torch": "2.13.0"},
    date="2026-01-02",
    command="make bench",
)


def line(name: str, value: float | None = None, **changes: Any) -> Line:
    """A quiet prefill of the config bench unless said otherwise."""
    who = "ours" if name.startswith("ours") else "floor" if "alone" in name else "peer"
    usual: dict[str, Any] = {
        "theme": "model",
        "what": "prefill",
        "config": "bench",
        "who": who,
        "tokens": 2048,
        "threads": 2,
        "unit": "tokens/s",
        "median_s": 1.0,
        "min_s": 0.9,
        "max_s": 1.25,
        "reps": 5,
        "quiet_reps": 4,
        "other_cpu": 0.03,
    }
    return Line(name=name, value=value, **{**usual, **changes})

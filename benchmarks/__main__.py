"""Run every benchmark in this folder, or those named: `make bench`, `make bench ARGS=scan`."""

import importlib
import sys
from pathlib import Path

FOUND = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))


def main(names: list[str]) -> None:
    """Import each benchmark and run it; its JSON goes to the standard output."""
    for unknown in set(names) - set(FOUND):
        sys.exit(f"no benchmark {unknown!r}; there are: {', '.join(FOUND)}")
    for name in names or FOUND:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])

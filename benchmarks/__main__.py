"""Run benchmarks: `make bench`, `make bench ARGS='scan --quick'`, or `python -m benchmarks --help`."""

import sys

from benchmarks.command import main

if __name__ == "__main__":
    main(sys.argv[1:])

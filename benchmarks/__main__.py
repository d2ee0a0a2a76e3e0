"""Run benchmarks: `make bench`, `make bench ARGS='scan --quick'`, or `python -m benchmarks --help`.

`python -m benchmarks quotes --corpora FOLDER` measures the annotator `rules`; it is no clock.
"""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["quotes"]:
        from benchmarks import quotes

        quotes.main(sys.argv[2:])
    else:
        from benchmarks.command import main

        main(sys.argv[1:])

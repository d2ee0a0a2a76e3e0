"""What the commands of this recipe share: their common options, and one line instead of a traceback."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from spellbound.errors import EnvironmentFault, SpellboundError


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m recipes.nano.NAME` with the options that every command has."""
    made = argparse.ArgumentParser(
        prog=f"python -m recipes.nano.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder that all commands share")
    made.add_argument("--seed", type=int, default=20, help="same seed, same result")
    return made


def add_corpora(made: argparse.ArgumentParser) -> None:
    """Adds the option that names the folder of Parquet files."""
    made.add_argument(
        "--corpora",
        type=Path,
        default=Path("../shared/corpora"),
        help="folder of Parquet files",
    )


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Runs a command; an error of ours becomes one line and exit status 2 (1 for a lacking machine)."""
    try:
        main(arguments)
    except SpellboundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, EnvironmentFault) else 2
    except OSError as error:
        print(f"error: {error}; mend that, then give the same command again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the last checkpoint is kept; the same command goes on from it", file=sys.stderr)
        return 130
    return 0

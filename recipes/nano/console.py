"""What the commands of this recipe share: their common options, and one line instead of a traceback."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from spellbound.errors import EnvironmentFault, SpellboundError

T = TypeVar("T")


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
        default=Path("corpora"),
        help="folder, or link to one, of Parquet files",
    )


def add_writing(made: argparse.ArgumentParser, *, temperature: float) -> None:
    """Adds what the commands that let a model write have in common."""
    made.add_argument("--temperature", type=float, default=temperature)
    made.add_argument("--max-tokens", type=int, default=512, help="longest passage")
    made.add_argument("--processes", type=int, default=2, help="processes of one thread each")


def watched(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """The items, counted in a line on a terminal's error stream; quiet where there is no terminal."""
    terminal = Console(stderr=True)
    return track(items, title, total, console=terminal, disable=not terminal.is_terminal)


def run_name(folder: Path) -> str:
    """What a model or adapter of a run is called wherever the run lies: `sft/model`."""
    return "/".join(folder.resolve().parts[-2:])


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
        print("stopped: nothing was left half written; the same command begins again", file=sys.stderr)
        return 130
    return 0

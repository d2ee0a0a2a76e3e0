"""The commands together, and the one place where errors become exit statuses."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from spellbound.cli import files
from spellbound.cli.adapter import app as adapter
from spellbound.cli.capacity import capacity
from spellbound.cli.check import check
from spellbound.cli.controls import one_line
from spellbound.cli.data import app as data
from spellbound.cli.parse import parse
from spellbound.cli.plan import plan
from spellbound.cli.prefer import prefer
from spellbound.cli.serve import serve
from spellbound.cli.train import train
from spellbound.cli.write import write
from spellbound.errors import EnvironmentFault, InputError
from spellbound.files import words_of

FAULT, WRONG_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 128 + 2, 128 + 13


class Commands(TyperGroup):
    """Says every expected error in one line, without a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; end the process with its status."""
        _prepare_streams()
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except InputError as error:
            status = _say(error, WRONG_INPUT)
        except EnvironmentFault as error:
            status = _say(error, FAULT)
        except typer.TyperException as error:  # an unknown command or option
            status = _say(
                f"{error.format_message()} (spellbound --help shows what there is)", error.exit_code
            )
        except typer.Abort:  # Ctrl-C
            status = INTERRUPTED
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; end quietly when whoever reads our output has gone, with a word when it is full."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in files.LOST_OUTPUT:
                raise
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:
                raise typer.Exit(BROKEN_PIPE) from None
            raise EnvironmentFault(
                f"the output cannot be written: {words_of(error)}; send it to another place"
            ) from None
        return result


def _prepare_streams() -> None:
    """Make sure that there are an output and an error stream, and that they take every character."""
    # Both may be None, closed by whoever started us.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _say(error: object, status: int) -> int:
    """Print the one line; return the status."""
    print(f"spellbound: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
    return status


app = typer.Typer(
    name="spellbound",
    cls=Commands,
    help="Write long, steerable stories with a language model that says who is speaking.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"spellbound {version('spellbound')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


app.command()(write)
app.command()(parse)
app.command()(check)
app.command()(train)
app.command()(plan)
app.command()(prefer)
app.command()(serve)
app.command()(capacity)
app.add_typer(data, name="data")
app.add_typer(adapter, name="adapter")


@app.command()
def doctor() -> None:
    """Say what this machine has, what it lacks, and the command that mends it."""
    from spellbound.cli.doctor import doctor as examine

    examine()


def main() -> None:
    """Run the command line."""
    app()

"""The commands together, and the one place where errors become exit statuses."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spellbound.cli.check import check
from spellbound.cli.parse import parse
from spellbound.cli.write import write
from spellbound.errors import EnvironmentFault, InputError

FAULT, WRONG_INPUT, BROKEN_PIPE = 1, 2, 128 + 13


class Commands(TyperGroup):
    """Says every expected error in one line, without a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; end the process with its status."""
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
        except typer.Abort:
            status = FAULT
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; end quietly when whoever reads our output has gone."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        return result


def _say(error: object, status: int) -> int:
    """Print the one line; return the status."""
    print(f"spellbound: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
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


@app.command()
def doctor() -> None:
    """Say what this machine has, what it lacks, and the command that mends it."""
    from spellbound.cli.doctor import doctor as examine

    examine()


def main() -> None:
    """Run the command line."""
    app()

"""`spellbound check`: everything that is wrong with a story file, and where."""

from typing import Annotated

import typer


def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Story files (.story.md), or - for the input.")
    ],
) -> None:
    """Report every problem of story files as FILE:LINE:COLUMN: message."""
    from spellbound.cli.app import WRONG_INPUT
    from spellbound.cli.controls import one_line
    from spellbound.cli.files import read_bytes
    from spellbound.directives import check_story
    from spellbound.errors import InputError

    total = 0
    for file in files:
        try:
            content = read_bytes(file)
        except InputError as error:  # the other files still have their turn
            total += 1
            typer.echo(f"spellbound: {one_line(str(error))}", err=True)
            continue
        # Bytes that are not UTF-8 become lone surrogates, which the check finds and names.
        problems = check_story(content.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
        total += len(problems)
        for problem in problems:
            typer.echo(one_line(f"{file}:{problem}"))
    if total:
        raise typer.Exit(WRONG_INPUT)
    typer.echo(f"{len(files)} story {'file' if len(files) == 1 else 'files'} checked, no problems")

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
    from spellbound.cli.files import read_bytes
    from spellbound.directives import check_story

    total = 0
    for file in files:
        # Bytes that are not UTF-8 become lone surrogates, which the check finds and names.
        text = read_bytes(file).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        problems = check_story(text)
        total += len(problems)
        for problem in problems:
            typer.echo(f"{file}:{problem}".encode("utf-8", "backslashreplace"))
    if total:
        raise typer.Exit(WRONG_INPUT)
    typer.echo(f"{len(files)} story {'file' if len(files) == 1 else 'files'} checked, no problems")

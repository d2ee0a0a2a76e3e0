"""`spellbound data read`: books, plays, chats and cards to one documents file."""

from pathlib import Path
from typing import Annotated

import typer

_NAMED = 3
"""Files named in the report, of those that no reader knows."""


def read(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Files and folders: .txt .md .epub .jsonl .parquet .xml (TEI) .png .json .charx",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Documents: .parquet, .jsonl or .jsonl.gz.")
    ],
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Where a file does not say (else guessed): en, de, he ...")
    ] = "",
    licence: Annotated[str, typer.Option(metavar="NAME", help="Where a file does not say.")] = "",
    source: Annotated[str, typer.Option(metavar="NAME", help="Where the files are from.")] = "",
    title: Annotated[str, typer.Option(metavar="TITLE", help="Where a file does not say.")] = "",
    author: Annotated[str, typer.Option(metavar="NAME", help="Where a file does not say.")] = "",
    attribution: Annotated[
        str, typer.Option(metavar="TEXT", help="What has to stay with the text wherever it goes.")
    ] = "",
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Of text files that are not UTF-8, as cp1252.")
    ] = "",
    text_field: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of .jsonl and .parquet that holds the text.")
    ] = "",
    user: Annotated[
        str, typer.Option(metavar="NAME", help="Name put for {{user}} in chats and cards.")
    ] = "User",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out files that cannot be read, and say which.")
    ] = False,
) -> None:
    """Read stories, plays, chats and character cards into one documents file."""
    from spellbound.cli.app import WRONG_INPUT
    from spellbound.cli.controls import one_line
    from spellbound.cli.data.progress import counted
    from spellbound.cli.data.required import required
    from spellbound.cli.data.tally import Tally
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.readers import ReaderDefaults, write_documents
    from spellbound.data.readers import read as read_all
    from spellbound.data.readers import sources as found_in
    from spellbound.errors import InputError

    defaults = ReaderDefaults(
        language=language,
        licence=licence,
        source=source,
        title=title,
        author=author,
        attribution=attribution,
        encoding=encoding,
        text_field=text_field,
        user=user,
    )
    require_writable(output)
    unread: list[Path] = []
    for file in found_in(sources, unread.append):
        require_other_file(output, str(file.path))
    refused: list[InputError] = []
    tally = Tally()
    found = read_all(sources, defaults=defaults, refused=refused.append if keep_going else None)
    documents = counted(tally.watched(found), "reading", "documents")
    try:
        written = write_documents(output, required(documents, lambda: _nothing(sources, unread)))
    finally:
        for error in refused:
            typer.echo(f"spellbound: {one_line(str(error))}", err=True)
    if unread:
        typer.echo(f"spellbound: {one_line(_unknown(unread))}", err=True)
    typer.echo(f"{output}: {written} documents, {tally.said(len(refused))}")
    if refused:
        raise typer.Exit(WRONG_INPUT)


def _nothing(sources: list[Path], unread: list[Path]) -> str:
    """Why there is no document."""
    left_out = f" ({_unknown(unread)})" if unread else ""
    return (
        f"{', '.join(map(str, sources))}: has no document that can be read{left_out};"
        " give text, Markdown, EPUB, TEI, chats or cards"
    )


def _unknown(files: list[Path]) -> str:
    """How many files of folders no reader knows, and which come first."""
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    named = ", ".join(map(str, files[:_NAMED]))
    return (
        f"{len(files)} {'file' if len(files) == 1 else 'files'} that no reader knows left out: {named}{more}"
    )

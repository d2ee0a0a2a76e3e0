"""`spellbound data build`: from books to checked training examples, on one machine or many."""

from pathlib import Path
from typing import Annotated, Any

import typer


def build(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Files and folders, as for data read.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the result.")],
    annotators: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME", help="rules (default), drama or teacher; several: the first that can."
        ),
    ] = None,
    instruct: Annotated[str, typer.Option(metavar="NAME", help="derive or teacher.")] = "derive",
    settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML: a table of settings for each annotator and instructor."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.KEY=VALUE", help="One setting, as derive.seed=7; repeatable."),
    ] = None,
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Where a file does not say (else guessed).")
    ] = "",
    licence: Annotated[str, typer.Option(metavar="NAME", help="Where a file does not say.")] = "",
    similarity: Annotated[
        float, typer.Option(help="From which share of common runs on an example repeats another; 0: never.")
    ] = 0.8,
    max_words: Annotated[int, typer.Option(help="Longest completion; 0: any.")] = 20_000,
    tasks: Annotated[int, typer.Option(help="Parts of the work; a part is done whole or again.")] = 8,
    workers: Annotated[int, typer.Option(help="Tasks at a time.")] = 1,
    executor: Annotated[str, typer.Option(metavar="NAME", help="local, ray or slurm.")] = "local",
    ray_address: Annotated[str, typer.Option(metavar="ADDRESS", help="Of a running Ray cluster.")] = "",
    partition: Annotated[str, typer.Option(metavar="NAME", help="Slurm's, for --executor slurm.")] = "",
    time: Annotated[str, typer.Option(metavar="TIME", help="Most that a Slurm job may take.")] = "24:00:00",
    memory: Annotated[int, typer.Option(metavar="GB", help="Of a Slurm task.")] = 4,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what the folder has of a build.")
    ] = False,
) -> None:
    """Build training examples; the same command goes on with a build that was stopped."""
    from spellbound.cli.app import WRONG_INPUT
    from spellbound.cli.data.progress import bars
    from spellbound.cli.data.reports import build_table, settings_of
    from spellbound.cli.data.settings import placed
    from spellbound.data.check import Limits
    from spellbound.data.pipeline import Build
    from spellbound.data.pipeline import build as build_all
    from spellbound.data.pipeline.executors import Cluster
    from spellbound.data.readers import ReaderDefaults

    asked = Build(
        sources=tuple(sources),
        output=output,
        annotators=tuple(annotators or ("rules",)),
        instructor=instruct,
        settings=settings_of(settings, changes or ()),
        defaults=ReaderDefaults(language=language, licence=licence),
        limits=Limits(similarity=similarity, max_words=max_words),
        tasks=tasks,
    )
    executors: Any = executor
    cluster = Cluster(
        executor=executors,
        workers=workers,
        ray_address=ray_address,
        partition=partition,
        time=time,
        memory=memory,
    )
    with placed(settings, changes or (), tables=True), bars() as show:
        built = build_all(asked, cluster, restart=restart, on_progress=show)
    if built.report is None:
        typer.echo(
            f"{output}: handed to Slurm, last job {built.job}; the same command shows the report at the end"
        )
        return
    typer.echo(build_table(built.report))
    kept = built.report["examples"]["kept"]
    typer.echo(f"{output / 'examples.parquet'}: {kept:,} examples")
    if built.report["files"]["refused"]:
        typer.echo(f"spellbound: some files could not be read; {output / 'refused.jsonl'} says why", err=True)
        raise typer.Exit(WRONG_INPUT)

"""`spellbound adapter check`: every tensor of an adapter, and whether it fits the model."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of a PEFT adapter.")],
    model: Annotated[str, typer.Option(help="nano, or the folder of the Jamba it is for.")] = "nano",
) -> None:
    """Say of every tensor where it belongs, how large it is and whether it is sound."""
    from spellbound.cli.adapter.base import open_base
    from spellbound.cli.app import WRONG_INPUT
    from spellbound.cli.controls import one_line
    from spellbound.jamba.lora import inspect_adapter
    from spellbound.jamba.lora.folder import read_adapter

    read_adapter(adapter)  # before the model takes its time
    folder, base = open_base(model)
    report = inspect_adapter(base, adapter)
    for tensor in report.tensors:
        norm = f"{tensor.norm:.4g}" if tensor.finite else "NOT FINITE"
        shape = " x ".join(map(str, tensor.shape))
        typer.echo(one_line(f"{tensor.name} {shape} norm {norm} -> {tensor.weight or 'NOWHERE'}"))
    for line in report.plan.lines():
        typer.echo(line)
    words = {
        "same": "these are the weights it was trained on",
        "another": "these are NOT the weights it was trained on",
        "unknown": "the adapter does not say which weights it was trained on",
    }
    typer.echo(one_line(f"model {folder}: {words[report.base]}"))
    for fault in report.faults:
        typer.echo(one_line(f"{adapter}: {fault}"))
    if report.faults:
        raise typer.Exit(WRONG_INPUT)
    typer.echo(one_line(f"{adapter}: {len(report.tensors)} tensors, all of them fit"))

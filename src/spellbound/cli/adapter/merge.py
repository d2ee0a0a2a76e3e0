"""`spellbound adapter merge`: a model with the adapter in its weights."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of a PEFT adapter.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder for the merged model.")],
    model: Annotated[str, typer.Option(help="nano, or the folder of the Jamba it is for.")] = "nano",
) -> None:
    """Add an adapter to the weights of its model; transformers loads the result as any other Jamba."""
    from spellbound.cli.adapter.base import open_base, put_on
    from spellbound.jamba.lora import merge_adapter
    from spellbound.jamba.lora.folder import read_adapter
    from spellbound.train.export import export_model, require_new_folder

    require_new_folder(output)
    read_adapter(adapter)  # before the model takes its time
    folder, base = open_base(model)
    plan = put_on(base, adapter)
    merge_adapter(base)
    written = export_model(base, folder, output)
    dtype = str(base.dtype).removeprefix("torch.")
    typer.echo(f"{output}: {len(plan.rows)} adapters merged, {dtype}, {len(written)} files")
